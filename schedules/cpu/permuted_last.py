"""An unstructured matrix of int8 times tokens x features or NHWC: the permuted family where rows lie in the lanes of Y.

Before:
    for n, m: for k with W[m, k] != 0:  Y[n, m] += W[m, k] * X[n, k]

After, with L rows as a slice, one in each lane, B of them as a block, and Q columns as a tile:
    for every block, for every tile (parallel over tiles):
        for every slice of the block:
            acc[q] = -x_zero sum_k W
            for every step of the slice:
                w, place = the next 4 L codes, and where in the window the bytes lie that they meet
                for q:  acc[q] += dot(permute(X[q][base .. base + window], place), w)       2 instructions
            T[q][slice] = codes of acc[q]                                                   requantize.py
        for q:  Y[q][rows of the block] = T[q] in the order of the rows
How bytes are gathered and multiplied on a core, and how wide windows are, gathering.py says.
X is read as it is, a convolution without im2col: a window lies in one run of k, see places.py, and the last one of a
run ends with it. Rows are sorted by their number of weights within a block, which fills the lanes; an output byte comes
back to its row by a permutation of each register of T, 64 rows at a time, or one by one. Results that are no codes, and
blocks of few rows, are in order and stored as they are. The weights are one stream of codes and places, asked for some
time ahead.

Registers: Q sums, the codes, their places, and what is permuted; as many times as vectors of rows share a window.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.cut import Cut, threads_for
from tesa.schedules.cpu.gathering import Gathering, gathering, gatherings
from tesa.schedules.cpu.nest import Builder
from tesa.schedules.cpu.operand import operand, tiling
from tesa.schedules.cpu.permuted_kernel import Kernel, Tiles
from tesa.schedules.cpu.permuted_order import LINE, blocks_of, going, order_of, returning, scattered, sorts
from tesa.schedules.cpu.places import Places, in_runs, places
from tesa.schedules.cpu.requantize import low_bytes, makes_codes
from tesa.schedules.cpu.rowlanes import groups
from tesa.schedules.cpu.windows import Steps, pack
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem

_SAMPLED = 4  # slices from which an estimate learns how many steps there are


def tiles_of(view: Places, most: int) -> tuple[Tiles, ...]:
    """The columns of an item in tiles as equal as can be, in each of which all offsets are known: neighbours in a row
    of columns, or some whole rows."""
    width, height = view.width, view.columns // view.width
    found = []
    if height > 1 and 2 * width <= most:
        for group in groups(height, most // width):
            offsets = tuple(y * view.step_y + x * view.step_x for y in range(group.size) for x in range(width))
            found.append(Tiles(group.first * width, 1, group.count, offsets))
        return tuple(found)
    for group in groups(width, most):
        offsets = tuple(x * view.step_x for x in range(group.size))
        found.append(Tiles(group.first, height, group.count, offsets))
    return tuple(found)


def view_of(problem: Problem, way: Gathering) -> Places:
    """The places of X: a copy where a run is shorter than a window, where columns would share sets of the cache, or
    where bytes have to be signed."""
    return places(problem, way.sums, least=way.window, spread=True)


def steps_of(
    problem: Problem, weight: FloatArray, view: Places, rows: NDArray[np.int32], way: Gathering, align: int
) -> Steps:
    """The steps of slices of these rows, with the bases in bytes from a column's place."""
    runs = view.rows * view.taps
    pitch = -(-view.run // LINE) * LINE + LINE  # a window ends before the next run begins
    wide = np.zeros((problem.m, runs, pitch), np.float32)
    wide[..., : view.run] = in_runs(weight, problem.window, runs)
    last = np.full(runs * pitch, np.iinfo(np.int32).max, np.int64)
    if not view.copied:
        last = np.repeat(np.arange(runs) * pitch + view.run - way.window, pitch)
    made = pack(wide.reshape(problem.m, -1), way.width, way.window, align, rows, last, way.limited)
    run, byte = np.divmod(made.bases, pitch)
    bases = run // view.taps * view.down + run % view.taps * view.across + byte
    return Steps(made.values, made.places, bases.astype(np.int32), made.starts, made.rows)


def streamed(steps: Steps) -> NDArray[np.int8]:
    """(steps, 2, 4 lanes): codes, and places, of each step."""
    count = len(steps.bases)
    both = [steps.values.reshape(count, -1), steps.places.reshape(count, -1).view(np.int8)]
    return np.ascontiguousarray(np.stack(both, axis=1))


def way_of(problem: Problem, core: Core, config: Config) -> Gathering:
    """The way to gather of a configuration. ValueError for a core that has none of it."""
    return gathering(core, config.get("window", 0), problem.m)


def emit_last(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
    """The kernel of a configuration: columns of a tile; align of the windows, and window, their bytes, where a core
    leaves a choice; sort, the rows that are sorted together.

    Raises ValueError where rows cannot be sorted so.
    """
    way, sort = way_of(problem, core, config), config["sort"]
    width, view = way.width, view_of(problem, way)
    if sort not in sorts(problem, bool(way.reorders)):
        raise ValueError(f"family permuted cannot sort {problem.m} rows of {problem.output.dtype} with {dict(config)}")
    rows = order_of(problem, weight, width, sort)
    steps = steps_of(problem, weight, view, rows, way, config["align"])
    made = Builder(problem, Cut(operand(problem, np.ones(problem.k, np.bool_)), tiling(problem.n, core.lanes, 1),
                                (0, problem.m)), maximum=core.maximum)  # fmt: skip
    if problem.m % core.lanes == 0 or problem.m >= width:
        made.rounds = core.rounds
    begun, zero = None, problem.x_zero - (128 if way.sums.signed else 0)
    if zero:
        sums = -zero * weight.astype(np.int64).sum(axis=1)
        begun = made.constant(np.where(rows >= 0, sums[rows], 0).astype(np.int32))

    def table(of: Callable[..., NDArray[np.uint8]]) -> int | None:
        return made.constant(of(problem, rows, width, sort).reshape(-1)) if sort else None

    kernel = Kernel(
        problem=problem,
        core=core,
        way=way,
        view=view,
        blocks=blocks_of(problem.m, width),
        kinds=tiles_of(view, config["columns"]),
        threads=_threads(problem, len(steps.bases)),
        sorted=sort,
        data=made.constant(streamed(steps).reshape(-1)),
        bases=made.constant(steps.bases),
        starts=made.constant(steps.starts),
        rows=made.constant(rows),
        begun=begun,
        order=made.optional(low_bytes(problem, core)),
        go=table(going) if problem.epilogue.residual and way.reorders else None,
        back=table(returning if way.reorders else scattered),
    )
    return made.code(symbol, kernel.write)


def _threads(problem: Problem, steps: float) -> int:
    return threads_for(problem, steps * problem.n * problem.batch)


def space_last(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """The three that the estimate likes best: tiles of some widths, windows of some, and rows in order or sorted among
    64 or among 256, which is worth the more the less alike they are."""
    found: list[Config] = []
    ways = gatherings(core, problem.m)
    for way in ways:
        view = view_of(problem, way)
        sizes: dict[tuple[Tiles, ...], int] = {}
        for most in way.sizes:
            sizes.setdefault(tiles_of(view, most), most)
        chosen: Config = {"align": 32} if way.reorders else {"align": 1, "window": way.window}
        found += [
            {"columns": q, **chosen, "sort": sort}
            for q in list(sizes.values())[:2]
            for sort in sorts(problem, bool(way.reorders))
        ]
    return sorted(found, key=lambda config: estimate_last(problem, weight, core, config))[:3]


def _sampled(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """Steps of all slices, from a sample of them."""
    way = way_of(problem, core, config)
    width, view = way.width, view_of(problem, way)
    rows = order_of(problem, weight, width, config["sort"]).reshape(-1, width)
    sample = np.unique(np.linspace(0, len(rows) - 1, _SAMPLED).astype(np.int64))
    chosen = rows[sample].reshape(-1)
    part, few = np.where(chosen[:, None] >= 0, weight[chosen], 0), replace(problem, m=len(chosen))
    steps = steps_of(few, part, view, np.arange(len(chosen), dtype=np.int32), way, config["align"])
    return len(steps.bases) * len(rows) / len(sample)


def estimate_last(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """A permutation and a dot product for each step and column, a copy of X where there is one, and the stores."""
    way, rates = way_of(problem, core, config), core.rates
    view, vectors = view_of(problem, way), way.units
    steps, sort = _sampled(problem, weight, core, config), config["sort"]
    slices, work, computed = -(-problem.m // way.width), 0.0, 0
    for kind in tiles_of(view, config["columns"]):
        columns, count = len(kind.offsets), kind.count * kind.lines
        ends = 30.0 + (3.5 + cost.on_the_way(problem)) * columns * vectors
        work += count * (steps * way.cycles(problem, columns) + slices * ends)
        computed += count * columns
    work *= view.items
    if sort and way.reorders:
        registers = min(sort, problem.m) / LINE
        turns = 1.0 + 0.7 * problem.epilogue.residual  # which comes in the order of the lanes
        work += view.items * computed * -(-problem.m // LINE) * (4.5 + 1.2 * registers) * turns
    elif sort:
        work += view.items * computed * problem.m * (1.0 + problem.epilogue.residual)
    else:
        known = makes_codes(problem)
        work += cost.finishing(problem.epilogue, 0.0 if known else view.items * computed * slices * vectors)
    copied = view.items * view.item / 16 * view.copied
    threads = _threads(problem, steps)
    cycles = rates.call + (work + copied) / threads + (threads > 1) * 6 * rates.call
    return float(cycles) / rates.cycles_per_ms
