"""Resize as gathers along each axis: which pixels are near is known before the model runs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax

from tesa.attributes.attribute import Values
from tesa.errors import UnsupportedError
from tesa.frontend.expressions import at, constant, constant_value, static_shape
from tesa.frontend.registry import imports
from tesa.frontend.sampling import COORDINATES, ROUNDING, Axis, coordinates, keys, nearest, scaled, triangle, weights

TAPS = 4
"""So many neighbours of a pixel are summed one by one; where it has more, as in antialiasing, a matrix product does."""


@dataclass(frozen=True)
class _Options:
    mode: str
    place: str
    rounding: str
    exclude: bool
    antialias: bool
    a: float
    outside: float


def _options(attrs: dict[str, Any]) -> _Options:
    def word(name: str, default: str) -> str:
        return str(attrs.get(name, default.encode()).decode())

    found = _Options(
        word("mode", "nearest"), word("coordinate_transformation_mode", "half_pixel"),
        word("nearest_mode", "round_prefer_floor"), bool(attrs.get("exclude_outside", 0)),
        bool(attrs.get("antialias", 0)), attrs.get("cubic_coeff_a", -0.75), attrs.get("extrapolation_value", 0.0),
    )  # fmt: skip
    known = {"mode": ("nearest", "linear", "cubic"), "place": COORDINATES, "rounding": ROUNDING}
    for name, values in known.items():
        if getattr(found, name) not in values:
            raise UnsupportedError(
                f"{getattr(found, name)!r} is no mode of Resize; those of ONNX are {', '.join(values)}"
            )
    return found


@imports("Resize")
def resize(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """Each axis for itself: the nearest pixel is taken, or a weighted sum of the near ones."""
    x, options = inputs[0], _options(attrs)
    axes = _axes(inputs, attrs, options)
    kind = str(x.ty.dtype)
    smooth = options.mode != "nearest"
    work = "float64" if kind == "float64" else "float32"
    if smooth and kind != work:
        x = bb.normalize(relax.op.astype(x, work))
    inside: Any = True
    # what shrinks first, and of two that grow alike the inner one: along it elements are permuted, not just read
    for number in sorted(axes, key=lambda n: (axes[n].after / axes[n].before, -n)):
        axis = axes[number]
        places = coordinates(options.place, axis)
        x = _interpolated(bb, x, number, axis, places, options) if smooth else _nearest(
            bb, x, number, nearest(places, options.rounding, axis.before)
        )  # fmt: skip
        if options.place == "tf_crop_and_resize":
            there = (places >= 0) & (places <= axis.before - 1)
            inside = inside & there.reshape([-1 if i == number else 1 for i in range(len(static_shape(x)))])
    if not np.all(inside):
        value = constant(np.asarray(options.outside, str(x.ty.dtype)))
        x = bb.normalize(relax.op.where(constant(np.asarray(inside)), x, value))
    if str(x.ty.dtype) == kind:
        return x
    return _as_integers(bb, x, kind) if "int" in kind else relax.op.astype(x, kind)


def _as_integers(bb: Any, x: Any, kind: str) -> Any:
    """Cut off towards 0; what does not fit is the limit."""
    limits = np.iinfo(kind)
    return relax.op.astype(bb.normalize(relax.op.clip(x, float(limits.min), float(limits.max))), kind)


def _axes(inputs: Any, attrs: dict[str, Any], options: _Options) -> dict[int, Axis]:
    """The axes that change, by their numbers."""
    shape = static_shape(inputs[0])
    numbers = [int(a) % len(shape) for a in attrs.get("axes", range(len(shape)))]
    before = np.array([shape[a] for a in numbers])
    scales, sizes = (_parameter(inputs, i, what) for i, what in ((2, "scales"), (3, "sizes")))
    crops = options.place == "tf_crop_and_resize"
    roi = _parameter(inputs, 1, "roi") if crops else None
    if scales is None and sizes is None:
        raise UnsupportedError("it has neither scales nor sizes; give one of them")
    if roi is None:
        if crops:
            raise UnsupportedError("tf_crop_and_resize needs a region, its input roi")
        roi = np.concatenate([np.zeros(len(numbers)), np.ones(len(numbers))])
    scales, after = _sizes(before, scales, sizes, attrs.get("keep_aspect_ratio_policy", b"stretch").decode())
    begin, end = np.asarray(roi, np.float32).reshape(2, -1)
    axes = {
        n: Axis(*map(int, pair), *map(float, rest))
        for n, pair, rest in zip(numbers, zip(before, after, strict=True), zip(scales, begin, end, strict=True),
                                 strict=True)
    }  # fmt: skip
    return {n: a for n, a in axes.items() if a.scale != 1 or a.before != a.after or (a.begin, a.end) != (0.0, 1.0)}


def _parameter(inputs: Any, index: int, what: str) -> Values | None:
    if at(inputs, index) is None:
        return None
    value = constant_value(inputs[index])
    if value is None:
        raise UnsupportedError(f"its {what} depend on the model's inputs; tesa compiles for fixed sizes")
    return value if value.size else None


def _sizes(before: Values, scales: Values | None, sizes: Values | None, policy: str) -> tuple[Values, Values]:
    """(scales, sizes after), as onnxruntime rounds them."""
    if sizes is None:
        return np.asarray(scales, np.float32), scaled(before, scales)
    factors = np.asarray(sizes.astype(np.float32) / before.astype(np.float32), np.float32)
    if policy == "stretch":
        return factors, sizes
    factor = factors.min() if policy == "not_larger" else factors.max()
    return np.full_like(factors, factor), np.floor(factor * before.astype(np.float32) + np.float32(0.5)).astype(int)


def _nearest(bb: Any, x: Any, number: int, picks: Values) -> Any:
    if np.array_equal(picks, np.arange(static_shape(x)[number])):
        return x
    return bb.normalize(relax.op.take(x, constant(picks), number, mode="fast"))


def _interpolated(bb: Any, x: Any, number: int, axis: Axis, places: Values, options: _Options) -> Any:
    """The weighted sum of the pixels near each place, along one axis."""
    cubic, thin = options.mode == "cubic", options.antialias and axis.scale < 1
    if not cubic and not thin:
        places = places.clip(0, axis.before - 1)
    kernel, reach = (keys(options.a), 2) if cubic else (triangle, 1)
    table = weights(places, axis, kernel, reach, exclude=options.exclude, antialias=thin)
    if axis.before == axis.after and np.array_equal(table, np.eye(axis.before)):
        return x
    kind, rank = str(x.ty.dtype), len(static_shape(x))
    most = int((table != 0).sum(axis=1).max())
    if most > TAPS:
        return _product(bb, x, number, table.astype(kind))
    order = np.argsort(table == 0, axis=1, kind="stable")[:, :most]  # the pixels that count, then others
    view = [-1 if i == number else 1 for i in range(rank)]
    total = None
    for tap in range(most):
        part = bb.normalize(relax.op.take(x, constant(order[:, tap]), number, mode="fast"))
        share = np.take_along_axis(table, order[:, tap : tap + 1], 1)[:, 0]
        if (share != 1).any():
            part = bb.normalize(relax.op.multiply(part, constant(share.astype(kind).reshape(view))))
        total = part if total is None else bb.normalize(relax.op.add(total, part))
    return total


def _product(bb: Any, x: Any, number: int, table: Values) -> Any:
    """The axis times a matrix (after, before)."""
    rank = len(static_shape(x))
    turn = [i for i in range(rank) if i != number] + [number]
    moved = bb.normalize(relax.op.permute_dims(x, turn)) if number != rank - 1 else x
    made = bb.normalize(relax.op.matmul(moved, constant(table.T)))
    return bb.normalize(relax.op.permute_dims(made, np.argsort(turn).tolist())) if number != rank - 1 else made
