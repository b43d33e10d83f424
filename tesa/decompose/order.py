"""Rows in another order: those with similar supports side by side, so that a panel of them has few live columns.

The order costs nothing when the kernel runs: it stores each row where it belongs. Rows whose supports are exactly the
same are the policy "groups", rows that only resemble each other the policy "order".
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tesa.decompose.policy import policy
from tesa.schedules.pieces import Piece
from tesa.schedules.refusal import refuse, too_full, unsuited
from tesa.schedules.types import Config, Core, FloatArray, Problem

Bools = NDArray[np.bool_]
Order = NDArray[np.int64]

HEIGHTS = (4, 8, 16)
"""Rows of the panels for which an order is sought."""

GAIN = 0.85
"""An order has to leave at most this share of the computed columns."""

_FILL = 0.4  # of a panel's elements that are non-zero, below which elements one by one are faster
_SAMPLE = 512  # columns that similarity is judged by
_ASKED = 64  # rows that are asked for others like them
_ALIKE = 0.3  # share of their columns that rows have in common to be alike


def live_columns(mask: Bools, order: Order, rows: int) -> int:
    """Columns with a non-zero, of all panels of so many rows together.

    >>> live_columns(np.eye(4, dtype=bool), np.arange(4), 2)
    4
    """
    taken = mask[order]
    whole = len(mask) // rows * rows
    count = int(taken[:whole].reshape(-1, rows, mask.shape[1]).any(axis=1).sum())
    return count + int(taken[whole:].any(axis=0).sum())


def similar(mask: Bools, rows: int) -> Order:
    """(m,): an order in which each `rows` neighbours have much of their supports in common.

    Greedy: the row with the most non-zeros that is left opens a panel and is joined by those that share the most with
    it for what they add (Jaccard). Of wide weights a sample of columns is compared.

    >>> mask = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]], bool)
    >>> similar(mask, 2).tolist()
    [0, 2, 1, 3]
    """
    seen = _sample(mask)
    shared = seen @ seen.T
    counts = np.diagonal(shared)
    waiting = np.ones(len(mask), bool)
    order: list[int] = []
    for row in np.argsort(-mask.sum(axis=1), kind="stable"):
        if not waiting[row]:
            continue
        left = np.flatnonzero(waiting)
        union = np.maximum(counts[row] + counts[left] - shared[row, left], 1)
        near = shared[row, left] / union
        near[left == row] = 2.0
        panel = left[np.argsort(-near, kind="stable")[:rows]]
        waiting[panel] = False
        order += [int(r) for r in panel]
    return np.array(order, np.int64)


def _sample(mask: Bools) -> FloatArray:
    """Live columns, not more than _SAMPLE of them, as numbers."""
    live = np.flatnonzero(mask.any(axis=0))
    if len(live) > _SAMPLE:
        live = np.sort(np.random.default_rng(0).choice(live, _SAMPLE, replace=False))
    return mask[:, live].astype(np.float32)


def _resemble(mask: Bools) -> bool:
    """True where rows have others that are much like them: asked of a few, since most weights have not."""
    seen = _sample(mask)
    counts = seen.sum(axis=1)
    some = np.random.default_rng(1).permutation(np.flatnonzero(counts))[:_ASKED]
    shared = seen[some] @ seen.T
    near = shared / np.maximum(counts[some, None] + counts - shared, 1)
    third = np.sort(near, axis=1)[:, -min(4, len(mask))]  # the row itself is the first
    return bool(some.size) and float(np.median(third)) >= max(1.5 * float(near.mean()), _ALIKE)


def equal_supports(mask: Bools) -> tuple[Order, int]:
    """An order that puts rows of equal support side by side, and how many rows share one at least; empty rows last.

    >>> order, size = equal_supports(np.array([[1, 0], [0, 1], [1, 0], [0, 1]], bool))
    >>> order.tolist(), size
    ([0, 2, 1, 3], 2)
    """
    packed = np.packbits(mask, axis=1)
    _, kind, counts = np.unique(packed, axis=0, return_inverse=True, return_counts=True)
    kind = kind.reshape(-1)
    first = np.full(len(counts), len(mask))
    np.minimum.at(first, kind, np.arange(len(mask)))
    empty = ~mask.any(axis=1)
    used = np.unique(kind[~empty])
    return np.lexsort((np.arange(len(mask)), first[kind], empty)), int(counts[used].min()) if used.size else 0


def _unfit(problem: Problem, weight: FloatArray) -> str:
    """The reason why no order of the rows is looked for; "" where one is."""
    if problem.m < 4:
        return f"it needs 4 rows, and this weight has {problem.m}"
    nonzeros = int(np.count_nonzero(weight))
    why = unsuited(problem, dtypes=("float32", "int8")) or too_full(nonzeros, weight.size, 0.9)
    return why or ("" if nonzeros else "the weight is all zeros")


def _order_space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """The heights at which an order pays, the best first."""
    del core
    mask = weight != 0
    if why := _unfit(problem, weight):
        return refuse(why)
    if equal_supports(mask)[1] >= 2 or not _resemble(mask):
        return refuse("no other order of the rows puts rows with like columns side by side")
    dense = float(mask.mean())
    found: list[tuple[float, Config]] = []
    for rows in HEIGHTS:
        natural = live_columns(mask, np.arange(len(mask)), rows)
        # random supports leave 1 - (1 - d)^rows of the columns, in any order about the same
        if rows > len(mask) or natural * rows < 1.2 * mask.sum() or dense > 0.6:
            continue
        after = live_columns(mask, similar(mask, rows), rows)
        if after <= GAIN * natural and mask.sum() >= _FILL * after * rows:
            found.append((after * (rows + 3.0), {"rows": rows}))
    return [config for _, config in sorted(found, key=lambda item: item[0])[:2]] or refuse(
        "no other order of the rows leaves enough columns of a panel dead"
    )


@policy("order", space=_order_space, kinds=("cpu",))
def order(problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    """Rows with similar supports side by side, computed as panels of that many rows."""
    if _unfit(problem, weight):
        return ()
    rows = config["rows"]
    return (Piece(weight, 32, f"similar rows {rows}x1", (rows, 1), similar(weight != 0, rows)),)


def _groups_space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """One configuration, where rows share their support and lie apart: side by side they are ordinary blocks."""
    del core
    if why := _unfit(problem, weight):
        return refuse(why)
    mask = weight != 0
    found, size = equal_supports(mask)
    rows = min(size, 8)
    apart = size >= 2 and live_columns(mask, found, rows) < live_columns(mask, np.arange(len(mask)), rows)
    return ({},) if apart else refuse("no rows that lie apart have their non-zeros in the same columns")


@policy("groups", space=_groups_space, kinds=("cpu",))
def groups(problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    """Rows of equal support side by side, wherever they lie: each group is a dense block over its columns."""
    del config
    if _unfit(problem, weight):
        return ()
    found, size = equal_supports(weight != 0)
    return (Piece(weight, 32, f"group of {size} rows", (size, 1), found),) if size >= 2 else ()
