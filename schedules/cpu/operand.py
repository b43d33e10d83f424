"""The places of the elements of the operand X: one view for linear layers and convolutions.

A kernel reads element (k, position p) as S[offsets[k] + p], with offsets known when the code is generated. p runs along
the vector axis.

- A pointwise layer reads X itself: offsets[k] = k n, and p is a column of the matrix.
- A convolution reads a padded copy of one batch item. Every live channel is split by the phase of the stride (for
  stride 2 four planes: even and odd rows and columns), so that the taps of neighbouring outputs are neighbours in a
  plane:
      x[c, y s + i d - top, ...] = plane(c, (i d) % s)[y + (i d) // s, ...]
  All planes have rows of the same length, `row` >= out_width; p = y row + x, and the positions between out_width and
  row are garbage that is computed and never stored. The padding right of a row is the padding left of the next one.
  Where row == out_width (a 1x1 convolution with a stride) there is no garbage.
- Of a convolution of three axes all slices have these planes, one slice behind the other, so that a tap along the depth
  is an offset of so many slices, and an item is where its first slice begins. An item copies only the slices that none
  before it has read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.types import Depth, Problem, Window

SLACK = 1024
"""Zero elements behind the last plane: how far a tile may read beyond the last position."""

LINE = 16
"""float32 elements of a cache line."""


@dataclass(frozen=True)
class Plane:
    """One phase of a channel. Plane element (i, j) is input element (i * stride + row, j * stride + column).

    rows, columns: the half-open ranges of i and j that lie in the input; all others are zero.
    """

    row: int
    column: int
    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True)
class Operand:
    """The view of one batch item.

    offsets: (k,) element offsets, -1 for a k that is not live. staged: elements of the padded copy, 0 where X itself is
    read. height: output rows; width: outputs of a row; row: positions from one output row to the next. A pointwise
    operand has one row. channels: the live input channels; planes: what is staged of each, plane elements each; slice:
    elements from a slice to the next along the depth, fresh: slices that an item copies, 0 where there is no depth.
    """

    offsets: NDArray[np.int64]
    height: int
    width: int
    row: int
    staged: int = 0
    channels: tuple[int, ...] = ()
    planes: tuple[Plane, ...] = ()
    plane: int = 0
    slice: int = 0
    fresh: int = 0

    @property
    def copied(self) -> int:
        """Elements that are staged for one batch item."""
        return self.slice * self.fresh if self.slice else self.staged

    @property
    def direct(self) -> bool:
        """True where every position is an output, so that results go to Y without a detour."""
        return self.height == 1 or self.row == self.width

    def length(self, rows: int) -> int:
        """Positions of so many output rows, the garbage behind the last one left out."""
        return (rows - 1) * self.row + self.width


@dataclass(frozen=True)
class Tiling:
    """The vector axis in tiles of `vectors` vectors of `lanes` elements.

    Only whole vectors are touched. Where length is no multiple of a tile, the last tile has fewer vectors if that is
    enough (rest), and starts at length - its width; where there is one tile and it is ragged, its last vector starts at
    length - lanes. The positions met twice get the same value twice. With padded=True (a buffer of our own with room at
    its end) tiles just run over. pitch: of a packed tile, elements from a row to the next, 0 for its width. tail:
    positions behind length that belong to the last tile and to no vector of it.

    >>> tiling(196, 16, 7)
    Tiling(lanes=16, vectors=7, count=2, length=196, padded=False, pitch=0, tail=0)
    """

    lanes: int
    vectors: int
    count: int
    length: int
    padded: bool = False
    pitch: int = 0
    tail: int = 0

    @property
    def row(self) -> int:
        """Elements from a row of a packed tile to the next."""
        return self.pitch or self.width

    @property
    def rest(self) -> Tiling | None:
        """The last tile, where it has fewer vectors than the others, or a tail."""
        total = -(-self.length // self.lanes)
        left = total - (self.count - 1) * self.vectors
        if self.padded or self.count == 1 or (left == self.vectors and not self.tail):
            return None
        return Tiling(self.lanes, left, 1, left * self.lanes, pitch=self.row, tail=self.tail)

    @property
    def whole(self) -> float:
        """The number of tiles, the last one counted by its vectors."""
        rest = self.rest
        return self.count if rest is None else self.count - 1 + rest.vectors / self.vectors

    @property
    def width(self) -> int:
        """Elements of a tile; more than length if there is one ragged tile."""
        return self.lanes * self.vectors

    @property
    def last_start(self) -> int:
        """The start of the last tile."""
        start, rest = (self.count - 1) * self.width, self.rest
        width = self.width if rest is None else rest.width
        return start if self.padded else max(min(start, self.length - width), 0)

    @property
    def last_vector(self) -> int:
        """The start of the last vector of a tile, from the tile's start."""
        start = (self.vectors - 1) * self.lanes
        return start if self.padded else min(start, self.length - self.lanes)


def tiling(length: int, lanes: int, vectors: int, padded: bool = False, tail: bool = False) -> Tiling:
    """Tiles of at most that many vectors, as equal as possible; fewer lanes where length is shorter than a vector.

    tail: what is left behind the last whole vector is the last tile's tail.

    >>> tiling(49, 16, 3, tail=True)
    Tiling(lanes=16, vectors=3, count=1, length=48, padded=False, pitch=64, tail=1)
    """
    if not padded:
        lanes = min(lanes, 1 << (length.bit_length() - 1))
    left = length % lanes if tail else 0
    length -= left
    total = -(-length // lanes)
    count = -(-total // vectors)
    vectors = -(-total // count)
    last = (total - (count - 1) * vectors) * lanes + left
    pitch = max(vectors * lanes, -(-last // LINE) * LINE) if left else 0
    return Tiling(lanes, vectors, count, length, padded, pitch, left)


def channels_of(problem: Problem) -> int:
    """Channels of a convolution's X."""
    return problem.channels if problem.depth is None else problem.channels // problem.depth.taps


def operand(problem: Problem, live: NDArray[np.bool_], group: int = 1) -> Operand:
    """The view of a problem's X. live: the columns of the weight that are read at all, `group` neighbouring k each."""
    if problem.pointwise:
        offsets = np.where(live, np.arange(len(live), dtype=np.int64) * (group * problem.n), -1)
        return Operand(offsets, 1, problem.n, problem.n)
    window = problem.window
    if window is None or problem.op != "conv2d":
        raise ValueError(f"no operand view for {problem.op}")
    area, depth = window.kernel[0] * window.kernel[1], problem.depth or Depth(1, 1, 1)
    channel, tap = np.divmod(np.flatnonzero(live), area)
    down_the_depth, channel = np.divmod(channel, channels_of(problem))
    channels = tuple(int(c) for c in np.unique(channel))
    taps = [_tap(window, int(t)) for t in np.unique(tap)]
    planes, row, size = _planes(window, taps)
    index = {plane[:2]: i for i, plane in enumerate(planes)}
    offsets = np.full(problem.k, -1, np.int64)
    each = (len(channels) * len(planes) * size // LINE | 1) * LINE if problem.depth else 0
    place = np.searchsorted(np.array(channels, np.int64), channel)
    beyond = down_the_depth * (depth.dilation * each)
    for t in np.unique(tap):
        phase, (down, right) = _tap(window, int(t))
        chosen = tap == t
        first = (place[chosen] * len(planes) + index[phase]) * size
        offsets[np.flatnonzero(live)[chosen]] = beyond[chosen] + first + down * row + right
    staged = (depth.slices * each or len(channels) * len(planes) * size) + SLACK
    fresh = min(depth.stride, depth.reach) if each else 0
    made = tuple(plane[2] for plane in planes)
    shape = (window.out_height, window.out_width, row)
    return Operand(offsets, *shape, staged, channels, made, size, each, fresh)


_Tap = tuple[tuple[int, int], tuple[int, int]]


def _tap(window: Window, index: int) -> _Tap:
    """The (phase, offset in the plane) of a tap."""
    i, j = divmod(index, window.kernel[1])
    down, phase_row = divmod(i * window.dilation[0], window.stride[0])
    right, phase_column = divmod(j * window.dilation[1], window.stride[1])
    return (phase_row, phase_column), (down, right)


def _planes(window: Window, taps: list[_Tap]) -> tuple[list[tuple[int, int, Plane]], int, int]:
    """The planes that the taps touch, the length of their rows and their size."""
    planes, row, size = [], window.out_width, 0
    for phase in sorted({phase for phase, _ in taps}):
        down = max(offset[0] for p, offset in taps if p == phase)
        right = max(offset[1] for p, offset in taps if p == phase)
        bottom, end = window.out_height + down, window.out_width + right
        rows = _inside(bottom, window.stride[0], phase[0] - window.padding[0], window.height)
        columns = _inside(end, window.stride[1], phase[1] - window.padding[1], window.width)
        plane = Plane(phase[0] - window.padding[0], phase[1] - window.padding[1], rows, columns)
        planes.append((*phase, plane))
        # what a row's last taps read beyond `row` must be zeros in front of the next row's input
        row = max(row, columns[1], end - columns[0])
        size = max(size, bottom)
    # one more line than a multiple of two lines: planes fall into different sets of the cache
    lines = -(-(size * row + row) // LINE) | 1
    return planes, row, lines * LINE


def _inside(extent: int, stride: int, shift: int, size: int) -> tuple[int, int]:
    """The i in range(extent) with 0 <= i * stride + shift < size."""
    first = min(max(-(shift // stride), 0), extent)
    last = min(max(-(-(size - shift) // stride), first), extent)
    return first, last
