"""The dense kernel and the block form against NumPy, their space and their text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.schedules.cpu.block import MOST
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Core, Epilogue, FloatArray, Output, Problem, Window
from tests.schedules import golden
from tests.schedules.reference import AVX2, AVX512, check, inputs, reference, run
from tests.schedules.strategies import cores, linear, linears, weights, windows
from tests.support import drawn

pytestmark = pytest.mark.usefixtures("any_work_on_threads")

names = st.sampled_from(["dense", "block"])
configs = st.fixed_dictionaries(
    {
        "rows": st.sampled_from([1, 2, 4, 5, 8, 16]),
        "vectors": st.integers(1, 6),
        "pack": st.integers(0, 1),
        "depth": st.sampled_from([0, 0, 1, 3, 8]),
    }
)


def blocks(m: int, k: int, size: tuple[int, int], density: float) -> FloatArray:
    rng = np.random.default_rng(1)
    mask = np.kron(rng.random((m // size[0], k // size[1])) < density, np.ones(size))
    return (rng.standard_normal((m, k)) * mask).astype(np.float32)


@drawn(40)
@given(names, linears(), cores, configs, st.data())
def test_linear(name: str, problem: Problem, core: Core, config: Config, data: st.DataObject) -> None:
    check(name, problem, data.draw(weights(problem)), core, config)


@drawn(40)
@given(names, windows, cores, configs, st.data())
def test_convolution(name: str, problem: Problem, core: Core, config: Config, data: st.DataObject) -> None:
    check(name, problem, data.draw(weights(problem)), core, config)


@pytest.mark.parametrize("name", ["dense", "block"])
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 3, 1), (7, 1, 2), pytest.param((3, 2, 300), marks=pytest.mark.slow)])
def test_the_smallest_in_every_default(name: str, size: tuple[int, int, int]) -> None:
    problem = linear(*size, epilogue=Epilogue(True, True, "gelu"))
    weight = np.ones((problem.m, problem.k), np.float32)
    weight[:, 1:] = 0
    for config in find(name).space(problem, weight, AVX2):
        check(name, problem, weight, AVX2, config)


def test_an_empty_weight_gives_the_epilogue_of_zero() -> None:
    problem = linear(5, 6, 40, epilogue=Epilogue(True, False, "sigmoid"))
    weight = np.zeros((5, 6), np.float32)
    x, bias, _ = inputs(problem)
    got = run("block", problem, weight, AVX2, {"rows": 4, "vectors": 2, "pack": 0}, x * np.inf, bias)
    np.testing.assert_allclose(got, reference(problem, weight, x, bias), rtol=1e-5)


def test_block_never_touches_a_dead_column() -> None:
    problem, weight = linear(8, 4, 33), np.ones((8, 4), np.float32)
    weight[:, 2] = 0
    x, _, _ = inputs(problem)
    x[2] = np.nan
    got = run("block", problem, weight, AVX2, {"rows": 4, "vectors": 2, "pack": 1}, x)
    assert np.isfinite(got).all()


@pytest.mark.parametrize("size", [(16, 1), (4, 4), (32, 32), (1, 16)])
def test_block_is_offered_for_blocks(size: tuple[int, int]) -> None:
    weight = blocks(128, 128, size, 0.2)
    space = find("block").space(linear(128, 128, 196), weight, AVX512)
    assert 0 < len(space) <= MOST
    costs = [find("block").estimate(linear(128, 128, 196), weight, AVX512, c) for c in space]
    assert costs == sorted(costs)
    dense = find("dense").space(linear(128, 128, 196), weight, AVX512)[0]
    assert costs[0] < 0.7 * find("dense").estimate(linear(128, 128, 196), weight, AVX512, dense)


def test_block_is_not_offered_for_a_full_weight_but_dense_always_is() -> None:
    weight = np.ones((64, 64), np.float32)
    assert not find("block").space(linear(64, 64, 100), weight, AVX512)
    assert find("dense").space(linear(64, 64, 100), weight * 0, AVX512)


def test_the_registers_are_enough() -> None:
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((100, 50)) * (rng.random((100, 50)) < 0.2)).astype(np.float32)
    for core in (AVX512, AVX2):
        for name in ("dense", "block"):
            for config in find(name).space(linear(100, 50, 333), weight, core):
                rows, vectors = config["rows"], config["vectors"]
                assert rows * vectors + (vectors if rows > 1 else 0) + 1 <= core.registers


def test_depthwise_is_left_to_its_own_family() -> None:
    problem = Problem("depthwise", 4, 9, 16, (1, 4, 4, 4), (1, 4, 4, 4), 1, Window(4, 4, (3, 3), padding=(1, 1, 1, 1)))
    for name in ("dense", "block"):
        assert not find(name).space(problem, np.ones((4, 9), np.float32), AVX512)


def test_two_threads_split_the_rows_where_there_is_one_tile() -> None:
    weight = blocks(64, 32, (4, 4), 0.5)
    check("block", linear(64, 32, 20, threads=2), weight, AVX2, {"rows": 4, "vectors": 3, "pack": 1})


@pytest.mark.parametrize("name", ["dense", "block"])
@pytest.mark.parametrize("n", [17, 49, 50, 10])
@pytest.mark.parametrize("epilogue", [None, "silu", "gelu_tanh"])
def test_what_is_left_of_n_has_the_rows_in_the_lanes(name: str, n: int, epilogue: str | None) -> None:
    problem, weight = linear(20, 40, n, epilogue=Epilogue(True, False, epilogue)), blocks(20, 40, (4, 4), 0.5)
    for kblock in (0, 16):
        config = {"rows": 4, "vectors": 3, "pack": 0, "depth": kblock}
        symbols = str(find(name).emit(problem, weight, AVX512, config, "kernel").main.script())
        assert "last[" in symbols
        check(name, problem, weight, AVX512, config)


def test_blocks_of_k_are_offered_where_a_tile_leaves_the_first_cache() -> None:
    weight = blocks(512, 2048, (4, 4), 0.5)
    space = find("block").space(linear(512, 2048, 196), weight, AVX512)
    assert any(config.get("depth") for config in space)
    assert not any(c.get("depth") for c in find("block").space(linear(64, 64, 196), weight[:64, :64], AVX512))


@pytest.mark.parametrize("name", ["dense", "block"])
@pytest.mark.parametrize(
    ("m", "k", "depth", "threads"), [(37, 100, 32, 1), (37, 100, 32, 3), (64, 70, 16, 2), (5, 3, 2, 1)]
)
def test_blocks_of_k_with_panels_that_overlap(name: str, m: int, k: int, depth: int, threads: int) -> None:
    problem = linear(m, k, 35, threads=threads, epilogue=Epilogue(True, True, "relu"))
    weight = np.random.default_rng(0).standard_normal((m, k)).astype(np.float32)
    weight[:, ::3] = 0
    for rows, pack in ((4, 0), (4, 1), (5, 1)):
        check(name, problem, weight, AVX512, {"rows": rows, "vectors": 2, "pack": pack, "depth": depth})


def test_tails_of_a_batch() -> None:
    problem = Problem("linear", 20, 40, 49, (2, 40, 49), (2, 20, 49), 2, epilogue=Epilogue(False, True, "gelu"))
    for pack in (0, 1):
        check(
            "block", problem, blocks(20, 40, (4, 4), 0.5), AVX512, {"rows": 4, "vectors": 3, "pack": pack, "depth": 16}
        )


@pytest.mark.parametrize("name", ["dense", "block", "indexed"])
def test_integers_of_a_window_or_unpacked_are_refused(name: str) -> None:
    window = Window(6, 6, (3, 3), padding=(1, 1, 1, 1))
    conv = Problem("conv2d", 4, 18, 36, (1, 2, 6, 6), (1, 4, 6, 6), 1, window, dtype="int8", output=Output("int32"))
    config = {"rows": 1, "vectors": 1, "pack": 1, "kblock": 0}
    with pytest.raises(ValueError, match="cannot compute int8 conv2d"):
        find(name).emit(conv, np.ones((4, 18), np.float32), AVX512, config, "no")
    flat = linear(4, 18, 36, dtype="int8", output=Output("int32"))
    with pytest.raises(ValueError, match="cannot compute int8 linear with"):
        find(name).emit(flat, np.ones((4, 18), np.float32), AVX512, {**config, "pack": 0}, "no")


@pytest.mark.parametrize("name", ["dense", "block", "indexed"])
def test_more_threads_are_expected_to_take_less_time(name: str) -> None:
    weight = blocks(512, 512, (4, 4), 0.2)
    one, two = (linear(512, 512, 196, threads=threads) for threads in (1, 2))
    config = find(name).space(one, weight, AVX512)[0]
    assert find(name).estimate(two, weight, AVX512, config) < 0.7 * find(name).estimate(one, weight, AVX512, config)


def test_golden_tail_and_blocks_of_k() -> None:
    weight = np.zeros((4, 6), np.float32)
    weight[:, [0, 2, 5]] = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    config = {"rows": 4, "vectors": 1, "pack": 0, "depth": 2}
    golden.compare("block_tail", find("block").emit(linear(4, 6, 9), weight, AVX2, config, "kernel"))


def test_golden_dense() -> None:
    weight = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    problem = linear(4, 3, 40, epilogue=Epilogue(bias=True, activation="relu"))
    golden.compare("dense", find("dense").emit(problem, weight, AVX2, {"rows": 2, "vectors": 2, "pack": 0}, "kernel"))


def test_golden_residual_and_codes() -> None:
    """The code of cores that have records, with every array that an epilogue may take."""
    weight = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    config = {"rows": 2, "vectors": 2, "pack": 1}
    for name, more in (("dense_residual", {}), ("dense_int8", {"dtype": "int8", "output": Output("uint8", 0.5, 3)})):
        epilogue = Epilogue(bias=True, residual=True, activation="relu", scale=bool(more))
        problem = linear(4, 3, 40, epilogue=epilogue, **more)
        golden.compare(name, find("dense").emit(problem, weight, AVX2, config, "kernel"))


def test_golden_block_convolution() -> None:
    window = Window(6, 6, (3, 3), (2, 2), (1, 1, 1, 1))
    problem = Problem("conv2d", 2, 18, 9, (1, 2, 6, 6), (1, 2, 3, 3), 1, window)
    weight = np.zeros((2, 18), np.float32)
    weight[:, [0, 4, 8]] = [[1, 2, 3], [4, 5, 6]]
    golden.compare("block", find("block").emit(problem, weight, AVX2, {"rows": 2, "vectors": 1, "pack": 1}, "kernel"))
