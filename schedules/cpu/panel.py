"""A panel of an unrolled kernel: a function in which every non-zero weight of some rows and columns is an instruction.

It runs over a range of tiles, see unrolled.py for the loop nest. Its parameters are bare pointers to where the batch
item begins, and the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from tvm import ir, tirx
from tvm.tirx import BufferLoad, BufferStore, DeclBuffer, For, ForKind, PrimFunc, Var

from tesa.schedules.cpu import epilogue
from tesa.schedules.cpu.grid import Grid
from tesa.schedules.cpu.straight import INLINE_ACTIVATIONS, Block, activate_vector, i32
from tesa.schedules.types import Config, FloatArray, Problem

FUNCTION_FMAS = 1500
"""FMA instructions of one function: beyond it, columns are cut into blocks."""

OBJECT_FMAS = 5000
"""FMA instructions of one object file; code generation for an object is one unit of parallel work."""

LOADS_PER_BASE = 16
"""Loads with one base address. The compiler's time grows with its square, so `one` hides that bases are related."""

_POINTER = ir.PointerType(ir.PrimType("float32"))


@dataclass(frozen=True)
class Panel:
    """One function: rows first ... first + len(weights) of W, the columns `columns`, weights[r, i] for columns[i]."""

    name: str
    first: int
    columns: tuple[int, ...]
    weights: FloatArray
    begins: bool
    ends: bool
    fmas: int


def panels(weight: FloatArray, config: Config, vectors: int, symbol: str) -> list[list[Panel]]:
    """The functions: for each block of columns, the panels of rows."""
    live = np.flatnonzero((weight != 0).any(axis=0))
    count = -(-len(weight) // config["rows"])
    bounds = [len(weight) * i // count for i in range(count + 1)]
    heaviest = max(int(np.count_nonzero(weight[a:b])) for a, b in pairwise(bounds))
    blocks = -(-heaviest * vectors // FUNCTION_FMAS)
    if config["kblock"]:
        blocks = max(blocks, -(-len(live) // config["kblock"]))
    blocks = max(1, min(blocks, len(live)))
    result = []
    for block, columns in enumerate(np.array_split(live, blocks)):
        row = []
        for i, (low, high) in enumerate(pairwise(bounds)):
            part = weight[low:high, columns]
            used = np.flatnonzero((part != 0).any(axis=0))
            values = np.ascontiguousarray(part[:, used])
            name = f"{symbol}_p{i}_{block}"
            fmas = int(np.count_nonzero(values)) * vectors
            wanted = tuple(int(c) for c in columns[used])
            row.append(Panel(name, low, wanted, values, block == 0, block == blocks - 1, fmas))
        result.append(row)
    return result


@dataclass(frozen=True)
class _Pointers:
    """The parameters of a panel function, as buffers over bare pointers. All but x and y may be None."""

    x: Any
    y: Any
    bias: Any
    residual: Any
    partial: Any
    raw: Any

    def pairs(self) -> list[tuple[Any, Any]]:
        """(pointer variable, buffer) in the order of the parameters."""
        buffers = (self.x, self.y, self.bias, self.residual, self.partial, self.raw)
        return [(Var(b.name + "_ptr", _POINTER), b) for b in buffers if b is not None]


@dataclass(frozen=True)
class Scene:
    """What all functions of one kernel share.

    offsets: where column k begins in S, in a packed tile or in X. masked: a row of X is shorter than a vector. packed:
    elements of a packed tile, 0 without. blocked: sums wait in a scratch between blocks of columns. threads: used ones.
    """

    problem: Problem
    grid: Grid
    lanes: int
    offsets: dict[int, int]
    masked: bool
    packed: int
    blocked: bool
    threads: int

    @property
    def vectors(self) -> int:
        return len(self.grid.reads)

    @property
    def late(self) -> bool:
        """True where the activation follows in a loop of its own."""
        return self.problem.epilogue.activation not in INLINE_ACTIVATIONS


def _function(s: Scene, panel: Panel) -> Any:
    """The code of one panel: for t in range(first, end): one tile."""
    pointers = _pointers(s)
    pairs = pointers.pairs()
    first, end, one, t = (Var(name, "int32") for name in ("first", "end", "one", "t"))
    body, outer = Block(s.lanes), Block(s.lanes)
    for pointer, buffer in pairs:
        outer.statements.append(DeclBuffer(buffer, data=pointer))
    read, write = s.grid.start(t)
    if s.packed:
        read = (t - first) * s.packed
    read = body.bind("read", read, "int32")
    write = body.bind("write", write, "int32")
    acc = _accumulate(s, panel, body, pointers, (read, t - first, one))
    _leave(s, panel, body, pointers, acc, write, t - first)
    outer.loop(t, first, end - first, body)
    params = [*(pointer for pointer, _ in pairs), first, end, one]
    attributes = {"global_symbol": panel.name, "tirx.noalias": True}
    return PrimFunc(params, outer.statement()).with_attr(attributes)


def _pointers(s: Scene) -> _Pointers:
    def flat(name: str, wanted: bool = True, align: int = 4) -> Any:
        return tirx.decl_buffer((1 << 30,), "float32", name=name, data_alignment=align) if wanted else None

    e = s.problem.epilogue
    partial = flat("partial", s.blocked, 64)
    raw = flat("raw", s.late, 64)
    return _Pointers(flat("x"), flat("y"), flat("bias", e.bias), flat("residual", e.residual), partial, raw)


def _accumulate(s: Scene, panel: Panel, body: Block, pointers: _Pointers, place: tuple[Any, Any, Any]) -> list[Any]:
    """The sums of a tile, row by row: vectors values each. None where there is nothing yet."""
    read, number, one = place
    rows = len(panel.weights)
    acc: list[Any] = [None] * (rows * s.vectors)
    if not panel.begins:
        acc = [
            body.bind("a", body.load(pointers.partial, _partial(s, panel, number, i))) for i in range(rows * s.vectors)
        ]
    few = max(1, LOADS_PER_BASE // s.vectors)
    for i, column in enumerate(panel.columns):
        if i % few == 0:
            origin = s.offsets[column]
            base = body.bind("base", read + one * origin, "int32")
        xs = []
        for v, at in enumerate(s.grid.reads):
            where = base + (s.offsets[column] - origin + (v * s.lanes if s.packed else at))
            high = s.grid.lanes if s.masked and not s.packed else s.lanes
            xs.append(body.bind("x", body.load_part(pointers.x, where, 0, high)))
        for r in np.flatnonzero(panel.weights[:, i]):
            w = body.splat(float(panel.weights[r, i]))
            for v in range(s.vectors):
                a = int(r) * s.vectors + v
                acc[a] = body.bind("a", w * xs[v] if acc[a] is None else body.fma(w, xs[v], acc[a]))
    return acc


def _partial(s: Scene, panel: Panel, number: Any, i: int) -> Any:
    """Where accumulator i of a panel waits for the next block of columns."""
    width = s.vectors * s.lanes
    return number * (s.problem.m * width) + (panel.first * width + i * s.lanes)


def _leave(
    s: Scene, panel: Panel, body: Block, pointers: _Pointers, acc: Sequence[Any], write: Any, number: Any
) -> None:
    """Store the sums: to the scratch if blocks of columns follow, else with the epilogue to Y."""
    p, rows, n = s.problem, len(panel.weights), s.problem.n
    for a in range(rows * s.vectors):
        value = body.zero if acc[a] is None else acc[a]
        if not panel.ends:
            body.store(pointers.partial, value, _partial(s, panel, number, a))
            continue
        r, v = divmod(a, s.vectors)
        place = write + ((panel.first + r) * n + s.grid.writes[v])
        if p.epilogue.bias:
            value = value + body.splat(BufferLoad(pointers.bias, [i32(panel.first + r)]))
        if p.epilogue.residual:
            value = value + body.load_part(pointers.residual, place, 0, s.grid.lanes)
        if s.late:
            body.store(pointers.raw, value, a * s.lanes)
        else:
            value = activate_vector(body, p.epilogue.activation, value)
            body.store_part(pointers.y, value, place, s.grid.lanes)
    if s.late and panel.ends:
        _activate_late(s, panel, body, pointers, write)


def _activate_late(s: Scene, panel: Panel, body: Block, pointers: _Pointers, write: Any) -> None:
    """Y = activation(raw), as a loop over the rows of the panel: such an activation is too long to write out."""
    r, inner = Var("r", "int32"), body.child()
    for v, at in enumerate(s.grid.writes):
        lane = Var("lane", "int32") if s.grid.lanes > 1 else i32(0)
        value = epilogue.activate(
            s.problem.epilogue.activation, BufferLoad(pointers.raw, [r * (s.vectors * s.lanes) + (v * s.lanes) + lane])
        )
        place = write + (r + panel.first) * s.problem.n + at + lane
        store = BufferStore(pointers.y, value, [place])
        if s.grid.lanes > 1:
            store = For(lane, i32(0), i32(s.grid.lanes), ForKind.VECTORIZED, store)
        inner.statements.append(store)
    body.loop(r, 0, len(panel.weights), inner)


def objects(s: Scene, functions: list[list[Panel]]) -> tuple[tuple[Any, ...], ...]:
    """The functions in groups of about the same number of FMAs."""
    objects: list[list[Any]] = []
    room = 0
    for panel in (panel for row in functions for panel in row):
        if room < panel.fmas or not objects:
            objects.append([])
            room = OBJECT_FMAS
        objects[-1].append(_function(s, panel))
        room -= panel.fmas
    return tuple(tuple(group) for group in objects)
