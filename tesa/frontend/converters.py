"""ONNX operators that are converted here and not by TVM's importer, because a plain operator of Relax says the same.

TVM's converters for Clip, Gemm with a constant weight, padding "SAME", Gather, Pad, Tile, Einsum and others leave
chains of small operators, or anonymous functions, that hide what the operator was. Here Clip becomes relax.clip, a
constant transpose or bias is folded in NumPy, padding becomes an attribute of the convolution, out-of-range indices of
a Gather are clamped instead of read anywhere, and so on.

A converter is function(builder, inputs, attributes) -> expression, or None where TVM's own converter shall do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tesa.errors import UnsupportedError
from tesa.frontend.qdq import integer_clip

Converter = Callable[[Any, Any, dict[str, Any]], Any]


def constant(array: Any) -> Any:
    """A Relax constant with the array's own shape and element type."""
    return relax.const(tvm.runtime.tensor(np.ascontiguousarray(array).reshape(array.shape)))


def content(expr: Any) -> Any:
    """The array of a constant, None for anything else."""
    return expr.value.numpy() if isinstance(expr, tvm.ir.GenericConst) else None


def static_shape(expr: Any) -> list[int]:
    """The shape of an expression as ints."""
    return [int(n) for n in expr.ty.shape]


def at(inputs: Any, index: int) -> Any:
    """An input, None where the node leaves it out."""
    return inputs[index] if index < len(inputs) else None


def _clip(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """min and max are attributes (opset 6) or inputs; NaN as a bound means none."""
    if not str(inputs[0].ty.dtype).startswith("float"):
        return integer_clip(inputs, attrs)
    bounds = []
    for index, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        given = at(inputs, index)
        value = content(given) if given is not None else np.asarray(attrs.get(name, default))
        if value is None:
            return None
        number = float(value.reshape(()))
        bounds.append(default if math.isnan(number) else number)
    if bounds == [0.0, math.inf]:
        return relax.op.nn.relu(inputs[0])
    return relax.op.clip(inputs[0], *bounds)


def _gemm(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """alpha * A B + beta * C with constant B and C: alpha, beta and the transpose go into the constants."""
    weight, bias = content(inputs[1]), at(inputs, 2)
    if weight is None or attrs.get("transA", 0):
        return None
    weight = weight.T if attrs.get("transB", 0) else weight
    alpha, beta = attrs.get("alpha", 1.0), attrs.get("beta", 1.0)
    product = relax.op.matmul(inputs[0], constant((weight * weight.dtype.type(alpha)) if alpha != 1.0 else weight))
    if bias is None or beta == 0.0:
        return product
    values = content(bias)
    if values is None:
        return None if beta != 1.0 else relax.op.add(product, bias)
    return relax.op.add(product, constant(values * values.dtype.type(beta) if beta != 1.0 else values))


CONVOLUTIONS = {3: relax.op.nn.conv1d, 4: relax.op.nn.conv2d, 5: relax.op.nn.conv3d}
TRANSPOSED = {
    3: relax.op.nn.conv1d_transpose, 4: relax.op.nn.conv2d_transpose, 5: relax.op.nn.conv3d_transpose,
}  # fmt: skip


def _conv(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """A convolution, padding "SAME" as plain padding, the bias as a constant of shape (1, out, 1, 1)."""
    shape = static_shape(inputs[0])
    if len(shape) not in CONVOLUTIONS or not all(isinstance(x, relax.Expr) for x in inputs[:2]):
        return None
    product = _convolve(inputs[0], inputs[1], attrs)
    return product if at(inputs, 2) is None else relax.op.add(product, _per_channel(inputs[2], len(shape)))


def _convolve(x: Any, weight: Any, attrs: dict[str, Any], **options: Any) -> Any:
    shape, taps = static_shape(x), static_shape(weight)
    ones = (1,) * (len(shape) - 2)
    stride, dilation = (list(attrs.get(name, ones)) for name in ("strides", "dilations"))
    pads = _padding(attrs, shape[2:], taps[2:], stride, dilation)
    return CONVOLUTIONS[len(shape)](
        x, weight, strides=stride, padding=pads, dilation=dilation, groups=attrs.get("group", 1), **options
    )


def _per_channel(bias: Any, rank: int) -> Any:
    """A vector along axis 1 of a tensor with so many axes."""
    values, view = content(bias), (1, -1) + (1,) * (rank - 2)
    return relax.op.reshape(bias, view) if values is None else constant(values.reshape(view))


def _conv_integer(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """(x - x_zero) convolved with (w - w_zero) in int32: exact, and the padding stands for x_zero as it should."""
    x, weight = (_as_int32(bb, x) for x in inputs[:2])
    if at(inputs, 2) is not None:
        x = _less(bb, x, _as_int32(bb, inputs[2]), ())
    if at(inputs, 3) is not None:
        several = math.prod(static_shape(inputs[3])) > 1
        view = (-1, *(1 for _ in static_shape(weight)[1:])) if several else ()
        weight = _less(bb, weight, _as_int32(bb, inputs[3]), view)
    return _convolve(x, weight, attrs, out_dtype="int32")


def _matmul_integer(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """(a - a_zero) @ (b - b_zero) in int32. A constant and its zero point are one constant: the weight of a layer."""
    zeros = [at(inputs, 2), at(inputs, 3)]
    if any(zero is not None and len(static_shape(zero)) > 1 for zero in zeros):
        return None
    a, b = (_as_int32(bb, x) for x in inputs[:2])
    if zeros[0] is not None:  # one for each row of a
        view: tuple[int, ...] = (-1, 1) if math.prod(static_shape(zeros[0])) > 1 else ()
        a = _less(bb, a, _as_int32(bb, zeros[0]), view)
    if zeros[1] is not None:  # one for each column of b
        view = (-1,) if math.prod(static_shape(zeros[1])) > 1 else ()
        b = _less(bb, b, _as_int32(bb, zeros[1]), view)
    return relax.op.matmul(a, b, out_dtype="int32")


def _as_int32(bb: Any, x: Any) -> Any:
    values = content(x)
    return bb.normalize(relax.op.astype(x, "int32")) if values is None else constant(values.astype(np.int32))


def _less(bb: Any, x: Any, zero: Any, view: tuple[int, ...]) -> Any:
    """x - zero, where zero is reshaped to `view`; a constant if both are."""
    values, level = content(x), content(zero)
    if values is not None and level is not None:
        return constant(values - level.reshape(view))
    shaped = bb.normalize(relax.op.reshape(zero, view)) if level is None else constant(level.reshape(view))
    return bb.normalize(relax.op.subtract(x, shaped))


def _conv_transpose(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """A transposed convolution; "SAME" and an output shape become padding, the bias as in a convolution."""
    shape, taps = static_shape(inputs[0]), static_shape(inputs[1])
    if len(shape) not in TRANSPOSED:
        return None
    zeros, ones = [0] * (len(shape) - 2), [1] * (len(shape) - 2)
    stride, dilation = (list(attrs.get(name, ones)) for name in ("strides", "dilations"))
    extra, pads = list(attrs.get("output_padding", zeros)), list(attrs.get("pads", zeros * 2))
    mode, wanted = attrs.get("auto_pad", b"NOTSET").decode(), attrs.get("output_shape")
    if wanted or mode.startswith("SAME"):
        sizes = list(wanted)[-len(ones) :] if wanted else [n * s for n, s in zip(shape[2:], stride, strict=True)]
        full = [s * (n - 1) + e + (k - 1) * d + 1
                for s, n, e, k, d in zip(stride, shape[2:], extra, taps[2:], dilation, strict=True)]  # fmt: skip
        extra = [e + max(n - f, 0) for e, n, f in zip(extra, sizes, full, strict=True)]  # as if the kernel went on
        total = [max(f - n, 0) for n, f in zip(sizes, full, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if mode == "SAME_UPPER" else large + small
    elif mode == "VALID":
        pads = zeros * 2
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        return None
    product = TRANSPOSED[len(shape)](
        inputs[0], inputs[1], strides=stride, padding=pads, output_padding=extra, dilation=dilation,
        groups=attrs.get("group", 1),
    )  # fmt: skip
    return product if at(inputs, 2) is None else relax.op.add(product, _per_channel(inputs[2], len(shape)))


def _padding(attrs: dict[str, Any], size: list[int], kernel: list[int], stride: list[int], dil: list[int]) -> list[int]:
    """All befores, then all afters. "SAME": ceil(size / stride) outputs; an odd pixel goes after (UPPER) or before."""
    mode = attrs.get("auto_pad", b"NOTSET").decode()
    if mode == "NOTSET":
        return list(attrs.get("pads", [0, 0] * len(size)))
    if mode == "VALID":
        return [0, 0] * len(size)
    before, after = [], []
    for n, k, s, d in zip(size, kernel, stride, dil, strict=True):
        total = max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before + after


def _gelu(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    if attrs.get("approximate", b"none") == b"none":
        return relax.op.nn.gelu(inputs[0])
    return relax.op.nn.gelu_tanh(inputs[0])


def _batch_norm(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x * scale + shift, with the constants of inference."""
    arrays = [content(x) for x in inputs[1:5]]
    if attrs.get("training_mode", 0):
        raise UnsupportedError("BatchNormalization in training mode normalises by its input; export for inference")
    if any(a is None for a in arrays):
        return None
    gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in arrays)
    factor = gamma / np.sqrt(variance + attrs.get("epsilon", 1e-5))
    view = (-1,) + (1,) * (len(static_shape(inputs[0])) - 2)
    scale, shift = (v.reshape(view).astype(np.float32) for v in (factor, beta - mean * factor))
    return relax.op.add(relax.op.multiply(inputs[0], constant(scale)), constant(shift))


def _einsum(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.einsum, or relax.matmul where the equation says x @ w."""
    equation = attrs["equation"].decode().replace(" ", "")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) == 2 and "." not in equation and len(terms[1]) == 2 and len(terms[0]) > 1:
        x, (inner, outer) = terms[0], terms[1]
        if x[-1] == inner and outer not in x and len(set(x)) == len(x) and right == x[:-1] + outer:
            return relax.op.matmul(inputs[0], inputs[1])
    return relax.op.einsum(list(inputs), equation)


def _pow(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """The exponent in the type of the base, which is the type of the result; of integers by way of float64."""
    base, exponent = inputs
    kind, work = str(base.ty.dtype), str(base.ty.dtype)
    if "int" in kind:
        work, base = "float64", bb.normalize(relax.op.astype(base, "float64"))
    if str(exponent.ty.dtype) != work:
        values = content(exponent)
        exponent = constant(values.astype(work)) if values is not None else relax.op.astype(exponent, work)
    power = bb.normalize(relax.op.power(base, bb.normalize(exponent)))
    if work == kind:
        return power
    whole = "int" in str(inputs[1].ty.dtype)
    return relax.op.astype(bb.normalize(relax.op.round(power)) if whole else power, kind)


def _swish(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x * sigmoid(alpha * x)."""
    x, alpha = inputs[0], float(attrs.get("alpha", 1.0))
    if alpha == 1.0:
        return relax.op.nn.silu(x)
    scaled = bb.normalize(relax.op.multiply(x, relax.const(alpha, str(x.ty.dtype))))
    return relax.op.multiply(x, bb.normalize(relax.op.sigmoid(scaled)))


CONVERTERS: dict[str, Converter] = {
    "Clip": _clip, "Gemm": _gemm, "Conv": _conv, "ConvTranspose": _conv_transpose, "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
    "Gelu": _gelu, "BatchNormalization": _batch_norm, "Einsum": _einsum, "Pow": _pow, "Swish": _swish,
}  # fmt: skip
