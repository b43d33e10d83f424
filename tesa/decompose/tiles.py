"""Tiles where they pay, the rest one by one: what a GPU's matrix units are for, and what they are not.

A tile of a matrix unit takes the same time however many of its weights are zero, so the tiles with at least so many
non-zeros go through the unit and all other non-zeros are multiplied one by one (SparTA, Zheng et al., OSDI 2022,
section 4.2). Where the line is drawn is found by the static model of the kernel that does both in one launch, from
counts alone: how many tiles each row block keeps, and how many non-zeros each row.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tesa.decompose.policy import policy
from tesa.schedules.gpu.mixed import Load, Mixed
from tesa.schedules.pieces import Piece
from tesa.schedules.refusal import refuse, too_full, unsuited
from tesa.schedules.types import Config, Core, FloatArray, Gpu, Problem

_SIZES = ((16, 16), (16, 32), (32, 16), (32, 32), (64, 32))
_SHARES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.5)
"""Of a tile's elements, the non-zeros that might be the least of a tile for the unit."""

_OFFERED = 2


def _space(problem: Problem, weight: FloatArray, core: Core | Gpu) -> Sequence[Config]:
    """The sizes of tiles, and their least non-zeros, that are expected to be the best."""
    if not isinstance(core, Gpu):
        return refuse("it is for the matrix units of GPUs")
    mask = weight != 0
    total = int(mask.sum())
    if why := unsuited(problem, dtypes=("float32", "int8")) or too_full(total, mask.size, 0.95):
        return refuse(why)
    empty = Mixed(problem, weight, np.zeros_like(weight))
    if why := empty.refusal(core):
        return refuse(why)
    whole, ranked = np.inf, list[tuple[float, int, Config]]()
    for rows, depth in _SIZES:
        if rows >= 2 * problem.m and rows > 16:
            continue
        config = {"rows": rows, "columns": 64, "depth": depth, "sparse": 0}
        if empty.tiling(core, config).depth != depth or not empty.fits(core, empty.tiling(core, config)):
            continue
        for least, load in _loads(empty, core, config, mask):
            time = load.milliseconds(core)
            if least == 1:
                whole = min(whole, time)
            else:
                ranked.append((time, len(ranked), {"rows": rows, "depth": depth, "least": least}))
    better = sorted(one for one in ranked if one[0] < whole)[:_OFFERED]
    found = [config for _, _, config in better if len(_split(weight, config)) == 2]
    return found or refuse("no tiles of the weight are so much fuller than the rest that splitting it would pay")


def _loads(mixed: Mixed, gpu: Gpu, config: Config, mask: NDArray[np.bool_]) -> Iterator[tuple[int, Load]]:
    """The work that is left for each least number of non-zeros of a tile; 1: everything is a tile."""
    tiling = mixed.tiling(gpu, config)
    high, depth = tiling.rows, tiling.depth
    m, k = mask.shape
    padded = np.zeros((-(-m // high) * high, -(-k // depth) * depth), bool)
    padded[:m, :k] = mask
    of_rows = padded.reshape(len(padded), -1, depth).sum(axis=2)  # non-zeros of a row in each tile
    of_tiles = of_rows.reshape(-1, high, of_rows.shape[1]).sum(axis=1)
    for least in sorted({1} | {max(2, round(share * high * depth)) for share in _SHARES}):
        live = of_tiles >= least
        alone = np.where(np.repeat(live, high, axis=0), 0, of_rows).sum(axis=1)[:m]
        columns = depth * (1 - (1 - 1 / depth) ** np.where(live, 0, of_tiles))  # if they lie at random
        yield least, Load(tiling, live.sum(axis=1), alone, float(columns.sum()))


def _split(weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    rows, depth = config["rows"], config["depth"]
    m, k = weight.shape
    padded = np.zeros((-(-m // rows) * rows, -(-k // depth) * depth), bool)
    padded[:m, :k] = weight != 0
    counts = padded.reshape(-1, rows, padded.shape[1] // depth, depth).sum(axis=(1, 3))
    live = np.repeat(np.repeat(counts >= config["least"], rows, axis=0), depth, axis=1)[:m, :k]
    made = (
        Piece(np.where(live, weight, np.float32(0)), pattern=f"block {rows}x{depth}", block=(rows, depth)),
        Piece(np.where(live, np.float32(0), weight)),
    )
    return tuple(piece for piece in made if piece.nonzeros)


@policy("tiles", space=_space, kinds=("gpu",))
def tiles(problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    """Tiles that hold enough non-zeros for a matrix unit, the rest one by one.

    config: rows and depth of a tile; least: non-zeros that it has to hold.

    >>> w = np.zeros((32, 32), np.float32)
    >>> w[:16, :16], w[20, 20] = 1, 2
    >>> p = Problem("linear", 32, 32, 64, (32, 64), (32, 64))
    >>> [(piece.pattern, piece.nonzeros) for piece in tiles(p, w, {"rows": 16, "depth": 16, "least": 2})]
    [('block 16x16', 256), ('unstructured', 1)]
    """
    del problem
    found = _split(weight, config)
    return found if len(found) > 1 else ()
