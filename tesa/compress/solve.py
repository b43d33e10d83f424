"""Exact least squares on the support of a mask: the weights that are left make the outputs that the dense layer made.

The outputs are those of the dense layer in the dense network, the inputs those of the network as it is pruned by then.
Rows of one support are solved with one factorisation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.zeros import Mask
from tesa.compress.gram import Gram
from tesa.compress.order import DAMPING

Floats = NDArray[np.float64]


def solve(weight: Floats, mask: Mask, products: Floats, cross: Floats, draw: float = 0.0) -> Floats:
    """(m, k): the weights on the mask that minimise the error of the outputs.

    weight: (m, k), dense. products, cross: (k, k) of inputs, and of inputs with those of the dense network. A small
    share of the mean of the diagonal draws towards the dense weights, so that inputs which hardly vary keep them; draw:
    a share of the diagonal itself in addition, for products of few samples, which exact least squares would fit.

    >>> x = np.random.default_rng(0).standard_normal((50, 3))
    >>> x[:, 2] = x[:, 0]
    >>> solve(np.ones((1, 3)), np.array([[True, True, False]]), x.T @ x, x.T @ x).round(1).tolist()
    [[2.0, 1.0, 0.0]]
    """
    powers = np.diagonal(products)
    amount = draw * powers + DAMPING * float(np.mean(powers)) * 0.1
    regular = products + np.diag(amount)
    wanted = weight @ cross.T + amount * weight
    result = np.zeros_like(weight)
    supports, which = np.unique(mask, axis=0, return_inverse=True)
    which = which.reshape(-1)
    live = supports.sum(1, dtype=np.float64)
    gone = mask.shape[1] - live
    cheaper = np.minimum(live, gone)  # an inverse of all, then what is smaller; or each support for itself
    all_at_once = 6.0 * mask.shape[1] ** 3 + np.sum(cheaper**3) < np.sum(live**3)
    inverse = np.asarray(np.linalg.inv(regular), np.float64) if all_at_once else None
    full = None if inverse is None else np.asarray(wanted @ inverse, np.float64)
    for number, support in enumerate(supports):
        rows, there = np.flatnonzero(which == number), np.flatnonzero(support)
        if not len(there):
            continue
        if inverse is not None and full is not None and 2 * len(there) > len(support):
            result[rows] = _eliminated(np.asarray(full[rows]), inverse, np.flatnonzero(~support))
        else:
            block = regular[np.ix_(there, there)]
            result[np.ix_(rows, there)] = _positive(block, wanted[np.ix_(rows, there)].T).T
    return result


def _eliminated(full: Floats, inverse: Floats, gone: NDArray[np.int64]) -> Floats:
    """The solution without some unknowns, from the one with all of them."""
    if not len(gone):
        return full
    weights = _positive(inverse[np.ix_(gone, gone)], full[:, gone].T)
    left = full - weights.T @ inverse[gone]
    left[:, gone] = 0
    return left


def _positive(matrix: Floats, right: Floats) -> Floats:
    """The solution of a symmetric positive system; LinAlgError where it is singular."""
    from scipy.linalg import lapack

    _, solved, failed = lapack.dposv(matrix, right, lower=1)
    if failed:
        raise np.linalg.LinAlgError(f"a minor of order {failed} is not positive")
    return np.asarray(solved)


def output_error(weight: Floats, dense: Floats, gram: Gram, shift: Floats) -> Floats:
    """(m,): the mean square of the difference of each output, over the variance of that of the dense network.

    weight, dense: (m, k). shift: (m,) what the bias has gained.
    """
    groups = len(gram.now)
    w, d = (array.reshape(groups, -1, array.shape[1]) for array in (weight, dense))
    square = np.einsum("gmk,gmk->gm", w @ gram.now, w) / gram.count
    both = np.einsum("gmk,gmk->gm", w @ gram.cross, d) / gram.count
    mean = np.einsum("gmk,gk->gm", w, gram.mean).reshape(-1)
    mean_dense = np.einsum("gmk,gk->gm", d, gram.mean_dense).reshape(-1)
    second = gram.power + np.square(mean_dense)
    error = square.reshape(-1) - 2 * both.reshape(-1) + second + np.square(shift) + 2 * shift * (mean - mean_dense)
    return np.asarray(np.maximum(error, 0) / np.maximum(gram.power, np.finfo(np.float32).tiny))
