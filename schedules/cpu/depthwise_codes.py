"""Depthwise convolution of codes that lie channels last: channels in lanes, some rows of the window in each lane.

Before, for every output (y, x) and channel c:
    Y[y, x, c] = epilogue( sum over (i, j) of W[c, i, j] * (X[y*sh + i*dh - top, x*sw + j*dw - left, c] - x_zero) )

After, with B channels as a block, R output rows and T output columns as a tile, G bytes of a product's lane:
    for every block of channels, for every R output rows (parallel over both):
        for every T output columns:
            for every column of X that the tile touches, for every G of the rows of X that it touches:
                x = those G rows' B bytes each, interleaved: the G bytes of a channel in one lane     4 registers
            for every output of the tile:
                acc = shift[c];  acc += dot(x[column, rows], w[r, j, rows])     4 instructions a live column and G rows
                Y = epilogue(acc)
A group of rows serves all R output rows: those of the window that it does not see are weights of 0. Columns outside of
the image are known when code is made; rows outside are found by a test for each R rows, and are replaced by x_zero.
Interleaving is done within 128 bits, by the unpack instructions of x86, and undone by packing of the results.

G is 4 where the core has a dot product of bytes, 2 where of pairs of 16-bit words. A core with neither, and fewer
channels than a vector holds, take one instruction a tap, in 32 bits.

Registers: 4 sums, the columns of X that a window touches times 4, 4 to interleave.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.cut import Cut, threads_for
from tesa.schedules.cpu.depthwise_dots import Dots, clamped, shape_of, tasks
from tesa.schedules.cpu.epilogue import Names, final
from tesa.schedules.cpu.loops import lanes, named, serial
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.cpu.operand import operand, tiling
from tesa.schedules.refusal import refuse, unsuited
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem, Window


def _applies(problem: Problem) -> bool:
    return problem.op == "depthwise" and problem.dtype == "int8" and problem.features_last and bool(problem.window)


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    if why := unsuited(problem, ops=("depthwise",), dtypes=("int8",)):
        return refuse(why)
    if not _applies(problem) or problem.n < 1:
        return refuse("there is no output to compute")
    # two rows of seven columns take a tenth less time, and four times as long to compile
    return ({"rows": 1, "columns": 4},)


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """A product for each column of live taps and group of rows, the interleaving, and the stores."""
    window, rates, live = problem.window, core.rates, (weight != 0).any(axis=0)
    assert window is not None
    shape = shape_of(problem, live, core, config)
    outputs = problem.batch * problem.n * problem.m
    if shape is None:
        cycles = outputs / core.lanes * (3.0 * float(live.sum()) + 6.0)
    else:
        reach = window.dilation[1] * (window.kernel[1] - 1) + 1
        columns = (shape.columns - 1) * window.stride[1] + reach
        products = 4 * len(shape.products(window)) * shape.columns
        turned = columns * len(shape.ins) * (8 + shape.group)
        stored = shape.rows * shape.columns * 16
        tiles = outputs / (shape.block * shape.rows * shape.columns)
        cycles = tiles * (products / rates.fmas * 2 + turned / 2 + stored / 2)
    threads = threads_for(problem, cycles)
    done = cost.finishing(problem.epilogue, 0.0)
    return float(rates.call + cycles / threads + done + (threads > 1) * 6 * rates.call) / rates.cycles_per_ms


class _Taps:
    """Writes the statements of a kernel of one instruction a tap; live: the taps that any channel has."""

    def __init__(
        self, problem: Problem, window: Window, core: Core, live: list[int], weights: int, threads: int
    ) -> None:
        self.p, self.window, self.core, self.live = problem, window, core, live
        self.weights, self.threads = weights, threads

    def write(self, names: Names) -> None:
        """Every output by itself, with all its channels in lanes."""
        p, w, m = self.p, self.window, self.p.m
        size = self.core.lanes
        whole, rest = divmod(m, size)
        units = p.batch * w.out_height
        for unit in tasks(self.threads, units):
            item, y = unit // w.out_height, unit % w.out_height
            with serial("x", w.out_width) as x:
                at = (unit * w.out_width + x) * m
                if whole:
                    with serial("block", whole) as block:
                        self._block(names, item, y, x, block * size, size, at)
                if rest:
                    self._block(names, item, y, x, whole * size, rest, at)

    def _block(self, names: Names, item: Any, y: Any, x: Any, c: Any, size: int, at: Any) -> None:
        p, w = self.p, self.window
        acc = named("acc", T.alloc_buffer((size,), "int32", scope="local"))
        with lanes(size) as lane:
            T.buffer_store(acc, T.int32(0), [lane])
        for number, tap in enumerate(self.live):
            i, j = divmod(tap, w.kernel[1])
            row = y * w.stride[0] + (i * w.dilation[0] - w.padding[0])
            column = x * w.stride[1] + (j * w.dilation[1] - w.padding[1])
            inside = T.And(T.And(row >= 0, row < w.height), T.And(column >= 0, column < w.width))
            start = ((item * w.height + clamped(row, w.height)) * w.width + clamped(column, w.width)) * p.m + c
            here = T.Bind(T.Select(inside, T.int32(1), T.int32(0)))
            with lanes(size) as lane:
                code = T.Cast("int32", names.x[start + lane]) - T.int32(p.x_zero)
                code = code * here + T.int32(p.x_zero)
                weight = names.constants[self.weights][number * p.m + c + lane]
                T.buffer_store(acc, acc[lane] + code * weight, [lane])
        with lanes(size) as lane:
            T.buffer_store(names.y, final(p, names, acc[lane], c + lane, at + c + lane), [at + c + lane])


@family("depthwise_codes", kind="cpu", space=_space, estimate=_estimate, layouts=("features_last",))
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """Depthwise convolution of codes, channels last: products of a channel's bytes of some rows, channels in lanes.

    weight is (channels, kernel area). config: rows, columns of a tile of outputs. constants: the weights as products
    meet them, what is added to the sums for the zero of X, and where blocks of channels begin. Raises ValueError for a
    problem that space answers with ().

    Example:
        >>> window = Window(8, 8, (3, 3), padding=(1, 1, 1, 1))
        >>> p = Problem("depthwise", 64, 9, 64, (1, 8, 8, 64), (1, 8, 8, 64), window=window, dtype="int8",
        ...             layout="features_last")
        >>> code = emit(p, np.ones((64, 9), np.float32), Core("avx512", 16, 32), {"rows": 2, "columns": 7}, "dw")
        >>> len(code.main.params)
        4
    """
    if not _applies(problem):
        raise ValueError(f"family depthwise_codes cannot compute {problem.dtype} {problem.op!r} {problem.layout}")
    assert problem.window is not None
    w, live = weight.astype(np.int64), (weight != 0).any(axis=0)
    shape, taps = shape_of(problem, live, core, config), [int(t) for t in np.flatnonzero(live)]
    threads = threads_for(problem, float(problem.batch * problem.n * problem.m) * (len(taps) + 2) / 64)
    nothing = Problem("linear", problem.m, problem.k, problem.n, (problem.k, problem.n), (problem.m, problem.n))
    view = operand(nothing, np.ones(problem.k, np.bool_))
    builder = Builder(problem, Cut(view, tiling(problem.n, core.lanes, 1), (0, problem.m), threads=threads))
    if shape is not None:
        return replace(builder.code(symbol, Dots(problem, w, core, shape, threads, builder).write), pipeline="straight")
    weights = builder.constant(np.ascontiguousarray(w.T[taps], np.int32).reshape(-1))
    builder.shift = builder.constant((-problem.x_zero * w.sum(axis=1)).astype(np.int32))
    return builder.code(symbol, _Taps(problem, problem.window, core, taps, weights, threads).write)
