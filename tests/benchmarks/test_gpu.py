"""The benchmark of GPUs: what it prepares without one, what it says without one, and its way on a pretended driver."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import sweep
from benchmarks.gpu.cases import Case, cases
from benchmarks.gpu.estimates import estimates
from benchmarks.gpu.peers import PEERS
from benchmarks.gpu.prepare import prepare
from benchmarks.gpu.run import _peer, _timed, run
from benchmarks.gpu.timing import sets_for
from benchmarks.gpu.torch_networks import network_peers
from tesa.errors import UsageError
from tesa.targets.cuda import GPUS
from tests.gpu import driver as pretended
from tests.gpu import simulate

SMALL = (
    Case("square", 16, 24, 32, 0.8, families=("unrolled",)),
    Case("sparsert", 8, 18, 36, 0.5, side=6, families=("unrolled",)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("gpu")
    too_much = Case("square", 1024, 1024, 8, 0.5, families=("unrolled",))
    made = prepare(where, [*SMALL, too_much], "cuda:sm_80", (), (), say=lambda _: None)
    assert [one["family"] for one in made["kernels"]] == ["unrolled", "unrolled"]
    assert [("300,000" in one["why"]) for one in made["missing"]] == [True]
    return where


def test_the_cases() -> None:
    found = list(cases())
    assert Counter(case.group for case in found)["sparsert"] == 2 * 17
    assert {case.sparsity for case in cases("square")} >= {0.5, 0.9, 0.95, 0.99}
    assert len({case.name for case in found}) == len(found)
    for case in (found[0], *SMALL, Case("blocks", 64, 64, 8, 0.75, 32)):
        weight = case.weight()
        assert np.mean(weight == 0) == pytest.approx(case.sparsity, abs=0.02)
        assert (weight == weight.astype(np.float16)).all()
        assert case.x().size == (case.k // 9 * case.side**2 if case.side else case.k * case.n)
    blocks = Case("blocks", 64, 64, 8, 0.75, 32).weight().reshape(2, 32, 2, 32)
    assert (np.abs(blocks).sum((1, 3)) > 0).sum() == 1


def test_small_cases_are_told_apart() -> None:
    found = [case.small for case in cases()]
    assert len({case.name for case in found}) == len(found)
    for case in found:
        assert case.m % case.block == case.k % case.block == 0
        assert case.m * case.k <= 512 * 1792
        assert case.problem().k == case.k
        assert case.x().size == (case.k // 9 * case.side**2 if case.side else case.k * case.n)


@pytest.mark.long
def test_everything_is_prepared_and_run_at_a_fraction_of_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every case and network, on a pretended driver: what is given to a device later has run as a whole before."""
    made = pretended.started(tmp_path, monkeypatch)
    where = tmp_path / "prepared"
    known = prepare(where, cases(), "cuda:sm_80", small=True, say=lambda _: None)
    assert known["missing"] == []
    assert len(known["networks"]) == 12
    rows = run(where, tmp_path / "rows.json", say=lambda _: None)
    assert [row for row in rows if "error" in row] == []
    assert made.faults == []
    with pytest.raises(UsageError, match="is prepared with small sizes"):
        prepare(where, (), "cuda:sm_80", (), (), say=lambda _: None)


def test_the_model_says_a_time_for_each_case() -> None:
    found = list(estimates(GPUS["sm_90"], "blocks"))
    assert len(found) == 8
    full, *_, sparse = found[::2]
    assert (full.case.sparsity, sparse.case.sparsity) == (0.0, 0.9)
    assert sparse.us < full.us
    assert "x float32" in str(sparse)


def test_buffers_take_turns() -> None:
    assert (sets_for(1 << 20), sets_for(1 << 30)) == (16, 1)


def test_without_a_gpu_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESA_GPU_DRIVER", str(folder / "nothing.so"))
    said: list[str] = []
    rows = run(folder, say=said.append)
    assert all("driver" in row["error"] for row in rows)
    assert any("was not built" in line for line in said)


def test_it_runs_checks_and_goes_on_where_it_was(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pretended.Driver(pretended.build(tmp_path))
    monkeypatch.setenv("TESA_GPU_DRIVER", str(made.path))
    made.start(sm=90)  # newer than the cubins: the images of text are loaded
    out = tmp_path / "rows.json"
    rows = run(folder, out, say=lambda _: None)
    assert [row.get("error") for row in rows] == [None, None]
    assert all(row["us"]["launch"] > 0 for row in rows)
    assert len(out.read_text().splitlines()) == 2
    launched = len(made.launched)
    assert run(folder, out, say=lambda _: None) == [json.loads(line) for line in out.read_text().splitlines()]
    assert len(made.launched) == launched
    assert made.faults == []


def test_a_wrong_result_is_no_time(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pretended.Driver(pretended.build(tmp_path))
    monkeypatch.setenv("TESA_GPU_DRIVER", str(made.path))
    made.start(sm=90)
    monkeypatch.setattr(
        Case, "x", lambda self: np.ones(self.k * self.n if not self.side else 72, np.float32).reshape(1, -1, self.n)
    )
    monkeypatch.setattr("benchmarks.gpu.run._wanted", lambda case, weight, x: np.zeros((case.m, case.n)) + 99)
    rows = run(folder, only="square", say=lambda _: None)
    assert "differs from NumPy" in rows[0]["error"]
    assert "us" not in rows[0]


def test_the_kernel_of_the_sweep() -> None:
    text = sweep.text(8192, "sm_80").replace(f"mov.u32 %turn, {sweep.turns(8192)};", "mov.u32 %turn, 2;")
    assert text.count("fma.rn.f32") * sweep.BYTES == 8192
    x, y = np.full(1, 0.5, np.float32), np.full(128, np.nan, np.float32)
    counts = simulate.run(text, "sweep", 1, 128, 0, [x, y])
    assert counts["fma.rn.f32"] == 2 * 512 * 4
    assert np.isfinite(y).all()
    assert sweep.fmas(8192, 2) == 2 * sweep.fmas(8192, 1)


class Event:
    """An event of a device, on the CPU: nothing is measured."""

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: Event) -> float:
        return 1.0


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """torch, whose device is the CPU: what runs is real, its times are not."""
    own = pytest.importorskip("torch", reason="pip install 'tesa[torch]'")

    class Graph:
        def replay(self) -> None: ...

    monkeypatch.setattr(own.Tensor, "cuda", lambda self: self)
    empty = own.empty

    def on_the_cpu(*shape: Any, device: Any = None, **more: Any) -> Any:
        return empty(*shape, device=None if device == "cuda" else device, **more)

    monkeypatch.setattr(own, "empty", on_the_cpu)
    for name, fake in {
        "Event": Event, "CUDAGraph": Graph, "graph": lambda graph: nullcontext(), "synchronize": lambda: None,
        "empty_cache": lambda: None, "get_device_name": lambda: "a CPU",
        "current_stream": lambda: SimpleNamespace(cuda_stream=0),
    }.items():  # fmt: skip
        monkeypatch.setattr(own.cuda, name, fake)
    monkeypatch.setattr(own, "compile", lambda made, mode: made)
    return own


class Exact:
    """A kernel's function in C, by NumPy."""

    def __init__(self, path: Path, name: str) -> None:
        self.weight = Case(**{**WEIGHT, "families": ()}).weight()

    def __call__(self, inputs: Any, outputs: Any, stream: int) -> None:
        outputs[0].copy_(outputs[0].new_tensor(self.weight) @ inputs[0])


WEIGHT: dict[str, Any] = {"group": "skinny", "m": 64, "k": 32, "n": 8, "sparsity": 0.75, "block": 16}


def test_peers_are_run_and_compared(torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On few columns several copies of the weight take turns; what a peer cannot do is said and costs no other."""
    monkeypatch.setattr("benchmarks.gpu.run.Library", Exact)
    monkeypatch.setattr("benchmarks.gpu.run.copies_for", lambda size: 2)
    path = tmp_path / "kernel.so"
    path.write_bytes(b"")
    case = Case(**{**WEIGHT, "families": ()})
    port = {"shape": [1, 32, 8]}
    library: Any = SimpleNamespace(inputs=[port], outputs=[{"shape": [1, 64, 8]}])
    row = _timed(path, "kernel", case, torch, library)
    assert row["device"] == "a CPU"
    assert row["us"] == {"launch": 50.0, "graph": 50.0}
    timed = {name for name, one in row["peers"].items() if isinstance(one, dict)}
    assert timed >= {"cublas fp32", "cublas tf32", "cublas fp16", "torch.compile", "cusparse"}
    assert isinstance(row["peers"]["cusparselt 2:4 fp16"], str)
    assert not any("differs" in one for one in row["peers"].values() if isinstance(one, str))


def test_a_peer_that_computes_something_else_has_no_time(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(**{**WEIGHT, "families": ()})
    x = torch.from_numpy(case.x())
    wrong = torch.zeros(1, 64, 8)
    found = _peer(torch, case, PEERS["cusparse"], [lambda x: wrong], (x, [x], wrong + 1))
    assert "differs by 1" in found


def test_whole_networks_by_torch(torch: Any) -> None:
    names = [name for name, _ in network_peers(torch, "mobilenet_v1", "cpu")]
    assert names == [f"torch {how} {kind}" for kind in ("float32", "float16") for how in ("eager", "compile")]
    _, call = next(network_peers(torch, "mobilenet_v1", "cpu"))
    assert call().shape == (1, 1000)


def test_a_folder_is_prepared_in_parts(folder: Path, tmp_path: Path) -> None:
    """What other groups have prepared stays in the manifest, and a folder is for one target."""
    before = json.loads((folder / "prepared.json").read_text())
    made = prepare(folder, SMALL[:1], "cuda:sm_80", (), (), say=lambda _: None)
    assert sorted(one["file"] for one in made["kernels"]) == sorted(one["file"] for one in before["kernels"])
    assert made["missing"] == before["missing"]
    with pytest.raises(UsageError, match="is prepared for cuda:sm_80"):
        prepare(folder, (), "cuda:sm_90", (), (), say=lambda _: None)
