"""Depthwise convolution on GPUs: every channel by its own small window, of which only the live taps cost anything.

Before, for every channel c:
    for y, x:  Y[c, y, x] = sum over (i, j) of W[c, i, j] * X[c, y sh + i dh - top, x sw + j dw - left]

After, for channels with the same live taps, a thread for a channel, a column and R rows of outputs:
    rows, columns = words of bits: which rows and columns of X that it needs are inside of the image
    w[t] = W[c, t]                                                   live taps registers
    for every row of X that the R outputs need, for every live column j:           written out
        x = X[c, row, column j], or 0 beyond the border              1 load for up to kernel height products
        acc[r] += w[i, j] x    for all (r, i) that see this row
    Y[c, y + r, x] = epilogue(acc[r])
Threads run along x first, so that a warp reads neighbours; with features last along the channels. Sets of live taps
that channels share get code of their own, up to SETS of them; with more, one code for the union serves all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import function
from tesa.schedules.gpu import clock
from tesa.schedules.gpu.arrays import Arrays, elements, keep, local, one_kernel, parameters, zero
from tesa.schedules.gpu.ending import finish
from tesa.schedules.gpu.operand import BITS, outside
from tesa.schedules.gpus import Gpu, GpuCode, Work
from tesa.schedules.registry import family
from tesa.schedules.types import Config, FloatArray, Problem, Window

SETS = 8
"""Different sets of live taps that get code of their own."""

_SIZES = {"float32": 4, "float16": 2, "uint8": 1}


@dataclass(frozen=True)
class Group:
    """Channels order[first : first + count] with these live taps; the blocks from `begin` to `end` are theirs."""

    first: int
    count: int
    taps: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Plan:
    """A kernel's work. order: (m,) channels, group by group; values: (m, taps) weights in that order, each row those of
    its group's taps; groups; rows of outputs of a thread; threads of a block; high: threads along the rows."""

    order: NDArray[np.int32]
    values: FloatArray
    groups: tuple[Group, ...]
    rows: int
    threads: int
    high: int


def plan(problem: Problem, weight: FloatArray, config: Config) -> Plan:
    """The groups of channels and their blocks.

    >>> w = Window(4, 4, (1, 3), (1, 1), (0, 1, 0, 1))
    >>> p = Problem("depthwise", 3, 3, 16, (1, 3, 4, 4), (1, 3, 4, 4), window=w)
    >>> made = plan(p, np.array([[1, 0, 2], [0, 1, 0], [3, 0, 4]], np.float32), {"rows": 2, "threads": 64})
    >>> [(one.taps, one.count) for one in made.groups], made.order.tolist()
    ([((1,), 1), ((0, 2), 2)], [1, 0, 2])
    """
    window = problem.window
    if window is None or problem.op != "depthwise":
        raise ValueError(f"family depthwise cannot compute {problem.op} on a GPU")
    masks, which = np.unique(weight != 0, axis=0, return_inverse=True)
    which = which.reshape(-1)
    if len(masks) > SETS:
        masks, which = (weight != 0).any(axis=0)[None], np.zeros(len(weight), np.int64)
    order = np.argsort(which, kind="stable")
    high = -(-window.out_height // config["rows"])
    widest = max(1, int(masks.sum(axis=1).max()))
    values, groups, begin, first = np.zeros((len(weight), widest), np.float32), [], 0, 0
    for number, mask in enumerate(masks):
        taps, count = np.flatnonzero(mask), int((which == number).sum())
        chosen = order[first : first + count]
        values[first : first + count, : len(taps)] = weight[chosen][:, taps]
        end = begin + -(-count * high * window.out_width // config["threads"])
        groups.append(Group(first, count, tuple(int(t) for t in taps), begin, end))
        begin, first = end, first + count
    return Plan(order.astype(np.int32), values, tuple(groups), config["rows"], config["threads"], high)


@dataclass(frozen=True)
class _Strides:
    """Elements from one channel, row and column of an image to the next."""

    channel: int
    row: int
    column: int


def _strides(problem: Problem, height: int, width: int) -> _Strides:
    if problem.features_last:
        return _Strides(1, width * problem.m, problem.m)
    return _Strides(height * width, width, 1)


@dataclass(frozen=True)
class _Writer:
    """Writes the code of a group of channels. item: of the batch; block, thread: numbers."""

    problem: Problem
    window: Window
    made: Plan
    arrays: Arrays
    item: Any
    block: Any
    thread: Any

    def group(self, group: Group) -> None:
        """All of one group, for the threads that have work."""
        number = keep("number", (self.block - group.begin) * self.made.threads + self.thread)
        with T.If(number < group.count * self.made.high * self.window.out_width), T.Then():
            place, band, column = self._places(number, group)
            self._outputs(
                group, keep("place", group.first + place), keep("row", band * self.made.rows), keep("column", column)
            )

    def _places(self, number: Any, group: Group) -> tuple[Any, Any, Any]:
        """The channel's place in its group, the band of rows and the column; neighbours in memory come first."""
        wide, high = T.int32(self.window.out_width), T.int32(self.made.high)
        if self.problem.features_last:
            rest = tirx.truncdiv(number, T.int32(group.count))
            return tirx.truncmod(number, T.int32(group.count)), tirx.truncdiv(rest, wide), tirx.truncmod(rest, wide)
        rest = tirx.truncdiv(number, wide)
        return tirx.truncdiv(rest, high), tirx.truncmod(rest, high), tirx.truncmod(number, wide)

    def _outputs(self, group: Group, place: Any, row: Any, column: Any) -> None:
        """The R outputs of a thread, from row `row` on."""
        problem, w, rows = self.problem, self.window, self.made.rows
        kinds, out = elements(problem), _strides(problem, w.out_height, w.out_width)
        channel = keep("channel", self.arrays.constants[0][place])
        weight, acc = local("weight", len(group.taps), kinds.sums), local("acc", rows, kinds.sums)
        widest = self.made.values.shape[1]
        for t in range(len(group.taps)):
            T.buffer_store(weight, T.Cast(kinds.sums, self.arrays.constants[1][place * widest + t]), [t])
        for r in range(rows):
            T.buffer_store(acc, zero(kinds.sums), [r])
        if group.taps:
            self._products(group, channel, row, column, weight, acc)
        begin = keep("begin", self.item * (problem.m * problem.n) + channel * out.channel + column * out.column)
        for r in range(rows):
            with T.If(row + r < w.out_height), T.Then():
                at = begin + (row + r) * out.row
                T.buffer_store(self.arrays.y, finish(problem, self.arrays, acc[r], channel, at), [at])

    def _products(self, group: Group, channel: Any, row: Any, column: Any, weight: Any, acc: Any) -> None:
        problem, w = self.problem, self.window
        kinds, into = elements(problem), _strides(problem, w.height, w.width)
        top = keep("top", row * w.stride[0] - w.padding[0])
        left = keep("left", column * w.stride[1] - w.padding[1])
        seen = _seen(w, group.taps, self.made.rows)
        across = sorted({j for columns in seen.values() for j in columns})
        rows = keep("rows", _bits([top + far for far in seen], w.height))
        columns = keep("columns", _bits([left + j * w.dilation[1] for j in across], w.width))
        image = self.item * (problem.m * w.height * w.width)
        start = keep("start", image + channel * into.channel + top * into.row + left * into.column)
        x = local("x_value", 1, kinds.sums)
        for i, (far, found) in enumerate(seen.items()):
            for j, users in found.items():
                inside = (rows >> i) & (columns >> across.index(j)) & 1
                at = start + (far * into.row + j * w.dilation[1] * into.column)
                value = T.if_then_else(inside != 0, self.arrays.x[at], outside(problem, kinds.x))
                value = T.Cast(kinds.sums, value)
                T.buffer_store(x, value - problem.x_zero if problem.x_zero else value, [0])
                for r, tap in users:
                    T.buffer_store(acc, acc[r] + weight[group.taps.index(tap)] * x[0], [r])


def _seen(window: Window, taps: Sequence[int], rows: int) -> dict[int, dict[int, list[tuple[int, int]]]]:
    """By how far a row of X lies below the first one, by column of the window: (output, tap) each that see it."""
    found: dict[int, dict[int, list[tuple[int, int]]]] = {}
    for r in range(rows):
        for tap in taps:
            i, j = divmod(tap, window.kernel[1])
            far = r * window.stride[0] + i * window.dilation[0]
            found.setdefault(far, {}).setdefault(j, []).append((r, tap))
    return {far: dict(sorted(found[far].items())) for far in sorted(found)}


def _bits(places: Sequence[Any], size: int) -> Any:
    """A word whose bit i is set where 0 <= places[i] < size."""
    bits: Any = T.int32(0)
    for i, at in enumerate(places):
        bits = bits | tirx.Select(tirx.And(at >= 0, at < size), T.int32(1 << i), T.int32(0))
    return bits


def _function(problem: Problem, made: Plan, constants: Sequence[NDArray[Any]], symbol: str) -> Any:
    window = problem.window
    assert window is not None
    with function(symbol) as builder:
        arrays = parameters(problem, constants)
        with (
            T.launch_thread("blockIdx.y", problem.batch) as item,
            T.launch_thread("blockIdx.x", made.groups[-1].end) as block,
            T.launch_thread("threadIdx.x", made.threads) as thread,
        ):
            writer = _Writer(problem, window, made, arrays, item, block, thread)
            for group in made.groups:
                with T.If(tirx.all(block >= group.begin, block < group.end)), T.Then():
                    writer.group(group)
    return builder.get()


def _applies(problem: Problem) -> bool:
    w = problem.window
    if problem.op != "depthwise" or w is None or problem.dtype not in ("float32", "float16", "int8"):
        return False
    return w.kernel[0] * w.kernel[1] <= 128 and w.kernel[1] <= BITS and w.kernel[0] <= BITS


def _refusal(problem: Problem, _weight: FloatArray, _gpu: Gpu) -> str:
    """The reason why there is no kernel, "" where there is one."""
    if problem.op != "depthwise":
        return f"it knows depthwise convolutions, and no {problem.op}"
    return (
        "" if _applies(problem) else f"it knows windows of at most 128 taps, and {BITS} on a side, of reals and codes"
    )


def _space(problem: Problem, weight: FloatArray, gpu: Gpu) -> Sequence[Config]:
    """Rows of a thread by their estimate, the best one first."""
    if not _applies(problem) or problem.window is None:
        return []
    w = problem.window
    most = [rows for rows in (1, 2, 4, 8) if rows <= w.out_height]
    fit = [rows for rows in most if len(_seen(w, range(problem.k), rows)) <= BITS]
    found = [{"rows": rows, "threads": threads} for rows in fit for threads in (128, 256)]
    return sorted(found, key=lambda config: _estimate(problem, weight, gpu, config))


def _work(problem: Problem, made: Plan, gpu: Gpu) -> Work:
    window = problem.window
    assert window is not None
    warps = made.threads / gpu.warp * problem.batch
    products = loads = 0.0
    for group in made.groups:
        threads = (group.end - group.begin) * warps
        products += threads * len(group.taps) * made.rows
        loads += threads * sum(len(columns) for columns in _seen(window, group.taps, made.rows).values())
    blocks = made.groups[-1].end * warps
    size = _SIZES[elements(problem).x]
    bytes_of_x = float(np.prod(problem.x_shape)) * size
    outputs = float(np.prod(problem.y_shape))
    taps = made.values.shape[1]
    return Work(
        fmas=products,
        loads=loads + blocks * taps,
        stores=blocks * made.rows,
        others=loads * 5 + blocks * (30 + 4 * made.rows),
        l2=min(loads * gpu.warp * size, 2 * bytes_of_x) + outputs * 4,
        memory=bytes_of_x + outputs * 4,
        registers=24 + taps + made.rows,
        ahead=6.0,
    )


def _estimate(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config) -> float:
    made = plan(problem, weight, config)
    shape = clock.Shape(made.groups[-1].end * problem.batch, made.threads)
    return clock.time(_work(problem, made, gpu), gpu, shape).us / 1000


@family(
    "depthwise",
    kind="gpu",
    space=_space,
    estimate=_estimate,
    quantizes=True,
    layouts=("features_first", "features_last"),
    refusal=_refusal,
)
def emit(problem: Problem, weight: FloatArray, gpu: Gpu, config: Config, symbol: str) -> GpuCode:
    """Depthwise convolution by the live taps of each channel's window.

    config: rows of outputs of a thread, threads of a block. constants: the order of the channels, group by group, and
    their live weights.

    Example:
        >>> from tesa.schedules.gpus import GpuRates
        >>> w = Window(4, 4, (3, 3), (1, 1), (1, 1, 1, 1))
        >>> p = Problem("depthwise", 2, 9, 16, (1, 2, 4, 4), (1, 2, 4, 4), window=w)
        >>> gpu = Gpu("one", "ptx", 1, GpuRates(1, 128, 256, 64, 1000, 500, 1 << 20))
        >>> emit(p, np.ones((2, 9), np.float32), gpu, {"rows": 2, "threads": 128}, "dw").launches[0].arguments
        ('x', 'constant0', 'constant1', 'y')
    """
    if not _applies(problem):
        raise ValueError(f"family depthwise cannot compute {problem.dtype} {problem.op} on a GPU")
    made = plan(problem, weight, config)
    kind = {"float32": np.float32, "float16": np.float16, "int8": np.int8}[elements(problem).weight]
    constants = [made.order, made.values.astype(kind)]
    work = _work(problem, made, gpu)
    return one_kernel(symbol, _function(problem, made, constants, symbol), problem, constants, work)
