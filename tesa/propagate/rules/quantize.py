"""quantize and dequantize: what is known is rounded, and both sides learn how many bits hold an element.

A tensor of codes is on the grid of its integer type (scale 1, zero point 0), a dequantized one on the grid of the
operator's scale and zero point. What two quantizations in a row do to each other is not reasoned about but computed:
codes are few, so each claim is checked on every one of them, in float32 and in float64.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, Quantization, TeSA, Values
from tesa.attributes.quantization import code_range, integer_grid
from tesa.propagate.bits.grids import claimed, codebook, only_bits, with_grid
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import as_channels, facts, unbroadcast

WIDTHS = {f"{sign}int{bits}": bits for sign in ("", "u") for bits in (1, 2, 4, 8, 16)}
PRECISIONS: tuple[Any, ...] = (np.float64, np.float32)


@dataclass(frozen=True, eq=False)
class Parameters:
    """Scale and zero point laid along the axes of the data, as they stand in the model."""

    scale: Values
    zero: Values

    def quantized(self, x: Values, dtype: str, precision: Any = np.float64) -> Values:
        """clip(round(x / scale) + zero point), computed in the given precision."""
        low, high = code_range(WIDTHS[dtype], dtype.startswith("i"))
        with np.errstate(all="ignore"):
            stored = np.rint(x.astype(precision) / self.scale.astype(precision)) + self.zero.astype(precision)
        return np.asarray(np.clip(stored, low, high), np.float64)

    def dequantized(self, q: Values, precision: Any = np.float64) -> Values:
        """scale * (q - zero point), computed in the given precision."""
        return np.asarray((q.astype(precision) - self.zero.astype(precision)) * self.scale.astype(precision))


def parameters(op: Operator) -> Parameters | None:
    """The constants of a quantize or dequantize; None if they are computed at run time, blocked, or not positive."""
    rank, axis = len(op.inputs[0]), int(op.attrs.get("axis", -1))
    laid: list[Any] = []
    for array in op.constants[1:3]:
        if array is None or array.ndim > 1:
            return None
        laid.append(as_channels(array, rank, axis) if array.size > 1 else array.reshape((1,) * rank))
    return Parameters(laid[0], laid[1].astype(np.int32)) if (laid[0] > 0).all() else None


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    live = outputs[0].live
    others = [np.full((1,) * len(shape), bool(live.any())) for shape in op.inputs[1:]]
    return (unbroadcast(live, op.outputs[0], op.inputs[0]), *others)


def _same_step(codes: TeSA) -> bool:
    """True if the grid of a tensor of codes has every integer between its ends."""
    q = codes.quantization
    return q is not None and bool((q.scale == 1).all() and (q.zero_point == np.rint(q.zero_point)).all())


def _quantize_precision(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    """The grid of the codes that are told apart. Of a coarser grid only the range helps: see bits/precision.py."""
    codes, p = outputs[0], parameters(op)
    if p is None or op.dtypes[0] not in WIDTHS:
        return (None,) * len(inputs)
    bits, q = _type_grid(op.dtypes[0], len(codes.shape))
    if _same_step(codes) and codes.quantization is not None:
        bits, q = codes.bits, codes.quantization
    elif (uneven := codebook(codes, integer=True)) is not None:
        bits, q = _between(uneven, len(codes.shape))
    grid = Quantization(q.bits, q.signed, p.scale, p.zero + q.zero_point)
    return (only_bits(op.inputs[0], bits, grid), *(None,) * (len(inputs) - 1))


def _type_grid(dtype: str, rank: int) -> tuple[Values, Quantization]:
    low, high = code_range(WIDTHS[dtype], dtype.startswith("i"))
    return integer_grid(float(low), float(high), rank)


@rule("relax.quantize", backward=_backward, precision=_quantize_precision)
def quantize(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """clip(round(x / scale) + zero point): the codes have the bits of their type, or of the grid that x is on."""
    x, p, dtype = inputs[0], parameters(op), op.dtypes[0]
    if dtype not in WIDTHS:
        return (facts(op.outputs[0], np.zeros_like(x.known), np.zeros((1,) * len(x.shape))),)
    known, value = np.zeros_like(x.known), np.zeros((1,) * len(x.shape))
    if p is not None:
        known, value = x.known, p.quantized(x.value, dtype)
    found = with_grid(facts(op.outputs[0], known, value), *_type_grid(dtype, len(x.shape)))
    return (_coarse_codes(found, x, p, dtype) or found,) if p is not None else (found,)


def _coarse_codes(found: TeSA, x: TeSA, p: Parameters, dtype: str) -> TeSA | None:
    """The codes of a tensor that is itself on a grid of fewer bits, where these are all the codes it can have."""
    q = x.quantization
    if q is None or not claimed(x) or q.bits >= WIDTHS[dtype]:
        return None
    numbers = codebook(x, integer=False)
    if numbers is None:
        return None
    step = np.asarray(q.scale, np.float64) / p.scale
    grid = Quantization(q.bits, q.signed, step, q.zero_point - p.zero / step)
    for precision in PRECISIONS:
        codes = p.quantized(numbers, dtype, precision)
        if (grid.points(grid.codes(codes, x.bits), True) != codes).any():
            return None
    return with_grid(found, x.bits, grid)


def _between(codes: Values, rank: int) -> tuple[Values, Quantization]:
    """The grid of all integers between the smallest and the largest of the codes."""
    return integer_grid(float(codes.min()), float(codes.max()), rank)


def _dequantize_precision(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    """The codes whose numbers are told apart: those of the same grid in units of the operator's scale, if that holds.

    It is checked for each code that rounding it to the coarse ones leaves the number, rounded to the output's grid,
    what it was.
    """
    codes, real, p = inputs[0], outputs[0], parameters(op)
    full: tuple[TeSA | None, ...] = (None,) * len(inputs)
    q = real.quantization
    if p is None or q is None or not (real.bits < 32).all():
        return full
    step = np.asarray(q.scale, np.float64) / p.scale
    grid = Quantization(q.bits, q.signed, step, q.zero_point - p.zero / step)
    numbers = codebook(codes, integer=True)
    if numbers is None:
        return full
    rounded = grid.points(grid.codes(numbers, real.bits), True)
    saturated = np.clip(rounded, numbers.min(), numbers.max())  # if the check holds for both, so it does in between
    between = _between(saturated, len(op.inputs[0]))
    if int(between[0].max()) < int(real.bits.max()):
        rounded = saturated = np.clip(numbers, saturated.min(), saturated.max())
    for precision in PRECISIONS:
        before, *after = (q.codes(p.dequantized(c, precision), real.bits) for c in (numbers, rounded, saturated))
        if any((before != found).any() for found in after):
            return full
    best = between if int(between[0].max()) < int(real.bits.max()) else (real.bits, grid)
    return (only_bits(op.inputs[0], *best), *full[1:])


@rule("relax.dequantize", backward=_backward, precision=_dequantize_precision)
def dequantize(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """scale * (q - zero point): as many bits as the codes, on the grid of the operator."""
    codes, p = inputs[0], parameters(op)
    if p is None:
        return (facts(op.outputs[0], np.zeros_like(codes.known), np.zeros((1,) * len(codes.shape))),)
    found = facts(op.outputs[0], codes.known, p.dequantized(codes.value))
    q = codes.quantization
    if q is None or not claimed(codes):
        return (found,)
    bits, grid = codes.bits, q
    if not ((q.scale == np.rint(q.scale)).all() and (q.zero_point * q.scale == np.rint(q.zero_point * q.scale)).all()):
        numbers = codebook(codes, integer=True)
        if numbers is None:
            return (found,)
        bits, grid = _between(numbers, len(codes.shape))
    scale = grid.scale.astype(np.float64) * p.scale
    return (with_grid(found, bits, Quantization(grid.bits, grid.signed, scale, grid.zero_point + p.zero / grid.scale)),)
