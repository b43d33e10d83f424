"""The view of X: every tap of every output is where the table of offsets says, and zeros are where the padding is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.schedules.cpu.cut import cut, shares
from tesa.schedules.cpu.operand import SLACK, Operand, operand, tiling
from tesa.schedules.types import FloatArray, Problem, Window
from tests.schedules.reference import AVX512, columns
from tests.schedules.strategies import convolutions, linears


def staged(problem: Problem, view: Operand, x: FloatArray) -> FloatArray:
    """The padded planes of one batch item (channels, height, width), as the generated code fills them."""
    window = problem.window
    assert window is not None
    copy = np.zeros(view.staged, np.float32)
    for c, channel in enumerate(view.channels):
        for i, plane in enumerate(view.planes):
            start = (c * len(view.planes) + i) * view.plane
            for row in range(*plane.rows):
                for column in range(*plane.columns):
                    source = x[channel, row * window.stride[0] + plane.row, column * window.stride[1] + plane.column]
                    copy[start + row * view.row + column] = source
    return copy


@settings(max_examples=200)
@given(convolutions(), st.data())
def test_offsets_find_every_tap_of_a_convolution(problem: Problem, data: st.DataObject) -> None:
    live = np.array(data.draw(st.lists(st.booleans(), min_size=problem.k, max_size=problem.k)))
    view = operand(problem, live)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(problem.x_shape).astype(np.float32)
    wanted = columns(problem, x.astype(np.float64))[0].reshape(problem.k, view.height if view.staged else 1, -1)
    source = staged(problem, view, x[0]) if view.staged else x[0].ravel()
    assert np.array_equal(view.offsets >= 0, live)
    for k in np.flatnonzero(live):
        for y in range(view.height):
            start = view.offsets[k] + y * view.row
            assert np.array_equal(source[start : start + view.width], wanted[k, y].astype(np.float32))


@given(convolutions())
def test_a_tile_never_reads_behind_the_copy(problem: Problem) -> None:
    view = operand(problem, np.ones(problem.k, bool))
    if view.staged:
        last = int(view.offsets.max()) + view.length(view.height)
        assert last + SLACK // 2 <= view.staged


@given(linears())
def test_a_pointwise_operand_is_the_matrix_itself(problem: Problem) -> None:
    view = operand(problem, np.ones(problem.k, bool))
    assert view.direct
    assert not view.staged
    assert view.offsets.tolist() == [k * problem.n for k in range(problem.k)]


@given(st.integers(1, 700), st.sampled_from([1, 4, 8, 16]), st.integers(1, 14))
def test_tiles_cover_everything_and_nothing_else(length: int, lanes: int, vectors: int) -> None:
    tiles = tiling(length, lanes, vectors)
    seen = np.zeros(length, int)
    for t in range(tiles.count):
        tile = tiles.rest if tiles.rest is not None and t == tiles.count - 1 else tiles
        for v in range(tile.vectors):
            start = min(t * tiles.width, tiles.last_start) + min(v * tiles.lanes, tile.last_vector)
            assert 0 <= start <= length - tiles.lanes
            seen[start : start + tiles.lanes] += 1
    assert seen.all()
    assert tiles.vectors <= vectors
    computed = (tiles.count - 1) * tiles.vectors + (tiles.vectors if tiles.rest is None else tiles.rest.vectors)
    assert computed == -(-length // tiles.lanes)  # no vector more than needed
    assert tiles.rest is None or tiles.rest.row == tiles.width


def test_only_live_channels_and_phases_are_staged() -> None:
    window = Window(8, 8, (3, 3), (2, 2), (1, 1, 1, 1))
    problem = Problem("conv2d", 2, 36, 16, (1, 4, 8, 8), (1, 2, 4, 4), 1, window)
    live = np.zeros(36, bool)
    live[[9 + 4, 27 + 4]] = True  # the middle tap of channels 1 and 3
    view = operand(problem, live)
    assert view.channels == (1, 3)
    assert len(view.planes) == 1
    assert view.direct


def test_shares_cost_about_the_same() -> None:
    rng = np.random.default_rng(0)
    work = rng.integers(0, 100, 256)
    bounds = shares(work, 4, 3)
    assert bounds[0] == 0
    assert bounds[-1] == 256
    assert all(b % 4 == 0 for b in bounds)
    sums = [work[low:high].sum() for low, high in zip(bounds[:-1], bounds[1:], strict=True)]  # noqa: RUF007
    assert max(sums) < 1.2 * min(sums)


def test_little_work_stays_on_one_thread() -> None:
    def threads(m: int) -> int:
        problem = Problem("linear", m, 64, 256, (64, 256), (m, 256), threads=2)
        view = operand(problem, np.ones(64, bool))
        return cut(problem, AVX512, view, 4, np.full(m, 64)).threads

    assert threads(8) == 1
    assert threads(512) == 2


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_more_shares_than_panels(rows: int) -> None:
    assert shares(np.zeros(rows, np.int64), 4, 8)[-1] == rows


def test_depthwise_has_no_view() -> None:
    problem = Problem("depthwise", 2, 9, 16, (1, 2, 4, 4), (1, 2, 4, 4), 1, Window(4, 4, (3, 3), padding=(1, 1, 1, 1)))
    with pytest.raises(ValueError, match="depthwise"):
        operand(problem, np.ones(9, bool))
