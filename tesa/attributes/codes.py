"""Weights in the unit of their int8 codes, and the few float32 outliers that the codes' grid does not hold.

A problem of dtype "mixed" has uint8 X and such weights: w = scale[m] * W, where a code is a whole number from -128 to
127 and everything else an outlier.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.attribute import TeSA
from tesa.errors import UsageError
from tesa.schedules.types import FloatArray

MAX_OUTLIERS = 0.3
"""Share of outliers beyond which a weight has no int8 grid worth the name."""

_NEAR = 1e-5  # relative: a product of float32 numbers is so close to the grid's point
_TRIES = 12


@dataclass(frozen=True, eq=False)
class Codes:
    """Weights in the unit of their codes. weight: float32 (m, k); scale: float32 (m,); outliers: bool (m, k)."""

    weight: FloatArray
    scale: FloatArray
    outliers: NDArray[np.bool_]


def in_codes(weight: FloatArray, scale: FloatArray | None = None, *, facts: TeSA | None = None) -> Codes:
    """Real weights (m, k) as codes and outliers: weight[m] = scale[m] * code, exactly so wherever it is a code.

    scale: (m,) or one number; without it, it is taken from facts, or found from the values: for each row the largest
    step of which the most elements are whole multiples from -128 to 127. facts: the TeSA of the weight; an element
    whose bits it says are more than 8 is an outlier, and its grid's scale is the scale.

    Raises UsageError for a scale that is not positive and finite, of another length, or facts of another shape.

    >>> codes = in_codes(np.array([[0.5, -1.0, 0.75, 100.3]], np.float32), np.array([0.25], np.float32))
    >>> codes.weight[0, :3].tolist(), codes.outliers.tolist()
    ([2.0, -4.0, 3.0], [[False, False, False, True]])
    """
    matrix = np.asarray(weight, np.float32)
    if facts is not None and facts.shape != matrix.shape:
        raise UsageError(f"facts of shape {facts.shape} do not belong to a weight of {matrix.shape}")
    if scale is None and facts is not None and facts.quantization is not None:
        scale = np.asarray(facts.quantization.scale, np.float32).reshape(-1)
    steps = find_scale(matrix) if scale is None else np.asarray(scale, np.float32).reshape(-1)
    if steps.size not in (1, len(matrix)) or not (np.isfinite(steps).all() and (steps > 0).all()):
        raise UsageError(f"scale: expected 1 or {len(matrix)} positive numbers, got {steps.size}: {steps[:4]}")
    steps = np.array(np.broadcast_to(steps, (len(matrix),)), np.float32)
    exact = matrix.astype(np.float64) / steps.astype(np.float64)[:, None]
    whole = np.rint(exact)
    on_grid = (np.abs(exact - whole) <= _NEAR * np.maximum(np.abs(whole), 1)) & (whole >= -128) & (whole <= 127)
    if facts is not None:
        on_grid &= np.broadcast_to(facts.bits <= 8, matrix.shape) | (matrix == 0)
    codes = np.where(on_grid, whole, exact).astype(np.float32)
    # an outlier that happens to look like a code is one: it loses nothing
    return Codes(codes, steps, ~are_codes(codes))


def find_scale(weight: FloatArray) -> FloatArray:
    """(m,): for each row the largest step of which nearly all non-zeros are whole multiples from -128 to 127.

    The step divides the smallest distance of two values: the candidates are that distance, halves of it and so on. A
    row in which no step fits most of the elements gets 1.

    >>> find_scale(np.array([[0.5, -1.5, 7.0, 0.0]], np.float32)).tolist()
    [0.5]
    """
    steps = np.ones(len(weight), np.float32)
    for number, row in enumerate(np.abs(weight.astype(np.float64))):
        values = np.unique(row[row > 0])
        if not values.size:
            continue
        best, most = 1.0, (1 - MAX_OUTLIERS) * len(values)
        for step in _steps(values):
            whole = np.rint(values / step)
            good = (np.abs(values / step - whole) <= _NEAR * np.maximum(whole, 1)) & (whole <= 128) & (whole >= 1)
            if good.sum() > most:
                best, most = step, float(good.sum())
        steps[number] = best
    return steps


def _steps(values: NDArray[np.float64]) -> list[float]:
    """Candidates for a row's step, large ones first: gaps between neighbouring values that occur often, and parts."""
    gaps = np.diff(np.concatenate([[0.0], values]))
    gaps = gaps[gaps > _NEAR * values[-1] / 128]
    if not gaps.size:
        return [float(values[0])]
    logs = np.rint(np.log(gaps) / 1e-4).astype(np.int64)
    _, first, counts = np.unique(logs, return_index=True, return_counts=True)
    common = [float(gaps[first[i]]) for i in np.argsort(-counts, kind="stable")[:_TRIES]]
    return sorted({gap / part for gap in common for part in (1, 2, 3)}, reverse=True)


def are_codes(weight: FloatArray) -> NDArray[np.bool_]:
    """True where an element is a code of int8: a whole number from -128 to 127."""
    return np.asarray((np.rint(weight) == weight) & (weight >= -128) & (weight <= 127))
