"""Activations whose branches are chosen by a comparison, so that they hold for every element type and for no number."""

from typing import Any

import numpy as np
from tvm import relax

from tesa.frontend.expressions import constant, like
from tesa.frontend.registry import imports


def _exponential(bb: Any, x: Any, alpha: float, gamma: float) -> Any:
    """gamma x above 0, gamma alpha (exp(x) - 1) below."""
    emit = bb.normalize
    grown = emit(relax.op.subtract(emit(relax.op.exp(emit(relax.op.minimum(x, like(0, x))))), like(1, x)))
    below = emit(relax.op.multiply(grown, like(alpha * gamma, x)))
    above = x if gamma == 1 else emit(relax.op.multiply(x, like(gamma, x)))
    return relax.op.where(emit(relax.op.less(x, like(0, x))), below, above)


@imports("Elu")
def elu(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x above 0, alpha (exp(x) - 1) below."""
    return _exponential(bb, inputs[0], float(attrs.get("alpha", 1.0)), 1.0)


@imports("Selu")
def selu(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """gamma x above 0, gamma alpha (exp(x) - 1) below."""
    alpha, gamma = attrs.get("alpha", 1.67326319217681884765625), attrs.get("gamma", 1.05070102214813232421875)
    return _exponential(bb, inputs[0], float(alpha), float(gamma))


@imports("ThresholdedRelu")
def thresholded_relu(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x where it is above alpha, else 0."""
    x = inputs[0]
    above = bb.normalize(relax.op.greater(x, like(attrs.get("alpha", 1.0), x)))
    return relax.op.where(above, x, like(0, x))


@imports("Shrink")
def shrink(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x moved by bias towards 0 where it is further away than lambd, else 0; of integers by way of float32."""
    emit, kind = bb.normalize, str(inputs[0].ty.dtype)
    x = inputs[0] if kind.startswith("float") else emit(relax.op.astype(inputs[0], "float32"))
    reach, bias = (float(attrs.get(name, default)) for name, default in (("lambd", 0.5), ("bias", 0.0)))
    below, above = emit(relax.op.less(x, like(-reach, x))), emit(relax.op.greater(x, like(reach, x)))
    down, up = emit(relax.op.subtract(x, like(bias, x))), emit(relax.op.add(x, like(bias, x)))
    result = emit(relax.op.where(below, up, emit(relax.op.where(above, down, like(0, x)))))
    return result if kind == str(x.ty.dtype) else relax.op.astype(result, kind)


@imports("IsInf")
def is_inf(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """True for an infinity of a sign that is asked for."""
    x, emit = inputs[0], bb.normalize
    signs = [sign for sign, name in ((1, "detect_positive"), (-1, "detect_negative")) if attrs.get(name, 1)]
    if len(signs) == 2:
        return relax.op.isinf(x)
    if not signs:
        return relax.op.logical_and(emit(relax.op.isinf(x)), constant(np.asarray(False)))
    return relax.op.equal(x, like(signs[0] * np.inf, x))


@imports("Erf")
def erf(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.erf; of integers by way of float32, cut off towards 0."""
    kind = str(inputs[0].ty.dtype)
    if kind.startswith(("float", "bfloat")):
        return relax.op.erf(inputs[0])
    real = bb.normalize(relax.op.erf(bb.normalize(relax.op.astype(inputs[0], "float32"))))
    return relax.op.astype(real, kind)


@imports("Sign")
def sign(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.sign; what has no sign is 1 or 0."""
    x, kind = inputs[0], str(inputs[0].ty.dtype)
    if not kind.startswith("uint"):
        return relax.op.sign(x)
    return relax.op.astype(bb.normalize(relax.op.greater(x, like(0, x))), kind)


def _halves(bb: Any, x: Any) -> tuple[Any, Any]:
    """(exp(|x|) / 2, exp(-|x|) / 2), of which the first overflows as late as the type does."""
    emit = bb.normalize
    root = emit(relax.op.exp(emit(relax.op.multiply(emit(relax.op.abs(x)), like(0.5, x)))))
    grown = emit(relax.op.multiply(emit(relax.op.multiply(root, like(0.5, x))), root))
    return grown, emit(relax.op.divide(emit(relax.op.divide(like(0.5, x), root)), root))


@imports("Cosh")
def cosh(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """(exp(x) + exp(-x)) / 2: vectors have no instruction for it, nor LLVM a function."""
    return relax.op.add(*_halves(bb, inputs[0]))


@imports("Sinh")
def sinh(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """(exp(x) - exp(-x)) / 2, and near 0, where that would cancel, the first terms of its series."""
    x, emit = inputs[0], bb.normalize
    grown, rest = _halves(bb, x)
    size = emit(relax.op.subtract(grown, rest))
    far = emit(relax.op.where(emit(relax.op.less(x, like(0, x))), emit(relax.op.negative(size)), size))
    square, series = emit(relax.op.multiply(x, x)), like(1, x)
    for factor in (110, 72, 42, 20, 6):  # 1 + x^2/6 (1 + x^2/20 (1 + ...))
        step = emit(relax.op.multiply(emit(relax.op.multiply(square, series)), like(1 / factor, x)))
        series = emit(relax.op.add(step, like(1, x)))
    near = emit(relax.op.multiply(x, series))
    return relax.op.where(emit(relax.op.less(emit(relax.op.abs(x)), like(1, x))), near, far)
