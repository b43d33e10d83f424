"""Logic, shifts and fields of bits of PTX."""

from __future__ import annotations

import numpy as np

from tests.gpu.ptx.machine import Block, Step
from tests.gpu.ptx.operands import Code
from tests.gpu.ptx.table import instruction
from tests.gpu.ptx.text import BYTES


@instruction("and", "or", "xor", "not", computes=True)
def _logic(code: Code) -> Step:
    kind = code.type("pred b16 b32 b64")
    unary = code.name == "not"
    code.done(2 if unary else 3)
    put, a = code.write(0, kind), code.bits(1, kind)
    if unary:
        return lambda block: put(block, 1 - a(block) if kind == "pred" else ~a(block))
    b, pick = code.bits(2, kind), {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[code.name]
    return lambda block: put(block, pick(a(block), b(block)))


@instruction("shl", "shr", computes=True)
def _shifts(code: Code) -> Step:
    kind = code.type("b16 b32 b64" if code.name == "shl" else "b16 b32 b64 u16 u32 u64 s16 s32 s64")
    code.done(3)
    put, a, b = code.write(0, kind), code.bits(1, kind), code.bits(2, "u32")
    width = 8 * BYTES[kind]

    def step(block: Block) -> None:
        x, by = np.asarray(a(block)), np.asarray(b(block))
        held = np.minimum(by, width - 1).astype(x.dtype)
        if code.name == "shl":
            put(block, np.where(by >= width, 0, x << held).astype(x.dtype))
        else:
            put(block, np.where((by >= width) & (x >= 0), 0, x >> held).astype(x.dtype))

    return step


@instruction("shf", computes=True)
def _funnel(code: Code) -> Step:
    code.type("b32")
    left, wraps = code.must("l", "r") == "l", code.must("wrap", "clamp") == "wrap"
    code.done(4)
    put, a, b, by = code.write(0, "b32"), code.bits(1, "u32"), code.bits(2, "u32"), code.bits(3, "u32")

    def step(block: Block) -> None:
        both = np.asarray(a(block)).astype(np.uint64) | np.asarray(b(block)).astype(np.uint64) << np.uint64(32)
        n = np.asarray(by(block)).astype(np.uint64)
        n = n & np.uint64(31) if wraps else np.minimum(n, 32).astype(np.uint64)
        value = both << n >> np.uint64(32) if left else both >> n
        put(block, value & np.uint64(0xFFFFFFFF))

    return step


@instruction("bfe", computes=True)
def _extract(code: Code) -> Step:
    kind = code.type("u32 s32")
    code.done(4)
    put, a, at, size = code.write(0, kind), code.bits(1, kind), code.bits(2, "u32"), code.bits(3, "u32")

    def step(block: Block) -> None:
        x = np.asarray(a(block)).astype(np.int64)
        first, count = np.asarray(at(block)) & 255, np.minimum(np.asarray(size(block)) & 255, 32)
        value = (x >> np.minimum(first, 63)) & ((1 << count.astype(np.int64)) - 1)
        if kind == "s32":
            value = np.where(count > 0, value - ((value >> np.maximum(count, 1) - 1) << count), 0)
        put(block, value)

    return step


@instruction("bfi", computes=True)
def _insert(code: Code) -> Step:
    code.type("b32")
    code.done(5)
    put, a, b = code.write(0, "b32"), code.bits(1, "u32"), code.bits(2, "u32")
    at, size = code.bits(3, "u32"), code.bits(4, "u32")

    def step(block: Block) -> None:
        first, count = (np.asarray(x(block)).astype(np.uint64) for x in (at, size))
        mask = (((np.uint64(1) << count) - np.uint64(1)) << first) & np.uint64(0xFFFFFFFF)
        new = np.asarray(a(block)).astype(np.uint64) << first
        put(block, (new & mask) | (np.asarray(b(block)).astype(np.uint64) & ~mask))

    return step


@instruction("lop3", computes=True)
def _any_logic(code: Code) -> Step:
    code.type("b32")
    code.done(5)
    put, sources, table = code.write(0, "b32"), [code.bits(i, "u32") for i in (1, 2, 3)], int(str(code.operands[4]), 0)

    def step(block: Block) -> None:
        a, b, c = (np.asarray(source(block)) for source in sources)
        value = np.zeros(np.broadcast_shapes(a.shape, b.shape, c.shape), np.uint32)
        for row in range(8):
            if table >> row & 1:
                value |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
        put(block, value)

    return step


@instruction("popc", "clz", "brev", computes=True)
def _counts(code: Code) -> Step:
    kind = code.type("b32 b64")
    code.done(2)
    width = 8 * BYTES[kind]
    put, a = code.write(0, "u32" if code.name != "brev" else kind), code.bits(1, kind)

    def step(block: Block) -> None:
        x = np.asarray(a(block))
        bits = (x[..., None] >> np.arange(width).astype(x.dtype)) & x.dtype.type(1)
        if code.name == "popc":
            put(block, bits.sum(-1))
        elif code.name == "clz":
            put(block, np.where(x == 0, width, bits[..., ::-1].argmax(-1)))
        else:
            put(block, (bits[..., ::-1].astype(np.uint64) << np.arange(width).astype(np.uint64)).sum(-1))

    return step


@instruction("prmt", computes=True)
def _permute(code: Code) -> Step:
    code.type("b32")
    code.done(4)
    put, a, b, pick = code.write(0, "b32"), code.bits(1, "u32"), code.bits(2, "u32"), code.bits(3, "u32")

    def step(block: Block) -> None:
        both = np.asarray(a(block)).astype(np.uint64) | np.asarray(b(block)).astype(np.uint64) << np.uint64(32)
        chosen, value = np.asarray(pick(block)).astype(np.uint64), np.uint64(0)
        for byte in range(4):
            which = chosen >> np.uint64(4 * byte)
            found = both >> (which & np.uint64(7)) * np.uint64(8) & np.uint64(255)
            sign = np.where(found & np.uint64(128), np.uint64(255), np.uint64(0))
            value = value | np.where(which & np.uint64(8), sign, found) << np.uint64(8 * byte)
        put(block, value)

    return step
