"""The window of a depthwise kernel as it is known when code is made: live taps, and what the borders cut off."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.types import Window


@dataclass(frozen=True)
class Group:
    """Channels start ... start + count of the sorted channel list: those whose live taps are taps, as (row, column)."""

    taps: tuple[tuple[int, int], ...]
    start: int
    count: int


@dataclass(frozen=True)
class Run:
    """count tiles of one shape: they start at first, first + size, ... key says what is cut off by the borders."""

    first: int
    size: int
    count: int
    key: tuple[Any, ...]


def groups_of(live: NDArray[np.bool_], window: Window) -> tuple[tuple[Group, ...], NDArray[np.int32] | None]:
    """The channels by their live taps, and their order where it is not just 0, 1, 2, ..."""
    masks, member = np.unique(live, axis=0, return_inverse=True)
    member = member.reshape(-1)
    counts = np.bincount(member, minlength=len(masks))
    starts = np.cumsum(counts) - counts
    columns = window.kernel[1]
    taps = [tuple((int(t) // columns, int(t) % columns) for t in np.flatnonzero(mask)) for mask in masks]
    groups = tuple(Group(t, int(s), int(n)) for t, s, n in zip(taps, starts, counts, strict=True))
    return groups, None if len(groups) == 1 else np.argsort(member, kind="stable").astype(np.int32)


def picks(window: Window, taps: Sequence[tuple[int, int]], last: bool = False) -> dict[int, tuple[int, int]]:
    """The start of the loads of each live window column (from stride * first output column), and its phase.

    Columns that share their loads are counted from the first one; last: so that the last ones share theirs.
    """
    stride = window.stride[1]
    shifts = {j: j * window.dilation[1] - window.padding[1] for _, j in taps}
    if not shifts:
        return {}
    least = max(shifts.values()) - stride + 1 if last else min(shifts.values())
    return {j: (shift - (shift - least) % stride, (shift - least) % stride) for j, shift in shifts.items()}


def _merge(tiles: Sequence[tuple[int, int, tuple[Any, ...]]]) -> list[Run]:
    """Consecutive (first, size, key) that differ in first only become one run."""
    runs: list[Run] = []
    for first, size, key in tiles:
        last = runs[-1] if runs else None
        if last and (last.size, last.key) == (size, key) and first == last.first + last.count * size:
            runs[-1] = replace(last, count=last.count + 1)
        else:
            runs.append(Run(first, size, 1, key))
    return runs


def row_runs(window: Window, rows: int, taps: Sequence[tuple[int, int]]) -> list[Run]:
    """Blocks of output rows; the key lists the (output row of the block, window row) that lie inside of the image."""
    tiles = []
    for first in range(0, window.out_height, rows):
        size = min(rows, window.out_height - first)
        inside = [
            (r, i)
            for r in range(size)
            for i in sorted({i for i, _ in taps})
            if 0 <= (first + r) * window.stride[0] + i * window.dilation[0] - window.padding[0] < window.height
        ]
        tiles.append((first, size, tuple(inside)))
    return _merge(tiles)


def column_runs(window: Window, lanes: int, picked: dict[int, tuple[int, int]]) -> list[Run]:
    """Vectors of output columns; the key holds (start, part, low, high): the lanes of each load inside of the image."""
    width, stride = window.out_width, window.stride[1]
    firsts = list(range(0, width - lanes + 1, lanes)) or [0]
    if width > lanes and width % lanes:
        firsts.append(width - lanes)
    tiles = []
    for first in firsts:
        key = []
        for start in sorted({start for start, _ in picked.values()}):
            for part in range(stride):
                base = stride * first + start + part * lanes
                key.append((start, part, max(0, -base), min(lanes, window.width - base)))
        tiles.append((first, lanes, tuple(key)))
    return _merge(tiles)


def fmas(window: Window, lanes: int, rows: int, groups: Sequence[Group]) -> int:
    """FMA instructions of the code for these groups."""
    total = 0
    for group in groups:
        vectors = len(column_runs(window, lanes, picks(window, group.taps)))
        total += vectors * len(group.taps) * sum(run.size for run in row_runs(window, rows, group.taps))
    return total
