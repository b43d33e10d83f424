"""Layers between codes are computed on integers, or with real numbers, whichever takes less time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tesa.base.onnxruntime import reference_outputs
from tesa.choose.integer import IN_FLOAT, IntegerContest
from tesa.compiler import compile_model
from tesa.layers.codes_layers import Precisions
from tesa.runtime import load
from tesa.schedules.types import Epilogue, Output, Problem
from tesa.targets.target import parse_target
from tests.layers.integer import Quantized


def ways(m: int, k: int, n: int, zeros: float) -> Precisions:
    """Both ways to compute a linear layer."""
    rng = np.random.default_rng(0)
    codes = (rng.integers(-127, 128, (m, k)) * (rng.random((m, k)) >= zeros)).astype(np.float32)
    integer = Problem(
        "linear", m, k, n, (n, k), (n, m), dtype="int8", layout="features_last", epilogue=Epilogue(scale=True),
        output=Output("uint8", 0.1, 10),
    )  # fmt: skip
    real = Problem("linear", m, k, n, (k, n), (m, n))
    return Precisions("fc", ((integer, codes),), (real, codes * np.float32(0.01)), n * (m + k))


def test_expected_times_decide_where_they_are_far_apart() -> None:
    """A core with a dot product of bytes takes integers for a dense layer; one without, float32 for a sparse one."""
    dense, sparse = ways(512, 512, 196, 0.0), ways(512, 512, 196, 0.99)
    for target, layer, expected in (("x86:cascadelake", dense, True), ("x86:x86-64-v2", sparse, False)):
        contest = IntegerContest(parse_target(target))
        assert contest.decide(layer) is expected
        assert contest.rivals == ()


def test_without_a_kernel_there_are_no_integers() -> None:
    layer = ways(64, 64, 49, 0.0)
    assert not IntegerContest(parse_target("x86:cascadelake"), families=["sliced"]).decide(layer)


def test_close_ways_are_both_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.choose.integer.CLOSE", 1e6)
    layer = ways(64, 64, 49, 0.95)
    asked = IntegerContest(parse_target("x86:haswell"))
    assert asked.decide(layer)
    assert [(rival.name, rival.problem.dtype) for rival in asked.rivals] == [("fc" + IN_FLOAT, "float32")]
    assert IntegerContest(parse_target("x86:haswell"), measure=False).rivals == ()


@pytest.mark.parametrize("faster", ["integers", "real"])
def test_the_faster_way_is_compiled(faster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the times were so: the network computes the same either way, and its plan says why."""
    monkeypatch.setattr("tesa.choose.integer.CLOSE", 1e9)
    monkeypatch.setattr(IntegerContest, "_least", lambda *_: 0.0)
    monkeypatch.setattr(
        "tesa.choose.integer.time_of", lambda kernel: 1.0 if (kernel.part.bits == 8) == (faster == "real") else 0.25
    )
    q = Quantized(True)
    d = q.codes(q.op("MatMul", q.codes(q.input(7, 16), 0.02, 120), q.weight(16, 24, axis=1)), 0.03, 100)
    code = q.quantize(q.op("Relu", q.op("Gemm", d, q.weight(8, 24), q.bias(8), transB=1)), 0.03, 100)
    proto, feeds = q.proto(code), q.feeds()
    compiled = compile_model(proto, output=tmp_path / "net.so", families=["dense", "lanes"])
    weights = [layer for layer in compiled.plan.layers if layer.kind == "sparse"]
    assert [layer.precision for layer in weights] == ["int8" if faster == "integers" else ""] * 2
    said = "0.25 ms on integers, 1 ms in float32" if faster == "integers" else "1 ms on integers, 0.25 ms in float32"
    assert all(said in layer.parts[0].reason for layer in weights), weights[0].parts[0].reason
    off = load(compiled.path)(feeds)[code].astype(int) - reference_outputs(proto, feeds)[code].astype(int)
    assert np.abs(off).max() <= 1
