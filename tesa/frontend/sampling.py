"""The arithmetic of Resize along one axis: which pixels make up a new one, and with which weights.

Everything is in float32 and in the order of onnxruntime, so that ties fall to the same side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesa.attributes.attribute import Values
from tesa.frontend.giants import check_size

F = np.float32


@dataclass(frozen=True)
class Axis:
    """One axis of a Resize. before, after: its sizes. begin, end: the region that is cropped, as shares of the axis."""

    before: int
    after: int
    scale: float
    begin: float = 0.0
    end: float = 1.0


def _half_pixel(x: Values, axis: Axis) -> Values:
    return (x + F(0.5)) / F(axis.scale) - F(0.5)


def _pytorch_half_pixel(x: Values, axis: Axis) -> Values:
    return _half_pixel(x, axis) if axis.after > 1 else x * F(0)


def _symmetric(x: Values, axis: Axis) -> Values:
    share = F(axis.after) / (F(axis.scale) * F(axis.before))
    offset = F(axis.before) / F(2) * (F(1) - share)
    return offset + (x + F(0.5)) / F(axis.scale) - F(0.5)


def _align_corners(x: Values, axis: Axis) -> Values:
    return x * F(0) if axis.after == 1 else x * F(axis.before - 1) / F(axis.after - 1)


def _crop(x: Values, axis: Axis) -> Values:
    last, begin, end = F(axis.before - 1), F(axis.begin), F(axis.end)
    if axis.after == 1:
        return F(0.5) * (begin + end) * last + x
    return begin * last + x * (end - begin) * last / F(axis.after - 1)


COORDINATES: dict[str, Callable[[Values, Axis], Values]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": lambda x, axis: x / F(axis.scale),
    "tf_half_pixel_for_nn": lambda x, axis: (x + F(0.5)) / F(axis.scale),
    "tf_crop_and_resize": _crop,
}


def _away(x: Values) -> Values:
    """Rounded; halves away from 0."""
    return np.asarray(np.trunc(x + np.copysign(F(0.5), x)))


ROUNDING: dict[str, Callable[[Values], Values]] = {
    "round_prefer_floor": lambda x: np.where(x == np.floor(x) + F(0.5), np.floor(x), _away(x)),
    "round_prefer_ceil": _away,
    "floor": np.floor,
    "ceil": np.ceil,
}


def scaled(sizes: Any, scales: Any) -> Values:
    """The sizes after scaling. The product is of float32: 10 times the float32 1.4 is 14, though it is a bit less.

    >>> scaled([10, 4], [1.4, 0.5]).tolist()
    [14, 2]
    """
    return np.floor(np.asarray(sizes, F) * np.asarray(scales, F)).astype(np.int64)


def coordinates(mode: str, axis: Axis) -> Values:
    """The place among the old pixels of each new one, in pixels. Shape (after,).

    >>> coordinates("half_pixel", Axis(2, 4, 2.0)).tolist()
    [-0.25, 0.25, 0.75, 1.25]
    """
    return np.asarray(COORDINATES[mode](np.arange(axis.after, dtype=F), axis), F)


def nearest(places: Values, rounding: str, size: int) -> Values:
    """The old pixel that is the nearest to each place. Shape (after,)."""
    return ROUNDING[rounding](places).astype(np.int64).clip(0, size - 1)


def triangle(x: Values) -> Values:
    """The weight of a pixel at a distance: linear interpolation."""
    return np.asarray(np.maximum(1 - np.abs(x), 0))


def keys(a: float) -> Callable[[Values], Values]:
    """The weight of a pixel at a distance: cubic interpolation (Keys, 1981)."""

    def weight(x: Values) -> Values:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0))

    return weight


_ROWS = 1 << 16  # of new pixels whose windows are laid out at once


def weights(places: Values, axis: Axis, kernel: Any, reach: int, *, exclude: bool, antialias: bool) -> Values:
    """The weight of each old pixel (column) in each new one (row): (after, before).

    kernel: the weight by distance, 0 from `reach` on. exclude: pixels outside of the image count for nothing, else they
    are those of the border. antialias: an axis that shrinks is seen through a window that is as much wider.
    """
    wide = max(1.0, 1.0 / axis.scale) if antialias else 1.0
    check_size((axis.after, axis.before), float, "the weights of an axis that is resized")
    table = np.zeros((axis.after, axis.before))
    width = int(2 * reach * wide) + 2
    for low in range(0, axis.after, _ROWS):
        part = table[low : low + _ROWS]
        place = places[low : low + _ROWS].astype(np.float64)[:, None]
        first = np.floor(place - reach * wide).astype(np.int64) + (0 if antialias else 1)
        pixels = first + np.arange(width)
        last = np.floor(place + reach * wide) + 1
        share = np.where(pixels <= last, kernel((pixels - place) / wide), 0)
        if exclude:
            share = np.where((pixels >= 0) & (pixels < axis.before), share, 0)
        rows = np.broadcast_to(np.arange(len(part))[:, None], pixels.shape)
        np.add.at(part, (rows, pixels.clip(0, axis.before - 1)), share)
        part /= part.sum(axis=1, keepdims=True)
    return table
