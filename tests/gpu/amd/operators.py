"""What TVM's compiler writes for operators without weights, beside what kernels have: divisions, 16 bits, parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gpu.amd.machine import Group, Step
from tests.gpu.amd.operands import Code, Read, instruction
from tests.gpu.amd.text import Registers, _operand
from tests.gpu.amd.vectors import COMPARE, FUNCTIONS
from tests.gpu.faults import Fault

_NOT = {
    "nlt": lambda a, b: ~np.less(a, b),
    "nle": lambda a, b: ~np.less_equal(a, b),
    "ngt": lambda a, b: ~np.greater(a, b),
    "nge": lambda a, b: ~np.greater_equal(a, b),
    "nlg": lambda a, b: ~((a < b) | (a > b)),
    "o": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
}


def _mask(code: Code, found: Callable[[Group], Any]) -> Step:
    """Writes a mask of lanes to the first operand."""
    registers = code.registers(0, "s")

    def step(group: Group) -> None:
        if registers.count != (2 if group.wave == 64 else 1):
            raise Fault("a mask of another number of lanes")
        with np.errstate(all="ignore"):
            lanes = np.broadcast_to(found(group), group.lanes.shape) & group.lanes
        group.put_scalar(registers, group.to_bits(lanes))

    return step


@instruction(*(f"v_cmp_{how}_{kind}" for how in _NOT for kind in ("f32", "f16")))
def _compare(code: Code) -> Step:
    how, kind = code.name.split("_")[2:]
    code.done(3)
    a, b = code.source(1, kind), code.source(2, kind)
    return _mask(code, lambda group: _NOT[how](a(group), b(group)))


def _long(x: Any) -> Any:
    return np.asarray(x).astype(np.int64)


_JUNK = 0xA5A5 << 16
"""The upper half of a register that 16 bits are written to: gfx9 clears it, later ones leave what was there."""

_WHOLE: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "v_mul_hi_i32": (
        "u32",
        "i32 i32",
        lambda a, b: np.asarray(a).astype(np.int64) * np.asarray(b).astype(np.int64) >> 32,
    ),
    "v_lshl_add_u64": (
        "u64",
        "u64 u32 u64",
        lambda a, b, c: (np.asarray(a).astype("u8") << np.asarray(b).astype("u8")) + c,
    ),
    "v_maxmin_f32": ("f32", "f32 f32 f32", lambda a, b, c: np.fmin(np.fmax(a, b), c)),
    "v_minmax_f32": ("f32", "f32 f32 f32", lambda a, b, c: np.fmax(np.fmin(a, b), c)),
    "v_add_u16": ("u16", "u16 u16", lambda a, b: a + b),
    "v_add_nc_u16": ("u16", "u16 u16", lambda a, b: a + b),
    "v_sub_u16": ("u16", "u16 u16", lambda a, b: a - b),
    "v_sub_nc_u16": ("u16", "u16 u16", lambda a, b: a - b),
    "v_subrev_u16": ("u16", "u16 u16", lambda a, b: b - a),
    "v_mul_lo_u16": ("u16", "u16 u16", lambda a, b: np.asarray(a).astype("u4") * b),
    "v_mad_u16": ("u16", "u16 u16 u16", lambda a, b, c: np.asarray(a).astype("u4") * b + c),
    "v_mad_legacy_u16": ("u16", "u16 u16 u16", lambda a, b, c: np.asarray(a).astype("u4") * b + c),
    "v_lshrrev_b16": ("u16", "u16 u16", lambda a, b: b >> (a & np.uint16(15))),
    "v_lshlrev_b16": ("u16", "u16 u16", lambda a, b: b << (a & np.uint16(15))),
    "v_ashrrev_i16": ("i16", "i16 i16", lambda a, b: b >> (a & np.int16(15))),
    "v_max_u16": ("u16", "u16 u16", np.maximum),
    "v_min_u16": ("u16", "u16 u16", np.minimum),
    "v_max_i16": ("i16", "i16 i16", np.maximum),
    "v_min_i16": ("i16", "i16 i16", np.minimum),
    "v_add_nc_i16": ("i16", "i16 i16", lambda a, b: a + b),
    "v_sub_nc_i16": ("i16", "i16 i16", lambda a, b: a - b),
    "v_mov_b16": ("b16", "b16", lambda a: a),
    "v_not_b16": ("b16", "b16", lambda a: ~a),
    "v_and_b16": ("b16", "b16 b16", np.bitwise_and),
    "v_or_b16": ("b16", "b16 b16", np.bitwise_or),
    "v_xor_b16": ("b16", "b16 b16", np.bitwise_xor),
}


@instruction(*_WHOLE)
def _plain(code: Code) -> Step:
    target, kinds, function = _WHOLE[code.name]
    sources = kinds.split()
    code.done(1 + len(sources))
    wide = "u32" if target.endswith("16") and code.operands[0].half is None else target
    junk = _JUNK if wide != target and code.kernel.generation > 9 else 0
    put, reads = code.target(0, wide), [code.source(i + 1, kind) for i, kind in enumerate(sources)]

    def step(group: Group) -> None:
        with np.errstate(all="ignore"):
            value = function(*(read(group) for read in reads))
            put(group, np.asarray(value).astype("u2").astype("u4") | np.uint32(junk) if wide != target else value)

    return step


@instruction("v_cndmask_b16")
def _select_half(code: Code) -> Step:
    code.done(4)
    put, a, b, mask = code.target(0, "b16"), code.source(1, "b16"), code.source(2, "b16"), code.registers(3, "s")

    def step(group: Group) -> None:
        put(group, np.where(group.from_bits(group.scalar(mask)), b(group), a(group)))

    return step


_SELECTED = {"DWORD": (0, 32), **{f"BYTE_{i}": (8 * i, 8) for i in range(4)}, "WORD_0": (0, 16), "WORD_1": (16, 16)}


def _selected(code: Code, at: int, kind: str, select: str) -> Read:
    """A part of a source, which its sign may fill up."""
    operand = code.operands[at]
    signed = operand.text.startswith("sext(")
    if signed:
        operand = _operand(operand.text[len("sext(") : -1])
    read = code.source(operand, "u32")
    first, count = _SELECTED[select or "DWORD"]

    def part(group: Group) -> Any:
        value = (np.asarray(read(group)).astype(np.int64) >> first) & ((1 << count) - 1)
        value = value - ((value >> count - 1) << count) if signed and count < 32 else value
        return value.astype({"u32": "u4", "i32": "i4", "u16": "u2", "i16": "i2", "b32": "u4"}[kind])

    return part


_PARTS = ("v_lshlrev_b32", "v_lshrrev_b32", "v_ashrrev_i32", "v_and_b32", "v_or_b32", "v_xor_b32", "v_add_u32",
          "v_mul_i32_i24", "v_mul_u32_u24", "v_mov_b32", "v_add_u16", "v_sub_u16", "v_lshrrev_b16", "v_ashrrev_i16",
          "v_lshlrev_b16", "v_mul_lo_u16")  # fmt: skip


@instruction(*(f"{name}_sdwa" for name in _PARTS))
def _of_parts(code: Code) -> Step:
    name = code.name.removesuffix("_sdwa")
    target, kinds, function = FUNCTIONS.get(name) or _WHOLE[name]
    if code.modifier("dst_sel", "DWORD") != "DWORD" or code.modifier("dst_unused", "UNUSED_PAD") != "UNUSED_PAD":
        raise code.fail("a part of a register that is written")
    chosen = [code.modifier(f"src{i}_sel", "DWORD") for i in range(2)]
    sources = kinds.split()
    code.done(1 + len(sources))
    put = code.target(0, "u32" if target.endswith("16") else target)
    reads = [_selected(code, i + 1, kind, chosen[i]) for i, kind in enumerate(sources)]

    def step(group: Group) -> None:
        with np.errstate(all="ignore"):
            value = np.asarray(function(*(read(group) for read in reads)))
            put(group, value.astype("u2") if target.endswith("16") else value)

    return step


@instruction(*(f"v_cmp_{how}_{kind}_sdwa" for how in COMPARE for kind in ("u16", "i16", "u32", "i32")))
def _compare_parts(code: Code) -> Step:
    how, kind = code.name.split("_")[2:4]
    chosen = [code.modifier(f"src{i}_sel", "DWORD") for i in range(2)]
    code.done(3)
    a, b = (_selected(code, i + 1, kind, chosen[i]) for i in range(2))
    return _mask(code, lambda group: COMPARE[how](a(group), b(group)))


_ORDINARY = 2.0**60


@instruction("v_div_scale_f32")
def _scale(code: Code) -> Step:
    """The first of the steps of a division: no number is scaled, and those that would be are a Fault."""
    code.done(5)
    put, carry = code.target(0, "f32"), code.put(1)
    reads = [code.source(i + 2, "f32") for i in range(3)]

    def step(group: Group) -> None:
        value, low, high = (np.broadcast_to(read(group), group.lanes.shape) for read in reads)
        with np.errstate(all="ignore"):
            for one in (low, high):
                size = np.abs(one)
                far = np.isfinite(one) & (size > 0) & ((size > _ORDINARY) | (size < 1 / _ORDINARY))
                if (far & group.lanes).any():
                    raise Fault("numbers that v_div_scale_f32 would scale")
        put(group, value)
        carry(group, group.to_bits(np.zeros_like(group.lanes)))

    return step


@instruction("v_div_fmas_f32")
def _refine(code: Code) -> Step:
    code.done(4)
    put, reads = code.target(0, "f32"), [code.source(i + 1, "f32") for i in range(3)]

    def step(group: Group) -> None:
        with np.errstate(all="ignore"):
            put(group, FUNCTIONS["v_fma_f32"][2](*(read(group) for read in reads)))

    return step


@instruction("v_div_fixup_f32")
def _fix(code: Code) -> Step:
    """The last step: what a division of zeros, infinite numbers and not-a-numbers is."""
    code.done(4)
    put, reads = code.target(0, "f32"), [code.source(i + 1, "f32") for i in range(3)]

    def step(group: Group) -> None:
        found, low, high = (np.broadcast_to(read(group), group.lanes.shape) for read in reads)
        with np.errstate(all="ignore"):
            odd = ~np.isfinite(low) | ~np.isfinite(high) | (low == 0) | (high == 0)
            put(group, np.where(odd, high / low, np.copysign(np.abs(found), np.sign(low) * np.sign(high))))

    return step


_DUAL = ("v_add_nc_u32", "v_and_b32", "v_lshlrev_b32", "v_sub_f32", "v_subrev_f32", "v_min_f32")


@instruction(*(name.replace("v_", "v_dual_", 1) for name in _DUAL))
def _dual(code: Code) -> Step:
    target, kinds, function = FUNCTIONS[code.name.replace("v_dual_", "v_")]
    code.done(1 + len(kinds.split()))
    put, reads = code.target(0, target), [code.source(i + 1, kind) for i, kind in enumerate(kinds.split())]
    return lambda group: put(group, function(*(read(group) for read in reads)))


@instruction("v_dual_cndmask_b32")
def _dual_select(code: Code) -> Step:
    code.done(3)
    put, a, b, mask = code.target(0, "b32"), code.source(1, "b32"), code.source(2, "b32"), Registers("s", 106, 1)
    return lambda group: put(group, np.where(group.from_bits(group.scalar(mask)), b(group), a(group)))


@instruction("s_movk_i32", "s_mulk_i32")
def _small(code: Code) -> Step:
    """A constant of 16 bits, whose sign counts."""
    code.done(2)
    number = int(code.operands[1].text, 0)
    number -= 1 << 16 if number >= 1 << 15 else 0
    put, a = code.put(0), code.scalar(0, "i32")

    def step(group: Group) -> None:
        value = _long(a(group)) * number if "mul" in code.name else np.full(group.waves, number)
        put(group, value & 0xFFFFFFFF)

    return step
