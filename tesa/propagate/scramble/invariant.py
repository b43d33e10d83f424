"""Comparison of the runs of an operator: the elements that never change, and a test whether two runs differ."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.attribute import Bools, TeSA, Values
from tesa.propagate.registry import Operator
from tesa.propagate.rules.common import facts

CLOSE = 16  # units in the last place that count as the same float
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}


class Invariant:
    """The elements of the outputs that have been the same in all runs so far."""

    def __init__(self) -> None:
        self._first: tuple[Values, ...] = ()
        self._same: list[NDArray[np.intp]] = []  # for each output, the places left
        self._exact: list[Bools] = []

    @property
    def empty(self) -> bool:
        """True if nothing has stayed the same."""
        return not any(places.size for places in self._same)

    def see(self, outputs: tuple[Values, ...]) -> None:
        """Compare one more run with the first."""
        if not self._first:
            self._first = outputs
            self._same = [np.flatnonzero(~_nan(y)) for y in outputs]
            self._exact = [np.ones(y.shape, bool) for y in outputs]
            return
        for i, (first, now) in enumerate(zip(self._first, outputs, strict=True)):
            places = self._same[i]
            a, b = wide(first.reshape(-1)[places]), wide(now.reshape(-1)[places])
            equal = a == b
            self._exact[i].reshape(-1)[places[~equal]] = False
            self._same[i] = places[equal | _close(a, b, first.dtype.name)]

    def facts(self, op: Operator, whole: bool) -> tuple[TeSA, ...]:
        """The facts found. whole: of a tensor only if all of it is one constant."""
        result = []
        for shape, first, places, exact in zip(op.outputs, self._first, self._same, self._exact, strict=True):
            y, same = wide(first), np.zeros(first.shape, bool)
            same.reshape(-1)[places] = True
            if whole and not (same.all() and exact.all() and bool((y == y.flat[0]).all())):
                same = np.zeros_like(same)
            value = y if exact[same].all() else np.where(exact, y, _rounded(y))
            result.append(facts(shape, same, np.where(same, value, np.zeros((), value.dtype))))
        return tuple(result)


def wide(y: Values) -> Values:
    """Short floats, some of which NumPy knows by name only, as float32: what is known of them is stored so."""
    return y.astype(np.float32) if y.dtype.kind == "V" or y.dtype == np.float16 else y


def _nan(y: Values) -> Bools:
    real = wide(y)
    return np.isnan(real) if real.dtype.kind == "f" else np.zeros(y.shape, bool)


def _close(a: Values, b: Values, dtype: str) -> Bools:
    """Equal up to rounding, and finite; short floats must be equal."""
    if dtype not in EPSILON:
        return np.zeros(a.shape, bool)
    with np.errstate(all="ignore"):
        near = np.abs(a - b) <= CLOSE * EPSILON[dtype] * np.maximum(np.abs(a), np.abs(b))
        return np.asarray(np.isfinite(a) & np.isfinite(b) & near)


def _rounded(y: Values) -> Values:
    """Rounded to seven digits: the same number whichever run came first."""
    with np.errstate(all="ignore"):
        scale = 10.0 ** (6 - np.floor(np.log10(np.abs(y.astype(np.float64)))))
        return np.where(np.isfinite(scale) & (scale > 0), np.rint(y * scale) / scale, y)


def differ(a: Sequence[Values], b: Sequence[Values], live: Sequence[Bools]) -> bool:
    for x, y, mask in zip(a, b, live, strict=True):
        unequal = (wide(x) != wide(y)) & mask
        if unequal.any() and (unequal & ~(_nan(x) & _nan(y))).any():
            return True
    return False
