"""The importance of each weight: by its magnitude, by what it does on data, or by numbers of a user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.errors import UsageError

Scores = NDArray[np.float64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Inputs:
    """The input of a layer on the calibration data. square: (k,) the mean of each input's square; covariance: (k, k).

    Of a grouped layer each row has its own inputs: then they are (m, k) and (m, k, k).
    """

    square: Floats
    covariance: Floats

    def variance(self, weight: Floats) -> Floats:
        """(m,): the variance of each output of a weight (m, k)."""
        if self.covariance.ndim == 3:
            return np.asarray(np.einsum("mk,mkl,ml->m", weight, self.covariance, weight, optimize=True))
        return np.asarray(np.einsum("mk,mk->m", weight @ self.covariance, weight))


Measure = Callable[[Any, "Inputs | None"], Any]


@dataclass(frozen=True)
class Importance:
    """A way to score weights. score(weight (m, k), inputs): not negative, more is more important. data: it needs
    inputs. rowwise: its scores compare only inside of a row."""

    name: str
    summary: str
    score: Measure
    data: bool = False
    rowwise: bool = False


_KNOWN: dict[str, Importance] = {}


def importance(name: str, *, data: bool = False, rowwise: bool = False) -> Callable[[Measure], Measure]:
    """Register the decorated function as a way to score weights; its docstring's first line describes it."""

    def register(score: Measure) -> Measure:
        summary = (score.__doc__ or "").strip().partition("\n")[0]
        _KNOWN[name] = Importance(name, summary, score, data, rowwise)
        return score

    return register


def importances() -> tuple[Importance, ...]:
    """Every way to score weights that has a name."""
    return tuple(_KNOWN.values())


def find_importance(name: str) -> Importance:
    """The one of that name. UsageError with the names that there are."""
    if name not in _KNOWN:
        raise UsageError(f"there is no importance {name!r}; expected {', '.join(_KNOWN)}, or an array for each layer")
    return _KNOWN[name]


@importance("l1")
def l1(weight: Floats, inputs: Inputs | None) -> Scores:
    """The magnitude of each weight."""
    del inputs
    return np.abs(weight)


@importance("l2")
def l2(weight: Floats, inputs: Inputs | None) -> Scores:
    """The square of each weight: of a block what leaving it out does to the sum of squares."""
    del inputs
    return np.square(weight)


@importance("scale-free", data=True)
def scale_free(weight: Floats, inputs: Inputs | None) -> Scores:
    """w^2 E[x^2] / var(output): the share of an output that a weight makes, whatever the scale of its channel."""
    assert inputs is not None
    variance = np.maximum(inputs.variance(weight), np.finfo(np.float32).tiny)
    return np.asarray(np.square(weight) * inputs.square / variance[:, None])


@importance("wanda", data=True, rowwise=True)
def wanda(weight: Floats, inputs: Inputs | None) -> Scores:
    """|w| times the norm of its input, compared inside of a row (Sun et al., Wanda, 2023)."""
    assert inputs is not None
    return np.asarray(np.abs(weight) * np.sqrt(inputs.square))


@importance("sparsegpt", data=True)
def sparsegpt(weight: Floats, inputs: Inputs | None) -> Scores:
    """w^2 over the diagonal of the inverse of the inputs' products, column by column in SparseGPT's order."""
    assert inputs is not None
    covariance = inputs.covariance if inputs.covariance.ndim == 3 else inputs.covariance[None]
    k = covariance.shape[-1]
    still = 1e-6 * inputs.square.mean() + np.finfo(np.float32).tiny
    damping = 0.01 * np.maximum(np.einsum("gkk->g", covariance) / k, still)
    inverse = np.linalg.inv(covariance + damping[:, None, None] * np.eye(k))
    diagonal = np.maximum(np.einsum("gkk->gk", inverse), np.finfo(np.float32).tiny)
    return np.asarray(np.square(weight) / diagonal)
