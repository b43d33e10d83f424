"""Packed halves, pairs of float32 and dot products of AMD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gpu.amd.functions import U32, fma, split_bytes, wide
from tests.gpu.amd.machine import Group, Step
from tests.gpu.amd.operands import Code, Read, instruction
from tests.gpu.amd.text import Operand, Registers
from tests.gpu.numbers import to_f16


def _packed(code: Code, at: int, select: int, select_high: int, signs: tuple[int, int]) -> Read:
    """Reader of a pair of halves as float64, (..., 2), by op_sel, op_sel_hi, neg_lo and neg_hi."""
    raw = code.source(_bare(code, at), "b16" if code.operands[at].registers is None else "b32")

    def read(group: Group) -> Any:
        bits = np.ascontiguousarray(raw(group))
        parts = bits.astype(U32)[..., None] >> np.array([16 * select, 16 * select_high], U32) & U32(0xFFFF)
        return parts.astype(np.uint16).view(np.float16).astype(np.float64) * np.array([1 - 2 * s for s in signs])

    return read


def _bare(code: Code, at: int) -> Operand:
    return Operand(code.operands[at].text, code.operands[at].registers)


PACKED: dict[str, tuple[int, Callable[..., Any]]] = {
    "v_pk_fma_f16": (3, lambda a, b, c: a * b + c),
    "v_pk_add_f16": (2, lambda a, b: a + b),
    "v_pk_mul_f16": (2, lambda a, b: a * b),
    "v_pk_max_f16": (2, np.fmax),
    "v_pk_min_f16": (2, np.fmin),
}


@instruction(*PACKED)
def _halves(code: Code) -> Step:
    many, function = PACKED[code.name]
    low, high = code.bits("op_sel", "[0,0,0]", many), code.bits("op_sel_hi", "[1,1,1]", many)
    signs = code.bits("neg_lo", "[0,0,0]", many), code.bits("neg_hi", "[0,0,0]", many)
    code.done(1 + many)
    put = code.target(0, "b32")
    reads = [_packed(code, i + 1, low[i], high[i], (signs[0][i], signs[1][i])) for i in range(many)]

    def step(group: Group) -> None:
        value = np.ascontiguousarray(to_f16(function(*(read(group) for read in reads)))).view(U32)[..., 0]
        put(group, value)

    return step


@instruction("v_pk_fma_f32", "v_pk_mul_f32", "v_pk_add_f32", "v_pk_mov_b32")
def _pairs(code: Code) -> Step:
    many = 3 if "fma" in code.name else 2
    low, high = code.bits("op_sel", "[0,0,0]", many), code.bits("op_sel_hi", "[1,1,1]", many)
    code.done(1 + many)
    target = code.registers(0, "va")

    def half(at: int, which: int) -> Read:
        registers = code.operands[at].registers
        if registers is None:
            return code.source(at, "f32")
        one = Registers(registers.file, registers.first + which, 1)
        return code.source(Operand(str(one), one), "f32")

    reads = [[half(i + 1, (low, high)[part][i]) for i in range(many)] for part in range(2)]

    def step(group: Group) -> None:
        values = []
        for part in reads:
            a, b, *c = (np.broadcast_to(read(group), group.lanes.shape) for read in part)
            kind = code.name[5:8]
            values.append(fma(a, b, c[0]) if c else a * b if kind == "mul" else a + b if kind == "add" else a)
        if code.name == "v_pk_mov_b32":
            values[1] = np.broadcast_to(reads[1][1](group), group.lanes.shape)
        for i, value in enumerate(values):
            group.put_vector(target.file, target.first + i, np.ascontiguousarray(value, np.float32).view(U32))

    return step


@instruction("v_pack_b32_f16")
def _pack(code: Code) -> Step:
    chosen = code.bits("op_sel", "[0,0,0]", 3)
    code.done(3)
    put, a, b = code.target(0, "b32"), code.source(1, code.half(1)), code.source(2, code.half(2))

    def step(group: Group) -> None:
        parts = (np.asarray(x(group)).astype(U32) for x in (a, b))
        low, high = (x >> U32(16 * s) & U32(0xFFFF) for x, s in zip(parts, chosen, strict=False))
        put(group, low | high << U32(16))

    return step


@instruction("v_cvt_pkrtz_f16_f32", "v_cvt_pk_rtz_f16_f32")
def _to_halves(code: Code) -> Step:
    code.done(3)
    put, a, b = code.target(0, "b32"), code.source(1, "f32"), code.source(2, "f32")

    def cut(x: Any) -> Any:
        near = np.asarray(x, np.float16)
        over = np.abs(near.astype(np.float64)) > np.abs(wide(x))
        return np.where(over, np.nextafter(near, np.float16(0)), near).astype(np.float16).view(np.uint16).astype(U32)

    return lambda group: put(group, cut(a(group)) | cut(b(group)) << U32(16))


@instruction("v_dot4_i32_i8", "v_dot4c_i32_i8", "v_dot4_u32_u8", "v_dot4_i32_iu8", "v_dual_dot2acc_f32_f16")
def _dot_bytes(code: Code) -> Step:
    mixed, sums = code.name == "v_dot4_i32_iu8", code.name == "v_dot4c_i32_i8"
    signs = [bool(b) for b in code.bits("neg_lo", "[0,0,0]", 2)] if mixed else [code.name != "v_dot4_u32_u8"] * 2
    saturates = bool(code.word("clamp"))
    code.done(3 if sums else 4)
    if saturates:
        raise code.fail("a clamped dot product")
    put, a, b = code.target(0, "u32"), code.source(1, "b32"), code.source(2, "b32")
    c = code.source(0 if sums else 3, "i32")

    def step(group: Group) -> None:
        x, y = split_bytes(a(group), signs[0]), split_bytes(b(group), signs[1])
        put(group, (x * y).sum(-1) + np.asarray(c(group)).astype(np.int64))

    return step


@instruction("v_dot2_f32_f16", "v_dot2c_f32_f16", "v_dot2acc_f32_f16")
def _dot_halves(code: Code) -> Step:
    sums = code.name != "v_dot2_f32_f16"
    code.done(3 if sums else 4)
    put, a, b = code.target(0, "f32"), _packed(code, 1, 0, 1, (0, 0)), _packed(code, 2, 0, 1, (0, 0))
    c = code.source(0 if sums else 3, "f32")
    return lambda group: put(group, (a(group) * b(group)).sum(-1) + c(group))
