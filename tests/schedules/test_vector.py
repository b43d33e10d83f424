"""The vector family against NumPy: one column and a few, dead columns, ragged rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.schedules.cpu import vector
from tesa.schedules.cpu.vector import MAX_SIDES
from tesa.schedules.registry import find
from tesa.schedules.types import Core, Epilogue, Problem, Window
from tests.schedules import golden
from tests.schedules.guarded import harsh
from tests.schedules.reference import AVX2, AVX512, check
from tests.schedules.strategies import cores, epilogues, threads, weights
from tests.support import drawn

VECTOR = find("vector")


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    m, k = draw(st.integers(1, 150)), draw(st.integers(1, 60))
    batch, n = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (5, 1), (1, 3), (2, 2), (16, 1)]))
    shapes = draw(st.sampled_from([((batch, k, n), (batch, m, n)), ((batch * n, k), (batch * n * m,))]))
    return Problem("linear", m, k, n, *shapes, batch, None, draw(epilogues), threads=draw(threads))


@drawn(30)
@given(problems(), cores, st.data())
def test_any_matrix(p: Problem, core: Core, data: st.DataObject) -> None:
    weight = data.draw(weights(p))
    configs = VECTOR.space(p, weight, core)
    assert configs
    with harsh(data.draw(st.booleans())):
        check("vector", p, weight, core, data.draw(st.sampled_from(configs)))


def test_pointwise_convolution_of_a_single_pixel() -> None:
    p = Problem("conv2d", 24, 40, 1, (2, 40, 1, 1), (2, 24, 1, 1), 2, Window(1, 1, (1, 1)))
    weight = np.random.default_rng(0).standard_normal((24, 40)).astype(np.float32)
    check("vector", p, weight, AVX2, VECTOR.space(p, weight, AVX2)[0])


def test_dead_columns_are_not_stored() -> None:
    p = Problem("linear", 64, 30, 1, (30,), (64,))
    weight = np.zeros((64, 30), np.float32)
    weight[:16, 3] = weight[40, 7] = weight[41, 9] = 1
    code = VECTOR.emit(p, weight, AVX512, {"panel": 1, "list": 1}, "v")
    values, columns, starts = code.constants
    assert columns.tolist() == [3, 7, 9]
    assert starts.tolist() == [0, 1, 1, 3, 3]
    assert values.size == 3 * 16


def test_full_matrix_has_no_list() -> None:
    p = Problem("linear", 64, 30, 1, (30,), (64,))
    weight = np.ones((64, 30), np.float32)
    assert {c["list"] for c in VECTOR.space(p, weight, AVX512)} == {0}
    assert len(VECTOR.emit(p, weight, AVX512, {"panel": 4, "list": 0}, "v").constants) == 1


@pytest.mark.parametrize(
    "p",
    [
        Problem("linear", 8, 8, MAX_SIDES + 1, (1, 8, MAX_SIDES + 1), (1, 8, MAX_SIDES + 1)),
        Problem("conv2d", 8, 9, 1, (1, 1, 3, 3), (1, 8, 1, 1), window=Window(3, 3, (3, 3))),
        Problem("depthwise", 8, 1, 1, (1, 8, 1, 1), (1, 8, 1, 1), window=Window(1, 1, (1, 1))),
    ],
    ids=["wide", "window", "depthwise"],
)
def test_where_it_does_not_apply(p: Problem) -> None:
    assert VECTOR.space(p, np.ones((p.m, p.k), np.float32), AVX512) == ()


def test_a_window_is_refused() -> None:
    p = Problem("conv2d", 8, 9, 1, (1, 1, 3, 3), (1, 8, 1, 1), window=Window(3, 3, (3, 3)))
    with pytest.raises(ValueError, match="cannot compute op 'conv2d' with a window"):
        VECTOR.emit(p, np.ones((8, 9), np.float32), AVX512, {"panel": 1, "list": 0}, "no")


def test_estimate_follows_the_bytes() -> None:
    p = Problem("linear", 256, 256, 1, (256,), (256,))
    full = np.ones((256, 256), np.float32)
    half = full * (np.arange(256) < 64)
    estimates = [VECTOR.estimate(p, w.astype(np.float32), AVX512, {"panel": 4, "list": 1}) for w in (half, full)]
    assert 0 < estimates[0] < estimates[1]


def test_golden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "_UNROLL", 2)
    monkeypatch.setattr(vector, "_CHAINS", 2)
    p = Problem("linear", 20, 3, 1, (3,), (20,), epilogue=Epilogue(bias=True, activation="relu6"))
    weight = np.ones((20, 3), np.float32)
    weight[:16, 1] = 0
    golden.compare("vector", VECTOR.emit(p, weight, AVX512, {"panel": 1, "list": 1}, "vector"))


@pytest.mark.parametrize("m", [2048, 2040])
def test_shares_have_the_same_number_of_weights(m: int) -> None:
    weight = np.ones((m, 256), np.float32)
    weight[: m // 2, 16:] = 0
    p = Problem("linear", m, 256, 1, (1, 256), (1, m), threads=2)
    _, _, starts, strips = vector._pack(weight, 8, 16, True)
    low, middle, high = vector._shares(p, AVX512, strips, starts, 1e9)
    first, second = starts[middle] - starts[low], starts[high] - starts[middle]
    assert 0.7 < first / second < 1.4
    check("vector", p, weight, AVX512, {"panel": 8, "list": 1})


@pytest.mark.parametrize("name", ["vector", "sliced"])
def test_little_work_is_not_expected_to_wake_threads(name: str) -> None:
    weight = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    weight[weight < 0.8] = 0
    one, two = (Problem("linear", 64, 64, 1, (1, 64), (1, 64), threads=threads) for threads in (1, 2))
    config = find(name).space(one, weight, AVX512)[0]
    assert find(name).estimate(one, weight, AVX512, config) == find(name).estimate(two, weight, AVX512, config)
