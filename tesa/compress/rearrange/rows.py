"""An order of the rows of one layer, for kernels that store rows in any order: the network stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.attributes.zeros import Mask
from tesa.compress.budget import keep
from tesa.compress.layers import Layer
from tesa.compress.rearrange.ascend import Matrix, ascend
from tesa.compress.rearrange.gains import Gain
from tesa.errors import UsageError

Orders = Mapping[str, NDArray[np.int64]]
"""By layer: the old row of each place."""

WAYS = ("auto", "network", "layer")


def arrangement(given: str | bool) -> str:
    """The way to rearrange, "" for none. UsageError for an unknown one."""
    if not given:
        return ""
    if given is True:
        return "auto"
    if given not in WAYS:
        raise UsageError(f"there is no way {given!r} to rearrange; expected {', '.join(WAYS)}")
    return str(given)


def free_order(layer: Layer, imposed: Imposed, how: str) -> bool:
    """True for a layer that takes an order of its own. Only units of several rows and one column have one."""
    unit = imposed.imposition.unit
    if how == "network" or unit is None or layer.groups > 1 or layer.op not in ("conv", "linear", "recurrent"):
        return False
    rows, columns = unit(layer.rows, layer.k, imposed.sizes)
    return columns == 1 and 1 < rows < layer.rows


def row_order(
    scores: NDArray[np.float64], imposed: Imposed, budget: str, layer: Layer
) -> tuple[NDArray[np.int64], Gain]:
    """(the order of a layer's rows, what it gains)."""
    rows = np.arange(1, len(scores) + 1)
    matrix = Matrix(layer.name, scores, imposed, budget, rows, np.zeros(scores.shape[1], np.int64))
    source = ascend([matrix], [rows], np.arange(len(scores) + 1))
    order = source[rows] - 1
    total = float(scores.sum()) or 1.0
    best = np.sort(scores, axis=None)[::-1][: int(matrix.mask(scores).sum())].sum()
    kept = matrix.kept(scores[order])
    return order, Gain(layer.name, matrix.kept(scores) / total, kept / total, float(best) / total)


def keep_in_order(scores: NDArray[np.float64], imposed: Imposed, budget: str, order: NDArray[np.int64] | None) -> Mask:
    """(m, k): the mask of scores whose rows are grouped in that order; None: as they lie."""
    if order is None:
        return keep(scores, imposed, budget)
    return keep(scores[order], imposed, budget)[np.argsort(order)]
