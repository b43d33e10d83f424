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
by one call or by calls in a fixed order on scratch of its own. An activation that is too long to be written out is
applied by a loop behind the functions of a chunk, to sums that they leave in the scratch.

Registers: R * V + V + 1 within the register file. The functions are written by the core's writer (writers/): assembly
where there is one, as TVM's compiler takes half a millisecond for each instruction, else functions of TVM.

int8 has kernels of the same kind, see unrolled_dots.py.

After "Fast Sparse ConvNets" (Elsen et al., CVPR 2020) and SparseRT (Wang, PACT 2020), which generate such code.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx import BufferLoad
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.activations import INLINE, activate
from tesa.schedules.cpu.loops import flat, function, parameter
from tesa.schedules.cpu.operand import Operand, channels_of, operand
from tesa.schedules.cpu.staging import first_of_copy, first_of_y, stage
from tesa.schedules.cpu.unrolled_dots import emit_dots
from tesa.schedules.cpu.unrolled_dots_space import dot_estimate, dot_size, dot_space
from tesa.schedules.cpu.unrolled_space import estimate, size, space, threads, tiles_of
from tesa.schedules.cpu.writers import find_writer
from tesa.schedules.cpu.writers.tir import write as write_tir
from tesa.schedules.panels import Panel, balance, groups, panels
from tesa.schedules.program import Frame, program
from tesa.schedules.registry import family
from tesa.schedules.types import Assembly, Code, Config, Core, FloatArray, Problem, Tir


@dataclass(frozen=True)
class _Arrays:
    """The flat arrays of main. table: offsets of the live columns, where tiles are packed; channels: for stage()."""

    x: Any
    y: Any
    table: Any = None
    channels: Any = None
    bias: Any = None
    residual: Any = None


@dataclass(frozen=True)
class _Call:
    """The body of main: functions[block][run of rows] on chunks of so many tiles, by so many threads."""

    frame: Frame
    view: Operand
    functions: list[list[Panel]]
    chunk: int
    threads: int

    @property
    def whole_tiles(self) -> bool:
        """All panels of a tile are run by one thread."""
        return self.threads == 1 or self.frame.tiles.count >= 4 * self.threads or len(self.functions[0]) < 2

    @property
    def problem(self) -> Problem:
        return self.frame.problem


def _main(call: _Call, tables: Mapping[str, NDArray[np.int32]], symbol: str) -> Any:
    problem, view = call.problem, call.view
    with function(symbol) as builder:
        arrays = _params(problem, tables)
        staged = T.alloc_buffer((view.staged,), "float32", align=64) if view.staged else None
        with T.serial(0, problem.batch) as item:
            source, base = arrays.x, item * (problem.k * problem.n)
            if staged is not None:
                stage(problem, view, arrays.x, item, staged, arrays.channels, call.threads)
                source, base = staged, first_of_copy(problem, view, item)
            for first, end, chosen in _shares(call):
                _chunks(call, chosen, arrays, (source, base), item, (first, end))
    return builder.get()


def _params(problem: Problem, tables: Mapping[str, NDArray[np.int32]]) -> _Arrays:
    e = problem.epilogue
    shapes = {"x": problem.x_shape, **{name: table.shape for name, table in tables.items()}}
    shapes |= ({"bias": (problem.m,)} if e.bias else {}) | ({"residual": problem.y_shape} if e.residual else {})
    shapes["y"] = problem.y_shape
    # all parameters come before the first declaration
    shaped = [parameter(name, shape, "int32" if name in tables else "float32") for name, shape in shapes.items()]
    return _Arrays(**{name: flat(buffer) for name, buffer in zip(shapes, shaped, strict=True)})


def _shares(call: _Call) -> Iterator[tuple[Any, Any, list[list[Panel]]]]:
    """(first tile, end, functions) for each thread; the body of the loop over this is written once for each."""
    count, threads, functions = call.frame.tiles.count, call.threads, call.functions
    if threads == 1:
        yield 0, count, functions
    elif call.whole_tiles:
        tasks = min(threads, count)
        with T.parallel(0, tasks) as task:
            yield task * count // tasks, (task + 1) * count // tasks, functions
    else:
        bounds = balance(functions, threads)
        with T.parallel(0, len(bounds) - 1) as task:
            for i, (low, high) in enumerate(pairwise(bounds)):
                with T.If(task == i), T.Then():
                    yield 0, count, [row[low:high] for row in functions]


def _chunks(
    call: _Call, functions: list[list[Panel]], arrays: _Arrays, source: tuple[Any, Any], item: Any, tiles: Any
) -> None:
    """Calls of the functions on the tiles first ... end, chunk by chunk."""
    s, chunk, (first, end) = call.frame, call.chunk, tiles
    scratch = T.alloc_buffer((chunk * s.scratch,), "float32", align=64) if s.scratch else None
    packed = T.alloc_buffer((chunk * s.packed,), "float32", align=64) if s.packed else None
    with T.serial(0, -(-s.tiles.count // chunk) if isinstance(end, int) else (end - first + chunk - 1) // chunk) as c:
        low = first + c * chunk
        high = T.min(low + chunk, end)
        x = (packed, 0) if packed is not None else source
        if packed is not None and not s.sources:
            _pack(s, arrays, source, packed, low, high)
        start = first_of_y(s.problem, item)
        rest = [] if arrays.bias is None else [arrays.bias.data]
        rest += [] if arrays.residual is None else [_at(arrays.residual, start)]
        rest += [] if scratch is None else [scratch.data]
        for row in functions:
            for panel in row:
                pointers = [_at(*x), *([_at(*source)] if s.sources else []), _at(arrays.y, start), *rest]
                T.evaluate(tirx.call_cpacked("__tvm_ffi_" + panel.name, *pointers, low, high))
        if s.late:
            rows = functions[0][0].first, functions[0][-1].first + len(functions[0][-1].weights)
            _activate(s, scratch, arrays.y, start, (low, high), rows)


def _activate(s: Frame, scratch: Any, y: Any, base: Any, tiles: tuple[Any, Any], rows: tuple[int, int]) -> None:
    """Y = activation(what the panels have left of the tiles)."""
    width, (low, high), n = s.vectors * s.lanes, tiles, s.problem.pitch
    with T.serial(0, high - low) as t:
        _, write = s.tiles.start(low + t)
        with T.serial(rows[0], rows[1]) as r:
            for v, at in enumerate(s.tiles.writes):
                with T.vectorized(0, s.tiles.lanes) as lane:
                    value = scratch[(t * s.problem.m + r) * width + v * s.lanes + lane]
                    place = base + write + r * n + at + lane
                    T.buffer_store(y, activate(s.problem.epilogue.activation, value), [place])


def _at(buffer: Any, index: Any) -> Any:
    return buffer.data if isinstance(index, int) and index == 0 else tirx.address_of(BufferLoad(buffer, [index]))


def _pack(s: Frame, arrays: _Arrays, source: tuple[Any, Any], packed: Any, low: Any, high: Any) -> None:
    """Copy the live columns of the tiles low ... high one behind the other."""
    buffer, base = source
    width = s.vectors * s.lanes
    with T.serial(0, high - low) as t:
        start, _ = s.tiles.start(low + t)
        with T.serial(0, len(s.offsets)) as i:
            for v, at in enumerate(s.tiles.reads):
                with T.vectorized(0, s.tiles.lanes if s.masked else s.lanes) as lane:
                    value = buffer[base + start + arrays.table[i] + at + lane]
                    T.buffer_store(packed, value, [t * s.packed + i * width + v * s.lanes + lane])


def _by_kind(float32: Callable[..., Any], int8: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a problem's dtype."""

    def chosen(problem: Problem, *rest: Any) -> Any:
        return (int8 if problem.dtype == "int8" else float32)(problem, *rest)

    return chosen


@family(
    "unrolled",
    kind="cpu",
    space=_by_kind(space, dot_space),
    estimate=_by_kind(estimate, dot_estimate),
    size=_by_kind(size, dot_size),
    layouts=("features_first", "features_last"),
)
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """The pattern is the code: one FMA instruction for every non-zero weight, accumulators in registers.

    config: rows of a panel, vectors of a tile, kblock live columns at once (0: as many as a function may hold), chunk
    tiles a call, pack 1 to copy the tiles' columns of X together first, which int8 always does: it has no such key.
    constants: offsets of the live columns where pack is 1, the live channels where a staged convolution has dead ones
    (int32). Raises ValueError for an operator that has no view of its operand (depthwise).

    Example:
        >>> p = Problem("linear", 4, 8, 32, (1, 8, 32), (1, 4, 32))
        >>> config = {"rows": 26, "vectors": 1, "kblock": 0, "chunk": 4, "pack": 0}
        >>> code = emit(p, np.eye(4, 8, dtype=np.float32), Core("avx512", 16, 32), config, "sp")
        >>> [unit.name for unit in code.panels], code.pipeline
        (['sp_p0_0'], 'default')
    """
    if problem.dtype == "int8":
        return emit_dots(problem, weight, core, config, symbol)
    live = (weight != 0).any(axis=0)
    view = operand(problem, live)
    tiles = tiles_of(view, problem, core, config["vectors"])
    writer = find_writer(core)
    functions = panels(weight, config, len(tiles.reads), symbol, writer.function_fmas)
    numbers = [int(k) for k in np.flatnonzero(live)]
    width = len(tiles.reads) * core.lanes
    packed = bool(config["pack"]) and bool(numbers)
    sources = {k: int(view.offsets[k]) for k in numbers} if packed and writer.packs else {}
    frame = Frame(
        problem=problem,
        tiles=tiles,
        lanes=core.lanes,
        offsets={k: i * width if packed else int(view.offsets[k]) for i, k in enumerate(numbers)},
        masked=not view.staged and tiles.lanes < core.lanes,
        packed=len(numbers) * width if packed else 0,
        sources=sources,
        blocked=len(functions) > 1,
        late=problem.epilogue.activation not in INLINE,
    )
    tables = {"table": view.offsets[numbers].astype(np.int32)} if packed and not sources else {}
    if view.staged and len(view.channels) < channels_of(problem):
        tables["channels"] = np.array(view.channels, np.int32)
    chunk = min(config["chunk"] or tiles.count, tiles.count)
    call = _Call(frame, view, functions, chunk, threads(problem, weight, core))
    functions = _packing(call, numbers) if sources else functions
    files = groups((panel for row in functions for panel in row), writer.object_fmas)
    units = tuple(_unit(frame, group, core) for group in files)
    return Code(_main(call, tables, symbol), tuple(tables.values()), units)


def _packing(call: _Call, live: Sequence[int]) -> list[list[Panel]]:
    """The panels, the first ones of each thread and block of columns with the columns of the block to pack."""
    functions = call.functions
    first = {0} if call.whole_tiles else set(balance(functions, call.threads))
    blocks = [tuple(columns.tolist()) for columns in np.array_split(np.array(live), len(functions))]
    return [
        [replace(panel, packs=columns) if i in first else panel for i, panel in enumerate(row)]
        for row, columns in zip(functions, blocks, strict=True)
    ]


def _unit(frame: Frame, group: Sequence[Panel], core: Core) -> Assembly | Tir:
    """The object file of some panels."""
    programs = [program(frame, panel) for panel in group]
    unit = find_writer(core).write(programs, core)
    if isinstance(unit, Assembly):  # panels are arrays: they weigh less than their programs
        return replace(unit, tir=lambda: write_tir([program(frame, panel) for panel in group], core))
    return unit
