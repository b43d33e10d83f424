"""Depthwise convolution: every channel is convolved with its own small window, and only the live taps cost anything.

Before, for every channel c (the order of the sum and the padding are what makes it slow):
    for y, x:  Y[c, y, x] = sum over (i, j) of W[c, i, j] * X[c, y*sh + i*dh - top, x*sw + j*dw - left]

After:
    for every set of live taps, for every channel c that has it (parallel over shares of the channels):
        w[t] = W[c, t] in all lanes                                 taps registers, where they fit
        for blocks of R output rows, for vectors of L output columns:
            acc[r] = bias[c]                                        R registers
            for every input row that the block touches, for every column j of the window:
                x = L elements of the row from column x*sw + j*dw - left   1 register (2 + 1 with a stride)
                acc[r] += w[i, j] * x    for all (r, i) that see this row
            store epilogue(acc[r])
Nothing is copied or padded. Rows outside of the image are known when the code is generated, so the first and the last
block of rows are written out without them; columns outside are lanes of a load that is masked by a constant. All blocks
and vectors between the borders are the same and become loops. One load serves up to kernel height FMAs. With a column
stride of s the elements are picked out of s loads by a shuffle. The last vector of a row starts at width - L; where the
row is shorter than a vector the store is masked.

Registers: live taps + R + 2 (stride 1) or + 4, within the register file; if the taps do not fit, they are broadcast
from memory by each FMA.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx import Var

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.activations import INLINE
from tesa.schedules.cpu.cut import threads_for
from tesa.schedules.cpu.straight import Array, Block, Ends, activate_stored, activate_vector
from tesa.schedules.cpu.taps import Group, Run, column_runs, fmas, groups_of, picks, row_runs
from tesa.schedules.refusal import refuse, unsuited
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem, Window

MAX_MASKS = 16
"""Distinct sets of live taps that get code of their own; with more, one code for the union of all serves them."""

MAX_FMAS = 6000
"""FMA instructions of one kernel, about half a millisecond of code generation each."""

_MAX_ELEMENTS = 2**31 - 1


@dataclass(frozen=True)
class _Scene:
    """The buffers and figures that all parts of one kernel share."""

    problem: Problem
    window: Window
    core: Core
    rows: int
    in_registers: bool
    tasks: int
    x: Array
    weights: Array
    order: Array | None
    ends: Ends

    @property
    def shifts(self) -> bool:
        """Elements a stride apart are picked once, and moved by one lane for the columns before."""
        return self.core.edges and self.window.stride[1] > 1 and self.window.width >= self.core.lanes


@dataclass(frozen=True)
class _At:
    """The place of a tile: element of X and Y at which the channel starts, output row and column; and its constants."""

    x: Any
    y: Any
    weights: dict[tuple[int, int], Any]
    bias: Any
    row: Any = 0
    column: Any = 0


def _row_of_x(
    s: _Scene, block: Block, base: Any, columns: Run, picked: dict[int, tuple[int, int]], wanted: Sequence[int]
) -> dict[int, Any]:
    """The vectors of one input row for the wanted window columns; base: where the vector's columns start in X."""
    stride, raw, found = s.window.stride[1], {}, {}
    starts = {picked[j][0] for j in wanted}
    for start, part, low, high in columns.key:
        if start in starts:
            raw[start, part] = _loaded(s, block, base + (start + part * s.core.lanes), low, high)
    for j in wanted:
        start, phase = picked[j]
        found[j] = raw[start, 0] if stride == 1 else _strided(s, block, [raw[start, p] for p in range(stride)], phase)
    return found


def _row_by_shifts(
    s: _Scene, block: Block, base: Any, columns: Run, picked: dict[int, tuple[int, int]], wanted: Sequence[int]
) -> dict[int, Any]:
    """_row_of_x where loads and shuffles are dear: columns a stride apart see the same elements one lane further on."""
    stride, inside = s.window.stride[1], {(start, part): ends for start, part, *ends in columns.key}
    raw: dict[tuple[int, int], Any] = {}
    found: dict[int, Any] = {}
    for j in sorted(wanted, reverse=True):
        start, phase = picked[j]
        later = next((i for i, pick in picked.items() if pick == (start + stride, phase)), None)
        if later in found:
            value = _before(s, block, base, columns, start + phase, found[later])
            if value is not None:
                found[j] = block.bind("p", value)
                continue
        for part in range(stride):
            if (start, part) not in raw:
                raw[start, part] = _loaded(s, block, base + (start + part * s.core.lanes), *inside[start, part])
        found[j] = _strided(s, block, [raw[start, part] for part in range(stride)], phase)
    return found


def _before(s: _Scene, block: Block, base: Any, columns: Run, start: int, later: Any) -> Any:
    """The element at start, then all lanes of later but the last; None where no vector of the row ends there."""
    lanes, stride = s.core.lanes, s.window.stride[1]
    first, last = (
        stride * column + start for column in (columns.first, columns.first + columns.size * (columns.count - 1))
    )
    if last < 0:
        return block.moved(later, 1, s.core.permute)
    if first < lanes - 1 or last >= s.window.width:
        return None
    before = block.bind("x", block.load(s.x.flat, base + (start - (lanes - 1))))
    return block.shuffle([before, later], list(range(lanes - 1, 2 * lanes - 1)))


def _loaded(s: _Scene, block: Block, place: Any, low: int, high: int) -> Any:
    """The vector of a row, 0.0 in lanes outside of the image."""
    if s.core.edges and s.window.width >= s.core.lanes:
        return block.bind("x", block.load_edge(s.x.flat, place, low, high, s.core.permute))
    return block.bind("x", block.load_part(s.x.flat, place, low, high))


def _strided(s: _Scene, block: Block, parts: Sequence[Any], phase: int) -> Any:
    """Every stride-th element of vectors that lie one behind the other."""
    lanes = [phase + s.window.stride[1] * lane for lane in range(s.core.lanes)]
    return block.bind("p", block.shuffle(parts, lanes))


def _tile(s: _Scene, block: Block, group: Group, rows: Run, columns: Run, at: _At) -> None:
    """One block of rows x one vector of columns, from loads to stores."""
    window, picked = s.window, picks(s.window, group.taps, s.shifts)
    row_of_x = _row_by_shifts if s.shifts else _row_of_x
    acc: list[Any] = [at.bias] * rows.size
    seen: dict[int, list[tuple[int, int]]] = {}
    for r, i in rows.key:
        seen.setdefault(r * window.stride[0] + i * window.dilation[0], []).append((r, i))
    for below, users in sorted(seen.items()):
        wanted = sorted({j for i, j in group.taps if any(i == other for _, other in users)})
        line = at.row * window.stride[0] + (below - window.padding[0])
        base = at.x + line * window.width + at.column * window.stride[1]
        x = row_of_x(s, block, base, columns, picked, wanted)
        for j in wanted:
            for r, i in users:
                if (i, j) in group.taps:
                    weight = at.weights[i, j]
                    value = weight * x[j] if acc[r] is None else block.fma(weight, x[j], acc[r])
                    acc[r] = block.bind("a", value)
    valid = min(s.core.lanes, window.out_width)
    for r in range(rows.size):
        place = at.y + ((at.row + r) * window.out_width + at.column)
        value = block.zero if acc[r] is None else acc[r]
        if s.ends.residual is not None:
            value = value + block.load_part(s.ends.residual.flat, place, 0, valid)
        activation = s.problem.epilogue.activation
        if activation in INLINE:
            value = activate_vector(block, activation, value)
        block.store_part(s.ends.y.flat, value, place, valid)


def _each(block: Block, run: Run, name: str, body: Any) -> None:
    """body(block, position) for each tile of a run, as a loop if there are several."""
    if run.count == 1:
        body(block, tirx.IntImm("int32", run.first))
        return
    inner, var = block.child(), Var(name, "int32")
    body(inner, var * run.size + run.first)
    block.loop(var, 0, run.count, inner)


def _rows(s: _Scene, group: Group, rows: Run, across: Sequence[Run], at: _At, block: Block, row: Any) -> None:
    """One block of rows, all columns."""

    def vector(inner: Block, column: Any, columns: Run) -> None:
        _tile(s, inner, group, rows, columns, replace(at, row=row, column=column))

    for columns in across:
        _each(block, columns, "v", partial(vector, columns=columns))


def _channel(s: _Scene, block: Block, group: Group, item: Any) -> None:
    """All tiles of one channel of one image; item counts the channels of the group, image by image."""
    window, m = s.window, s.problem.m
    image, index = (0, item)
    if s.problem.batch > 1:
        image, index = tirx.truncdiv(item, group.count), tirx.truncmod(item, group.count)
    channel = index + group.start
    if s.order is not None:
        channel = block.bind("c", tirx.BufferLoad(s.order.flat, [channel]), "int32")
    plane = block.bind("plane", image * m + channel, "int32")
    weights = _weights(s, block, group, channel)
    bias = None if s.ends.bias is None else block.bind("b", block.splat(tirx.BufferLoad(s.ends.bias.flat, [channel])))
    at = _At(
        block.bind("from", plane * (window.height * window.width), "int32"),
        block.bind("to", plane * (window.out_height * window.out_width), "int32"),
        weights,
        bias,
    )
    across = column_runs(window, s.core.lanes, picks(window, group.taps, s.shifts))
    for rows in row_runs(window, s.rows, group.taps):
        _each(block, rows, "y", partial(_rows, s, group, rows, across, at))
    activation = s.problem.epilogue.activation
    if activation not in INLINE:
        activate_stored(block, s.ends.y.flat, at.y, s.problem.n, activation)


def _weights(s: _Scene, block: Block, group: Group, channel: Any) -> dict[tuple[int, int], Any]:
    """The weight of each live tap in all lanes. Where a product takes a factor from any lane, some are one vector."""
    lanes, area, found = s.core.lanes, s.problem.k, {}
    vectors: dict[int, Any] = {}
    for i, j in group.taps:
        tap = i * s.window.kernel[1] + j
        if s.core.by_element and s.in_registers and area >= lanes:
            first = min(tap // lanes * lanes, area - lanes)
            if first not in vectors:
                vectors[first] = block.bind("w", block.load(s.weights.flat, channel * area + first))
            found[i, j] = block.element(vectors[first], tap - first)
            continue
        value = block.splat(tirx.BufferLoad(s.weights.flat, [channel * area + tap]))
        found[i, j] = block.bind("w", value) if s.in_registers else value
    return found


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    window = problem.window
    if why := unsuited(problem, ops=("depthwise",)):
        return refuse(why)
    if window is None or problem.n < 1:
        return refuse("there is no output to compute")
    if max(problem.batch * problem.m * max(window.height * window.width, problem.n), weight.size) > _MAX_ELEMENTS:
        return refuse(f"it addresses images of up to {_MAX_ELEMENTS} elements")
    configs = []
    for every in (0, 1) if not weight.all() else (1,):
        default = _default_rows(window, int(_live(weight, every).any(axis=0).sum()), core)
        more = default if core.edges and window.stride[1] > 1 else 2 * default
        rows = dict.fromkeys((default, max(1, default // 2), min(window.out_height, more)))
        configs += [{"rows": r, "every": every} for r in rows if r <= core.registers - 4]
    return tuple(configs)


def _live(weight: FloatArray, every: int) -> NDArray[np.bool_]:
    """A mask of the taps that are computed: those that are not zero, or every one."""
    return np.ones(weight.shape, bool) if every else weight != 0


def _default_rows(window: Window, taps: int, core: Core) -> int:
    """The rows of a block: as many as the registers hold beside the taps, at most 8, or 4 with a stride."""
    strided = window.stride[1] > 1
    free = core.registers - (4 if strided else 2)
    limit = 1 if _tight(window, core) else 4 if strided else 8
    most = max(1, min(limit, free - taps if free - taps > 1 else free - 4))
    blocks = -(-window.out_height // most)
    return -(-window.out_height // blocks)


def _tight(window: Window, core: Core) -> bool:
    """Rows of few short vectors with a stride: all of it is one piece of code, whose shuffles fill the registers."""
    return core.edges and window.stride[1] > 1 and window.out_width <= 2 * core.lanes


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """The larger of an FMA or a load for each live tap of each vector, and of reading X and writing Y once."""
    window = problem.window
    if window is None:
        raise ValueError("a depthwise convolution has a window")
    rates, vectors = core.rates, problem.batch * window.out_height * -(-window.out_width // core.lanes)
    taps = float(_live(weight, config.get("every", 0)).sum())
    # rows of a block share the loads of a window column, which a column stride makes twice as many, with shuffles
    loads = taps * (config["rows"] + window.kernel[0] - 1) / (config["rows"] * window.kernel[0]) * window.stride[1]
    moved = 4.0 * problem.batch * problem.m * (window.height * window.width + problem.n)
    far = rates.l2_bytes if moved <= core.l2_bytes / 2 else rates.far_bytes
    each = 1.0 if window.stride[1] == 1 else 2.0
    work = cost.together(vectors * taps / rates.fmas, vectors * loads * each / rates.loads, moved / far)
    done = cost.finishing(problem.epilogue, vectors * problem.m)
    threads = _threads(problem, taps, core)
    regions = 2 * rates.call if threads > 1 else 0.0
    return float(rates.call + regions + (work + done) / threads) / rates.cycles_per_ms


def _threads(problem: Problem, taps: float, core: Core) -> int:
    """1 where to wake other threads costs as much as to compute so many taps of all channels."""
    threads = threads_for(problem, taps * problem.batch * problem.n / core.lanes / core.rates.fmas)
    return min(threads, problem.m * problem.batch)


def _main(s: _Scene, groups: Sequence[Group], symbol: str) -> Any:
    problem = s.problem
    tasks = s.tasks
    share, body = Var("share", "int32"), Block(s.core.lanes, s.core.fma, s.core.maximum)
    for group in groups:
        item, inner, items = Var("i", "int32"), body.child(), group.count * problem.batch
        _channel(s, inner, group, item)
        if tasks == 1:
            body.loop(item, 0, items, inner)
        else:
            first, end = (tirx.truncdiv((share + extra) * items, tirx.IntImm("int32", tasks)) for extra in (0, 1))
            body.loop(item, first, end - first, inner)
    return s.ends.function(symbol, (s.x, s.weights, s.order), body.child(), share, tasks, body, late=False)


def _dense(weight: FloatArray, config: Config) -> bool:
    return bool(config.get("every", 0)) or bool(weight.all())


@family("depthwise", kind="cpu", space=_space, estimate=_estimate, dense=_dense)
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """Depthwise convolution straight from the image: only live taps, borders known when the code is made.

    weight is (channels, kernel area). config: rows, output rows of a block; every, 1 where all taps are computed, zeros
    too. constants: the weights, and where the live taps differ between channels the
    channels sorted by them (int32). Raises ValueError for a problem that space answers with ().

    Example:
        >>> window = Window(8, 8, (3, 3), padding=(1, 1, 1, 1))
        >>> p = Problem("depthwise", 4, 9, 64, (1, 4, 8, 8), (1, 4, 8, 8), window=window)
        >>> code = emit(p, np.ones((4, 9), np.float32), Core("avx512", 16, 32), {"rows": 4}, "dw")
        >>> len(code.main.params), len(code.constants), code.pipeline
        (3, 1, 'straight')
    """
    window = problem.window
    if problem.op != "depthwise" or window is None:
        raise ValueError(f"family depthwise cannot compute op {problem.op!r}")
    live = _live(weight, config.get("every", 0))
    groups, order = groups_of(live, window)
    rows = config["rows"]
    if len(groups) > 1 and (len(groups) > MAX_MASKS or fmas(window, core.lanes, rows, groups) > MAX_FMAS):
        groups, order = groups_of(np.broadcast_to(live.any(axis=0), weight.shape), window)
    most = max(len(group.taps) for group in groups)
    scene = _Scene(
        problem=problem,
        window=window,
        core=core,
        rows=rows,
        in_registers=most + rows + (2 if window.stride[1] == 1 else 4) <= core.registers,
        tasks=_threads(problem, float(live.sum()), core),
        x=Array.make("X", problem.x_shape),
        weights=Array.make("W", weight.shape),
        order=None if order is None else Array.make("order", order.shape, "int32"),
        ends=Ends.of(problem),
    )
    constants: tuple[NDArray[Any], ...] = (np.ascontiguousarray(weight, dtype=np.float32),)
    if order is not None:
        constants = (*constants, order)
    return Code(_main(scene, groups, symbol), constants, pipeline="straight")
