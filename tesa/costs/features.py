"""Numbers that say where a kernel stands among the measured ones: logarithms of sizes, of zeros, of its configuration.

What a family's own estimate knows is not repeated: a table learns how far the estimate is off, and that varies with
what caches, the ragged ends of tiles and the lengths of inner loops do, which these numbers describe.
"""

from collections.abc import Sequence
from math import log2

import numpy as np

from tesa.costs.facts import SHAPES, Facts
from tesa.schedules.types import Config, Core, Problem

_HEAVY = {None: 0.0, "relu": 0.1, "relu6": 0.2, "hardswish": 0.4}  # the others are polynomials of some twenty steps
_LEAST = 1e-6
_MASKS = 16  # sets of live taps that depthwise kernels tell apart


_DERIVED = (
    ("tile bytes", ("vectors",)),
    ("ragged tiles", ("vectors",)),
    ("tiles", ("vectors",)),
    ("ragged rows", ("rows",)),
    ("inner length", ("rows",)),
    ("inner loops per time", ("rows", "vectors")),
    ("accumulators", ("rows", "vectors")),
    ("blocks of k", ("kblock", "vectors")),
    ("packing per use", ("pack", "vectors")),
    ("taps", ("every",)),
    ("rows in lanes", ("share",)),
    ("weight bytes", ("share",)),
)


def numbers(
    problem: Problem, facts: Facts, core: Core, config: Config, estimate_ms: float, keys: Sequence[str]
) -> dict[str, float]:
    """The numbers of one kernel by name. keys: those of its family's configurations, sorted; what config lacks is 0.

    Kernels of one family have the same names in the same order, in which a cost table keeps what it learnt of them.

    >>> problem = Problem("linear", 8, 16, 32, (1, 16, 32), (1, 8, 32))
    >>> numbers(problem, Facts.of(np.ones((8, 16), np.float32)), Core("avx2", 8, 16), {"rows": 4}, 0.1, ["rows"])["m"]
    3.0
    """
    estimate_ms = max(estimate_ms, 1e-9)
    derived = _derived(problem, facts, core, config, estimate_ms)
    return {
        **_layer(problem, core, estimate_ms),
        **_weight(problem, facts),
        **{f"config {key}": log2(1 + abs(config.get(key, 0))) for key in keys},
        **{name: derived[name] for name, needed in _DERIVED if all(key in keys for key in needed)},
    }


def _layer(problem: Problem, core: Core, estimate_ms: float) -> dict[str, float]:
    """Sizes of a layer, and what has to be read and stored in a unit of its expected time: memory may be the bound."""
    window = problem.window
    size = 4 if problem.x_dtype == "float32" else 1
    x, y = (float(np.prod(shape)) for shape in (problem.x_shape, problem.y_shape))
    return {
        "m": log2(max(problem.m, 1)),
        "k": log2(max(problem.k, 1)),
        "n": log2(max(problem.n, 1)),
        "batch": log2(max(problem.batch, 1)),
        "x bytes": log2(max(x * size, 1)),
        "y bytes": log2(max(y * 4, 1)),
        "ragged n": _ragged(problem.n, core.lanes),
        "window": 0.0 if window is None else log2(window.kernel[0] * window.kernel[1]),
        "stride": 0.0 if window is None else log2(window.stride[0] * window.stride[1]),
        "width": 0.0 if window is None else log2(max(window.out_width, 1)),
        "ragged width": 0.0 if window is None else _ragged(window.out_width, core.lanes),
        "staged": 0.0 if problem.pointwise else 1.0,
        "integer": 1.0 if problem.dtype == "int8" else 0.0,
        "activation": _HEAVY.get(problem.epilogue.activation, 1.0),
        "residual": float(problem.epilogue.residual),
        "estimate": log2(estimate_ms),
        "x per time": log2(max(x, 1) / estimate_ms),
        "y per time": log2(max(y, 1) / estimate_ms),
    }


def _weight(problem: Problem, facts: Facts) -> dict[str, float]:
    shares = {"density": facts.density, "rows": facts.rows, "columns": facts.columns}
    # a block's live share against that of its elements: 1 for whole blocks, its size for scattered elements
    elements = max(facts.density, _LEAST)
    blocks = {f"live {r}x{c}": max(live, _LEAST) / elements for (r, c), live in zip(SHAPES, facts.live, strict=True)}
    return {
        **{name: log2(max(share, _LEAST)) for name, share in shares.items()},
        "spread": facts.spread,
        "longest": log2(max(facts.longest, 1)),
        **{name: log2(ratio) for name, ratio in blocks.items()},
        "masks": log2(1 + facts.masks),
        "non-zeros": log2(max(problem.m * problem.k * facts.density, 1)),
    }


def _derived(problem: Problem, facts: Facts, core: Core, config: Config, estimate_ms: float) -> dict[str, float]:
    window = problem.window if problem.op == "depthwise" else None  # of which rows are those of the image
    union = bool(config.get("every", 0)) or facts.masks > _MASKS
    live = max(problem.k * facts.columns, 1.0)
    total = -(-problem.n // core.lanes)
    vectors = max(config.get("vectors", 1), 1)
    tiles = -(-total // vectors)
    real = -(-total // tiles)  # tiles are made as equal as possible
    rows = max(min(config.get("rows", 1), problem.m), 1)
    block = config.get("kblock", 0) or config.get("depth", 0) or live
    blocks = max(live / block, 1)
    # what a loop over k meets: the non-zeros of a row in a block where rows have lists, the live columns of a panel
    inner = problem.k * (facts.density / blocks if "kblock" in config else _live_columns(facts, rows))
    sets = problem.batch * tiles * blocks * problem.m / rows
    return {
        "tile bytes": log2(min(block, live) * real * core.lanes * 4),
        "ragged tiles": _ragged(problem.n, real * core.lanes),
        "tiles": log2(tiles),
        "ragged rows": _ragged(problem.m if window is None else window.out_height, rows),
        "accumulators": log2(rows * real),
        "inner length": log2(max(inner, 0.25)),
        "inner loops per time": log2(max(sets, 1) / estimate_ms),
        "blocks of k": log2(blocks),
        "packing per use": config.get("pack", 0) * log2(max(problem.m * facts.density, 1)),
        "taps": log2(max(problem.k * (1.0 if union else facts.density), 1e-2)),
        "rows in lanes": _ragged(problem.m, core.lanes),
        # beyond the cache, 0 where it fits
        "weight bytes": max(log2(max(5.0 * problem.m * problem.k * facts.density, 1) / core.l2_bytes), 0.0),
    }


def _live_columns(facts: Facts, rows: int) -> float:
    """The share of the columns of a panel of so many rows that hold a non-zero, between those that were counted."""
    known = [(1, facts.density), *((r, share) for (r, c), share in zip(SHAPES, facts.live, strict=True) if c == 1)]
    sizes, shares = [log2(r) for r, _ in known], [log2(max(share, _LEAST)) for _, share in known]
    return float(2 ** np.interp(log2(rows), sizes, shares))


def _ragged(length: int, step: int) -> float:
    """The logarithm of the surplus that is computed when a length goes in whole steps."""
    return log2(-(-length // step) * step / length) if length else 0.0
