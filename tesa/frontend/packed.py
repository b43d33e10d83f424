"""Products and tables with packed weights, two 4-bit codes to a byte: language models as ONNX Runtime runs them.

A packed constant becomes one with a code for each element, and a DequantizeLinear in blocks stands behind it: so masks,
names, folding and propagation treat it as the quantized weights of every other model.
"""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from tesa.attributes.attribute import Values
from tesa.frontend.rewriter import Rewrite

NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The 16 numbers of 4-bit NormalFloat, quantiles of a normal distribution (Dettmers et al., QLoRA, 2023)."""

FP4 = (0.0, 5.208333333e-03, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25)
"""The 8 magnitudes of bitsandbytes' 4-bit float; the highest bit of a code is the sign."""

STORED = {2: np.dtype(ml_dtypes.uint2), 4: np.dtype(ml_dtypes.uint4), 8: np.dtype(np.uint8)}


def _matmul(r: Rewrite) -> None:
    """MatMulNBits(A, B, scales[, zero points][, g_idx][, bias]): A times the (K, N) weight.

    B: (N, blocks, bytes), the codes of a block bit by bit from the lowest on. Zero points: packed like them, or numbers
    of the type of A. g_idx: the block of scales of each of the K rows, where that is not its place.
    """
    options = r.options
    inner, outer, bits, block = (int(options[name]) for name in ("K", "N", "bits", "block_size"))
    dtype, blocks = _stored(r, bits), -(-inner // block)
    _check_filled(r, outer * inner, bits)
    scale = r.fixed(2).reshape(outer, blocks)
    zero: Values = np.full(scale.shape, 1 << (bits - 1), np.uint8)
    between = bool(r.at(3)) and r.fixed(3).dtype != np.uint8  # zero points that are no codes
    if r.at(3):
        given = r.fixed(3).reshape(outer, -1)
        zero = given if between else _codes(given, bits, blocks)
    groups = np.arange(inner) // block
    if r.at(4):
        groups = r.fixed(4)[:inner]
        scale, zero, block = scale[:, groups], zero[:, groups], 1

    def unpacked(packed: Values) -> Values:
        codes = _codes(packed.reshape(outer, blocks, -1), bits, packed.size * 8 // bits // outer // blocks)
        codes = codes.reshape(outer, -1)[:, :inner]
        if not between:
            return codes
        rows = groups if block > 1 else np.arange(inner)
        return ((codes.astype(np.float32) - zero[:, rows].astype(np.float32)) * scale[:, rows]).astype(scale.dtype)

    weight = r.unpack(1, unpacked)
    real = weight if between else _in_blocks(r, weight, scale, zero.astype(dtype), 1, block, outer * blocks)
    _product(r, r.add("Transpose", [real], perm=[1, 0]), 5)


def _matmul_bnb4(r: Rewrite) -> None:
    """MatMulBnb4(A, B, absmax): A times numbers of a table of 16, times the largest magnitude of their block.

    B: the codes of the flattened (N, K) weight, the first of a byte in its high half.
    """
    options = r.options
    inner, outer, block = (int(options[name]) for name in ("K", "N", "block_size"))
    table = np.asarray(NF4 if options.get("quant_type", 1) == 1 else [*FP4, *(-v for v in FP4)], np.float32)
    largest = r.fixed(2).reshape(-1)[: -(-inner * outer // block)]
    _check_filled(r, outer * inner, 4)
    block = min(block, inner * outer)

    def unpacked(packed: Values) -> Values:
        codes = np.stack([packed.reshape(-1) >> 4, packed.reshape(-1) & 15], axis=1).reshape(-1)[: inner * outer]
        real = table[codes] * np.repeat(largest.astype(np.float32), block)[: inner * outer]
        return real.reshape(outer, inner).astype(largest.dtype)

    weight = r.unpack(1, unpacked)
    _product(r, r.add("Transpose", [weight], perm=[1, 0]) if options.get("transB", 1) else weight, 3)


def _check_filled(r: Rewrite, codes: int, bits: int) -> None:
    """Raise an UnsupportedError where the packed weight, input 1, has not so many codes as its sizes say."""
    there = r.fixed(1).nbytes * 8 // bits
    if not 0 < codes <= there:
        raise r.unsupported(f"its weight has {there} codes, and its sizes say that there are {codes}. Export it again")


def _product(r: Rewrite, weight: str, bias: int) -> None:
    """A times the weight, and the bias that input number `bias` may be."""
    product = r.core("MatMul", [r.at(0), weight], "" if r.at(bias) else r.node.output[0])
    if r.at(bias):
        r.add("Add", [product, r.at(bias)], r.node.output[0])


def _gather(r: Rewrite) -> None:
    """GatherBlockQuantized(data, indices, scales[, zero points]): a Gather of the table.

    Bytes hold several codes of the last axis from the lowest bits on, counted from the middle if nothing is said.
    """
    options, data, scale = r.options, r.fixed(0), r.fixed(2)
    bits, name = int(options.get("bits", 4)), r.at(0)
    zero = r.fixed(3) if r.at(3) else None
    if data.dtype == np.uint8 or name in r.unpacked:
        dtype = _stored(r, bits)
        name = r.unpack(0, lambda packed: _codes(packed, bits, packed.shape[-1] * 8 // bits).astype(dtype))
        if zero is None:
            zero = np.full(scale.shape, 1 << (bits - 1), np.uint8)
        zero = (zero if zero.shape == scale.shape else _codes(zero, bits, scale.shape[-1])).astype(dtype)
    data = r.graph.constants[name]
    axis = int(options.get("quantize_axis", 1)) % data.ndim
    block = int(options.get("block_size", 128)) or data.shape[axis]
    full = tuple(scale.shape[axis] if i == axis else n for i, n in enumerate(data.shape))
    table = _in_blocks(r, name, np.broadcast_to(scale, full), zero, axis, block, scale.size)
    r.core("Gather", [table, r.at(1)], r.node.output[0], axis=int(options.get("gather_axis", 0)))


def _in_blocks(r: Rewrite, codes: str, scale: Values, zero: Values | None, axis: int, block: int, count: int) -> str:
    """A DequantizeLinear with a scale and zero point for each block of the axis, in the type of the scale.

    count: of scales in the file.
    """
    extra = [] if zero is None else [r.constant(zero)]
    scales = r.constant(scale)
    r.graph.scales[scales] = count
    return r.add("DequantizeLinear", [codes, scales, *extra], axis=axis, block_size=block)


def _codes(packed: Values, bits: int, count: int) -> Values:
    """The codes in the bytes of the last axis, from the lowest bit on: `count` of them, in their own type."""
    if bits == 8:
        return np.ascontiguousarray(packed[..., :count])
    each = np.unpackbits(np.ascontiguousarray(packed), axis=-1, bitorder="little")
    each = each[..., : each.shape[-1] // bits * bits].reshape(*packed.shape[:-1], -1, bits)[..., :count, :]
    return np.asarray((each << np.arange(bits, dtype=np.uint8)).sum(axis=-1, dtype=np.uint8).astype(STORED[bits]))


def _stored(r: Rewrite, bits: int) -> Any:
    """The type of codes of so many bits."""
    if bits not in STORED:
        raise r.unsupported(f"its weights have {bits} bits; 2, 4 and 8 are supported. Quantize it to one of these")
    return STORED[bits]


PACKED: dict[str, Callable[[Rewrite], None]] = {
    "MatMulNBits": _matmul,
    "MatMulBnb4": _matmul_bnb4,
    "GatherBlockQuantized": _gather,
}
"""The rewrite of each operator of com.microsoft."""
