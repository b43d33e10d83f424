"""The indexed form against NumPy, its streams, its space and its text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tesa.schedules.cpu.indexed import MOST, _short
from tesa.schedules.cpu.stream import stream
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Core, Epilogue, FloatArray, Problem
from tests.schedules import golden
from tests.schedules.reference import AVX2, AVX512, check, inputs, reference, run
from tests.schedules.strategies import cores, linear, linears, weights, windows
from tests.support import drawn

configs = st.fixed_dictionaries(
    {
        "vectors": st.integers(1, 8),
        "rows": st.sampled_from([1, 2, 4]),
        "kblock": st.sampled_from([0, 1, 3, 8]),
        "pack": st.integers(0, 1),
    }
)


pytestmark = pytest.mark.usefixtures("any_work_on_threads")


def sparse(m: int, k: int, density: float, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((m, k)) * (rng.random((m, k)) < density)).astype(np.float32)


@drawn(50)
@given(linears(), cores, configs, st.data())
def test_linear(problem: Problem, core: Core, config: Config, data: st.DataObject) -> None:
    check("indexed", problem, data.draw(weights(problem)), core, config)


@drawn(50)
@given(windows, cores, configs, st.data())
def test_convolution(problem: Problem, core: Core, config: Config, data: st.DataObject) -> None:
    check("indexed", problem, data.draw(weights(problem)), core, config)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 3, 1), (7, 1, 2), pytest.param((3, 2, 300), marks=pytest.mark.slow)])
def test_the_smallest_in_every_default(size: tuple[int, int, int]) -> None:
    problem = linear(*size, epilogue=Epilogue(True, True, "gelu"))
    weight = np.zeros((problem.m, problem.k), np.float32)
    weight[0, 0] = 2
    for config in find("indexed").space(problem, weight, AVX2):
        check("indexed", problem, weight, AVX2, config)


@pytest.mark.parametrize("kblock", [0, 2])
def test_empty_rows_and_an_empty_weight_get_the_epilogue_of_zero(kblock: int) -> None:
    problem = linear(5, 6, 40, epilogue=Epilogue(True, False, "sigmoid"))
    x, bias, _ = inputs(problem)
    config = {"rows": 2, "vectors": 2, "kblock": kblock, "pack": 1}
    for live in ([], [3]):
        weight = np.zeros((5, 6), np.float32)
        weight[live] = 1
        got = run("indexed", problem, weight, AVX2, config, x, bias)
        np.testing.assert_allclose(got, reference(problem, weight, x, bias), rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("dead", [0, 2])
def test_a_dead_column_is_never_read(rows: int, dead: int) -> None:
    problem, weight = linear(8, 4, 33), sparse(8, 4, 1.0)
    weight[::2, 1] = 0  # rows of unlike length, which are filled up
    weight[:, dead] = 0
    x, _, _ = inputs(problem)
    x[dead] = np.nan
    for pack in (0, 1):
        config = {"rows": rows, "vectors": 2, "kblock": 0, "pack": pack}
        assert np.isfinite(run("indexed", problem, weight, AVX2, config, x)).all()


@pytest.mark.parametrize(("k", "step"), [(65536, 16), (65537, 1)])
def test_offsets_take_16_bits_as_far_as_these_reach(k: int, step: int) -> None:
    found, offsets = _short(np.arange(0, k * 16, 16, dtype=np.int32))
    assert (found, offsets.dtype) == (step, np.uint16 if step == 16 else np.int32)
    np.testing.assert_array_equal(offsets.astype(np.int64) * found, np.arange(0, k * 16, 16))
    problem, weight = linear(2, k, 16), np.zeros((2, k), np.float32)
    weight[[0, 1], [k - 1, 0]] = 1
    check("indexed", problem, weight, AVX2, {"rows": 1, "vectors": 2, "kblock": 0, "pack": 0})


def replay(data_stream: tuple[NDArray[np.int32], ...], values: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """The weight that a stream with offsets 0, 1, 2, ... describes."""
    offsets, rows, groups, at = data_stream
    weight = np.zeros(shape, np.float32)
    groups, unit = groups.reshape(-1, 4), 2
    for first, single, end in at.reshape(-1, 3):
        for g in range(first, end):
            size = unit if g < single else 1
            count, length, start, row = groups[g]
            for s in range(count):
                for i in range(length):
                    for u in range(size):
                        e = start + (s * length + i) * size + u
                        weight[rows[row + s * size + u], offsets[e]] += values[e]
    return weight


@given(st.integers(1, 12), st.integers(1, 20), st.floats(0, 1), st.integers(1, 20), st.integers(1, 3))
def test_a_stream_is_the_weight(m: int, k: int, density: float, size: int, shares: int) -> None:
    weight = sparse(m, k, density)
    blocks = [(np.arange(f, min(f + size, k)), np.arange(f, min(f + size, k))) for f in range(0, k, size)]
    bounds = sorted({0, m, *(m * s // shares for s in range(shares))})
    made = stream(weight, blocks, bounds, 2)
    assert np.array_equal(replay((made.offsets, made.rows, made.groups, made.at), made.values, (m, k)), weight)
    last = made.at.reshape(len(bounds) - 1, len(blocks), 3)[:, -1]
    stored = [r for first, single, end in last for r in rows_of(made.rows, made.groups, first, single, end)]
    assert sorted(stored) == list(range(m))


def rows_of(rows: NDArray[np.int32], groups: NDArray[np.int32], first: int, single: int, end: int) -> list[int]:
    found: list[int] = []
    for g in range(first, end):
        count, _, _, row = groups.reshape(-1, 4)[g]
        found += rows[row : row + count * (2 if g < single else 1)].tolist()
    return found


def test_space_is_short_sorted_and_empty_for_a_full_weight() -> None:
    problem, weight = linear(256, 512, 196), sparse(256, 512, 0.1)
    space = find("indexed").space(problem, weight, AVX512)
    assert 0 < len(space) <= MOST
    costs = [find("indexed").estimate(problem, weight, AVX512, c) for c in space]
    assert costs == sorted(costs)
    assert not find("indexed").space(problem, sparse(256, 512, 0.9), AVX512)
    denser = find("indexed").estimate(problem, sparse(256, 512, 0.3), AVX512, space[0])
    assert denser > 1.5 * costs[0]


def test_the_accumulators_fit_the_registers() -> None:
    for core in (AVX512, AVX2):
        for config in find("indexed").space(linear(100, 300, 333), sparse(100, 300, 0.1), core):
            assert config["rows"] * (config["vectors"] + 1) <= core.registers


def test_two_threads_split_the_rows_by_their_non_zeros() -> None:
    weight = sparse(64, 32, 0.2)
    weight[:8] = 1
    check("indexed", linear(64, 32, 20, threads=2), weight, AVX2, {"rows": 2, "vectors": 3, "kblock": 8, "pack": 1})


def test_golden() -> None:
    weight = np.zeros((4, 6), np.float32)
    weight[0, [1, 3]] = 1, 2
    weight[1, 3] = 3
    weight[3, [0, 5]] = 4, 5
    problem = linear(4, 6, 16, epilogue=Epilogue(bias=True, activation="relu6"))
    config = {"rows": 1, "vectors": 2, "kblock": 2, "pack": 0}
    golden.compare("indexed", find("indexed").emit(problem, weight, AVX2, config, "kernel"))
