"""The result that a kernel must have, by plain NumPy in float64, and how far from it a float32 kernel may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.types import Depth, FloatArray, Output, Problem

Wide = NDArray[np.float64]

_EPSILONS = {"float32": float(np.finfo(np.float32).eps), "float16": 2.0**-12, "tfloat32": 2.0**-12, "bfloat16": 2.0**-9}
"""Of the products of an arithmetic: float16's and tf32's are a quarter of the last bit, as errors cancel in sums."""


@dataclass(frozen=True)
class Inputs:
    """Numbers to run a kernel on: x in problem.x_shape; bias (m,) and residual in problem.y_shape where it has them."""

    x: NDArray[Any]
    bias: FloatArray | None = None
    residual: NDArray[Any] | None = None
    scale: FloatArray | None = None

    @staticmethod
    def random(problem: Problem, seed: int = 0) -> Inputs:
        """Standard normal numbers, for int8 all codes alike, the same for the same problem and seed.

        scale brings the sums of int8 to about the size of the other numbers, or of the codes of Y.
        """
        rng = np.random.default_rng(seed)
        epilogue = problem.epilogue
        if problem.dtype == "float32":
            x: NDArray[Any] = rng.standard_normal(problem.x_shape, dtype=np.float32)
        else:
            x = rng.integers(0, 256, problem.x_shape, np.uint8)
        bias = rng.standard_normal(problem.m, dtype=np.float32) if epilogue.bias else None
        residual: NDArray[Any] | None = None
        if epilogue.residual and problem.residual.quantized:
            low, high = problem.residual.range
            residual = rng.integers(low, high + 1, problem.y_shape).astype(problem.residual.dtype)
        elif epilogue.residual:
            residual = rng.standard_normal(problem.y_shape, dtype=np.float32)
        size = 128.0 * 64.0 * math.sqrt(problem.k) / (problem.output.scale * 40.0 if problem.output.quantized else 1.0)
        scale = ((1 + rng.random(problem.m)) / size).astype(np.float32) if epilogue.scale else None
        return Inputs(x, bias, residual, scale)

    @property
    def extra(self) -> tuple[NDArray[Any], ...]:
        """The arguments of a kernel behind its constants: scale, bias and residual, as far as there are."""
        return tuple(array for array in (self.scale, self.bias, self.residual) if array is not None)


@dataclass(frozen=True)
class Reference:
    """The right result in problem.y_shape, and the largest difference that rounding explains.

    A quantized result may be one code off where the real number lies between two.
    """

    y: Wide
    tolerance: float

    def error(self, y: NDArray[Any]) -> float:
        """The largest difference; infinite where y has a number that is not finite and the result has none."""
        difference = np.abs(y.astype(np.float64) - self.y)
        worst = float(np.max(difference, initial=0.0))
        return math.inf if math.isnan(worst) else worst

    def difference(self, y: NDArray[Any]) -> str:
        """The difference of y, in problem.y_shape, from the right result in words; "" where rounding explains it."""
        error = self.error(y)
        if error <= self.tolerance:
            return ""
        missing = int(np.isnan(y).sum() - np.isnan(self.y).sum())
        unwritten = f", {missing} of {y.size} elements are not numbers" if missing else ""
        return f"largest error {error:.3g}, tolerance {self.tolerance:.3g}{unwritten}"


def reference(problem: Problem, weight: FloatArray, inputs: Inputs) -> Reference:
    """The result of a problem, weight (m, k), and its tolerance.

    The rounding error of a sum of k products, in any order, is within eps * k * sum |w| |x| and in practice near
    eps * sqrt(k) * |w|_2 * |x|: Higham, Accuracy and Stability of Numerical Algorithms, section 4.2. The tolerance is
    a few times the latter, at the scale of the largest number in the sum; where float16 is allowed, with its eps.
    """
    columns, wide = _columns(problem, inputs.x.astype(np.float64) - problem.x_zero), weight.astype(np.float64)
    if problem.op == "depthwise":
        y = np.einsum("ct,bctn->bcn", wide, columns)
    else:
        y = wide @ columns.reshape(problem.batch, problem.k, problem.n)
    if problem.output.dtype == "int32":
        return Reference(_stored(problem, y), 0.0)
    if inputs.scale is not None:
        wide = wide * inputs.scale.astype(np.float64)[:, None]
        y = y * inputs.scale.astype(np.float64)[:, None]
    y = _rounded(problem, "scale", y)
    norm = float(np.sqrt(np.max(np.square(wide).sum(axis=1), initial=0.0)))
    scale = [norm * _largest(inputs.x), _largest(y)]
    if inputs.bias is not None:
        y = y + inputs.bias.astype(np.float64)[:, None]
    y = _rounded(problem, "bias", _stored(problem, y))
    if inputs.residual is not None:
        kind = problem.residual
        y = y + (inputs.residual.astype(np.float64) - kind.zero) * kind.scale
    y = _rounded(problem, "residual", y)
    scale.append(_largest(y))
    y = activate(y, problem.epilogue.activation)
    step = sum(kind.scale for _, kind in problem.inner)  # what a tie on the way may add
    if problem.output.quantized:
        off = 1.0 + math.ceil(step / problem.output.scale)
        return Reference(_codes(problem.output, y), off)
    epsilon = _EPSILONS.get(problem.arithmetic, _EPSILONS["float16"])
    return Reference(y, epsilon * (16 + 4 * math.sqrt(problem.k)) * max(*scale, _largest(y)) + step)


def _codes(kind: Output, y: Wide) -> Wide:
    low, high = kind.range
    codes: Wide = np.clip(np.rint(y / kind.scale) + kind.zero, low, high)
    return codes


def _rounded(problem: Problem, step: str, y: Wide) -> Wide:
    """The numbers behind a step of the epilogue, as the codes stand for them that they are rounded to there, if any."""
    for at, kind in problem.inner:
        y = (_codes(kind, y) - kind.zero) * kind.scale if at == step else y
    return y


def _stored(problem: Problem, y: Wide) -> Wide:
    """(batch, m, n) in the problem's layout and y_shape."""
    y = y.reshape(problem.batch, problem.m, problem.n)
    if problem.depth is not None:
        y = y.reshape(-1, problem.depth.out, problem.m, problem.n).swapaxes(1, 2)
    return (y.swapaxes(1, 2) if problem.features_last else y).reshape(problem.y_shape)


def activate(y: Wide, name: str | None) -> Wide:
    """An activation of types.ACTIVATIONS, element by element."""
    if name is None:
        return y
    if name == "relu":
        return np.maximum(y, 0)
    if name == "relu6":
        return np.clip(y, 0, 6)
    if name == "tanh":
        return np.tanh(y)
    if name == "hardswish":
        return y * np.clip(y + 3, 0, 6) / 6
    if name == "gelu":
        erf: Wide = np.asarray(np.frompyfunc(math.erf, 1, 1)(y * math.sqrt(0.5)), np.float64)
        return y * 0.5 * (1 + erf)
    if name == "gelu_tanh":
        tanh: Wide = np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y * y * y))
        return y * 0.5 * (1 + tanh)
    if name in ("sigmoid", "silu"):
        sigmoid = 0.5 * (1 + np.tanh(0.5 * y))
        return sigmoid if name == "sigmoid" else y * sigmoid
    raise ValueError(f"no activation {name!r}")


def _columns(problem: Problem, x: Wide) -> Wide:
    """(batch, channels, kernel area, n): the input element of each tap and output."""
    window = problem.window
    places = (problem.n,) if window is None else (window.height, window.width)
    if problem.features_last:
        x = np.moveaxis(x.reshape(problem.batch, *places, problem.channels), -1, 1)
    if window is None:
        return x.reshape(problem.batch, problem.k, 1, problem.n)
    top, left, bottom, right = window.padding
    if problem.depth is not None:
        x = _by_slice(problem, problem.depth, x)
    x = x.reshape(problem.batch, problem.channels, window.height, window.width)
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=problem.x_pad)
    reach = tuple(d * (size - 1) + 1 for d, size in zip(window.dilation, window.kernel, strict=True))
    views: Any = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    taps = views[:, :, :: window.stride[0], :: window.stride[1], :: window.dilation[0], :: window.dilation[1]]
    area = window.kernel[0] * window.kernel[1]
    columns: Wide = taps.transpose(0, 1, 4, 5, 2, 3).reshape(problem.batch, problem.channels, area, problem.n)
    return columns


def _by_slice(problem: Problem, depth: Depth, x: Wide) -> Wide:
    """(items, slices of Y, taps, channels, pixels): what is read for each slice of Y."""
    x = x.reshape(problem.batch // depth.out, problem.channels // depth.taps, depth.size, -1)
    x = np.pad(x, ((0, 0), (0, 0), (depth.before, max(depth.slices - depth.before - depth.size, 0)), (0, 0)))
    slices = depth.stride * np.arange(depth.out)[:, None] + depth.dilation * np.arange(depth.taps)
    found: Wide = x[:, :, slices].transpose(0, 2, 3, 1, 4)
    return found


def _largest(array: Any) -> float:
    return float(np.max(np.abs(array), initial=0.0))
