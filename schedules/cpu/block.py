"""The block form: a dense micro-kernel for each panel of R rows, over the columns in which any of its rows is live.

Before:
    for m, n:  Y[m, n] = epilogue(sum_k W[m, k] * X[k, n])

After, for each tile of V vectors (see nest.py for the loops around it):
    for panel of R rows:
        acc[R][V] = 0
        for e in the panel's entries:            all k for "dense"; the live columns for "block"
            x[V] = S[offset(e) + position]
            for r in R:  acc[r][:] += W[e, r] * x[:]        W packed as [entries][R]
        Y = epilogue(acc)
A column that is live in one row of the panel is computed for all of them, zeros included: blocks r x c of any size
fit where R divides r. Vector registers: R V accumulators + V of x + 1 for the broadcast weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.cut import cut
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.nest import Builder, Tile, lanes
from tesa.schedules.cpu.operand import operand
from tesa.schedules.cpu.packing import Packing
from tesa.schedules.registry import schedule
from tesa.schedules.types import Code, Config, FloatArray, Isa, Problem


@dataclass(frozen=True)
class _Panels:
    """The packed weight. values: (entries, rows) for each panel in turn; columns: the k of each entry; at: (panels + 1,)
    where each panel's entries start."""

    values: NDArray[np.float32]
    columns: NDArray[np.int64]
    at: NDArray[np.int64]


def _pack(weight: FloatArray, rows: int, dense: bool) -> _Panels:
    values, columns, at = [], [], [0]
    for first in range(0, len(weight), rows):
        panel = weight[first : first + rows]
        live = np.arange(panel.shape[1]) if dense else np.flatnonzero((panel != 0).any(axis=0))
        values.append(np.ascontiguousarray(panel[:, live].T).ravel())
        columns.append(live)
        at.append(at[-1] + len(live))
    return _Panels(np.concatenate(values), np.concatenate(columns), np.array(at))


def _emit(problem: Problem, weight: FloatArray, isa: Isa, config: Config, symbol: str, dense: bool) -> Code:
    rows = min(config["rows"], problem.m)
    live = np.ones(problem.k, bool) if dense else (weight != 0).any(axis=0)
    panels, view = _pack(weight, rows, dense), operand(problem, live)
    work = np.repeat(np.diff(panels.at), rows)[: problem.m]
    made = Builder(problem, cut(problem, isa, view, config["vectors"], work, rows))
    values = made.constant(panels.values)
    packing = Packing(made, view) if config.get("pack") else None
    if packing:
        offsets = (np.cumsum(live) - 1) * made.cut.tiling.width
        step = made.cut.tiling.width if dense else None
    else:
        offsets = view.offsets
        step = problem.n if dense and problem.pointwise else None
    table = None if step is not None else made.constant(offsets[panels.columns].astype(np.int32))
    at = None if dense else made.constant(panels.at.astype(np.int32))
    kernel = _Kernel(problem, rows, int(panels.at[-2]), packing, step, values, table, at)
    return made.build(symbol, kernel.tile)


@dataclass(frozen=True)
class _Kernel:
    """Writes the statements of a tile.

    last: the first entry of the last panel. step: distance of the rows of the operand where they are in order, else the
    offset of each entry is in the constant `table`. values, at: constants; at is None where all panels have k entries.
    """

    problem: Problem
    rows: int
    last: int
    packing: Packing | None
    step: int | None
    values: int
    table: int | None
    at: int | None

    def tile(self, names: Names, tile: Tile) -> None:
        """All panels of the tile's share of the rows."""
        rows, (low, high) = self.rows, tile.rows
        whole, rest = divmod(self.problem.m, rows)
        source, base, at = tile.source, tile.base, tile.at
        if self.packing:
            source, base = self.packing.allocate(tile.tiling), 0
            self.packing.fill(names, tile, source)

            def at(v: Any) -> Any:
                return v * tile.tiling.lanes

        read = _Read(names, source, base, at)
        if whole:
            last = whole if isinstance(high, int) else T.floordiv(high, rows)
            with T.serial(0 if isinstance(low, int) else T.floordiv(low, rows), last) as panel:
                self._panel(tile, read, panel, rows)
        if rest:
            with nullcontext() if isinstance(high, int) else T.If(high == self.problem.m):
                with nullcontext() if isinstance(high, int) else T.Then():
                    self._panel(tile, read, whole, rest)

    def _panel(self, tile: Tile, read: _Read, panel: Any, rows: int) -> None:
        t, k = tile.tiling, self.problem.k
        shape = (rows, t.vectors, t.lanes)
        acc = T.alloc_buffer(shape, "float32", scope="local")
        with T.unroll(0, rows) as r, T.unroll(0, t.vectors) as v, lanes(t.lanes) as lane:
            T.buffer_store(acc, T.float32(0), [r, v, lane])
        at = None if self.at is None else read.names.constants[self.at]
        first, end = (0, k) if at is None else (at[panel], at[panel + 1])
        with T.serial(first, end) as i:
            e = panel * k + i if at is None else i
            w = e * rows if rows == self.rows else self.last * self.rows + (e - self.last) * rows
            offset = i * self.step if self.table is None else read.names.constants[self.table][e]
            with T.unroll(0, rows) as r, T.unroll(0, t.vectors) as v, lanes(t.lanes) as lane:
                x = read.source[offset + read.base + read.at(v) + lane]
                value = acc[r, v, lane] + read.names.constants[self.values][w + r] * x
                T.buffer_store(acc, value, [r, v, lane])
        tile.finish(acc, lambda r: panel * self.rows + r, rows)


@dataclass(frozen=True)
class _Read:
    """Where X is read: the operand itself, or a packed tile of it."""

    names: Names
    source: Any
    base: Any
    at: Callable[[Any], Any]


def _space(problem: Problem, isa: Isa) -> list[Config]:
    return [{"rows": 4, "vectors": 6, "pack": 0}] if isa.lanes == 16 else [{"rows": 4, "vectors": 2, "pack": 0}]


def _estimate(problem: Problem, weight: FloatArray, isa: Isa, config: Config) -> float:
    return 1.0


def _dense_space(problem: Problem, weight: FloatArray, isa: Isa) -> Sequence[Config]:
    return [] if problem.op == "depthwise" else _space(problem, isa)


@schedule("dense", arch="x86", space=_dense_space, estimate=_estimate)
def emit_dense(problem: Problem, weight: FloatArray, isa: Isa, config: Config, symbol: str) -> Code:
    """Every element of the weight, zeros included: the kernel that sparsity is measured against."""
    return _emit(problem, weight, isa, config, symbol, dense=True)


def _block_space(problem: Problem, weight: FloatArray, isa: Isa) -> Sequence[Config]:
    return [] if problem.op == "depthwise" else _space(problem, isa)


@schedule("block", arch="x86", space=_block_space, estimate=_estimate)
def emit_block(problem: Problem, weight: FloatArray, isa: Isa, config: Config, symbol: str) -> Code:
    """Panels of rows over the columns that are live in any of them."""
    return _emit(problem, weight, isa, config, symbol, dense=False)
