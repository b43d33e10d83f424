"""Interpolates scattered measurements and says how sure it is: kriging, or Gaussian process regression.

The value at a new place is a mean of the known ones, weighted by how alike they are. Alike is
    a (1 + r + r^2 / 3) exp(-r)  +  b (1 + sum x_i z_i)  +  c [same layer]  +  noise [same measurement],
    r^2 = 5 sum ((x_i - z_i) / l_i)^2,
with a length l_i for each number: a number that does not matter gets a long one. The first term, Matern's with 5/2, is
less smooth than a bell curve, as times are where a loop has one step more. The lengths and a, b, c and the noise are
those under which the measurements are most likely: Rasmussen and Williams, Gaussian Processes for Machine Learning,
sections 2.2, 4.2.1 and 5.4.1; whole groups are left out at once as in their section 5.4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_START = {"near": 0.05, "trend": 0.01, "layer": 0.02, "noise": 0.005}
_STEPS = 40
_FIT = 900  # measurements that the lengths are found with: the time grows with the cube
_BOUNDS = (-9.0, 4.0)  # of the logarithms of variances
_LENGTHS = (-1.0, 5.0)  # and of lengths, in deviations of a number
_JITTER = 1e-6


@dataclass(frozen=True)
class Shape:
    """The learnt parameters: logarithms of the lengths, one for each number, and of the variances a, b, c and noise."""

    lengths: tuple[float, ...]
    near: float
    trend: float
    layer: float
    noise: float


@dataclass(frozen=True, eq=False)
class Kriging:
    """Known places and what follows from them. center, scale: of the numbers; level: mean of the values."""

    shape: Shape
    center: Floats
    scale: Floats
    level: float
    known: Floats
    weights: Floats
    inverse: Floats

    @staticmethod
    def fit(x: Floats, y: Floats, groups: Ints, doubt: Floats, shape: Shape | None = None) -> Kriging:
        """x (count, numbers), y (count,); groups: which layer each belongs to.

        doubt: a deviation of each y that is known of it, on top of the noise of all. shape: as learnt before.
        """
        center, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        level, known = float(np.median(y)), (x - center) / scale
        if shape is None or len(shape.lengths) != x.shape[1]:
            shape = _learn(known, y - level, groups, doubt)
        near, trend, same = _parts(known, known, groups, groups, shape)
        inverse = _inverse(near + trend + same + _noise(doubt, shape))
        return Kriging(shape, center, scale, level, known, inverse @ (y - level), inverse)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """The expected value at each row of x, and its standard deviation, noise of a measurement included."""
        places = (x - self.center) / self.scale
        nobody = np.full(len(x), -1)
        near, trend, _ = _parts(places, self.known, nobody, np.zeros(len(self.known), np.int64), self.shape)
        alike = near + trend
        s = self.shape
        own = np.exp(s.near) + np.exp(s.layer) + np.exp(s.noise)
        own = own + np.exp(s.trend) * (1 + np.square(places).sum(axis=1) / places.shape[1])
        spread = own - np.einsum("ij,jk,ik->i", alike, self.inverse, alike, optimize=True)
        return self.level + alike @ self.weights, np.sqrt(np.maximum(spread, _JITTER))

    def left_out(self, groups: Ints) -> tuple[Floats, Floats]:
        """For each known place, how far its value is from what the other groups expect there, and the deviation."""
        error, deviation = np.zeros(len(groups)), np.zeros(len(groups))
        for group in np.unique(groups):
            mine = np.flatnonzero(groups == group)
            covariance = np.linalg.inv(self.inverse[np.ix_(mine, mine)])
            error[mine] = covariance @ self.weights[mine]
            deviation[mine] = np.sqrt(np.maximum(np.diag(covariance), _JITTER))
        return error, deviation


def _parts(x: Floats, z: Floats, gx: Ints, gz: Ints, shape: Shape) -> tuple[Floats, Floats, Floats]:
    """The likeness of places: near, by trend, by layer."""
    r = _distance(x, z, shape)
    near = np.exp(shape.near - r) * (1 + r + r * r / 3)
    trend = np.exp(shape.trend) * (1 + x @ z.T / x.shape[1])
    return near, trend, np.exp(shape.layer) * (gx[:, None] == gz[None, :])


def _distance(x: Floats, z: Floats, shape: Shape) -> Floats:
    lengths = np.exp(np.array(shape.lengths))
    a, b = x / lengths, z / lengths
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None, :] - 2 * a @ b.T
    distance: Floats = np.sqrt(5 * np.maximum(squares, 0))
    return distance


def _noise(doubt: Floats, shape: Shape) -> Floats:
    return np.diag(np.exp(shape.noise) + _JITTER + np.square(doubt))


def _inverse(matrix: Floats) -> Floats:
    inverse = np.linalg.inv(matrix)  # the noise on its diagonal keeps it far from singular
    even: Floats = np.asarray((inverse + inverse.T) / 2, np.float64)
    return even


def _learn(x: Floats, y: Floats, groups: Ints, doubt: Floats) -> Shape:
    """Climb the likelihood by the sign of its slope: Rprop, Riedmiller and Braun 1993."""
    if len(y) > _FIT:  # whole layers, so that what is shared within one is still seen
        order = np.random.default_rng(0).permutation(np.unique(groups))
        counts = np.cumsum([np.count_nonzero(groups == g) for g in order])
        chosen = np.isin(groups, order[: max(2, int(np.searchsorted(counts, _FIT)))])
        x, y, groups, doubt = x[chosen], y[chosen], groups[chosen], doubt[chosen]
    theta = np.concatenate([np.full(x.shape[1], np.log(2.0 * np.sqrt(x.shape[1]) / 2)), np.log(list(_START.values()))])
    low = np.concatenate([np.full(x.shape[1], _LENGTHS[0]), np.full(4, _BOUNDS[0])])
    high = np.concatenate([np.full(x.shape[1], _LENGTHS[1]), np.full(4, _BOUNDS[1])])
    step, before = np.full(len(theta), 0.2), np.zeros(len(theta))
    best, most = theta.copy(), -np.inf
    for _ in range(_STEPS):
        likelihood, slope = _slope(theta, x, y, groups, doubt)
        if likelihood > most:
            best, most = theta.copy(), likelihood
        agree = np.sign(slope) * np.sign(before)
        step = np.clip(np.where(agree > 0, step * 1.2, np.where(agree < 0, step * 0.5, step)), 1e-3, 0.6)
        slope = np.where(agree < 0, 0, slope)
        theta = np.clip(theta + np.sign(slope) * step, low, high)
        before = slope
    return _shape(best)


def _shape(theta: Floats) -> Shape:
    return Shape(tuple(float(v) for v in theta[:-4]), *(float(v) for v in theta[-4:]))


def _slope(theta: Floats, x: Floats, y: Floats, groups: Ints, doubt: Floats) -> tuple[float, Floats]:
    """The logarithm of the likelihood of y, with a mild wish for long lengths, and its slope."""
    shape = _shape(theta)
    near, trend, same = _parts(x, x, groups, groups, shape)
    inverse = _inverse(near + trend + same + _noise(doubt, shape))
    weights = inverse @ y
    _, logarithm = np.linalg.slogdet(inverse)
    pull = np.outer(weights, weights) - inverse
    r = _distance(x, x, shape)
    by_length = pull * np.exp(shape.near - r) * (1 + r) * (5 / 3)  # -2 times the slope of near by (r^2 / 5)
    lengths = theta[:-4]
    slope = np.empty(len(theta))
    for i, length in enumerate(lengths):
        squares = np.square(x[:, i])
        # sum over pairs of by_length * (x_i - z_i)^2, without making the matrix of differences
        total = 2 * squares @ by_length.sum(axis=1) - 2 * x[:, i] @ by_length @ x[:, i]
        slope[i] = 0.5 * total * np.exp(-2 * length) - (length - 1.5)
    slope[-4:] = 0.5 * np.array(
        [(pull * near).sum(), (pull * trend).sum(), (pull * same).sum(), np.exp(shape.noise) * np.trace(pull)]
    )
    likelihood = -0.5 * y @ weights + 0.5 * logarithm - 0.5 * np.square(lengths - 1.5).sum()
    return float(likelihood), slope
