"""What the runs of an operator have in common: which elements never change, and whether two runs differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tesa.attribute import Bools, TeSA, Values
from tesa.propagate.registry import Operator
from tesa.propagate.rules.common import facts
from tesa.propagate.samples import is_float

CLOSE = 16  # units in the last place that count as the same float


class Invariant:
    """Which elements of the outputs have been the same in all runs so far."""

    def __init__(self) -> None:
        self.first: tuple[Values, ...] = ()
        self.same: list[Bools] = []
        self.exact: list[Bools] = []

    @property
    def empty(self) -> bool:
        return not any(mask.any() for mask in self.same)

    def see(self, outputs: tuple[Values, ...]) -> None:
        """Compare one more run with the first."""
        if not self.first:
            self.first = outputs
            self.same = [~_nan(y) for y in outputs]
            self.exact = [np.ones(y.shape, bool) for y in outputs]
        for i, (a, b) in enumerate(zip(self.first, outputs, strict=True)):
            equal = wide(a) == wide(b)
            self.exact[i] = self.exact[i] & equal
            self.same[i] = self.same[i] & (equal | _close(a, b))

    def facts(self, op: Operator, whole: bool) -> tuple[TeSA, ...]:
        """What is known. whole: of a tensor only if all of it is one constant."""
        result = []
        for shape, y, same, exact in zip(op.outputs, self.first, self.same, self.exact, strict=True):
            if whole and not (same.all() and exact.all() and bool((y == y.flat[0]).all())):
                same = np.zeros_like(same)
            value = wide(y) if exact[same].all() else np.where(exact, wide(y), _rounded(wide(y)))
            result.append(facts(shape, same, np.where(same, value, np.zeros((), value.dtype))))
        return tuple(result)


def wide(y: Values) -> Values:
    """Short floats, some of which NumPy knows by name only, as float32: what is known of them is stored so."""
    return y.astype(np.float32) if y.dtype.kind == "V" or y.dtype == np.float16 else y


def _nan(y: Values) -> Bools:
    real = wide(y)
    return np.isnan(real) if real.dtype.kind == "f" else np.zeros(y.shape, bool)


def _close(a: Values, b: Values) -> Bools:
    if not is_float(a.dtype.name):
        return np.zeros(a.shape, bool)
    epsilon = {"float64": 2.0**-52, "float32": 2.0**-23}.get(a.dtype.name, 0.0)
    x, y = wide(a), wide(b)
    with np.errstate(all="ignore"):
        near = np.abs(x - y) <= CLOSE * epsilon * np.maximum(np.abs(x), np.abs(y))
        return np.asarray(np.isfinite(x) & np.isfinite(y) & near)


def _rounded(y: Values) -> Values:
    """To seven digits: the same number whichever run came first."""
    with np.errstate(all="ignore"):
        scale = 10.0 ** (6 - np.floor(np.log10(np.abs(y.astype(np.float64)))))
        return np.where(np.isfinite(scale) & (scale > 0), np.rint(y * scale) / scale, y)


def differ(a: Sequence[Values], b: Sequence[Values], live: Sequence[Bools]) -> bool:
    for x, y, mask in zip(a, b, live, strict=True):
        unequal = (wide(x) != wide(y)) & mask
        if unequal.any() and (unequal & ~(_nan(x) & _nan(y))).any():
            return True
    return False
