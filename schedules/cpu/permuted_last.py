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
from tesa.schedules.cpu.permuted_shared import Shared, shared_cycles, shares
from tesa.schedules.cpu.permuted_steps import shared_steps, steps_of
from tesa.schedules.cpu.places import Places, places
from tesa.schedules.cpu.requantize import low_bytes, makes_codes
from tesa.schedules.cpu.rowlanes import groups
from tesa.schedules.cpu.windows import Steps
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
    leaves a choice; sort, the rows that are sorted together; shared, 1 where the rows of a slice share their columns.

    Raises ValueError where rows cannot be sorted so, or where a core cannot share.
    """
    way, sort = way_of(problem, core, config), config["sort"]
    width, view = way.width, view_of(problem, way)
    if sort not in sorts(problem, bool(way.reorders)):
        raise ValueError(f"family permuted cannot sort {problem.m} rows of {problem.output.dtype} with {dict(config)}")
    if config.get("shared") and not way.reorders:
        raise ValueError(f"family permuted cannot compute with {dict(config)} on core {core.name}")
    rows = order_of(problem, weight, width, sort)
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

    own, shared, count = None, None, 0
    if config.get("shared"):
        together = shared_steps(problem, weight, view, rows, way, config["align"])
        shared, count = Shared.of(made, way, together), len(together.codes)
    else:
        steps = steps_of(problem, weight, view, rows, way, config["align"])
        count = len(steps.bases)
        own = made.constant(streamed(steps).reshape(-1)), made.constant(steps.bases), made.constant(steps.starts)
    kernel = Kernel(
        problem=problem,
        core=core,
        way=way,
        view=view,
        blocks=blocks_of(problem.m, width),
        kinds=tiles_of(view, config["columns"]),
        threads=_threads(problem, count),
        sorted=sort,
        own=own,
        shared=shared,
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
    64 or among 256, which is worth the more the less alike they are. Where rows share their columns, two of those, and
    what that allows."""
    found, together = list[Config](), list[Config]()
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
        if shares(way, weight):
            together = [{"columns": q, **chosen, "sort": 0, "shared": 1} for q in list(sizes.values())[:2]]

    def expected(config: Config) -> float:
        return estimate_last(problem, weight, core, config)

    ranked = sorted(found, key=expected)[:3]
    return sorted([*ranked[:2], *together], key=expected) if together else ranked


def _sampled(problem: Problem, weight: FloatArray, core: Core, config: Config) -> tuple[float, float]:
    """Steps of all slices, and windows that they share, from a sample of them."""
    way = way_of(problem, core, config)
    width, view = way.width, view_of(problem, way)
    rows = order_of(problem, weight, width, config["sort"]).reshape(-1, width)
    sample = np.unique(np.linspace(0, len(rows) - 1, _SAMPLED).astype(np.int64))
    chosen = rows[sample].reshape(-1)
    part, few = np.where(chosen[:, None] >= 0, weight[chosen], 0), replace(problem, m=len(chosen))
    every, times = np.arange(len(chosen), dtype=np.int32), len(rows) / len(sample)
    if config.get("shared"):
        together = shared_steps(few, part, view, every, way, config["align"])
        return len(together.codes) * times, len(together.bases) * times
    return len(steps_of(few, part, view, every, way, config["align"]).bases) * times, 0.0


def estimate_last(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
    """A permutation and a dot product for each step and column, a copy of X where there is one, and the stores."""
    way, rates = way_of(problem, core, config), core.rates
    view, vectors = view_of(problem, way), way.units
    (steps, windows), sort = _sampled(problem, weight, core, config), config["sort"]
    slices, work, computed = -(-problem.m // way.width), 0.0, 0
    for kind in tiles_of(view, config["columns"]):
        columns, count = len(kind.offsets), kind.count * kind.lines
        ends = 30.0 + (3.5 + cost.on_the_way(problem)) * columns * vectors
        each = steps * way.cycles(problem, columns)
        if config.get("shared"):
            each = shared_cycles(problem, way, columns, steps, windows)
        work += count * (each + slices * ends)
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
