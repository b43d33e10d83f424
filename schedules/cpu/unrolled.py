"""The pattern is the code: every non-zero weight is one FMA instruction with the weight as its immediate.

Before:
    for b, m, p:  Y[b, m, p] = epilogue(sum_k W[m, k] * S[offset(k) + p])          S: X or a staged copy, operand.py

After, with panels of R rows, blocks of columns and tiles of V vectors of L positions:
    for b, for chunks of C tiles (parallel over shares of the tiles, or of the panels where tiles are few):
        for blocks of columns, for panels:                                          one call of a function:
            for the C tiles:
                acc[r, v] = what the block of columns before left, or nothing       R * V registers
                for every live column k of the panel:                               written out
                    x[v] = S[offset(k) + position of v]                             V registers
                    acc[r, v] += w * x[v]     for the rows r with a non-zero w       1 register, or part of the FMA
                store acc for the next block, or epilogue(acc) to Y
Zeros, dead columns and rows without a weight cost nothing. One load of X serves as many FMAs as the panel has non-zeros
in the column. A function is some hundred to 1500 FMAs, so that it runs from the instruction cache over the C tiles.
Positions that do not fill a tile are met twice (the last tile starts earlier), which is harmless as a tile is finished
by one call or by calls in a fixed order on scratch of its own.

Registers: R * V + V + 1 within the register file.

After "Fast Sparse ConvNets" (Elsen et al., CVPR 2020) and SparseRT (Wang, PACT 2020), which generate such code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import ir, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import BufferLoad, BufferStore, DeclBuffer, For, ForKind, PrimFunc, Var
from tvm.tirx.script import builder as T

from tesa.schedules.cpu import epilogue
from tesa.schedules.cpu.operand import Operand, operand
from tesa.schedules.cpu.staging import stage
from tesa.schedules.cpu.straight import INLINE_ACTIVATIONS, Block, activate_vector, i32
from tesa.schedules.registry import schedule
from tesa.schedules.types import Code, Config, FloatArray, Isa, Problem

MAX_FMAS = 60_000
"""FMA instructions of one kernel, non-zeros times vectors: about half a millisecond of code generation each."""

FUNCTION_FMAS = 1500
"""FMA instructions of one function: beyond it, columns are cut into blocks."""

OBJECT_FMAS = 5000
"""FMA instructions of one object file; code generation for an object is one unit of parallel work."""

_POINTER = ir.PointerType(ir.PrimType("float32"))


@dataclass(frozen=True)
class Grid:
    """The positions of one batch item in tiles. Tile t stands at column t % across and row t // across.

    reads, writes: where the vectors of a tile start, from the tile's start, in S and in a row of Y. lanes: elements of a
    vector that are stored. step, last: tile column c starts at position min(c * step, last) of its row; the same for
    rows, `down` and `last_row`, of which one is `pitch` elements of S and `width` elements of Y.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    lanes: int
    count: int
    across: int = 1
    step: int = 0
    last: int = 0
    down: int = 0
    last_row: int = 0
    pitch: int = 0
    width: int = 0

    def start(self, t: Any) -> tuple[Any, Any]:
        """The first element of tile t in S and in a row of Y."""
        column, row = (tirx.truncmod(t, i32(self.across)), tirx.truncdiv(t, i32(self.across)))
        if self.across == self.count:
            column, row = t, i32(0)
        x = tirx.min(column * self.step, i32(self.last))
        y = tirx.min(row * self.down, i32(self.last_row))
        return y * self.pitch + x, y * self.width + x


def grid(view: Operand, n: int, lanes: int, vectors: int) -> Grid:
    """Tiles of at most so many vectors: of a row of positions, or of several rows where a row is short.

    Example:
        >>> grid(Operand(np.zeros(1, np.int64), 1, 40, 40), 40, 16, 4).reads
        (0, 16, 24)
    """
    height, width, pitch = (1, n, n) if view.direct else (view.height, view.width, view.row)
    of_row = -(-width // lanes)
    across = -(-of_row // vectors)
    in_row = -(-of_row // across)
    size = min(in_row * lanes, width)
    starts = [max(0, min(v * lanes, size - lanes)) for v in range(in_row)]
    rows = min(height, max(1, vectors // in_row)) if across == 1 else 1
    return Grid(
        reads=tuple(r * pitch + s for r in range(rows) for s in starts),
        writes=tuple(r * width + s for r in range(rows) for s in starts),
        lanes=min(lanes, width),
        count=across * -(-height // rows),
        across=across,
        step=size,
        last=width - size,
        down=rows,
        last_row=height - rows,
        pitch=pitch,
        width=width,
    )


@dataclass(frozen=True)
class _Panel:
    """One function: rows first ... first + len(weights) of W, the columns `columns`, weights[r, i] for columns[i]."""

    name: str
    first: int
    columns: tuple[int, ...]
    weights: FloatArray
    begins: bool
    ends: bool
    fmas: int


def _panels(weight: FloatArray, config: Config, vectors: int, symbol: str) -> list[list[_Panel]]:
    """The functions: for each block of columns, the panels of rows."""
    live = np.flatnonzero((weight != 0).any(axis=0))
    count = -(-len(weight) // config["rows"])
    bounds = [len(weight) * i // count for i in range(count + 1)]
    heaviest = max(int(np.count_nonzero(weight[a:b])) for a, b in zip(bounds, bounds[1:], strict=False))
    blocks = -(-heaviest * vectors // FUNCTION_FMAS)
    if config["kblock"]:
        blocks = max(blocks, -(-len(live) // config["kblock"]))
    blocks = max(1, min(blocks, len(live)))
    result = []
    for block, columns in enumerate(np.array_split(live, blocks)):
        row = []
        for i, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
            part = weight[low:high, columns]
            used = np.flatnonzero((part != 0).any(axis=0))
            values = np.ascontiguousarray(part[:, used])
            name = f"{symbol}_p{i}_{block}"
            fmas = int(np.count_nonzero(values)) * vectors
            wanted = tuple(int(c) for c in columns[used])
            row.append(_Panel(name, low, wanted, values, block == 0, block == blocks - 1, fmas))
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
class _Scene:
    """What all functions of one kernel share. columns: of S, the packed tile or X; where column k begins."""

    problem: Problem
    grid: Grid
    lanes: int
    offsets: dict[int, int]
    masked: bool
    packed: int
    blocked: bool

    @property
    def vectors(self) -> int:
        return len(self.grid.reads)

    @property
    def late(self) -> bool:
        """True where the activation follows in a loop of its own."""
        return self.problem.epilogue.activation not in INLINE_ACTIVATIONS


def _function(s: _Scene, panel: _Panel) -> Any:
    """The code of one panel: for t in range(first, end): one tile."""
    pointers = _pointers(s)
    pairs = pointers.pairs()
    first, end, t = Var("first", "int32"), Var("end", "int32"), Var("t", "int32")
    body, outer = Block(s.lanes), Block(s.lanes)
    for pointer, buffer in pairs:
        outer.statements.append(DeclBuffer(buffer, data=pointer))
    read, write = s.grid.start(t)
    if s.packed:
        read = (t - first) * s.packed
    read = body.bind("read", read, "int32")
    write = body.bind("write", write, "int32")
    acc = _accumulate(s, panel, body, pointers, read, t - first)
    _leave(s, panel, body, pointers, acc, write, t - first)
    outer.loop(t, first, end - first, body)
    params = [*(pointer for pointer, _ in pairs), first, end]
    attributes = {"global_symbol": panel.name, "tirx.noalias": True}
    return PrimFunc(params, outer.statement()).with_attr(attributes)


def _pointers(s: _Scene) -> _Pointers:
    def flat(name: str, wanted: bool = True, align: int = 4) -> Any:
        return tirx.decl_buffer((1 << 30,), "float32", name=name, data_alignment=align) if wanted else None

    e = s.problem.epilogue
    partial = flat("partial", s.blocked, 64)
    raw = flat("raw", s.late, 64)
    return _Pointers(flat("x"), flat("y"), flat("bias", e.bias), flat("residual", e.residual), partial, raw)


def _accumulate(s: _Scene, panel: _Panel, body: Block, pointers: _Pointers, read: Any, number: Any) -> list[Any]:
    """The sums of a tile, row by row: vectors values each. None where there is nothing yet."""
    rows = len(panel.weights)
    acc: list[Any] = [None] * (rows * s.vectors)
    if not panel.begins:
        acc = [
            body.bind("a", body.load(pointers.partial, _partial(s, panel, number, i))) for i in range(rows * s.vectors)
        ]
    for i, column in enumerate(panel.columns):
        xs = []
        for v, at in enumerate(s.grid.reads):
            place = read + (s.offsets[column] + (v * s.lanes if s.packed else at))
            high = s.grid.lanes if s.masked else s.lanes
            xs.append(body.bind("x", body.load_part(pointers.x, place, 0, high)))
        for r in np.flatnonzero(panel.weights[:, i]):
            w = body.splat(float(panel.weights[r, i]))
            for v in range(s.vectors):
                a = int(r) * s.vectors + v
                acc[a] = body.bind("a", w * xs[v] if acc[a] is None else body.fma(w, xs[v], acc[a]))
    return acc


def _partial(s: _Scene, panel: _Panel, number: Any, i: int) -> Any:
    """Where accumulator i of a panel waits for the next block of columns."""
    width = s.vectors * s.lanes
    return number * (s.problem.m * width) + (panel.first * width + i * s.lanes)


def _leave(
    s: _Scene, panel: _Panel, body: Block, pointers: _Pointers, acc: Sequence[Any], write: Any, number: Any
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


def _activate_late(s: _Scene, panel: _Panel, body: Block, pointers: _Pointers, write: Any) -> None:
    """Y = activation(raw), as a loop over the rows of the panel: such an activation is too long to write out."""
    r, inner = Var("r", "int32"), body.child()
    for v, at in enumerate(s.grid.writes):
        lane = Var("lane", "int32")
        value = epilogue.activate(
            s.problem.epilogue.activation, BufferLoad(pointers.raw, [r * (s.vectors * s.lanes) + (v * s.lanes) + lane])
        )
        place = write + (r + panel.first) * s.problem.n + at + lane
        store = BufferStore(pointers.y, value, [place])
        inner.statements.append(For(lane, i32(0), i32(s.grid.lanes), ForKind.VECTORIZED, store))
    body.loop(r, 0, len(panel.weights), inner)


@dataclass(frozen=True)
class _Arrays:
    """The flat arrays of main. table: offsets of the live columns, where tiles are packed; channels: for stage()."""

    x: Any
    table: Any
    channels: Any
    bias: Any
    residual: Any
    y: Any


def _main(s: _Scene, view: Operand, functions: list[list[_Panel]], chunk: int, tables: _Tables, symbol: str) -> Any:
    problem = s.problem
    with IRBuilder() as builder, T.prim_func():
        T.func_name(symbol)
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        arrays = _params(problem, tables)
        staged = T.alloc_buffer((view.staged,), "float32", align=64) if view.staged else None
        with T.serial(0, problem.batch) as item:
            source, base = arrays.x, item * (problem.k * problem.n)
            if staged is not None:
                stage(problem, view, arrays.x, item, staged, arrays.channels)
                source, base = staged, 0
            for first, end, chosen in _shares(s, functions):
                _chunks(s, chosen, arrays, (source, base), item, (first, end, chunk))
    return builder.get()


def _params(problem: Problem, tables: _Tables) -> _Arrays:
    def table(values: Any) -> tuple[Sequence[int], str] | None:
        return None if values is None else (values.shape, "int32")

    kinds: dict[str, tuple[Sequence[int], str] | None] = {
        "x": (problem.x_shape, "float32"),
        "table": table(tables.offsets),
        "channels": table(tables.channels),
        "bias": ((problem.m,), "float32") if problem.epilogue.bias else None,
        "residual": (problem.y_shape, "float32") if problem.epilogue.residual else None,
        "y": (problem.y_shape, "float32"),
    }
    shaped = {n: k and T.arg(n, T.buffer(tuple(k[0]) or (1,), k[1], align=4)) for n, k in kinds.items()}
    # all parameters come before the first declaration
    return _Arrays(
        **{
            name: kind and T.decl_buffer((int(np.prod(kind[0])),), kind[1], data=shaped[name].data, align=4)
            for name, kind in kinds.items()
        }
    )


def _shares(s: _Scene, functions: list[list[_Panel]]) -> Iterator[tuple[Any, Any, list[list[_Panel]]]]:
    """(first tile, end, functions) for each thread; the body of the loop over this is written once for each."""
    count, threads = s.grid.count, s.problem.threads
    if threads == 1:
        yield 0, count, functions
    elif count >= 4 * threads or len(functions[0]) < 2:
        tasks = min(threads, count)
        with T.parallel(0, tasks) as task:
            yield task * count // tasks, (task + 1) * count // tasks, functions
    else:
        bounds = _balance(functions, threads)
        with T.parallel(0, len(bounds) - 1) as task:
            for i, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
                with T.If(task == i), T.Then():
                    yield 0, count, [row[low:high] for row in functions]


def _balance(functions: list[list[_Panel]], threads: int) -> list[int]:
    """Bounds of at most `threads` runs of panels, none of them empty, with about the same number of FMAs each."""
    work = np.cumsum([sum(row[i].fmas + 1 for row in functions) for i in range(len(functions[0]))])
    cuts = [int(np.searchsorted(work, work[-1] * i / threads)) for i in range(1, threads)]
    return sorted({0, *cuts, len(work)})


def _chunks(
    s: _Scene, functions: list[list[_Panel]], arrays: _Arrays, source: tuple[Any, Any], item: Any, tiles: Any
) -> None:
    """All functions on the tiles first ... end, chunk by chunk."""
    first, end, chunk = tiles
    width = s.vectors * s.lanes
    partial = T.alloc_buffer((chunk * s.problem.m * width,), "float32", align=64) if s.blocked else None
    tallest = max(len(panel.weights) for row in functions for panel in row)
    raw = T.alloc_buffer((tallest * width,), "float32", align=64) if s.late else None
    packed = T.alloc_buffer((chunk * s.packed,), "float32", align=64) if s.packed else None
    with T.serial(0, -(-s.grid.count // chunk) if isinstance(end, int) else (end - first + chunk - 1) // chunk) as c:
        low = first + c * chunk
        high = T.min(low + chunk, end)
        x = (packed, 0) if packed is not None else source
        if packed is not None:
            _pack(s, arrays, source, packed, low, high)
        total = s.problem.m * s.problem.n
        rest = [] if arrays.bias is None else [arrays.bias.data]
        rest += [] if arrays.residual is None else [_at(arrays.residual, item * total)]
        rest += [] if partial is None else [partial.data]
        rest += [] if raw is None else [raw.data]
        for row in functions:
            for panel in row:
                pointers = [_at(*x), _at(arrays.y, item * total), *rest]
                T.evaluate(tirx.call_cpacked("__tvm_ffi_" + panel.name, *pointers, low, high))


def _at(buffer: Any, index: Any) -> Any:
    return buffer.data if isinstance(index, int) and index == 0 else tirx.address_of(BufferLoad(buffer, [index]))


def _pack(s: _Scene, arrays: _Arrays, source: tuple[Any, Any], packed: Any, low: Any, high: Any) -> None:
    """Copy the live columns of the tiles low ... high one behind the other."""
    buffer, base = source
    width = s.vectors * s.lanes
    with T.serial(0, high - low) as t:
        start, _ = s.grid.start(low + t)
        with T.serial(0, len(s.offsets)) as i:
            for v, at in enumerate(s.grid.reads):
                with T.vectorized(0, s.grid.lanes if s.masked else s.lanes) as lane:
                    value = buffer[base + start + arrays.table[i] + at + lane]
                    T.buffer_store(packed, value, [t * s.packed + i * width + v * s.lanes + lane])


@dataclass(frozen=True)
class _Tables:
    """Constants of main: offsets of the live columns where tiles are packed, live channels where some are dead."""

    offsets: Any = None
    channels: Any = None


def _space(problem: Problem, weight: FloatArray, isa: Isa) -> Sequence[Config]:
    if problem.op not in ("linear", "conv2d") or problem.dtype != "float32" or problem.n < isa.lanes // 2:
        return ()
    if max(np.prod(problem.x_shape), np.prod(problem.y_shape)) > 2**31 - 1:
        return ()
    nonzeros = int(np.count_nonzero(weight))
    configs = []
    for vectors in (2, 1, 4):
        if nonzeros * vectors <= MAX_FMAS and (vectors == 1 or vectors * isa.lanes <= problem.n):
            rows = (isa.registers - vectors - 2) // vectors
            configs.append({"rows": rows, "vectors": vectors, "kblock": 0, "chunk": 8, "pack": 0})
    return tuple(configs)


def _estimate(problem: Problem, weight: FloatArray, isa: Isa, config: Config) -> float:
    return 1.0


@schedule("unrolled", arch="x86", space=_space, estimate=_estimate)
def emit(problem: Problem, weight: FloatArray, isa: Isa, config: Config, symbol: str) -> Code:
    """The pattern is the code: one FMA instruction for every non-zero weight, accumulators in registers."""
    live = (weight != 0).any(axis=0)
    view = operand(problem, live)
    tiles = grid(view, problem.n, isa.lanes, config["vectors"])
    functions = _panels(weight, config, len(tiles.reads), symbol)
    numbers = [int(k) for k in np.flatnonzero(live)]
    width = len(tiles.reads) * isa.lanes
    packed = bool(config["pack"]) and bool(numbers)
    scene = _Scene(
        problem=problem,
        grid=tiles,
        lanes=isa.lanes,
        offsets={k: i * width if packed else int(view.offsets[k]) for i, k in enumerate(numbers)},
        masked=not view.staged and not packed and tiles.lanes < isa.lanes,
        packed=len(numbers) * width if packed else 0,
        blocked=len(functions) > 1,
    )
    channels = np.array(view.channels, np.int32) if len(view.channels) < problem.channels and view.staged else None
    tables = _Tables(np.array([view.offsets[k] for k in numbers], np.int32) if packed else None, channels)
    chunk = min(config["chunk"] or tiles.count, tiles.count)
    main = _main(scene, view, functions, chunk, tables, symbol)
    constants = tuple(t for t in (tables.offsets, tables.channels) if t is not None)
    return Code(main, constants, _objects(scene, functions))


def _objects(s: _Scene, functions: list[list[_Panel]]) -> tuple[tuple[Any, ...], ...]:
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
