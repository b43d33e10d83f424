"""The expected time of the fused kernel, and the configurations of it that are worth trying; see fused.py."""

import numpy as np

from tesa.schedules.cpu import cost
from tesa.schedules.cpu.fused import Layout, Side, cut_of, set_sizes, sides_of
from tesa.schedules.cpu.rowpanels import entries
from tesa.schedules.types import Config, Core, Problem

_ROWS = (2, 4, 6, 8, 12, 16, 24)


def space(problem: Problem, layout: Layout, core: Core, most: int = 8) -> list[Config]:
    """The configurations that the estimate likes best; none for operators and types that the kernel does not know."""
    if problem.op not in ("linear", "conv2d") or (problem.dtype != "float32" and not problem.pointwise):
        return []
    sides = sides_of(problem, layout, core)
    ranked: dict[tuple[int, int, int], tuple[float, Config]] = {}
    for vectors in range(1, 9):
        for rows in (r for r in _ROWS if r * vectors + vectors + 1 <= core.registers):
            if not core.holds(rows * vectors, rows + vectors):
                continue
            rows = min(rows, problem.m)
            counts = _counts(problem, sides, layout, rows)
            for pack in (0, 1) if problem.dtype == "float32" else (1,):
                config = {"rows": rows, "vectors": vectors, "pack": pack}
                time, tiles = _cost(problem, core, sides, layout, config, counts)
                ranked.setdefault((rows, tiles, pack), (time, config))
    return [config for _, config in sorted(ranked.values(), key=lambda item: item[0])[:most]]


def estimate(problem: Problem, layout: Layout, core: Core, config: Config) -> float:
    """Expected milliseconds on a nominal core, see tesa.schedules.cpu.cost."""
    sides = sides_of(problem, layout, core)
    counts = _counts(problem, sides, layout, min(config["rows"], problem.m))
    return _cost(problem, core, sides, layout, config, counts)[0]


def _counts(problem: Problem, sides: tuple[Side, Side], layout: Layout, rows: int) -> tuple[int, int]:
    """Columns that panels of so many rows compute, and their sets of scattered elements."""
    key = (problem.dtype, rows)
    if key not in layout.counted:
        left, right = sides
        computed = entries(left.weight[layout.order], rows, dense=False)
        layout.counted[key] = (computed, int(set_sizes(right, layout.order, rows).sum()))
    return layout.counted[key]


def _cost(
    problem: Problem, core: Core, sides: tuple[Side, Side], layout: Layout, config: Config, counts: tuple[int, int]
) -> tuple[float, int]:
    """(milliseconds, vectors of a tile): entries and sets, each the slowest of FMAs, loads and bytes of X."""
    left, right = sides
    rows, (computed, sets), rates = min(config["rows"], problem.m), counts, core.rates
    made = cut_of(problem, core, left, right, layout.order, rows, config["vectors"])
    v, lane_bytes, width = made.tiling.vectors, made.tiling.lanes * 4, made.tiling.width
    live = int(np.count_nonzero(left.live))
    read = cost.reads(problem, core, made, bool(config["pack"]))
    stream = rows * 4 / rates.far_bytes if computed * rows * 4 > core.l2_bytes / 2 else 0.0
    far = read.cycles(live * width * 4, v * lane_bytes)
    split = 1.0 if config["pack"] else read.split
    step = cost.together(
        max(rows * v / rates.fmas, (rows + v * split) / rates.loads, rates.fma_latency * 1.1), far, stream
    )
    others = int(np.count_nonzero(right.live))
    # bytes of an element; cycles to convert and add
    size, work = (1, 1.0) if problem.dtype == "mixed" else (4, 1 / rates.fmas)
    far = rows * read.cycles(others * width * size, v * made.tiling.lanes * size)
    scattered = cost.together(max(rows * v * work, rows * (v * split + 2) / rates.loads, rates.fma_latency * 1.1), far)
    panels = -(-problem.m // rows)
    tile = computed * step + sets * scattered + panels * (10.0 + (rates.misprediction if sets else 0.0))
    tile += cost.finishing(problem.epilogue, panels * rows * v)
    if config["pack"]:
        loose = cost.reads(problem, core, made, False)
        tile += cost.packing(made, loose, live) + (
            cost.packing(made, loose, others) if problem.dtype == "mixed" else 0.0
        )
    return cost.total_ms(problem, core, made, tile), v
