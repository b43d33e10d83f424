"""Fourier transforms as products with constant matrices: a short transform is a layer like any other."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from onnx import helper
from onnx.reference.ops.op_mel_weight_matrix import MelWeightMatrix

from tesa.attributes.attribute import Values
from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.parts import cut, integers, number, reshape, transpose

LARGEST = (1 << 26) + (1 << 17)
"""Numbers in the matrix of a transform: of 8192 real ones to half a spectrum, of 4096 complex ones to a whole one."""

_AT_ONCE = 256  # rows of a matrix


def fourier(
    length: int, *, parts: int, inverse: bool = False, onesided: bool = False, dtype: Any = np.float64
) -> Values:
    """The matrix (length, parts, frequencies, 2) that takes `parts` real numbers a place to the complex spectrum.

    parts: 1 for real numbers, 2 for complex ones. The inverse transform divides by the length.

    >>> fourier(2, parts=1)[:, 0, :, 0]
    array([[ 1.,  1.],
           [ 1., -1.]])
    """
    count = length // 2 + 1 if onesided else length
    matrix = np.empty((length, min(parts, 2), count, 2), dtype)
    for rows in _blocks(0, length):
        matrix[rows] = _rows(rows, length, count, inverse)[:, :parts]
    return matrix


def _blocks(low: int, high: int) -> Iterator[Values]:
    """The numbers from low to high, some at a time: the numbers of all of them in between would be gigabytes."""
    for start in range(low, high, _AT_ONCE):
        yield np.arange(start, min(start + _AT_ONCE, high))


def _rows(rows: Values, length: int, count: int, inverse: bool) -> Values:
    """Rows of the matrix for complex numbers, (rows, 2, count, 2)."""
    angle = 2 * np.pi * (np.outer(rows, np.arange(count)) % length) / length
    cos, sin = np.cos(angle), np.sin(angle) * (1 if inverse else -1)
    matrix = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
    return np.asarray(matrix / length if inverse else matrix)


def fourier_back(length: int) -> Values:
    """The matrix (length // 2 + 1, 2, length) that takes half a spectrum back to real numbers."""
    count = length // 2 + 1
    half = np.empty((count, 2, length))
    for rows in _blocks(0, count):
        half[rows] = _rows(rows, length, length, True)[..., 0]
    for rows in _blocks(count, length):  # the other ones are the conjugates of those
        half[length - rows] += _rows(rows, length, length, True)[..., 0] * np.array([1, -1])[:, None]
    return half


@expands("DFT")
def dft(writer: Writer, node: Any) -> Sequence[str]:
    """The transform along an axis: (x, length, axis); the last axis of x has the real and imaginary part, or one."""
    x, options = node.input[0], writer.options
    shape = writer.shape(x)
    axis = _axis(writer, node) % len(shape)
    inverse, onesided = bool(options.get("inverse", 0)), bool(options.get("onesided", 0))
    length = _fixed(writer, 1, 2 * (shape[axis] - 1) if inverse and onesided else shape[axis])
    half = inverse and onesided  # (length // 2 + 1, 2, length) real numbers
    _short(writer, length, 1 if half else shape[-1], onesided)
    order = [i for i in range(len(shape)) if i not in (axis, len(shape) - 1)]
    turned = transpose(writer, x, [*order, axis, len(shape) - 1])
    given, parts, rank = shape[axis], shape[-1], len(shape)
    if half:
        matrix = fourier_back(length)[:given, :parts]
        result_parts = 1
    else:
        matrix = fourier(length, parts=parts, inverse=inverse, onesided=onesided, dtype=writer.dtype(x))[:given]
        result_parts = 2
    used = matrix.shape[0]
    turned = cut(writer, turned, rank - 2, 0, used) if used < given else turned
    outer = [shape[i] for i in order]
    count = matrix[0, 0].size // result_parts
    flat = reshape(writer, turned, [*outer, used * parts])
    spectrum = writer.add("MatMul", flat, number(writer, matrix.reshape(used * parts, -1), x))
    back = np.argsort([*order, axis, rank - 1]).tolist()
    return [transpose(writer, reshape(writer, spectrum, [*outer, count, result_parts]), back)]


def _axis(writer: Writer, node: Any) -> int:
    """An attribute until opset 19, then an input."""
    if "axis" in writer.options or writer.graph.opset < 20:
        return int(writer.options.get("axis", 1))
    return int(_fixed(writer, 2, -2))


def _fixed(writer: Writer, index: int, default: int) -> int:
    """The number in an input that has to be a constant."""
    if not writer.has(index):
        return default
    known = writer.value(writer.input(index))
    if known is None:
        raise writer.unsupported(
            f"its input {writer.input(index)!r} is computed by the model, and the shape of the result depends on it; "
            "tesa compiles for fixed sizes. Make it a constant"
        )
    return int(known.reshape(()))


def _short(writer: Writer, length: int, parts: int = 1, onesided: bool = True) -> int:
    numbers = length * min(parts, 2) * 2 * (length // 2 + 1 if onesided else length)
    if numbers > LARGEST:
        raise writer.unsupported(
            f"a transform of {length} points is too long: its matrix would have {numbers} numbers, {LARGEST} are "
            "possible. Split the signal"
        )
    return length


@expands("STFT")
def stft(writer: Writer, node: Any) -> Sequence[str]:
    """The transform of each frame: (signal (B, L, 1 or 2), step, window, length), as a convolution with a stride."""
    x = node.input[0]
    shape = writer.shape(x)
    batch, samples = shape[:2]
    parts = shape[2] if len(shape) == 3 else 1
    window = writer.input(2)
    length = _fixed(writer, 3, writer.shape(window)[0] if window else samples)
    step = _fixed(writer, 1, 1)
    onesided = bool(writer.options.get("onesided", 1))
    matrix = fourier(_short(writer, length, parts, onesided), parts=parts, onesided=onesided, dtype=writer.dtype(x))
    count = matrix.shape[2]
    weight = number(writer, matrix.transpose(2, 3, 1, 0).reshape(2 * count, parts, length), x)
    if window:
        weight = writer.add("Mul", weight, reshape(writer, window, [1, 1, length]))
    signal = transpose(writer, reshape(writer, x, [batch, samples, parts]), [0, 2, 1])
    spectrum = writer.add("Conv", signal, weight, strides=[step], kernel_shape=[length])
    frames = (samples - length) // step + 1
    return [reshape(writer, transpose(writer, spectrum, [0, 2, 1]), [batch, frames, count, 2])]


@expands("com.microsoft::Rfft")
def rfft(writer: Writer, node: Any) -> Sequence[str]:
    """Half the spectrum of the last axis of real numbers."""
    x, shape = node.input[0], writer.shape(node.input[0])
    _check_plain(writer)
    matrix = fourier(_short(writer, shape[-1]), parts=1, onesided=True, dtype=writer.dtype(x))
    spectrum = writer.add("MatMul", x, number(writer, matrix.reshape(shape[-1], -1), x))
    return [reshape(writer, spectrum, [*shape[:-1], matrix.shape[2], 2])]


@expands("com.microsoft::Irfft")
def irfft(writer: Writer, node: Any) -> Sequence[str]:
    """Real numbers again from half a spectrum (..., n // 2 + 1, 2)."""
    x, shape = node.input[0], writer.shape(node.input[0])
    _check_plain(writer)
    length = _short(writer, 2 * (shape[-2] - 1))
    flat = reshape(writer, x, [*shape[:-2], 2 * shape[-2]])
    return [writer.add("MatMul", flat, number(writer, fourier_back(length).reshape(2 * shape[-2], length), x))]


def _check_plain(writer: Writer) -> None:
    options = writer.options
    if options.get("signal_ndim", 1) != 1 or options.get("normalized", 0) or not options.get("onesided", 1):
        raise writer.unsupported("only one-sided transforms of one axis can be imported. Export it as DFT")


@expands("MelWeightMatrix")
def mel_weights(writer: Writer, node: Any) -> Sequence[str]:
    """A constant: its parameters have to be constants."""
    values = []
    for index in range(5):
        _fixed(writer, index, 0)
        values.append(writer.value(node.input[index]))
    dtype = helper.tensor_dtype_to_np_dtype(writer.options.get("output_datatype", 1))
    return [writer.constant(MelWeightMatrix.eval(*values), dtype)]


@expands("com.microsoft::ComplexMul", "com.microsoft::ComplexMulConj")
def complex_product(writer: Writer, node: Any) -> Sequence[str]:
    """The product of complex numbers (..., 2), of the second one's conjugate."""
    (a, b), (c, d) = (
        [cut(writer, x, -1, i, i + 1) for i in (0, 1)] for x in node.input[:2]
    )  # fmt: skip
    sign = ("Sub", "Add") if node.op_type == "ComplexMul" else ("Add", "Sub")
    real = writer.add(sign[0], writer.add("Mul", a, c), writer.add("Mul", b, d))
    first, second = writer.add("Mul", a, d), writer.add("Mul", b, c)
    pair = (first, second) if sign[1] == "Add" else (second, first)
    return [writer.add("Concat", real, writer.add(sign[1], *pair), axis=-1)]


@expands("com.microsoft::ExpandDims")
def expand_dims(writer: Writer, node: Any) -> Sequence[str]:
    """One more axis of size 1."""
    return [writer.add("Unsqueeze", node.input[0], integers(writer, [_fixed(writer, 1, 0)]))]
