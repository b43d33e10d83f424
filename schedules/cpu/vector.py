"""A matrix times one vector, or a few: every weight is used once, so only the bytes that are read count.

Before:
    for m: for k:  Y[m] += W[m, k] * X[k]                 (a dot product for each row, W read along k)

After, with P vectors of L rows as a panel and W stored panel by panel, each as [live column][P * L rows]:
    for every panel (parallel over shares of the panels):
        acc[p, q] = 0                                     P * Q registers, Q right-hand sides at once
        for every live column k of the panel, U at a time:
            w[p] = the next P * L weights                 P registers
            acc[p, q] += w[p] * X[k, q] in all lanes      1 register, or part of the FMA
        store epilogue(acc)
The weights are read once, in the order in which they lie in memory, in whole vectors. A column in which the whole panel
is zero is left out and costs an entry in a list of columns; without such columns there is no list. With fewer than 8
accumulators each gets several partial sums, so that an FMA need not wait for the one before it. Weights that are 16-bit
numbers are stored as such and widened on the way into a register: half of the bytes.

Registers: P * Q * partial sums + P + 1 within the register file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx import AllocBuffer, BufferLoad, BufferStore, Var

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.activations import INLINE
from tesa.schedules.cpu.cut import shares, threads_for
from tesa.schedules.cpu.straight import Array, Block, Ends, activate_stored, activate_vector, i32
from tesa.schedules.refusal import refuse, unsuited
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem

MAX_SIDES = 16
"""Right-hand sides (batch * n) up to which this family competes: with more, n is worth vectorizing."""

_UNROLL = 8
_CHAINS = 8  # independent FMAs that keep two units with a latency of four cycles busy
_MAX_ELEMENTS = 2**31 - 1


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
    """The arrays and figures that all parts of one kernel share.

    bounds: panels of the first strip in shares, one for each task; columns, starts: None where every column is live.
    """

    ends: Ends
    core: Core
    bounds: tuple[int, ...]
    x: Array
    weights: Array
    columns: Array | None
    starts: Array | None
    acc: tuple[Any, ...]

    @property
    def problem(self) -> Problem:
        return self.ends.problem


def _strips(m: int, panel: int, lanes: int) -> list[tuple[int, int, int]]:
    """(first row, vectors, panels) of the whole panels, and of the rest as one smaller panel."""
    whole, rest = divmod(m, panel * lanes)
    strips = [(0, panel, whole)] if whole else []
    return strips + ([(m - rest, -(-rest // lanes), 1)] if rest else [])


def _pack(
    weight: FloatArray, panel: int, lanes: int, listed: bool
) -> tuple[FloatArray, NDArray[np.int32], NDArray[np.int32], list[_Strip]]:
    """The weights in reading order, the live columns of each panel, where they start, and the strips."""
    m, k = weight.shape
    values, columns, starts, strips, base = [], [], [0], [], 0
    for first, vectors, panels in _strips(m, panel, lanes):
        height = vectors * lanes
        strips.append(_Strip(first, vectors, panels, len(starts) - 1, base - (starts[-1] * height if listed else 0)))
        for low in range(first, first + panels * height, height):
            rows = np.zeros((height, k), np.float32)
            rows[: min(m - low, height)] = weight[low : low + height]
            live = np.flatnonzero((rows != 0).any(axis=0)) if listed else np.arange(k)
            values.append(rows.T[live].reshape(-1))
            columns.append(live)
            starts.append(starts[-1] + len(live))
            base += values[-1].size
    # an array from outside is never empty
    flat = np.concatenate([*values, np.zeros(0 if base else 1)]).astype(np.float32)
    listing = np.concatenate([*columns, np.zeros(0 if starts[-1] else 1)]).astype(np.int32)
    return flat, listing, np.array(starts, np.int32), strips


def stored(values: FloatArray, storage: str) -> NDArray[Any]:
    """The weights as a kernel keeps them; of bfloat16 the upper half of each float32, which loses nothing."""
    if storage == "float16":
        return values.astype(np.float16)
    if storage == "bfloat16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values


def widened(problem: Problem, block: Block, value: Any) -> Any:
    """A vector of stored weights as float32."""
    if problem.storage == "float16":
        return tirx.Cast(block.vector, value)
    if problem.storage == "bfloat16":
        bits = tirx.Cast(f"uint32x{block.lanes}", value)
        return tirx.reinterpret(block.vector, bits << tirx.Broadcast(tirx.IntImm("uint32", 16), block.lanes))
    return value


def _sides(problem: Problem, registers: int, vectors: int) -> list[list[tuple[int, int]]]:
    """The right-hand sides (image, column), as many at once as there are registers for their accumulators."""
    every = [(b, j) for b in range(problem.batch) for j in range(problem.n)]
    most = max(1, (registers - 1) // vectors - 1)
    return [every[i : i + most] for i in range(0, len(every), most)]


def _sweep(
    s: _Scene, block: Block, strip: _Strip, sides: Sequence[tuple[int, int]], first: Any, count: Any
) -> list[Any]:
    """The sums of one panel over its count live columns from number first on: vectors x sides values."""
    n_acc = strip.vectors * len(sides)
    partial = max(1, min(_UNROLL, _CHAINS // n_acc))
    for a in range(n_acc * partial):
        block.statements.append(BufferStore(s.acc[a], block.zero, [i32(0)]))

    def body(inner: Block, start: Any, steps: int) -> None:
        acc = [BufferLoad(s.acc[a], [i32(0)]) for a in range(n_acc * partial)]
        touched: set[int] = set()
        for u in range(steps):
            number = start + u
            column = number - first
            if s.columns is not None:
                column = inner.bind("k", BufferLoad(s.columns.flat, [number]), "int32")
            place = number * (strip.vectors * s.core.lanes) + strip.base
            ws = [
                inner.bind("w", widened(s.problem, inner, inner.load(s.weights.flat, place + p * s.core.lanes)))
                for p in range(strip.vectors)
            ]
            for q, (image, j) in enumerate(sides):
                x = inner.splat(BufferLoad(s.x.flat, [column * s.problem.n + (image * s.problem.k * s.problem.n + j)]))
                for p, w in enumerate(ws):
                    a = (u % partial * strip.vectors + p) * len(sides) + q
                    acc[a] = inner.bind("a", inner.fma(w, x, acc[a]))
                    touched.add(a)
        for a in sorted(touched):
            inner.statements.append(BufferStore(s.acc[a], acc[a], [i32(0)]))

    whole = block.bind("whole", tirx.truncdiv(count, i32(_UNROLL)), "int32")
    many, one = Var("many", "int32"), Var("one", "int32")
    fast, slow = block.child(), block.child()
    body(fast, first + many * _UNROLL, _UNROLL)
    body(slow, first + whole * _UNROLL + one, 1)
    block.loop(many, 0, whole, fast)
    block.loop(one, 0, count - whole * _UNROLL, slow)
    sums = []
    for a in range(n_acc):
        total = BufferLoad(s.acc[a], [i32(0)])
        for part in range(1, partial):
            total = total + BufferLoad(s.acc[part * n_acc + a], [i32(0)])
        sums.append(block.bind("sum", total))
    return sums


def finish(
    ends: Ends,
    block: Block,
    value: Any,
    row: Any,
    valid: int,
    side: tuple[int, int],
    rows: Sequence[Any] | None = None,
) -> None:
    """Bias, residual, activation and store of valid rows for one right-hand side, (image, column).

    The rows are those from row on, or the given ones. Where they do not lie side by side in Y, each lane is stored by
    itself, and the activation is left to the caller, for when all of Y is there.
    """
    problem, activation = ends.problem, ends.problem.epilogue.activation
    image, j = side
    if ends.bias is not None and rows is None:
        value = value + block.load_part(ends.bias.flat, row, 0, valid)
    if problem.n > 1 or rows is not None:
        value = block.bind("total", value)
        for lane in range(valid):
            one = tirx.Shuffle([value], [i32(lane)])
            mine = row + lane if rows is None else block.bind("row", rows[lane], "int32")
            if ends.bias is not None and rows is not None:
                one = one + BufferLoad(ends.bias.flat, [mine])
            place = mine * problem.n + (image * problem.m * problem.n + j)
            if ends.residual is not None:
                one = one + BufferLoad(ends.residual.flat, [place])
            block.statements.append(BufferStore(ends.y.flat, one, [place]))
        return
    place = row + image * problem.m
    if ends.residual is not None:
        value = value + block.load_part(ends.residual.flat, place, 0, valid)
    if activation in INLINE:
        value = activate_vector(block, activation, value)
    block.store_part(ends.y.flat, value, place, valid)
    if activation not in INLINE:
        activate_stored(block, ends.y.flat, place, valid, activation)


def _panel(s: _Scene, block: Block, strip: _Strip, panel: Any) -> None:
    """All of one panel: panel counts those of its strip."""
    m, height = s.problem.m, strip.vectors * s.core.lanes
    if s.starts is None:
        first = block.bind("first", panel * s.problem.k, "int32")
        count: Any = i32(s.problem.k)
    else:
        index = panel + strip.index
        first = block.bind("first", BufferLoad(s.starts.flat, [index]), "int32")
        count = block.bind("count", BufferLoad(s.starts.flat, [index + 1]) - first, "int32")
    row = block.bind("row", panel * height + strip.first, "int32")
    for sides in _sides(s.problem, s.core.registers, strip.vectors):
        sums = _sweep(s, block, strip, sides, first, count)
        for p in range(strip.vectors):
            # only the last strip, which is one panel, is short
            valid = min(s.core.lanes, m - strip.first - p * s.core.lanes)
            for q, side in enumerate(sides):
                finish(s.ends, block, sums[p * len(sides) + q], row + p * s.core.lanes, valid, side)


def _main(s: _Scene, strips: Sequence[_Strip], symbol: str) -> Any:
    tasks = len(s.bounds) - 1
    share, body = Var("share", "int32"), Block(s.core.lanes, s.core.fma, s.core.maximum)
    # one small buffer each: one of a kilobyte, or of scope local, comes from the heap and never reaches a register
    body.statements += [AllocBuffer(acc) for acc in s.acc]
    for i, strip in enumerate(strips):
        panel, inner = Var("panel", "int32"), body.child()
        _panel(s, inner, strip, panel)
        if tasks == 1:
            body.loop(panel, 0, strip.panels, inner)
        elif i == 0:
            first = chosen(s.bounds[:-1], share)
            body.loop(panel, first, chosen(s.bounds[1:], share) - first, inner)
        else:  # the rest, which is one panel, goes to the last share
            body.loop(panel, 0, tirx.truncdiv(share + 1, i32(tasks)), inner)
    inputs = (s.x, s.weights, s.columns, s.starts)
    return s.ends.function(symbol, inputs, body.child(), share, tasks, body, late=s.problem.n > 1)


def chosen(values: Sequence[int], index: Any) -> Any:
    """values[index] for a few of them."""
    found: Any = i32(values[-1])
    for i in range(len(values) - 2, -1, -1):
        found = tirx.Select(tirx.EQ(index, i32(i)), i32(values[i]), found)
    return found


def _shares(
    problem: Problem, core: Core, strips: Sequence[_Strip], starts: NDArray[np.int32], nbytes: float
) -> tuple[int, ...]:
    """Bounds of shares of the first strip's panels with about the same number of weights; the rest is in the last."""
    panels = strips[0].panels
    work = np.diff(starts).astype(np.int64)
    if len(strips) > 1:
        work[panels - 1] += work[panels:].sum() * strips[1].vectors // strips[0].vectors
    return shares(work[:panels], 1, min(_threads(problem, core, nbytes), panels))


def _threads(problem: Problem, core: Core, nbytes: float) -> int:
    """1 where to wake other threads costs as much as to read so many bytes of weights."""
    return threads_for(problem, nbytes / core.rates.l2_bytes)


def _panels(problem: Problem, core: Core) -> list[int]:
    """Heights worth trying, in vectors: 8 sums hide the latency, less where there is not a panel for each thread."""
    vectors = -(-problem.m // core.lanes)
    wide = 8 if problem.batch * problem.n == 1 else 4
    most = max(1, min(wide, core.registers // 4, vectors // problem.threads))
    return sorted({p for p in (most, 4, 2, 1) if p <= most}, reverse=True)


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    if why := unsuited(problem, pointwise=True):
        return refuse(why)
    if not 0 < problem.batch * problem.n <= MAX_SIDES:
        return refuse(f"it computes 1 to {MAX_SIDES} columns, and this has {problem.batch * problem.n}")
    if weight.size > _MAX_ELEMENTS or problem.k < 1:
        return refuse(f"it addresses weights of 1 to {_MAX_ELEMENTS} elements, and this one has {weight.size}")
    configs = []
    for panel in _panels(problem, core):
        listed = _live_share(weight, panel * core.lanes) < 1.0
        configs += [{"panel": panel, "list": choice} for choice in ((1, 0) if listed else (0,))]
    return tuple(configs[:8]) or refuse(f"it needs {core.lanes} rows, and this weight has {problem.m}")


def _live_share(weight: FloatArray, height: int) -> float:
    """Share of the (panel, column) pairs that hold a non-zero."""
    starts = range(0, weight.shape[0], height)
    live = sum(int((weight[i : i + height] != 0).any(axis=0).sum()) for i in starts)
    return float(live / max(1, len(starts) * weight.shape[1]))


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """The larger of reading the weights once and of an FMA or a load of X for each vector of them and each side."""
    height = config["panel"] * core.lanes
    share = _live_share(weight, height) if config["list"] else 1.0
    elements = share * float(-(-problem.m // height) * height * problem.k)
    sides, rates = problem.batch * problem.n, core.rates
    near = 4 * elements <= core.l2_bytes / 2 and not cost.cold(problem, core)
    read = 4 * elements / (rates.l2_bytes if near else rates.far_bytes)
    loads = elements / core.lanes * (1 + sides / config["panel"]) / rates.loads
    work = cost.together(read, loads, elements / core.lanes * sides / rates.fmas)
    done = cost.finishing(problem.epilogue, sides * problem.m / (core.lanes if problem.n == 1 else 1))
    threads = _threads(problem, core, elements * (4 if problem.storage == "float32" else 2))
    regions = 2 * rates.call if threads > 1 else 0.0
    return float(rates.call + regions + (work + done) / threads) / rates.cycles_per_ms


@family("vector", kind="cpu", space=_space, estimate=_estimate, dense=lambda weight, config: not config["list"])
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """A matrix times one vector or a few: weights read once, whole vectors of rows, live columns only.

    config: panel, vectors of rows at once; list, 1 where dead columns are left out. constants: the weights, panel by
    panel, with list also the live columns and where those of each panel start (int32). Raises ValueError for a problem
    that is not a plain product.

    Example:
        >>> p = Problem("linear", 40, 8, 1, (1, 8), (1, 40))
        >>> code = emit(p, np.ones((40, 8), np.float32), Core("avx512", 16, 32), {"panel": 2, "list": 0}, "mv")
        >>> [c.shape for c in code.constants]
        [(384,)]
    """
    if not problem.pointwise or problem.op == "depthwise":
        raise ValueError(f"family vector cannot compute op {problem.op!r} with a window")
    packed, columns, starts, strips = _pack(weight, config["panel"], core.lanes, bool(config["list"]))
    values = stored(packed, problem.storage)
    listed, vector = bool(config["list"]), f"float32x{core.lanes}"
    scene = _Scene(
        ends=Ends.of(problem),
        core=core,
        bounds=_shares(problem, core, strips, starts, float(values.nbytes)),
        x=Array.make("X", problem.x_shape),
        weights=Array.make("W", values.shape, str(values.dtype)),
        columns=Array.make("columns", columns.shape, "int32") if listed else None,
        starts=Array.make("starts", starts.shape, "int32") if listed else None,
        acc=tuple(tirx.decl_buffer((1,), vector, name="acc") for _ in range(max(core.registers, _CHAINS))),
    )
    constants: tuple[NDArray[Any], ...] = (values, columns, starts) if listed else (values,)
    return Code(_main(scene, strips, symbol), constants, pipeline="straight")
