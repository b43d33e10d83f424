"""The sliced family against NumPy: one column and a few, ragged and sorted rows, both windows; and its packing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.schedules.cpu import sliced
from tesa.schedules.cpu.sliced import MAX_SIDES
from tesa.schedules.cpu.slices import pack
from tesa.schedules.registry import find
from tesa.schedules.types import Core, Epilogue, Problem, Window
from tests.schedules import golden
from tests.schedules.guarded import harsh
from tests.schedules.reference import AVX2, AVX512, HERE, check
from tests.schedules.strategies import cores, epilogues, threads
from tests.support import drawn

SLICED = find("sliced")


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    m, k = draw(st.integers(1, 100)), draw(st.integers(16, 150))
    batch, n = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (5, 1), (1, 3), (2, 2), (8, 1), (1, 8)]))
    shapes = draw(st.sampled_from([((batch, k, n), (batch, m, n)), ((batch * n, k), (batch * n * m,))]))
    storage = draw(st.sampled_from(["float32", "float32", "float16", "bfloat16"]))
    return Problem("linear", m, k, n, *shapes, batch, None, draw(epilogues), threads=draw(threads), storage=storage)


def _weight(p: Problem, density: float, skew: float, seed: int) -> np.ndarray:
    """Rows of unlike lengths; numbers that 16 bits hold exactly. Some rows and columns are empty."""
    rng = np.random.default_rng(seed)
    share = density * rng.random((p.m, 1)) ** skew
    w = rng.integers(-8, 9, (p.m, p.k)) / 4 * (rng.random((p.m, p.k)) < share)
    w[:, rng.random(p.k) < 0.1] = 0
    return w.astype(np.float32)


@drawn(40)
@given(problems(), cores, st.sampled_from([0.0, 0.05, 0.3, 0.7]), st.sampled_from([0.0, 3.0]), st.data())
def test_any_pattern(p: Problem, core: Core, density: float, skew: float, data: st.DataObject) -> None:
    weight = _weight(p, density, skew, data.draw(st.integers(0, 2**32 - 1)))
    configs = SLICED.space(p, weight, core)
    if p.k >= 2 * core.lanes:
        assert configs
        with harsh(data.draw(st.booleans())):
            check("sliced", p, weight, core, data.draw(st.sampled_from(configs)))
    else:
        assert configs == ()


@pytest.mark.parametrize("core", HERE, ids=lambda core: str(core.name))
@pytest.mark.parametrize("window", [2, 4])
@pytest.mark.parametrize("share", [1, 2, 4])
@pytest.mark.parametrize("n", [1, 4, 16])
def test_every_window_and_width(core: Core, window: int, share: int, n: int) -> None:
    p = Problem("linear", 70, 200, n, (200, n), (70, n), threads=2)
    check("sliced", p, _weight(p, 0.3, 2.0, 5), core, {"window": window, "share": share})


@settings(max_examples=30)
@given(st.integers(1, 70), st.integers(32, 120), st.floats(0, 0.8), st.sampled_from([8, 16]), st.data())
def test_packing_keeps_every_weight_once(m: int, k: int, density: float, lanes: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weight = (rng.standard_normal((m, k)) * (rng.random((m, k)) < density)).astype(np.float32)
    window, (share, unroll) = 2 * lanes, data.draw(st.sampled_from([(1, 1), (1, 4), (2, 4), (4, 4)]))
    slices = pack(weight, lanes, window, share, unroll)
    assert (np.diff(slices.starts) % unroll == 0).all()
    assert (slices.bases >= 0).all()
    assert (slices.bases + window <= k).all()
    assert (slices.places < window).all()
    back = np.zeros_like(weight)
    for number, rows in enumerate(slices.rows):
        for step in range(slices.starts[number], slices.starts[number + 1]):
            for lane in np.flatnonzero(slices.values[step]):
                back[rows[lane], slices.bases[step // share] + slices.places[step, lane]] += slices.values[step, lane]
    np.testing.assert_array_equal(back, weight)


def test_lanes_are_mostly_at_work() -> None:
    weight = (np.random.default_rng(3).random((64, 2048)) < 0.3).astype(np.float32)
    slices = pack(weight, 16, 32, 1, 1)
    assert weight.sum() / slices.values.size > 0.85
    assert not slices.sorted


def test_rows_of_unlike_lengths_are_sorted() -> None:
    weight = np.zeros((64, 512), np.float32)
    weight[::16] = 1.0  # four full rows, one in each slice
    slices = pack(weight, 16, 32, 1, 1)
    assert slices.sorted
    assert slices.starts[-1] == 512


@pytest.mark.parametrize(
    ("p", "density"),
    [
        (Problem("linear", 8, 64, MAX_SIDES + 1, (1, 64, MAX_SIDES + 1), (1, 8, MAX_SIDES + 1)), 0.1),
        (Problem("conv2d", 8, 72, 1, (1, 8, 3, 3), (1, 8, 1, 1), window=Window(3, 3, (3, 3))), 0.1),
        (Problem("linear", 8, 31, 1, (1, 31), (1, 8)), 0.1),
        (Problem("linear", 8, 64, 1, (1, 64), (1, 8)), 1.0),
        (Problem("linear", 8, 64, 1, (1, 64), (1, 8), dtype="int8"), 0.1),
    ],
    ids=["wide", "window", "short", "dense", "int8"],
)
def test_where_it_does_not_apply(p: Problem, density: float) -> None:
    weight = np.zeros((p.m, p.k), np.float32)
    weight.reshape(-1)[: int(density * weight.size)] = 1
    assert SLICED.space(p, weight, AVX512) == ()


@pytest.mark.parametrize("config", [{"window": 8, "share": 1}, {"window": 2, "share": 3}, {"window": 3, "share": 1}])
def test_configurations_that_do_not_fit_are_refused(config: dict[str, int]) -> None:
    p = Problem("linear", 8, 64, 1, (1, 64), (1, 8))
    with pytest.raises(ValueError, match="cannot compute k = 64 with"):
        SLICED.emit(p, np.ones((8, 64), np.float32), AVX512, config, "no")


def test_a_window_is_refused() -> None:
    p = Problem("conv2d", 8, 72, 1, (1, 8, 3, 3), (1, 8, 1, 1), window=Window(3, 3, (3, 3)))
    with pytest.raises(ValueError, match="cannot compute op 'conv2d' with a window"):
        SLICED.emit(p, np.ones((8, 72), np.float32), AVX512, {"window": 2, "share": 1}, "no")


@pytest.mark.parametrize("rows", [17, 24, 512])
@pytest.mark.parametrize("kind", ["scattered", "banded", "skewed", "one side"])
def test_the_estimate_knows_how_many_steps_there_will_be(kind: str, rows: int) -> None:
    rng = np.random.default_rng(4)
    weight = (rng.random((512, 2048)) < 0.1).astype(np.float32)
    if kind == "banded":  # rows of a slice want columns far from each other
        weight = (np.abs(np.arange(2048) - (np.arange(512)[:, None] * 331) % 2048) < 100).astype(np.float32)
    if kind == "skewed":
        weight *= rng.random((512, 1)) < 0.2
    if kind == "one side":
        weight = np.concatenate([weight, np.zeros((512, 8000), np.float32)], axis=1)
    weight = weight[:rows]
    config = {"window": 2, "share": 2}
    steps = len(pack(weight, 16, 32, 2, 2).values)
    assert sliced._steps(weight, 16, config) == pytest.approx(steps, rel=0.35)


def test_golden() -> None:
    weight = np.zeros((8, 24), np.float32)
    weight[np.arange(8), np.arange(8) * 3] = np.arange(1, 9)
    weight[:, 23] = 9
    problem = Problem("linear", 8, 24, 1, (24,), (8,), epilogue=Epilogue(bias=True, activation="relu"))
    golden.compare("sliced", SLICED.emit(problem, weight, AVX2, {"window": 2, "share": 1}, "kernel"))
