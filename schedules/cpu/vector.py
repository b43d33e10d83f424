"""A matrix times one vector, or a few: every weight is used once, so only the bytes that are read count.

Before:
    for m: for k:  Y[m] += W[m, k] * X[k]                 (a dot product for each row, W read along k)

After, with P vectors of L rows as a panel and W stored panel by panel, each as [live column][P * L rows]:
    for every panel (parallel over shares of the panels):
        acc[p, q] = 0                                     P * Q registers, Q right-hand sides at once
        for every live column k of the panel, U at a time:
            w = the next L weights                        1 register
            acc[p, q] += w * X[k, q] in all lanes         the broadcast is part of the load
        store epilogue(acc)
The weights are read once, in the order in which they lie in memory, in whole vectors. A column in which the whole panel
is zero is left out and costs an entry in a list of columns; without such columns there is no list. With fewer than 8
accumulators each gets several partial sums, so that an FMA need not wait for the one before it.

Registers: P * Q * partial sums + 1 within the register file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx import AllocBuffer, BufferLoad, BufferStore, PrimFunc, Var

from tesa.schedules.cpu.straight import INLINE_ACTIVATIONS, Array, Block, activate, activate_stored, i32
from tesa.schedules.registry import schedule
from tesa.schedules.types import Code, Config, FloatArray, Isa, Problem

MAX_SIDES = 16
"""Right-hand sides (batch * n) up to which this family competes: with more, n is worth vectorizing."""

_UNROLL = 8
_CHAINS = 8  # independent FMAs that keep two units with a latency of four cycles busy
_MAX_ELEMENTS = 2**31 - 1

scalar_activation: Any = None


@dataclass(frozen=True)
class _Strip:
    """Panels of one height: vectors of rows each, from row first on; their weights begin at element base."""

    first: int
    vectors: int
    panels: int
    index: int
    base: int


@dataclass(frozen=True)
class _Scene:
    """What all parts of one kernel share. columns and starts are None where every column is live."""

    problem: Problem
    lanes: int
    registers: int
    x: Array
    weights: Array
    columns: Array | None
    starts: Array | None
    bias: Array | None
    residual: Array | None
    y: Array
    acc: Any


def _strips(m: int, panel: int, lanes: int) -> list[tuple[int, int, int]]:
    """(first row, vectors, panels) of the whole panels and of the rest."""
    vectors = -(-m // lanes)
    whole, rest = divmod(vectors, panel)
    strips = [(0, panel, whole)] if whole else []
    return strips + ([(whole * panel * lanes, rest, 1)] if rest else [])


def _pack(
    weight: FloatArray, panel: int, lanes: int, listed: bool
) -> tuple[FloatArray, NDArray[np.int32], NDArray[np.int32], list[_Strip]]:
    """The weights in reading order, the live columns of each panel, where they start, and the strips."""
    m, k = weight.shape
    values, columns, starts, strips, base = [], [], [0], [], 0
    for first, vectors, panels in _strips(m, panel, lanes):
        strips.append(_Strip(first, vectors, panels, len(starts) - 1, base - starts[-1] * vectors * lanes))
        for i in range(panels):
            low = first + i * vectors * lanes
            rows = np.zeros((vectors * lanes, k), np.float32)
            rows[: min(m, low + vectors * lanes) - low] = weight[low : low + vectors * lanes]
            live = np.flatnonzero((rows != 0).any(axis=0)) if listed else np.arange(k)
            values.append(rows.T[live].reshape(-1))
            columns.append(live.astype(np.int32))
            starts.append(starts[-1] + len(live))
            base += values[-1].size
    flat = np.concatenate(values) if base else np.zeros(1, np.float32)
    listing = np.concatenate(columns) if starts[-1] else np.zeros(1, np.int32)
    return flat.astype(np.float32), listing, np.array(starts, np.int32), strips


def _sides(problem: Problem, registers: int, vectors: int) -> list[list[tuple[int, int]]]:
    """The right-hand sides (image, column), as many at once as there are registers for their accumulators."""
    every = [(b, j) for b in range(problem.batch) for j in range(problem.n)]
    most = max(1, (registers - 2) // vectors)
    return [every[i : i + most] for i in range(0, len(every), most)]


def _sweep(s: _Scene, block: Block, strip: _Strip, sides: Sequence[tuple[int, int]], first: Any, count: Any) -> list[Any]:
    """The sums of one panel over its count live columns from number first on: vectors x sides values."""
    n_acc = strip.vectors * len(sides)
    partial = max(1, min(_UNROLL, _CHAINS // n_acc))
    for a in range(n_acc * partial):
        block.statements.append(BufferStore(s.acc, block.zero, [i32(a)]))

    def body(inner: Block, start: Any, steps: int) -> None:
        acc = [BufferLoad(s.acc, [i32(a)]) for a in range(n_acc * partial)]
        touched: set[int] = set()
        for u in range(steps):
            number = start + u
            column = number - first
            if s.columns is not None:
                column = inner.bind("k", BufferLoad(s.columns.flat, [number]), "int32")
            for p in range(strip.vectors):
                place = number * (strip.vectors * s.lanes) + (strip.base + p * s.lanes)
                w = inner.bind("w", inner.load(s.weights.flat, place))
                for q, (image, j) in enumerate(sides):
                    x = BufferLoad(s.x.flat, [column * s.problem.n + (image * s.problem.k * s.problem.n + j)])
                    a = (u % partial * strip.vectors + p) * len(sides) + q
                    acc[a] = inner.bind("a", inner.fma(w, inner.splat(x), acc[a]))
                    touched.add(a)
        for a in sorted(touched):
            inner.statements.append(BufferStore(s.acc, acc[a], [i32(a)]))

    whole = block.bind("whole", tirx.truncdiv(count, i32(_UNROLL)), "int32")
    many, one = Var("many", "int32"), Var("one", "int32")
    fast, slow = block.child(), block.child()
    body(fast, first + many * _UNROLL, _UNROLL)
    body(slow, first + whole * _UNROLL + one, 1)
    block.loop(many, 0, whole, fast)
    block.loop(one, 0, count - whole * _UNROLL, slow)
    sums = []
    for a in range(n_acc):
        total = BufferLoad(s.acc, [i32(a)])
        for part in range(1, partial):
            total = total + BufferLoad(s.acc, [i32(part * n_acc + a)])
        sums.append(block.bind("sum", total))
    return sums


def _finish(s: _Scene, block: Block, value: Any, row: Any, valid: int, side: tuple[int, int]) -> None:
    """Bias, residual, activation and store of valid rows from row on, for one right-hand side."""
    problem, activation = s.problem, s.problem.epilogue.activation
    image, j = side
    if s.bias is not None:
        value = value + block.load_part(s.bias.flat, row, 0, valid)
    if problem.n == 1:
        place = row + image * problem.m
        if s.residual is not None:
            value = value + block.load_part(s.residual.flat, place, 0, valid)
        if activation in INLINE_ACTIVATIONS:
            value = activate(block, activation, value)
        block.store_part(s.y.flat, value, place, valid)
        if activation not in INLINE_ACTIVATIONS:
            activate_stored(block, s.y.flat, place, valid, scalar_activation(activation))
        return
    # a few columns: the rows lie n apart, so each lane is stored by itself
    value = block.bind("sums", value)
    for lane in range(valid):
        place = (row + lane) * problem.n + (image * problem.m * problem.n + j)
        one = tirx.Shuffle([value], [i32(lane)])
        if s.residual is not None:
            one = one + BufferLoad(s.residual.flat, [place])
        block.statements.append(BufferStore(s.y.flat, one, [place]))


def _panel(s: _Scene, block: Block, strip: _Strip, panel: Any) -> None:
    """All of one panel: panel counts those of its strip."""
    m, height = s.problem.m, strip.vectors * s.lanes
    if s.starts is None:
        first = block.bind("first", panel * s.problem.k, "int32")
        count: Any = i32(s.problem.k)
    else:
        index = panel + strip.index
        first = block.bind("first", BufferLoad(s.starts.flat, [index]), "int32")
        count = block.bind("count", BufferLoad(s.starts.flat, [index + 1]) - first, "int32")
    row = block.bind("row", panel * height + strip.first, "int32")
    for sides in _sides(s.problem, s.registers, strip.vectors):
        sums = _sweep(s, block, strip, sides, first, count)
        for p in range(strip.vectors):
            # only the last panel of all can be short, and it is a strip of its own or ends in this very vector
            valid = min(s.lanes, m - strip.first - p * s.lanes) if strip.panels == 1 else s.lanes
            for q, side in enumerate(sides):
                _finish(s, block, sums[p * len(sides) + q], row + p * s.lanes, valid, side)
