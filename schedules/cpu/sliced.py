"""An unstructured matrix times one vector, or a few: sliced ELLPACK whose slices walk over X with a sliding window.

Before:
    for m: for k with W[m, k] != 0:  Y[m] += W[m, k] * X[k]          (a gather of X for each weight)

After, with L rows, one in each lane, as a slice, and a window of 2 L (or 4 L) neighbouring elements of X:
    for every slice (parallel over shares of about equal work):
        acc[q] = 0
        for every step of the slice:
            x[q] = X[base .. base + 2 L, q]               2 registers, base is the step's own
            acc[q] += w * permute(x[q], place)            each lane takes the element its next weight meets
        store epilogue(acc)
In a step every lane takes its row's next weight, if that lies in the window, which begins at the first column that any
lane still needs. Lanes may run ahead by the width of the window: with 30 % of the weights left, 89 % of the lanes of
all steps have work, with 10 % left 70 %, or 81 % in the wide window; a slice padded to its longest row and gathered
from memory would fill as many, but a gather of 16 takes 20 cycles where the permutation takes 1 or 2. A weight costs 5
bytes, its value and its place in the window: less than in compressed rows. Rows of unlike lengths are sorted by it.

The format is sliced ELLPACK (Monakov, Lokhmotov and Avetisyan 2010) with rows sorted as in SELL-C-sigma (Kreutzer and
others 2014); the sliding window is tesa's own.

Registers: 4 sums for one side, 2 for each of two or three, one for each of more; for each step of a share w and its
places; the window of the side at hand and what is permuted out of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx import AllocBuffer, BufferLoad, BufferStore, IntImm, Var

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.cut import shares, threads_for
from tesa.schedules.cpu.nest import MAX_ELEMENTS
from tesa.schedules.cpu.operand import LINE
from tesa.schedules.cpu.slices import longest, order_of, pack
from tesa.schedules.cpu.straight import Array, Block, Ends, i32
from tesa.schedules.cpu.vector import chosen, finish, stored, widened
from tesa.schedules.refusal import refuse, too_full, unsuited
from tesa.schedules.registry import family
from tesa.schedules.types import Code, Config, Core, FloatArray, Permute, Problem

MAX_SIDES = 16
"""Right-hand sides (batch * n) up to which this family competes: each needs its own permutations, and a register."""

_EASY = 8  # sides whose sums fit into any core's registers

_DENSEST = 0.75
"""Share of non-zeros above which 5 bytes for each of them are more than 4 for every element."""

_CHAINS = {1: 4, 2: 2, 3: 2}  # sums by the number of sides, so that a step need not wait for the one before it

AHEAD = 160
"""Steps from a weight that is read to the one that is asked for: some 10 KB. Without it several sides wait for
memory (4096 x 4096 at 70 %, four columns: 1.33 ms instead of 0.59)."""

_SAMPLED = (3, 4096)  # slices and columns from which an estimate learns how many lanes are at work


@dataclass(frozen=True)
class _Scene:
    """The arrays and figures that all parts of one kernel share.

    across: X with k innermost, a copy where there is more than one column; stride: elements from one of its rows to the
    next.
    """

    ends: Ends
    core: Core
    permute: Permute
    window: int
    x: Array
    across: Any
    stride: int
    values: Array
    places: Array
    bases: Array
    starts: Array
    rows: Array | None
    acc: tuple[Any, ...]

    @property
    def problem(self) -> Problem:
        return self.ends.problem


def _permuted(s: _Scene, block: Block, window: Sequence[Any], place: Any, control: Any) -> Any:
    """A vector of the elements at each lane's place among the registers of the window laid end to end.

    control: the places as the instruction wants them.
    """
    lanes, name = block.lanes, s.permute.intrinsic(len(window))
    if name is not None:
        at = len(window) if s.permute.place is None else s.permute.place
        arguments = [*window[:at], control, *window[at:]]
        if not s.permute.in_bytes:
            return tirx.call_llvm_pure_intrin(block.vector, name, *arguments)
        kind = f"int8x{4 * lanes}"
        found = tirx.call_llvm_pure_intrin(kind, name, *(tirx.reinterpret(kind, value) for value in arguments))
        return tirx.reinterpret(block.vector, found)
    half = len(window) // 2
    parts = (window[:half], window[half:])
    if s.permute.zeros:
        return _united(s, block, parts, place, control)
    low, high = (block.bind("g", _permuted(s, block, part, place, control)) for part in parts)
    # the permutations look at the lowest bits of the place only; where they should not, the other half is taken
    upper = tirx.bitwise_and(place, tirx.Broadcast(i32(2 * half * lanes - 1), lanes)) if len(window) == 2 else place
    above = tirx.GE(upper, tirx.Broadcast(i32(half * lanes), lanes))
    return tirx.Select(above, high, low)


def _united(s: _Scene, block: Block, parts: Sequence[Sequence[Any]], place: Any, control: Any) -> Any:
    """The same from two halves of the window: in each lane one of them is 0, for its place lies beyond it."""
    kind, low, high = f"int32x{block.lanes}", *parts
    size = len(low) * block.lanes
    # in each byte: less than 0 is far beyond, too
    beyond = block.bind("beyond", _less(s, block, control, size), kind)
    found = [_permuted(s, block, low, place, control), _permuted(s, block, high, place, beyond)]
    either = tirx.bitwise_or(*(tirx.reinterpret(kind, block.bind("g", half)) for half in found))
    return tirx.reinterpret(block.vector, either)


def _less(s: _Scene, block: Block, control: Any, size: int) -> Any:
    """The places as the permutation wants them, `size` elements less."""
    if not s.permute.in_bytes:
        return control - tirx.Broadcast(i32(size), block.lanes)
    bytes_of = f"int8x{4 * block.lanes}"
    less = tirx.reinterpret(bytes_of, control) - tirx.Broadcast(IntImm("int8", 4 * size), 4 * block.lanes)
    return tirx.reinterpret(f"int32x{block.lanes}", less)


def _control(s: _Scene, block: Block, place: Any) -> Any:
    """The places of elements as the permutation wants them: of bytes 4 for each, side by side in the lane."""
    if not s.permute.in_bytes:
        return place
    lanes = block.lanes
    first = place * tirx.Broadcast(i32(0x04040404), lanes)
    return block.bind("control", first + tirx.Broadcast(i32(0x03020100), lanes), f"int32x{lanes}")


def _group(s: _Scene, block: Block, group: Any, share: int, sums: list[list[Any]], chain: int) -> None:
    """The steps of one window position, for all sides; sums[side][chain] are the names of the sums so far."""
    lanes, problem = s.core.lanes, s.problem
    base = block.bind("base", BufferLoad(s.bases.flat, [group]), "int32")
    ws, places, controls = [], [], []
    for u in range(share):
        at = (group * share + u) * lanes
        for array, elements in ((s.values.flat, 64 // (4 if problem.storage == "float32" else 2)), (s.places.flat, 64)):
            if u * lanes % elements == 0:
                block.prefetch(array, at + AHEAD * lanes)
        place = tirx.Cast(f"int32x{lanes}", block.load(s.places.flat, at))
        places.append(block.bind("place", place, f"int32x{lanes}"))
        controls.append(_control(s, block, places[-1]))
        ws.append(block.bind("w", widened(problem, block, block.load(s.values.flat, at))))
    for side, row in enumerate(sums):
        start = base + side * s.stride
        window = [block.bind("x", block.load(s.across, start + i * lanes)) for i in range(s.window)]
        for u in range(share):
            x = block.bind("p", _permuted(s, block, window, places[u], controls[u]))
            c = (chain + u) % len(row)
            row[c] = block.bind("a", block.fma(ws[u], x, row[c]))


def _slice(s: _Scene, block: Block, number: Any, share: int, unroll: int) -> None:
    """All of one slice."""
    sides = s.problem.batch * s.problem.n
    chains = len(s.acc) // sides
    first = block.bind("first", BufferLoad(s.starts.flat, [number]), "int32")
    count = block.bind("count", BufferLoad(s.starts.flat, [number + 1]) - first, "int32")
    for acc in s.acc:
        block.statements.append(BufferStore(acc, block.zero, [i32(0)]))
    many, inner = Var("many", "int32"), block.child()
    sums = [[BufferLoad(s.acc[side * chains + c], [i32(0)]) for c in range(chains)] for side in range(sides)]
    groups = unroll // share
    start = tirx.truncdiv(first, i32(share)) + many * groups
    for group in range(groups):
        _group(s, inner, start + group, share, sums, group * share)
    for side in range(sides):
        for c in range(chains):
            inner.statements.append(BufferStore(s.acc[side * chains + c], sums[side][c], [i32(0)]))
    block.loop(many, 0, tirx.truncdiv(count, i32(unroll)), inner)
    for side in range(sides):
        total: Any = BufferLoad(s.acc[side * chains], [i32(0)])
        for c in range(1, chains):
            total = total + BufferLoad(s.acc[side * chains + c], [i32(0)])
        _store(s, block, block.bind("sum", total), number, side)


def _store(s: _Scene, block: Block, value: Any, number: Any, side: int) -> None:
    """The rows of a slice; those of the last one, which may be short, one by one."""
    problem, lanes = s.problem, s.core.lanes
    place = divmod(side, problem.n)
    short = problem.m % lanes
    rows = None
    if s.rows is not None:
        rows = [BufferLoad(s.rows.flat, [number * lanes + lane]) for lane in range(lanes)]
    if not short:
        finish(s.ends, block, value, number * lanes, lanes, place, rows)
        return
    last = problem.m // lanes
    for low, high, valid in ((0, last, lanes), (last, last + 1, short)):
        inner, once = block.child(), Var("once", "int32")
        finish(s.ends, inner, value, number * lanes, valid, place, rows)
        inside = tirx.And(tirx.GE(number, i32(low)), tirx.LT(number, i32(high)))
        # a loop of one turn or none: the builder knows no other branch
        block.loop(once, 0, tirx.Cast("int32", inside), inner)


def _turned(s: _Scene, block: Block) -> None:
    """X as (batch, n, k): a window of it is then contiguous."""
    problem = s.problem
    k, inner = Var("c", "int32"), block.child()
    for side in range(problem.batch * problem.n):
        image, j = divmod(side, problem.n)
        value = BufferLoad(s.x.flat, [k * problem.n + (image * problem.k * problem.n + j)])
        inner.statements.append(BufferStore(s.across, value, [k + side * s.stride]))
    block.loop(k, 0, problem.k, inner)


def _main(s: _Scene, bounds: Sequence[int], share: int, unroll: int, symbol: str) -> Any:
    tasks, body = len(bounds) - 1, Block(s.core.lanes, s.core.fma)
    body.statements += [AllocBuffer(acc) for acc in s.acc]
    number, inner = Var("slice", "int32"), body.child()
    _slice(s, inner, number, share, unroll)
    task = Var("task", "int32")
    low, high = chosen(bounds[:-1], task), chosen(bounds[1:], task)
    body.loop(number, low, high - low if tasks > 1 else bounds[1], inner)
    before = body.child()
    if s.across is not s.x.flat:
        before.statements.append(AllocBuffer(s.across))
        _turned(s, before)
    inputs = (s.x, s.values, s.places, s.bases, s.starts, s.rows)
    by_lane = s.rows is not None or s.problem.n > 1
    return s.ends.function(symbol, inputs, before, task, tasks, body, by_lane)


def _space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    if why := unsuited(problem, pointwise=True):
        return refuse(why)
    if not _permutes(core):
        return refuse("it needs a CPU that permutes the numbers of two registers, as AVX-512 does")
    most = MAX_SIDES if core.registers >= 2 * MAX_SIDES else _EASY
    if not 0 < problem.batch * problem.n <= most:
        return refuse(f"it computes 1 to {most} columns, and this has {problem.batch * problem.n}")
    if problem.m < 1 or weight.size > MAX_ELEMENTS:
        return refuse(f"it addresses weights of 1 to {MAX_ELEMENTS} elements, and this one has {weight.size}")
    if why := too_full(int(np.count_nonzero(weight)), weight.size, _DENSEST):
        return refuse(why)
    windows = [w for w in (2, 4) if w * core.lanes <= problem.k]
    if not windows:
        return refuse(f"it needs {2 * core.lanes} columns of the weight, and this one has {problem.k}")
    sparse = np.count_nonzero(weight) < 0.2 * weight.size
    wide_first = sparse or problem.batch * problem.n == 1
    return tuple(
        {"window": window, "share": share}
        for share in (4, 2)
        for window in (reversed(windows) if wide_first else windows)
    )


def _permutes(core: Core) -> bool:
    """True where a window can be put together from registers that the core permutes."""
    return core.permute is not None and any(core.permute.intrinsic(registers) for registers in (1, 2))


def _steps(weight: FloatArray, lanes: int, config: Config) -> float:
    """Steps of all slices, from a sample: a few slices, and of these some columns."""
    counts = np.count_nonzero(weight, axis=1)
    total = int(counts.sum())
    if not total:
        return 0.0
    rows, slices, k = order_of(counts, lanes)[0], -(-len(counts) // lanes), weight.shape[1]
    sample = np.unique(np.linspace(0, slices - 1, _SAMPLED[0]).astype(np.int64))
    middle = int(np.searchsorted(np.cumsum(np.count_nonzero(weight, axis=0)), total / 2))
    first = min(max(middle - _SAMPLED[1] // 2, 0), max(k - _SAMPLED[1], 0))
    least, packed, share = 0, 0.0, config["share"]
    for number in sample:
        part = weight[rows[number * lanes : (number + 1) * lanes], first : first + _SAMPLED[1]]
        least += int(np.count_nonzero(part, axis=1).max())  # no slice ends before its longest row
        packed += len(pack(part, lanes, config["window"] * lanes, share, share).values)
    return longest(counts[rows], lanes) * packed / max(least, 1)


def _threads(problem: Problem, steps: float) -> int:
    """1 where to wake other threads costs as much as the work."""
    return threads_for(problem, steps * (2 + 2 * problem.batch * problem.n))


def _estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """The larger of reading 5 bytes a weight and of the loads and permutations of each step."""
    steps = _steps(weight, core.lanes, config)
    sides, rates = problem.batch * problem.n, core.rates
    bytes_ = steps * core.lanes * (5 if problem.storage == "float32" else 3)
    near = bytes_ <= core.l2_bytes / 2 and not cost.cold(problem, core)
    read = bytes_ / (rates.l2_bytes if near else rates.far_bytes)
    window, share = config["window"], config["share"]
    # behind eight sides few registers are left to look ahead with
    weighed = min(sides, _EASY) + 5 * max(sides - _EASY, 0)
    work = steps * (1.4 + 1.0 / share + weighed * window * (0.15 + 0.4 / share))
    done = cost.finishing(problem.epilogue, sides * problem.m / (core.lanes if problem.n == 1 else 1))
    turned = sides * problem.k if problem.n > 1 else 0.0
    threads = _threads(problem, steps)
    regions = 2 * rates.call if threads > 1 else 0.0
    total = rates.call + regions + turned + (cost.together(read, work) + done) / threads
    return float(total) / rates.cycles_per_ms


@family("sliced", kind="cpu", space=_space, estimate=_estimate)
def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """An unstructured matrix times one vector or a few: a row in each lane, X from a sliding window in registers.

    config: window, registers of X that a step chooses from, 2 or 4; share, steps from one position of the window to
    the next, 1, 2 or 4. constants: the weights (steps * lanes), their
    places in the window (uint8), where each step's window begins and where the steps of each slice begin (int32), and
    where rows are sorted, the row of each lane. Raises ValueError for a problem that is not a plain product.

    Example:
        >>> p = Problem("linear", 16, 64, 1, (1, 64), (1, 16))
        >>> core = Core("a core", 16, 32, permute=Permute(((2, "llvm.x86.avx512.vpermi2var.ps.512"),)))
        >>> code = emit(p, np.eye(16, 64, dtype=np.float32), core, {"window": 2, "share": 1}, "mv")
        >>> [c.shape for c in code.constants]
        [(64,), (64,), (4,), (2,)]
    """
    if not problem.pointwise or problem.op == "depthwise":
        raise ValueError(f"family sliced cannot compute op {problem.op!r} with a window")
    reach = config["window"] * core.lanes
    if config["window"] not in (2, 4) or config["share"] not in (1, 2, 4) or reach > problem.k:
        raise ValueError(f"family sliced cannot compute k = {problem.k} with {dict(config)} and {core.lanes} lanes")
    if problem.dtype != "float32" or core.permute is None or not _permutes(core):
        raise ValueError(f"family sliced cannot compute {problem.dtype} on core {core.name}: it permutes no registers")
    lanes, sides = core.lanes, problem.batch * problem.n
    chains = _CHAINS.get(sides, 1)
    unroll = 4 if sides == 1 else 2
    share = config["share"]
    unroll = max(unroll, share)
    packed = pack(weight, lanes, config["window"] * lanes, share, unroll)
    if packed.values.size + AHEAD * lanes > MAX_ELEMENTS:
        raise ValueError(f"{symbol}: an array of more than {MAX_ELEMENTS} elements; indices are 32-bit integers")
    values = stored(packed.values.reshape(-1), problem.storage)
    work = np.diff(packed.starts).astype(np.int64)
    bounds = shares(work, 1, min(_threads(problem, float(work.sum())), len(work)))
    constants: list[NDArray[Any]] = [values, packed.places.reshape(-1), packed.bases, packed.starts]
    names = ["W", "places", "bases", "starts"]
    if packed.sorted:
        constants.append(np.maximum(packed.rows.reshape(-1), 0))
        names.append("rows")
    arrays = [Array.make(name, c.shape, str(c.dtype)) for name, c in zip(names, constants, strict=True)]
    x = Array.make("X", problem.x_shape)
    # an odd number of lines: the sides fall into different sets of the cache
    stride = (-(-problem.k // LINE) | 1) * LINE
    vector = f"float32x{lanes}"
    scene = _Scene(
        ends=Ends.of(problem),
        core=core,
        permute=core.permute,
        window=config["window"],
        x=x,
        across=x.flat if problem.n == 1 else tirx.decl_buffer((sides * stride,), "float32", name="across"),
        stride=problem.k if problem.n == 1 else stride,
        values=arrays[0],
        places=arrays[1],
        bases=arrays[2],
        starts=arrays[3],
        rows=arrays[4] if packed.sorted else None,
        acc=tuple(tirx.decl_buffer((1,), vector, name="acc") for _ in range(chains * sides)),
    )
    return Code(_main(scene, bounds, share, unroll, symbol), tuple(constants), pipeline="straight")
