"""Scalar instructions of AMD: arithmetic, branches, waits, barriers and loads of arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gpu.amd.machine import VCC, Group, Request, Step
from tests.gpu.amd.operands import Code, instruction
from tests.gpu.amd.text import Registers
from tests.gpu.faults import Fault

Binary = Callable[[Any, Any], Any]


def _shift(left: bool) -> Binary:
    def shift(a: Any, b: Any) -> Any:
        by = np.asarray(b).astype(np.uint64) & np.uint64(8 * np.asarray(a).dtype.itemsize - 1)
        return (
            np.left_shift(a, by.astype(np.asarray(a).dtype))
            if left
            else np.right_shift(a, by.astype(np.asarray(a).dtype))
        )

    return shift


LOGIC: dict[str, Binary] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "andn2": lambda a, b: a & ~b,
    "and_not1": lambda a, b: a & ~b,
    "orn2": lambda a, b: a | ~b,
    "or_not1": lambda a, b: a | ~b,
    "nand": lambda a, b: ~(a & b),
    "nor": lambda a, b: ~(a | b),
    "xnor": lambda a, b: ~(a ^ b),
}


@instruction(*(f"s_{name}_{bits}" for name in LOGIC for bits in ("b32", "b64")))
def _logic(code: Code) -> Step:
    name, kind = code.name[2:].rsplit("_", 1)
    code.done(3)
    put, a, b = code.put(0), code.scalar(1, kind), code.scalar(2, kind)

    def step(group: Group) -> None:
        value = LOGIC[name](a(group), b(group))
        put(group, value)
        _scc(group, value != 0)

    return step


def _scc(group: Group, value: Any) -> None:
    group.scc = np.where(group.mask, value, group.scc)


@instruction("s_add_u32", "s_addc_u32", "s_sub_u32", "s_subb_u32", "s_add_i32", "s_sub_i32")
def _sums(code: Code) -> Step:
    code.done(3)
    subtracts, carries, signed = "sub" in code.name, code.name[5:6] in "cb", code.name.endswith("i32")
    carries = code.name in ("s_addc_u32", "s_subb_u32")
    put, a, b = code.put(0), code.scalar(1, "u32"), code.scalar(2, "u32")

    def step(group: Group) -> None:
        x, y = np.asarray(a(group)).astype(np.int64), np.asarray(b(group)).astype(np.int64)
        carry = group.scc.astype(np.int64) if carries else 0
        value = x - y - carry if subtracts else x + y + carry
        put(group, value & 0xFFFFFFFF)
        if signed:
            sx, sy = (np.where(v >> 31 & 1, v - (1 << 32), v) for v in (x, y))
            exact = sx - sy if subtracts else sx + sy
            _scc(group, (exact < -(1 << 31)) | (exact >= 1 << 31))
        else:
            _scc(group, value < 0 if subtracts else value >> 32 != 0)

    return step


@instruction("s_mul_i32", "s_mul_hi_u32")
def _products(code: Code) -> Step:
    code.done(3)
    put, a, b = code.put(0), code.scalar(1, "u32"), code.scalar(2, "u32")
    shift = np.uint64(32 if "hi" in code.name else 0)

    def step(group: Group) -> None:
        put(group, (np.asarray(a(group)).astype(np.uint64) * np.asarray(b(group)).astype(np.uint64)) >> shift)

    return step


@instruction("s_lshl_b32", "s_lshr_b32", "s_ashr_i32", "s_lshl_b64", "s_lshr_b64", "s_ashr_i64")
def _shifts(code: Code) -> Step:
    code.done(3)
    kind = code.name[-3:]
    put, a, b, move = code.put(0), code.scalar(1, kind), code.scalar(2, "u32"), _shift("lshl" in code.name)

    def step(group: Group) -> None:
        value = move(np.asarray(a(group)), b(group))
        put(group, value)
        _scc(group, value != 0)

    return step


@instruction("s_bfe_u32")
def _extract(code: Code) -> Step:
    code.done(3)
    put, a, b = code.put(0), code.scalar(1, "u32"), code.scalar(2, "u32")

    def step(group: Group) -> None:
        how = np.asarray(b(group)).astype(np.uint64)
        first, count = how & np.uint64(31), how >> np.uint64(16) & np.uint64(127)
        value = np.asarray(a(group)).astype(np.uint64) >> first & ((np.uint64(1) << count) - np.uint64(1))
        put(group, value)
        _scc(group, value != 0)

    return step


@instruction("s_min_u32", "s_max_u32", "s_min_i32", "s_max_i32")
def _extremes(code: Code) -> Step:
    code.done(3)
    kind = code.name[-3:]
    put, a, b = code.put(0), code.scalar(1, kind), code.scalar(2, kind)

    def step(group: Group) -> None:
        x, y = a(group), b(group)
        first = x < y if "min" in code.name else x > y
        put(group, np.where(first, x, y).astype(np.asarray(x).dtype).view(np.uint32))
        _scc(group, first)

    return step


@instruction("s_mov_b32", "s_mov_b64", "s_not_b32", "s_not_b64")
def _moves(code: Code) -> Step:
    code.done(2)
    kind = "b64" if code.name.endswith("64") else "b32"
    put, a, inverts = code.put(0), code.scalar(1, kind), "not" in code.name

    def step(group: Group) -> None:
        value = ~a(group) if inverts else a(group)
        put(group, value)
        if inverts:
            _scc(group, value != 0)

    return step


@instruction("s_cselect_b32", "s_cselect_b64")
def _select(code: Code) -> Step:
    code.done(3)
    put, a, b = code.put(0), code.scalar(1, code.name[-3:]), code.scalar(2, code.name[-3:])
    return lambda group: put(group, np.where(group.scc, a(group), b(group)))


COMPARE: dict[str, Binary] = {
    "eq": np.equal,
    "lg": np.not_equal,
    "ne": np.not_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
}


@instruction(*(f"s_cmp_{how}_{kind}" for how in COMPARE for kind in ("u32", "i32", "u64")))
def _compare(code: Code) -> Step:
    code.done(2)
    how, kind = code.name.split("_")[2:]
    a, b = code.scalar(0, kind), code.scalar(1, kind)
    return lambda group: _scc(group, COMPARE[how](a(group), b(group)))


@instruction(
    "s_branch",
    "s_cbranch_scc0",
    "s_cbranch_scc1",
    "s_cbranch_vccz",
    "s_cbranch_vccnz",
    "s_cbranch_execz",
    "s_cbranch_execnz",
)
def _branch(code: Code) -> Step:
    code.done(1)
    to, how = code.kernel.labels[code.operands[0].text], code.name.rpartition("_")[2]

    def step(group: Group) -> None:
        if how == "branch":
            goes = group.mask
        elif how.startswith("scc"):
            goes = group.scc == (how == "scc1")
        elif how.startswith("vcc"):
            vcc = group.scalar(Registers("s", VCC, 2 if group.wave == 64 else 1))
            goes = (vcc != 0) == (how == "vccnz")
        else:
            goes = group.execute.any(1) == (how == "execnz")
        group.jump = {to: group.mask & goes}

    return step


@instruction("s_getpc_b64")
def _here(code: Code) -> Step:
    code.done(1)
    put, value = code.put(0), 4 * (code.at + 1)
    return lambda group: put(group, np.uint64(value))


@instruction("s_setpc_b64")
def _go(code: Code) -> Step:
    code.done(1)
    a = code.scalar(0, "u64")

    def step(group: Group) -> None:
        places = np.broadcast_to(a(group), group.waves)
        for place in np.unique(places[group.mask]).tolist():
            group.jump[place // 4] = group.mask & (places == place)

    return step


@instruction(*(f"s_{how}_saveexec_{bits}" for how in ("and", "or", "andn2", "and_not1") for bits in ("b32", "b64")))
def _save(code: Code) -> Step:
    code.done(2)
    how, bits = code.name[2:].split("_saveexec_")
    put, a = code.put(0), code.scalar(1, bits)
    executes = Registers("s", 126, 2 if bits == "b64" else 1)

    def step(group: Group) -> None:
        old = group.scalar(executes).copy()
        value = a(group)
        new = {"and": value & old, "or": value | old}.get(how, value & ~old)
        put(group, old)
        group.put_scalar(executes, new)
        _scc(group, new != 0)

    return step


@instruction("s_barrier")
def _barrier(code: Code) -> Step:
    code.done(0)

    def step(group: Group) -> None:
        group.waits = True

    return step


@instruction("s_endpgm")
def _end(code: Code) -> Step:
    code.done(0)

    def step(group: Group) -> None:
        group.ends = True

    return step


@instruction("s_waitcnt")
def _wait(code: Code) -> Step:
    text = " ".join(operand.text for operand in code.operands)
    counts = {name: int(n) for name, n in re.findall(r"(\w+)\((\d+)\)", text)}
    if re.sub(r"\w+\(\d+\)|[&\s]", "", text) or not set(counts) <= {"vmcnt", "lgkmcnt", "expcnt"} or not counts:
        raise code.fail("a wait that names no counter")
    limit = {9: 15, 10: 63, 11: 63}[code.kernel.generation]
    if counts.get("vmcnt", 0) > 63 or counts.get("lgkmcnt", 0) > limit:
        raise code.fail("a wait for more than the counter holds")

    def step(group: Group) -> None:
        if "vmcnt" in counts:
            group.settle(group.loads, counts["vmcnt"])
        if "lgkmcnt" in counts:
            group.settle(group.locals, counts["lgkmcnt"])

    return step


@instruction("s_waitcnt_vscnt")
def _wait_for_stores(code: Code) -> Step:
    code.done(2)
    left = int(code.operands[1].text, 0)
    return lambda group: group.settle(group.stores, left)


@instruction("s_nop")
def _nop(code: Code) -> Step:
    code.done(1)
    more = int(code.operands[0].text, 0)
    if not 0 <= more <= 15:
        raise code.fail("s_nop takes 0 to 15")

    def step(group: Group) -> None:
        group.slot += more

    return step


@instruction(
    "s_clause",
    "s_delay_alu",
    "s_setprio",
    "s_inst_prefetch",
    "s_set_inst_prefetch_distance",
    "s_sleep",
    "v_nop",
)
def _hint(code: Code) -> Step:
    return lambda group: None


@instruction("s_waitcnt_depctr")
def _wait_for_results(code: Code) -> Step:
    code.done(1)
    text = code.operands[0].text
    if text == "depctr_va_vdst(0)":
        text = "0xfff"
    if int(text, 0) >> 12:  # the upper four bits count the results of vector instructions
        raise code.fail("a wait that leaves results of vector instructions out")

    def step(group: Group) -> None:
        group.hazards = [hazard for hazard in group.hazards if hazard.registers.file == "s"]

    return step


@instruction(
    "s_load_dword",
    "s_load_b32",
    "s_load_dwordx2",
    "s_load_b64",
    "s_load_dwordx4",
    "s_load_b128",
    "s_load_dwordx8",
    "s_load_b256",
    "s_load_dwordx16",
    "s_load_b512",
)
def _load(code: Code) -> Step:
    code.word("glc")
    more = int(code.modifier("offset", "0"), 0)
    code.done(3)
    size = code.name.rpartition("_")[2]
    many = int(size[6:] or 1) if size.startswith("dwordx") else 1 if size == "dword" else int(size[1:]) // 32
    target = code.registers(0, "s")
    if target.count != many or target.first % min(many, 4):
        raise code.fail(f"{many} registers from a multiple of {min(many, 4)}")
    base, offset = code.scalar(1, "u64"), code.scalar(2, "u32")

    def step(group: Group) -> None:
        addresses = np.broadcast_to(base(group) + np.asarray(offset(group)).astype(np.uint64), group.waves)[group.mask]
        addresses = addresses + np.uint64(more)
        if (addresses % np.uint64(4)).any():
            raise Fault("an address is misaligned for 4 bytes")
        words = np.ascontiguousarray(group.launch.memory.read(addresses, 4 * many, "s_load")).view(np.uint32)
        for i in range(many):
            value = np.zeros(group.waves, np.uint32)
            value[group.mask] = words[:, i]
            group.put_scalar(Registers("s", target.first + i, 1), value)
        waves = np.flatnonzero(group.mask).tolist()
        group.ask(group.locals, {wave: Request(target, in_order=False) for wave in waves})

    return step
