"""The places of the elements of X, as a thread of a GPU finds them: X itself, with borders by bits and no branch.

Element (k, position p) of a layer is X[start(p) + offsets[k]], with offsets known when the code is generated:

    pointwise    start(p) = p                                 offsets[k] = k n
    convolution  start(p) = (y sh - top) width + x sw - left  offsets[k] = (c height + i dh) width + j dw
                 of the output y, x that p stands for         of k's channel and tap c, i, j

A tap (i, j) that lies outside of the image is 0: a thread makes a word of bits, once for each of its positions, with
bit i set where row i of the window is inside, and another one for the columns; tap (i, j) is read where both have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.gpu.arrays import keep
from tesa.schedules.types import Problem, Window

BITS = 31
"""Rows, and columns, of a window at most."""


@dataclass(frozen=True)
class Operand:
    """The view of X. offsets: (k,) int32; taps: (k,) int32, row + 256 column of the window, None where no tap is ever
    outside; item: elements of a batch item."""

    problem: Problem
    offsets: NDArray[np.int32]
    taps: NDArray[np.int32] | None
    item: int

    def position(self, name: str, p: Any) -> Position:
        """The facts that a thread needs of position p, which must be one of the layer's."""
        window = self.problem.window
        if self.problem.pointwise or window is None:
            return Position(self, p)
        y = keep(f"{name}_y", tirx.truncdiv(p, T.int32(window.out_width)))
        top = y * window.stride[0] - window.padding[0]
        left = (p - y * window.out_width) * window.stride[1] - window.padding[1]
        start = keep(f"{name}_start", top * window.width + left)
        if self.taps is None:
            return Position(self, start)
        kernel, dilation = window.kernel, window.dilation
        rows = keep(f"{name}_rows", _inside(top, kernel[0], dilation[0], window.height))
        columns = keep(f"{name}_columns", _inside(left, kernel[1], dilation[1], window.width))
        return Position(self, start, rows, columns)


@dataclass(frozen=True)
class Position:
    """A position of a thread: its start in X, and its two words of bits where the view has taps."""

    view: Operand
    start: Any
    rows: Any = None
    columns: Any = None

    def read(self, x: Any, item: Any, offset: Any, tap: Any = None) -> Any:
        """The element of X at an offset, or the code of 0 where its tap is outside. tap, offset: numbers or
        expressions; item: where the batch item begins."""
        value = x[item + self.start + offset]
        if self.rows is None:
            return value
        i, j = tap & 255, tap >> 8
        inside = (self.rows >> i) & (self.columns >> j) & 1
        return T.if_then_else(inside != 0, value, outside(self.view.problem, str(x.dtype)))


def outside(problem: Problem, dtype: str) -> Any:
    """The value of X beyond its borders."""
    return tirx.IntImm(dtype, problem.x_zero or problem.x_pad) if dtype == "uint8" else tirx.FloatImm(dtype, 0.0)


def operand(problem: Problem) -> Operand:
    """The view of a problem's X.

    >>> p = Problem("linear", 4, 3, 5, (1, 3, 5), (1, 4, 5))
    >>> operand(p).offsets.tolist(), operand(p).taps
    ([0, 5, 10], None)
    """
    if problem.pointwise:
        return Operand(problem, np.arange(problem.k, dtype=np.int32) * problem.n, None, problem.k * problem.n)
    window = problem.window
    if window is None or problem.op != "conv2d":
        raise ValueError(f"no view of X for {problem.op}")
    area = window.kernel[0] * window.kernel[1]
    channel, tap = np.divmod(np.arange(problem.k), area)
    i, j = np.divmod(tap, window.kernel[1])
    row = channel * window.height + i * window.dilation[0]
    offsets = (row * window.width + j * window.dilation[1]).astype(np.int32)
    taps = None if inside_always(window) else (i + 256 * j).astype(np.int32)
    return Operand(problem, offsets, taps, problem.channels * window.height * window.width)


def readable(problem: Problem) -> bool:
    """False for a problem whose X this view does not reach."""
    if problem.op == "linear" or problem.pointwise:
        return True
    window = problem.window
    return problem.op == "conv2d" and window is not None and max(window.kernel) <= BITS and problem.depth is None


def inside_always(window: Window) -> bool:
    """True where no tap of any output lies outside of the image."""
    bottom = (window.out_height - 1) * window.stride[0] + window.dilation[0] * (window.kernel[0] - 1)
    right = (window.out_width - 1) * window.stride[1] + window.dilation[1] * (window.kernel[1] - 1)
    top, left, _, _ = window.padding
    return top == 0 and left == 0 and bottom < window.height and right < window.width


def _inside(first: Any, taps: int, dilation: int, size: int) -> Any:
    """A word whose bit i is set where 0 <= first + i dilation < size."""
    bits: Any = T.int32(0)
    for i in range(taps):
        at = first + i * dilation
        bits = bits | tirx.Select(tirx.And(at >= 0, at < size), T.int32(1 << i), T.int32(0))
    return bits
