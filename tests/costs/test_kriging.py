"""Interpolation: against direct computation, and on a function that is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from tesa.costs.kriging import Kriging, Shape, _shape, _slope

RNG = np.random.default_rng(3)


def data(count: int, noise: float = 0.02) -> tuple[Any, Any, Any]:
    x = RNG.uniform(-2, 2, (count, 4))
    y = np.sin(x[:, 0]) + 0.3 * x[:, 1] + noise * RNG.standard_normal(count)  # the last two numbers do not matter
    return x, y, np.arange(count) // 3


def test_it_finds_a_smooth_function_and_which_numbers_matter() -> None:
    x, y, groups = data(180)
    model = Kriging.fit(x, y, groups, np.zeros(180))
    places, truth, _ = data(60, 0.0)
    found, deviation = model.predict(places)
    assert np.sqrt(np.square(found - truth).mean()) < 0.06
    inside = np.abs(found - truth) < 1.2816 * deviation
    assert inside.mean() > 0.7
    assert max(model.shape.lengths[2:]) > model.shape.lengths[0]


def test_it_is_less_sure_far_away() -> None:
    x, y, groups = data(90)
    model = Kriging.fit(x, y, groups, np.zeros(90))
    _, near = model.predict(x[:1])
    _, far = model.predict(x[:1] + 30)
    assert far[0] > 3 * near[0]


def test_what_is_left_out_is_predicted_from_the_others() -> None:
    x, y, groups = data(30)
    shape = Shape((0.5, 1.0, 2.0, 2.0), -1.0, -2.0, -4.0, -5.0)
    whole = Kriging.fit(x, y, groups, np.full(30, 0.01), shape)
    error, deviation = whole.left_out(groups)
    for group in (0, 4):
        rest = groups != group
        known = (x - whole.center) / whole.scale  # numbers as the whole model scales them
        part = Kriging.fit(known[rest], y[rest], groups[rest], np.full(int(rest.sum()), 0.01), shape)
        part = Kriging(shape, np.zeros(4), np.ones(4), whole.level, known[rest], part.inverse @ (y[rest] - whole.level),
                       _again(known[rest], y[rest], groups[rest], shape))  # fmt: skip
        part = Kriging(shape, part.center, part.scale, whole.level, part.known,
                       part.inverse @ (y[rest] - whole.level), part.inverse)  # fmt: skip
        found, sd = part.predict(known[~rest])
        np.testing.assert_allclose(error[~rest], y[~rest] - found, atol=1e-6)
        np.testing.assert_allclose(deviation[~rest] ** 2, sd**2 + 0.01**2, rtol=1e-3)


def _again(x: Any, y: Any, groups: Any, shape: Shape) -> Any:
    """The inverse of the covariance, of numbers that are scaled already."""
    from tesa.costs.kriging import _inverse, _noise, _parts

    return _inverse(sum(_parts(x, x, groups, groups, shape)) + _noise(np.full(len(y), 0.01), shape))


def test_the_slope_of_the_likelihood() -> None:
    x, y, groups = data(40)
    theta = np.array([0.3, 0.8, 1.5, 2.0, -2.0, -3.0, -4.0, -4.5])
    doubt = np.full(40, 0.02)
    _, slope = _slope(theta, x, y, groups, doubt)
    for i in range(len(theta)):
        step = np.zeros(len(theta))
        step[i] = 1e-5
        up, down = (_slope(theta + sign * step, x, y, groups, doubt)[0] for sign in (1, -1))
        np.testing.assert_allclose(slope[i], (up - down) / 2e-5, rtol=1e-3, atol=1e-3)


def test_doubtful_measurements_count_less() -> None:
    x, y, groups = data(60, 0.0)
    wrong = y.copy()
    wrong[7] += 2.0
    doubt = np.zeros(60)
    doubt[7] = 2.0
    shape = _shape(np.array([0.5, 1.0, 3.0, 3.0, -1.0, -2.0, -6.0, -6.0]))
    trusting = Kriging.fit(x, wrong, groups, np.zeros(60), shape).predict(x[7:8])[0][0]
    doubting = Kriging.fit(x, wrong, groups, doubt, shape).predict(x[7:8])[0][0]
    assert abs(doubting - y[7]) < 0.3 * abs(trusting - y[7])
