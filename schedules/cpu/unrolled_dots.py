"""The unrolled kernel of int8: every live group of four weights of a row is one dot product of bytes.

Before:
    for b, m, p:  Y[b, m, p] = epilogue(sum_k W[m, k] * X[b, k, p])
After, with panels of R rows and tiles of V vectors of L positions:
    for b, for chunks of C tiles (parallel over shares of the tiles, or of the panels where tiles are few):
        T[tile][k / 4][V L] = X regrouped: four bytes of a position in the 32 bits of a lane     dot_tiles.py
                              of a convolution: of each tap, found through places.py
        for blocks of columns, for panels:                                          one call of a function:
            for the C tiles:
                acc[r, v] = 0, or what the block of columns before left             R * V registers
                for every live group of the panel:                                  written out
                    x[v] = T[tile][group]                                           V registers
                    acc[r, v] += dot(w, x[v])    for the rows with a live group     w is an operand, or 1 register
                codes of four rows to O[tile][row / 4][V L], or acc to a scratch
        Y = O in order, or epilogue(scratch)
Worth it where zeros come in groups along k: of scattered ones a group of four is seldom empty (permuted.py).

The scale, the bias and the step and zero of the codes are put together first, (m,) each: an output takes one
multiply-add and one rounding.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.arithmetic import Arithmetic, arithmetic
from tesa.schedules.cpu.cut import Cut
from tesa.schedules.cpu.dot_tiles import Chunk, DotTiles
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.loops import loop, named, parallel, serial
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.cpu.operand import Operand, tiling
from tesa.schedules.cpu.places import Places, places
from tesa.schedules.cpu.requantize import codes, low_bytes, makes_codes
from tesa.schedules.cpu.unrolled_dots_space import (
    DOT_BYTES,
    applies,
    dot_elements,
    dot_threads,
    dot_tiles,
    flattened,
    stored,
)
from tesa.schedules.cpu.writers import find_dot_writer
from tesa.schedules.cpu.writers.tir_dots import write as write_tir
from tesa.schedules.dots import GROUP, Codes, DotFrame, dot_program
from tesa.schedules.panels import Panel, balance, groups, panels
from tesa.schedules.tiles import Tiles
from tesa.schedules.types import Assembly, Code, Config, Core, FloatArray, Problem


@dataclass(frozen=True)
class _Call:
    """The body of main: functions[block][run of rows] on chunks of so many tiles, by so many threads."""

    problem: Problem
    frame: DotFrame
    tiles: Tiles
    functions: list[list[Panel]]
    chunk: int
    threads: int
    view: Places | None
    sums: Arithmetic
    core: Core
    order: int | None


def emit_dots(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """The code of an int8 problem; config as of the unrolled family, whose X is always packed.

    Raises ValueError for what is no product, and for a core whose panels of int8 nothing writes.
    """
    problem, writer = flattened(problem), find_dot_writer(core)
    if writer is None or not applies(problem, core):
        raise ValueError(f"family unrolled cannot compute {problem.dtype} {problem.op!r} on core {core.name}")
    elements, tiles = dot_elements(problem, weight, core), dot_tiles(problem, core, config["vectors"])
    functions = panels(elements, config, len(tiles.reads), symbol, writer.function_dots, GROUP)
    chunk, kind = min(config["chunk"] or tiles.count, tiles.count), stored(problem)
    frame = DotFrame(
        rows=problem.m,
        groups=elements.shape[1],
        lanes=core.lanes,
        vectors=len(tiles.reads),
        codes=_codes(problem),
        blocked=len(functions) > 1,
        together=not problem.features_last,
        ahead=chunk if np.count_nonzero(elements) * DOT_BYTES > core.l2_bytes // 4 else 0,
    )
    sums = arithmetic(problem, core)
    view = places(problem, sums) if problem.features_last else None
    threads = dot_threads(problem, elements, core)
    # what builds the function asks for an operand; it is not read through
    unread = Operand(np.zeros(0, np.int64), 1, problem.n, problem.n)
    made = Builder(problem, Cut(unread, tiling(problem.n, core.lanes, 1), (0, problem.m), threads=threads))
    order = None
    if problem.features_last and (kind is None or problem.inner):
        order = made.optional(low_bytes(problem, core))
    call = _Call(problem, frame, tiles, functions, chunk, threads, view, sums, core, order)
    code = made.code(symbol, lambda names: _main(call, names))
    begin = (-problem.x_zero * weight.astype(np.int64).sum(axis=1)).astype(np.int32) if problem.x_zero else None
    files = groups((panel for row in functions for panel in row), writer.object_dots)
    return replace(code, panels=tuple(_unit(frame, group, core, begin) for group in files))


def _unit(frame: DotFrame, group: list[Panel], core: Core, begin: NDArray[np.int32] | None) -> Any:
    """The object file of some panels."""
    writer = find_dot_writer(core)
    assert writer is not None  # see emit_dots
    unit = writer.write([dot_program(frame, panel, begin) for panel in group], core)
    if isinstance(unit, Assembly):  # panels are arrays: they weigh less than their programs
        return replace(unit, tir=lambda: write_tir([dot_program(frame, panel, begin) for panel in group], core))
    return unit


def _codes(problem: Problem) -> Codes | None:
    """The codes that panels store: limited by the activation where they are those of Y."""
    if (kind := stored(problem)) is None:
        return None
    activation = None if problem.inner else problem.epilogue.activation
    least, most = kind.range
    low = None if activation is None or kind.zero <= least else float(kind.zero)
    six = np.float32(6) * np.float32(1 / kind.scale) + np.float32(kind.zero)
    high = min(float(most), float(np.rint(six))) if activation == "relu6" else float(most)
    return Codes(kind.dtype, low, high)


def _main(call: _Call, names: Names) -> None:
    p, view = call.problem, call.view
    source = names.x if view is None else view.source(names)
    kind, made = stored(p), None
    if kind is not None or (p.features_last and makes_codes(p)):
        made = codes(p, names, max(p.m, call.frame.lanes), None, call.core, call.order)
    folded = [made.scale, made.bias] if made is not None and kind is not None else []
    rest = made if kind is None or p.inner else None
    tiles = DotTiles(p, call.frame, call.tiles, names, view, source, rest, call.core.masks)
    with loop("item", p.batch) as item:
        if view is not None and view.copied:
            view.copy(names, item, source, call.sums, p.x_zero, call.threads)
        for first, end, functions in _shares(call):
            _chunks(call, tiles, functions, folded, item, (first, end))


def _shares(call: _Call) -> Iterator[tuple[Any, Any, list[list[Panel]]]]:
    """(first tile, end, functions) for each thread; the body of the loop over this is written once for each."""
    count, used, functions = call.tiles.count, call.threads, call.functions
    if used == 1:
        yield 0, count, functions
    elif count >= 4 * used or len(functions[0]) < 2:
        tasks = min(used, count)
        with parallel("task", tasks) as task:
            yield task * count // tasks, (task + 1) * count // tasks, functions
    else:
        bounds = balance(functions, used)
        with parallel("task", len(bounds) - 1) as task:
            for i, (low, high) in enumerate(pairwise(bounds)):
                with T.If(task == i), T.Then():
                    yield 0, count, [row[low:high] for row in functions]


def _chunks(
    call: _Call, made: DotTiles, functions: list[list[Panel]], folded: list[Any], item: Any, tiles: tuple[Any, Any]
) -> None:
    """Calls of the functions on the tiles first ... end, chunk by chunk."""
    f, chunk, (first, end) = call.frame, call.chunk, tiles
    rows = functions[0][0].first, functions[0][-1].first + len(functions[0][-1].weights)
    packed = named("packed", T.alloc_buffer((chunk * f.packed,), "int32", align=64))
    out = named("out", T.alloc_buffer((chunk * f.out,), "int32", align=64)) if f.out else None
    scratch = named("scratch", T.alloc_buffer((chunk * f.scratch,), "int32", align=64)) if f.scratch else None
    arrays = [packed, *([out, *folded] if out is not None else []), *([scratch] if scratch is not None else [])]
    with serial("c", (end - first + chunk - 1) // chunk) as c:
        low = T.Bind(first + c * chunk)
        high = T.Bind(T.min(low + chunk, end))
        tiles_here = Chunk(item, low, high)
        made.pack(tiles_here, packed)
        for row in functions:
            for panel in row:
                pointers = [buffer.data for buffer in arrays]
                T.evaluate(tirx.call_cpacked("__tvm_ffi_" + panel.name, *pointers, high - low))
        made.deliver(tiles_here, out if out is not None else scratch, rows)
