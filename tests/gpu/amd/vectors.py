"""Vector arithmetic of AMD beside plain functions: lanes that change places, comparisons, carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gpu.amd.functions import FUNCTIONS, TRANSCENDENTAL, U64, fma
from tests.gpu.amd.machine import Group, Hazard, Step
from tests.gpu.amd.operands import Code, Read, instruction
from tests.gpu.amd.text import Registers
from tests.gpu.faults import Fault


@instruction(*FUNCTIONS)
def _plain(code: Code) -> Step:
    target, kinds, function = FUNCTIONS[code.name]
    sources = kinds.split()
    clamps = bool(code.word("clamp")) and target in ("f32", "f16")
    scale = {"": 1.0, "2": 2.0, "4": 4.0}[code.modifier("mul")] * {"": 1.0, "2": 0.5}[code.modifier("div")]
    lanes = _dpp(code)
    code.done(1 + len(sources))
    put = code.target(0, target)
    reads = [code.source(i + 1, kind) for i, kind in enumerate(sources)]
    if lanes:
        reads[0] = lanes(reads[0])

    def step(group: Group) -> None:
        with np.errstate(all="ignore"):
            value = function(*(read(group) for read in reads))
            value = value * scale if scale != 1 else value
            put(group, np.clip(value, 0, 1) if clamps else value)
        late = {"gfx942": 2, "gfx1100": 8}.get(group.kernel.target)
        if late and code.name in TRANSCENDENTAL:
            what = "the result of a transcendental function comes late"
            group.hazards.append(Hazard(code.registers(0, "v"), group.slot + late, what))

    return step


def _dpp(code: Code) -> Callable[[Read], Read] | None:
    """The exchange of lanes that an instruction makes of its first source."""
    row, bank = code.modifier("row_mask", "0xf"), code.modifier("bank_mask", "0xf")
    zero = code.modifier("bound_ctrl")
    quad = code.modifier("quad_perm")
    shifts = {name: code.modifier(name) for name in ("row_shl", "row_shr", "row_ror", "row_xmask", "row_bcast")}
    mirror = code.word("row_mirror", "row_half_mirror")
    chosen = [name for name, value in shifts.items() if value]
    if not quad and not chosen and not mirror:
        return None
    if row != "0xf" or bank != "0xf" or "row_bcast" in chosen:
        raise code.fail("dpp of this kind")

    def exchange(read: Read) -> Read:
        def moved(group: Group) -> Any:
            lane = np.arange(group.wave)
            inside = np.ones(group.wave, bool)
            if quad:
                order = np.array([int(c) for c in quad.strip("[]").split(",")])
                source = lane // 4 * 4 + order[lane % 4]
            elif mirror:
                width = 16 if mirror == "row_mirror" else 8
                source = lane // width * width + width - 1 - lane % width
            else:
                by = int(shifts[chosen[0]], 0)
                place = {"row_shl": lane % 16 + by, "row_shr": lane % 16 - by, "row_ror": (lane % 16 - by) % 16}
                within = place.get(chosen[0], lane % 16 ^ by)
                inside = (within >= 0) & (within < 16)
                source = lane // 16 * 16 + np.clip(within, 0, 15)
            if not inside.all() and not zero:
                raise Fault("dpp from beyond a row keeps what was there: bound_ctrl makes it 0")
            keep = group.lanes
            taken = np.zeros_like(keep)
            taken[:, source] |= keep
            group.lanes = taken
            value = np.broadcast_to(read(group), keep.shape)
            group.lanes = keep
            return np.where(inside, value[:, source], np.zeros((), value.dtype))

        return moved

    return exchange


@instruction("v_fmac_f32", "v_mac_f32", "v_dual_fmac_f32")
def _accumulate(code: Code) -> Step:
    lanes = _dpp(code)
    code.done(3)
    put, a, b, c = code.target(0, "f32"), code.source(1, "f32"), code.source(2, "f32"), code.source(0, "f32")
    a = lanes(a) if lanes else a
    return lambda group: put(group, fma(a(group), b(group), c(group)))


@instruction(
    "v_dual_mul_f32", "v_dual_add_f32", "v_dual_mov_b32", "v_dual_max_f32", "v_dual_fmaak_f32", "v_dual_fmamk_f32"
)
def _dual(code: Code) -> Step:
    target, kinds, function = FUNCTIONS[code.name.replace("v_dual_", "v_")]
    code.done(1 + len(kinds.split()))
    put, reads = code.target(0, target), [code.source(i + 1, kind) for i, kind in enumerate(kinds.split())]
    return lambda group: put(group, function(*(read(group) for read in reads)))


COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lg": lambda a, b: (a < b) | (a > b),
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "neq": np.not_equal,
    "u": lambda a, b: np.isnan(a) | np.isnan(b),
}


@instruction(
    *(
        f"v_cmp{x}_{how}_{kind}"
        for x in ("", "x")
        for how in COMPARE
        for kind in ("u32", "i32", "f32", "u64", "f16", "u16", "i16")
    )
)
def _compare(code: Code) -> Step:
    how, kind = code.name.split("_")[2:]
    executes = code.name.startswith("v_cmpx")
    written = 1 if len(code.operands) == 3 else 0
    code.done((2, 3) if executes else 3)
    a, b = code.source(written, kind), code.source(written + 1, kind)
    registers = code.registers(0, "s") if written else None

    def step(group: Group) -> None:
        found = np.broadcast_to(COMPARE[how](a(group), b(group)), group.lanes.shape) & group.lanes
        words = group.to_bits(found)
        if registers is not None:
            if registers.count != (2 if group.wave == 64 else 1):
                raise Fault("a mask of another number of lanes")
            group.put_scalar(registers, words)
            _written(group, registers)
        if executes:
            group.put_scalar(Registers("s", 126, 2 if group.wave == 64 else 1), words)

    return step


def _written(group: Group, registers: Registers) -> None:
    """A scalar that a vector instruction wrote is late for memory instructions of gfx9, which do not wait for it."""
    if group.kernel.generation == 9:
        group.hazards.append(Hazard(registers, group.slot + 6, "a memory instruction needs 5 slots between"))


@instruction("v_cndmask_b32")
def _select(code: Code) -> Step:
    code.done(4)
    put, a, b, mask = code.target(0, "b32"), code.source(1, "b32"), code.source(2, "b32"), code.registers(3, "s")

    def step(group: Group) -> None:
        chosen = group.from_bits(group.scalar(mask))
        put(group, np.where(chosen, b(group), a(group)))

    return step


@instruction("v_add_co_u32", "v_sub_co_u32", "v_addc_co_u32", "v_add_co_ci_u32", "v_subb_co_u32", "v_sub_co_ci_u32")
def _carries(code: Code) -> Step:
    takes = code.name in ("v_addc_co_u32", "v_add_co_ci_u32", "v_subb_co_u32", "v_sub_co_ci_u32")
    code.done(5 if takes else 4)
    put, carry, a, b = code.target(0, "u32"), code.put(1), code.source(2, "u32"), code.source(3, "u32")
    given = code.registers(4, "s") if takes else None

    def step(group: Group) -> None:
        more = group.from_bits(group.scalar(given)).astype(np.int64) if given is not None else 0
        x, y = np.asarray(a(group)).astype(np.int64), np.asarray(b(group)).astype(np.int64)
        value = x - y - more if "sub" in code.name else x + y + more
        out = np.broadcast_to((value < 0) | (value >> 32 > 0), group.lanes.shape) & group.lanes
        put(group, value & 0xFFFFFFFF)
        carry(group, group.to_bits(out))

    return step


@instruction("v_mad_u64_u32")
def _wide_mad(code: Code) -> Step:
    code.done(5)
    put, carry = code.target(0, "u64"), code.put(1)
    a, b = code.source(2, "u32"), code.source(3, "u32")
    pair = code.operands[4].registers
    c = code.source(4, "u64")

    def added(group: Group) -> Any:
        """The sum so far. Its upper half may be unset where only the lower half of the result is wanted."""
        if pair is None or pair.file != "v" or group.known["v"][pair.first + 1][group.lanes].all():
            return c(group)
        return group.vector("v", pair.first).astype(U64) | U64(0xA5A5A5A5 << 32)

    def step(group: Group) -> None:
        with np.errstate(over="ignore"):
            value = np.asarray(a(group)).astype(U64) * np.asarray(b(group)).astype(U64)
            total = value + added(group)
        put(group, total)
        carry(group, group.to_bits(np.broadcast_to(total < value, group.lanes.shape) & group.lanes))

    return step


@instruction("v_readfirstlane_b32", "v_readlane_b32")
def _first_lane(code: Code) -> Step:
    first = "first" in code.name
    code.done(2 if first else 3)
    target, source = code.registers(0, "s"), code.registers(1, "v")
    which = None if first else code.scalar(2, "u32")

    def step(group: Group) -> None:
        lane = group.lanes.argmax(1) if which is None else np.broadcast_to(which(group), group.waves)
        only = np.zeros_like(group.lanes)
        only[np.arange(group.waves), lane] = group.mask
        value = group.vector("v", source.first, only)
        group.put_scalar(target, value[np.arange(group.waves), lane])
        _written(group, target)

    return step


@instruction("v_mbcnt_lo_u32_b32", "v_mbcnt_hi_u32_b32")
def _lane_number(code: Code) -> Step:
    code.done(3)
    put, a, b = code.target(0, "u32"), code.source(1, "u32"), code.source(2, "u32")

    def step(group: Group) -> None:
        lane = np.arange(group.wave)
        below = np.minimum(lane, 32) if "_lo_" in code.name else np.maximum(lane - 32, 0)
        bits = np.asarray(a(group)).astype(U64) & ((U64(1) << below.astype(U64)) - U64(1))
        count = sum((bits >> U64(i)) & U64(1) for i in range(32))
        put(group, count + b(group))

    return step


@instruction("v_accvgpr_read_b32", "v_accvgpr_write_b32")
def _sums_register(code: Code) -> Step:
    code.done(2)
    put, a = code.target(0, "b32"), code.source(1, "b32")
    return lambda group: put(group, a(group))
