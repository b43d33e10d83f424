"""What verification compares with: the model as it is in the file, the right one, masked as it was compiled."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tesa.cli import main
from tesa.compiler import compile_model
from tesa.errors import ModelError, UsageError
from tesa.runtime import bench, load, verify
from tesa.runtime.verify import Comparison, VerifyResult, compare
from tests.frontend.onnx_models import floats, model, node, port

from .models import build, identity, mlp

INF, NAN = float("inf"), float("nan")


def _quantized() -> Any:
    """A linear layer whose weight alone is quantized: onnxruntime's optimizer would quantize the activation too."""
    stored = np.random.default_rng(0).integers(-128, 128, (256, 64)).astype(np.int8)
    nodes = [
        node("DequantizeLinear", ["w", "scale", "zero"], "wd", axis=1),
        node("MatMul", ["x", "wd"], "y", name="fc"),
    ]
    constants = {"w": stored, "scale": np.full(64, 0.02, np.float32), "zero": np.zeros(64, np.int8)}
    return model(nodes, [port("x", [4, 256])], ["y"], constants, opset=21)


def test_the_reference_is_not_optimized(tmp_path: Path) -> None:
    result = verify(build(tmp_path, _quantized()), tmp_path / "model.onnx", per_layer=True)
    assert result.ok
    assert result.outputs[0].max_rel < 1e-5


def _renamed(proto: Any, old: str, new: str) -> Any:
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = new if value.name == old else value.name
    for item in proto.graph.node:
        item.input[:] = [new if name == old else name for name in item.input]
        item.output[:] = [new if name == old else name for name in item.output]
    return proto


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (mlp(rows=5), ["input 'x' is float32[5, 6], compiled was float32[4, 6]"]),
        (_renamed(mlp(), "x", "image"), ["it has no input 'x'", "its input 'image' is not compiled"]),
        (_renamed(mlp(), "y", "z"), ["it has no output 'y'", "its output 'z' is not compiled"]),
        (
            model([node("Cast", ["x"], "y", to=1)], [port("x", [4, 6], "int64")], ["y"]),
            ["input 'x' is int64[4, 6], compiled was float32[4, 6]"],
        ),
    ],
    ids=["shape", "input", "output", "dtype"],
)
def test_another_model_is_refused(tmp_path: Path, proto: Any, expected: list[str]) -> None:
    compiled = build(tmp_path, mlp())
    onnx.save(proto, tmp_path / "other.onnx")
    for call in (
        lambda: verify(compiled, tmp_path / "other.onnx"),
        lambda: bench(compiled, repeat=1, peers=["onnxruntime"], onnx=tmp_path / "other.onnx"),
    ):
        with pytest.raises(UsageError, match="is not the model that") as caught:
            call()
        assert [piece for piece in expected if piece not in str(caught.value)] == []


def test_open_sizes_fit(tmp_path: Path) -> None:
    proto = mlp()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    compiled = build(tmp_path, proto, shapes={"x": (4, 6)})
    assert verify(compiled, tmp_path / "model.onnx").ok


@pytest.mark.parametrize("verb", ["verify", "bench"])
def test_files_that_are_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    build(tmp_path, mlp())
    (tmp_path / "text.onnx").write_text("not a model")
    for name, message in (("text.onnx", "not an ONNX file"), ("modle.onnx", "Did you mean 'model.onnx'")):
        rest = ["--ref"] if verb == "verify" else ["--vs", "onnxruntime", "--model"]
        assert main([verb, str(tmp_path / "model.so"), *rest, str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_inputs_outside_the_table_are_one_line(tmp_path: Path) -> None:
    proto = model([node("Gather", ["t", "x"], "y")], [port("x", [3], "int64")], ["y"], {"t": floats(4, 2)})
    compiled = build(tmp_path, proto)
    with pytest.raises(UsageError, match="'x' holds 99: the model's table takes indices from -4 to 3") as caught:
        verify(compiled, tmp_path / "model.onnx", feeds={"x": np.array([0, 1, 99])})
    assert "\n" not in str(caught.value)


def test_wrong_feeds_are_ours_to_refuse(tmp_path: Path) -> None:
    compiled = build(tmp_path, mlp())
    with pytest.raises(UsageError, match=r"input 'x': expected float32 of shape \[4, 6\]"):
        verify(compiled, tmp_path / "model.onnx", feeds={"x": np.zeros((4, 7), np.float32)})


@pytest.mark.parametrize("name", ["w1", "out", "w1_mask"])
def test_masks_are_applied_to_the_reference(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.random.default_rng(0).random((8, 3)) < 0.5
    np.savez(tmp_path / "masks.npz", allow_pickle=False, **{name: mask})
    compiled = build(tmp_path, mlp(), masks=tmp_path / "masks.npz")
    assert not verify(compiled, tmp_path / "model.onnx").ok
    assert verify(compiled, tmp_path / "model.onnx", masks={name: mask}, per_layer=True).ok
    words = ["verify", str(tmp_path / "model.so"), "--ref", str(tmp_path / "model.onnx")]
    assert main([*words, "--mask", str(tmp_path / "masks.npz")]) == 0
    assert main(words) == 1
    assert main([*words, "--mask", str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err


def test_masks_reach_constants_of_every_kind(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((256, 64)) < 0.5
    compiled = build(tmp_path, _quantized(), masks={"w": mask})
    assert verify(compiled, tmp_path / "model.onnx", masks={"w": mask}).ok
    weight = onnx.numpy_helper.from_array(floats(6, 8), "w")
    nodes = [onnx.helper.make_node("Constant", [], ["w"], value=weight), node("MatMul", ["x", "w"], "y")]
    compiled = build(tmp_path, model(nodes, [port("x", [4, 6])], ["y"]), masks={"w": mask[:6, :8]})
    assert verify(compiled, tmp_path / "model.onnx", masks={"w": mask[:6, :8]}).ok


@pytest.mark.parametrize(
    ("got", "expected", "ok", "max_abs", "max_rel"),
    [
        ([1.0, INF, -INF], [1.0, INF, -INF], True, 0.0, 0.0),
        ([1.0, NAN], [2.0, NAN], False, 1.0, 0.5),
        ([INF], [-INF], False, INF, INF),
        ([1.0], [INF], False, INF, INF),
        ([NAN], [1.0], False, INF, INF),
        ([3.0, 4.0], [1.0, 8.0], False, 4.0, 0.5),
        ([], [], True, 0.0, 0.0),
    ],
)
def test_what_is_not_finite(got: Any, expected: Any, ok: bool, max_abs: float, max_rel: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare("y", np.array(got, np.float32), np.array(expected, np.float32), 1e-4, 1e-3)
    assert found == Comparison("y", max_abs, max_rel, ok)
    json.dumps(VerifyResult((found,)).to_json(), allow_nan=False)


def test_a_model_with_infinite_outputs(tmp_path: Path) -> None:
    compiled = build(tmp_path, model([node("Log", ["x"], "y")], [port("x", [2, 3])], ["y"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = verify(compiled, tmp_path / "model.onnx", feeds={"x": np.zeros((2, 3), np.float32)})
    assert result.outputs == (Comparison("y", 0.0, 0.0, True),)


def test_bench_finds_the_model_beside_the_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, identity())
    words = ["bench", str(tmp_path / "model.so"), "--vs", "onnxruntime", "--repeat", "3", "--json"]
    assert main(words) == 0
    assert [peer["name"] for peer in json.loads(capsys.readouterr().out)["peers"]] == ["onnxruntime"]
    (tmp_path / "model.onnx").rename(tmp_path / "other.onnx")
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"there is no {tmp_path / 'model.onnx'}" in error
    assert "--model" in error
    assert main([*words, "--model", str(tmp_path / "other.onnx")]) == 0


def test_an_onnx_file_is_no_compiled_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, identity())
    np.savez(tmp_path / "in.npz", x=np.zeros((2, 3), np.float32))
    assert main(["run", str(tmp_path / "model.onnx"), "-i", str(tmp_path / "in.npz")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tesa: error: {tmp_path / 'model.onnx'}: is no compiled model; compile it first: `tesa")
    assert error.count("\n") == 1


def test_a_library_that_is_cut_off_or_misnamed(tmp_path: Path) -> None:
    compile_model(identity(), output=tmp_path / "model.so", measure=False)
    content = (tmp_path / "model.so").read_bytes()
    for size in (10, 64, 3000, len(content) - 1):
        (tmp_path / "model.so").write_bytes(content[:size])
        with pytest.raises(ModelError, match="it is cut off"):
            load(tmp_path / "model.so")
    (tmp_path / "model.lib").write_bytes(content)
    with pytest.raises(ModelError, match=r"does not end in \.so"):
        load(tmp_path / "model.lib")


def test_an_output_may_be_declared_with_a_wrong_shape(tmp_path: Path) -> None:
    """As exporters do: onnxruntime warns and runs."""
    nodes = [node("MatMul", ["x", "w"], "y")]
    given = model(nodes, [port("x", [2, 3])], ["y"], {"w": floats(3, 4)})
    del given.graph.output[:]
    given.graph.output.append(port("y", [1, "classes", 7]))
    compiled = build(tmp_path, given)
    assert verify(compiled, tmp_path / "model.onnx").ok


def _integers(change: int = 0) -> Any:
    """Two products of codes: of an input of codes, and of an input of reals that it quantizes itself."""
    rng = np.random.default_rng(0)
    weight = (rng.integers(-127, 128, (64, 32)) * (rng.random((64, 32)) < 0.3)).astype(np.int8)
    nodes = [
        node("MatMulInteger", ["x", "w", "zx"], "h"),
        node("Add", ["h", "bias"], "y"),
        onnx.helper.make_node("DynamicQuantizeLinear", ["r"], ["codes", "scale", "zero"]),
        node("MatMulInteger", ["codes", "w", "zero"], "z"),
    ]
    constants = {"w": weight, "zx": np.uint8(3), "bias": np.full(32, change, np.int32)}
    made = model(nodes, [port("x", [4, 64], "uint8"), port("r", [4, 64])], ["y", "z"], constants)
    for value in made.graph.output:
        value.type.tensor_type.elem_type = onnx.TensorProto.INT32
    return made


def test_whole_numbers_are_compared_exactly(tmp_path: Path) -> None:
    built = build(tmp_path, _integers())
    feeds = {
        "x": np.random.default_rng(1).integers(0, 256, (4, 64)).astype(np.uint8) // 2,  # no sum of two passes 16 bits
        "r": floats(4, 64),
    }
    whole, sums = verify(built, tmp_path / "model.onnx", feeds=feeds).outputs
    assert (whole.ok, whole.max_abs) == (True, 0)
    assert sums.ok
    onnx.save(_integers(1), tmp_path / "other.onnx")
    whole, sums = verify(built, tmp_path / "other.onnx", feeds=feeds).outputs
    assert (whole.ok, whole.max_abs) == (False, 1)
    assert sums.ok
