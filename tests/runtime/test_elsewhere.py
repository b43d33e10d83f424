"""Models that run elsewhere than in this process: on a device of a tracker, and under an emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tesa.cli import main
from tesa.compiler import compile_model
from tesa.errors import ModelError, UsageError
from tesa.measure.remote import model_session
from tesa.runtime import bench, load, verify
from tesa.runtime.bench import random_feeds
from tesa.runtime.remote import RemoteModel
from tests.frontend.onnx_models import floats, model, node, port
from tests.measure.remote.park import KEY, Park
from tests.runtime.models import build, mlp
from tests.support import require_system

ARM = "aarch64:cortex-a76"


@pytest.fixture(scope="module")
def park(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Park]:
    park = Park(tmp_path_factory.mktemp("park"))
    try:
        park.server()
        park.await_servers(1)
        yield park
    finally:
        park.close()


def place(park: Park) -> dict[str, str]:
    return {"rpc": f"127.0.0.1:{park.port}", "key": KEY}


def two_outputs() -> Any:
    nodes = [node("MatMul", ["x", "w0"], "h", name="hidden"), node("Relu", ["h"], "y"), node("Neg", ["y"], "z")]
    return model(nodes, [port("x", [3, 6])], ["y", "z"], {"w0": floats(6, 8)})


@pytest.mark.parametrize("proto", [mlp(), two_outputs()], ids=["one output", "two outputs"])
def test_a_device_runs_and_times_a_model(park: Park, tmp_path: Path, proto: Any) -> None:
    here = build(tmp_path, proto)
    feeds = random_feeds(here.inputs)
    wanted = here(feeds)
    park.await_servers(1)
    with load(here.path, **place(park)) as there:
        assert isinstance(there, RemoteModel)
        assert there.device["system"].startswith("Linux ")
        for _ in range(2):
            found = there(feeds)
            assert found.keys() == wanted.keys()
            for name, array in wanted.items():
                np.testing.assert_array_equal(found[name], array)
        assert verify(there, tmp_path / "model.onnx").ok
        times = bench(there, repeat=4)
        assert (times.device, times.note, times.model.calls) == (there.device["cpu"], "", 4)
        assert times.model.min_ms > 0
        with pytest.raises(UsageError, match="peers run in this process, and the model runs on"):
            bench(there, peers=["onnxruntime"])
        with pytest.raises(UsageError, match="single layers can be looked at only where the model runs in this pro"):
            verify(there, tmp_path / "model.onnx", per_layer=True)
        with pytest.raises(UsageError, match=r"input 'x': expected float32 of shape \[\d, 6\], got float32"):
            there(np.zeros((2, 7), np.float32))
    park.await_servers(1)  # it was given back


@pytest.mark.slow
def test_who_cannot_run_a_model(park: Park, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build(tmp_path, mlp()).path
    with pytest.raises(UsageError, match=f"no device with key 'nobody' .* keys there: {KEY}; on the device: python"):
        load(path, rpc=place(park)["rpc"], key="nobody")
    with pytest.raises(UsageError, match="name one with --key KEY"):
        load(path, rpc=place(park)["rpc"])
    compile_model(tmp_path / "model.onnx", output=tmp_path / "arm.so", target=ARM, measure=False)
    park.await_servers(1)
    with pytest.raises(UsageError, match=r"cannot be used: it is x86_64, and code is made for aarch64"):
        load(tmp_path / "arm.so", **place(park))
    with pytest.raises(ModelError, match=r"made for aarch64, and this machine is x86_64; run it on a device of a"):
        load(tmp_path / "arm.so")
    monkeypatch.setattr(model_session, "DeviceLinker", None)  # it is refused before a device is asked
    compile_model(tmp_path / "model.onnx", output=tmp_path / "bare.so", measure=False, format="so")
    with pytest.raises(ModelError, match="a device of a tracker runs models of format vm"):
        load(tmp_path / "bare.so", **place(park))


def test_a_description_of_another_compile_is_refused_on_a_device(park: Park, tmp_path: Path) -> None:
    path = build(tmp_path, mlp()).path
    described = path.with_suffix(".json")
    described.write_text(described.read_text().replace('"digest": "', '"digest": "0'))
    park.await_servers(1)
    with pytest.raises(ModelError, match="describes another model than"):
        load(path, **place(park))
    park.await_servers(1)  # it was given back


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    """A model for 64-bit ARM that needs no runtime, of two sizes."""
    require_system("qemu-aarch64", "qemu-user")
    require_system("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    proto = two_outputs()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    onnx.save(proto, tmp_path / "model.onnx")
    compile_model(
        tmp_path / "model.onnx", output=tmp_path / "arm.o", target=ARM, measure=False, format="o",
        shapes={"rows": [3, 5]},
    )  # fmt: skip
    return tmp_path / "arm.o"


def test_an_emulator_runs_a_model_for_another_architecture(arm: Path) -> None:
    with load(arm, emulated=True) as emulated:
        session = onnxruntime.InferenceSession(str(arm.with_name("model.onnx")))
        for rows in (3, 5):
            x = np.random.default_rng(rows).standard_normal((rows, 6)).astype(np.float32)
            found = emulated({"x": x})
            for name, array in zip(("y", "z"), session.run(["y", "z"], {"x": x}), strict=True):
                np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
        assert verify(emulated, arm.with_name("model.onnx")).ok
        assert emulated.device["cpu"] == "emulated aarch64"
        with pytest.raises(UsageError, match=r"an emulator \(qemu-aarch64\) tells no times of aarch64:cortex-a76"):
            bench(emulated)


def test_a_description_of_another_compile_is_refused_in_an_emulator(arm: Path) -> None:
    described = arm.with_suffix(".json")
    described.write_text(described.read_text().replace('"digest": "', '"digest": "0'))
    with pytest.raises(ModelError, match="describes another model than"):
        load(arm, emulated=True)


def test_only_a_model_that_needs_no_library_runs_in_an_emulator(arm: Path) -> None:
    compile_model(
        arm.with_name("model.onnx"), output=arm.with_name("vm.so"), target=ARM, measure=False, shapes={"rows": 3}
    )
    with pytest.raises(ModelError, match="runs models of format o, which need no library: compile it with --format o"):
        load(arm.with_name("vm.so"), emulated=True)


@pytest.mark.slow
def test_the_verbs_take_an_onnx_file_and_a_target(arm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, shape = str(arm.with_name("model.onnx")), ["--shape", "rows=3"]
    assert main(["verify", source, "--target", ARM, *shape, "-q"]) == 0
    assert main(["bench", source, "--target", ARM, *shape]) == 2
    assert "this machine cannot run code for aarch64:cortex-a76, so that nothing can be measured: give the tracker" in (
        capsys.readouterr().err
    )
    assert main(["bench", source, *shape, "--no-measure", "--repeat", "3", "-q"]) == 0
    assert main(["verify", str(arm)]) == 2
    assert "name the model that it was compiled from: --ref model.onnx" in capsys.readouterr().err
    assert main(["verify", str(arm), "--ref", source, "-q"]) == 0
    assert main(["bench", str(arm)]) == 2
    assert "this machine cannot run code for aarch64:cortex-a76" in capsys.readouterr().err
    assert main(["verify", str(arm), "--ref", source, "--target", "aarch64:cortex-a53"]) == 2
    assert "was compiled for aarch64:cortex-a76, not for aarch64:cortex-a53" in capsys.readouterr().err


@pytest.mark.slow
def test_the_verbs_on_a_device(park: Park, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(mlp(), tmp_path / "model.onnx")
    words = [str(tmp_path / "model.onnx"), "--rpc", place(park)["rpc"], "--key", KEY, "--no-measure", "-q"]
    park.await_servers(1)
    assert main(["verify", *words]) == 0
    park.await_servers(1)
    assert main(["bench", *words, "--repeat", "3"]) == 0
    assert "thread on " in capsys.readouterr().out
    assert main(["bench", *words, "--vs", "onnxruntime"]) == 2
    assert "leave --vs out, or time it on the device itself" in capsys.readouterr().err
