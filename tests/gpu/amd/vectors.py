"""Vector arithmetic of AMD: one table of plain functions, then what needs more than a function of its sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gpu.amd.machine import Group, Hazard, Step
from tests.gpu.amd.operands import Code, Read, instruction
from tests.gpu.amd.text import Operand, Registers
from tests.gpu.faults import Fault
from tests.gpu.numbers import to_f16

U32, U64 = np.uint32, np.uint64


def _by(b: Any) -> Any:
    return np.asarray(b).astype(U32) & U32(31)


def _wide(x: Any) -> Any:
    return np.asarray(x).astype(np.float64)


def _fma(a: Any, b: Any, c: Any) -> Any:
    return (_wide(a) * _wide(b) + _wide(c)).astype(np.float32)


def _med3(a: Any, b: Any, c: Any) -> Any:
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def _bytes(x: Any, signed: bool) -> Any:
    whole = np.ascontiguousarray(np.atleast_1d(x))
    return whole.view(np.int8 if signed else np.uint8).reshape(*whole.shape, 4).astype(np.int64)


def _perm(a: Any, b: Any, pick: Any) -> Any:
    both = np.asarray(b).astype(U64) | np.asarray(a).astype(U64) << U64(32)
    value = U64(0)
    for byte in range(4):
        which = np.asarray(pick).astype(U64) >> U64(8 * byte) & U64(255)
        if (which >= 13).any() or ((which >= 8) & (which < 12)).any():
            raise Fault("v_perm_b32 with a selector that the interpreter does not know")
        found = np.where(which == 12, U64(0), both >> (which & U64(7)) * U64(8) & U64(255))
        value = value | found << U64(8 * byte)
    return value


def _u24(x: Any) -> Any:
    return np.asarray(x).astype(U64) & U64(0xFFFFFF)


def _bfe(a: Any, first: Any, count: Any) -> Any:
    x = np.asarray(a).astype(np.int64)
    n = np.asarray(count).astype(np.int64) & 31
    value = (x >> (np.asarray(first).astype(np.int64) & 31)) & ((1 << n) - 1)
    if np.asarray(a).dtype.kind == "i":
        value = np.where(n > 0, value - ((value >> np.maximum(n, 1) - 1) << n), 0)
    return value


def _to_int(low: int, high: int) -> Callable[[Any], Any]:
    return lambda x: np.clip(np.trunc(np.nan_to_num(_wide(x), nan=0.0)), low, high).astype(np.int64)


FUNCTIONS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "v_mov_b32": ("b32", "b32", lambda a: a),
    "v_not_b32": ("b32", "b32", lambda a: ~a),
    "v_bfrev_b32": ("b32", "b32", lambda a: sum(((a >> U32(i)) & U32(1)) << U32(31 - i) for i in range(32))),
    "v_add_u32": ("u32", "u32 u32", lambda a, b: a + b),
    "v_add_nc_u32": ("u32", "u32 u32", lambda a, b: a + b),
    "v_sub_u32": ("u32", "u32 u32", lambda a, b: a - b),
    "v_sub_nc_u32": ("u32", "u32 u32", lambda a, b: a - b),
    "v_subrev_u32": ("u32", "u32 u32", lambda a, b: b - a),
    "v_subrev_nc_u32": ("u32", "u32 u32", lambda a, b: b - a),
    "v_add_nc_i32": ("u32", "u32 u32", lambda a, b: a + b),
    "v_mul_lo_u32": ("u32", "u32 u32", lambda a, b: a * b),
    "v_mul_hi_u32": ("u32", "u32 u32", lambda a, b: np.asarray(a).astype(U64) * np.asarray(b).astype(U64) >> U64(32)),
    "v_mul_u32_u24": ("u32", "u32 u32", lambda a, b: _u24(a) * _u24(b)),
    "v_mul_i32_i24": ("u32", "i32 i32", lambda a, b: np.asarray(a).astype(np.int64) * b),
    "v_mad_u32_u24": ("u32", "u32 u32 u32", lambda a, b, c: _u24(a) * _u24(b) + c),
    "v_mad_i32_i24": ("u32", "i32 i32 i32", lambda a, b, c: np.asarray(a).astype(np.int64) * b + c),
    "v_lshlrev_b32": ("u32", "u32 u32", lambda a, b: b << _by(a)),
    "v_lshrrev_b32": ("u32", "u32 u32", lambda a, b: b >> _by(a)),
    "v_ashrrev_i32": ("i32", "u32 i32", lambda a, b: b >> _by(a).astype(np.int32)),
    "v_lshlrev_b64": ("u64", "u32 u64", lambda a, b: b << (np.asarray(a).astype(U64) & U64(63))),
    "v_lshrrev_b64": ("u64", "u32 u64", lambda a, b: b >> (np.asarray(a).astype(U64) & U64(63))),
    "v_lshl_add_u32": ("u32", "u32 u32 u32", lambda a, b, c: (a << _by(b)) + c),
    "v_add_lshl_u32": ("u32", "u32 u32 u32", lambda a, b, c: (a + b) << _by(c)),
    "v_lshl_or_b32": ("u32", "u32 u32 u32", lambda a, b, c: (a << _by(b)) | c),
    "v_add3_u32": ("u32", "u32 u32 u32", lambda a, b, c: a + b + c),
    "v_and_b32": ("u32", "u32 u32", np.bitwise_and),
    "v_or_b32": ("u32", "u32 u32", np.bitwise_or),
    "v_xor_b32": ("u32", "u32 u32", np.bitwise_xor),
    "v_and_or_b32": ("u32", "u32 u32 u32", lambda a, b, c: (a & b) | c),
    "v_or3_b32": ("u32", "u32 u32 u32", lambda a, b, c: a | b | c),
    "v_xor3_b32": ("u32", "u32 u32 u32", lambda a, b, c: a ^ b ^ c),
    "v_bfi_b32": ("u32", "u32 u32 u32", lambda a, b, c: (a & b) | (~a & c)),
    "v_bfe_u32": ("u32", "u32 u32 u32", _bfe),
    "v_bfe_i32": ("u32", "i32 u32 u32", _bfe),
    "v_perm_b32": ("u32", "u32 u32 u32", _perm),
    "v_alignbit_b32": (
        "u32",
        "u32 u32 u32",
        lambda a, b, c: (np.asarray(a).astype(U64) << U64(32) | b) >> (np.asarray(c).astype(U64) & U64(31)),
    ),
    "v_min_u32": ("u32", "u32 u32", np.minimum),
    "v_max_u32": ("u32", "u32 u32", np.maximum),
    "v_min_i32": ("i32", "i32 i32", np.minimum),
    "v_max_i32": ("i32", "i32 i32", np.maximum),
    "v_med3_i32": ("i32", "i32 i32 i32", _med3),
    "v_max3_i32": ("i32", "i32 i32 i32", lambda a, b, c: np.maximum(np.maximum(a, b), c)),
    "v_add_f32": ("f32", "f32 f32", lambda a, b: a + b),
    "v_sub_f32": ("f32", "f32 f32", lambda a, b: a - b),
    "v_subrev_f32": ("f32", "f32 f32", lambda a, b: b - a),
    "v_mul_f32": ("f32", "f32 f32", lambda a, b: a * b),
    "v_fma_f32": ("f32", "f32 f32 f32", _fma),
    "v_fmamk_f32": ("f32", "f32 f32 f32", _fma),
    "v_fmaak_f32": ("f32", "f32 f32 f32", _fma),
    "v_min_f32": ("f32", "f32 f32", np.fmin),
    "v_max_f32": ("f32", "f32 f32", np.fmax),
    "v_med3_f32": ("f32", "f32 f32 f32", _med3),
    "v_max3_f32": ("f32", "f32 f32 f32", lambda a, b, c: np.fmax(np.fmax(a, b), c)),
    "v_rcp_f32": ("f32", "f32", lambda a: 1 / a),
    "v_rsq_f32": ("f32", "f32", lambda a: 1 / np.sqrt(a)),
    "v_sqrt_f32": ("f32", "f32", np.sqrt),
    "v_exp_f32": ("f32", "f32", np.exp2),
    "v_log_f32": ("f32", "f32", np.log2),
    "v_rndne_f32": ("f32", "f32", np.rint),
    "v_floor_f32": ("f32", "f32", np.floor),
    "v_trunc_f32": ("f32", "f32", np.trunc),
    "v_ldexp_f32": ("f32", "f32 i32", lambda a, b: np.ldexp(a, b)),
    "v_cvt_f32_i32": ("f32", "i32", lambda a: np.asarray(a).astype(np.float32)),
    "v_cvt_f32_u32": ("f32", "u32", lambda a: np.asarray(a).astype(np.float32)),
    "v_cvt_i32_f32": ("i32", "f32", _to_int(-(1 << 31), (1 << 31) - 1)),
    "v_cvt_u32_f32": ("u32", "f32", _to_int(0, (1 << 32) - 1)),
    "v_cvt_f32_f16": ("f32", "f16", lambda a: a),
    "v_cvt_f16_f32": ("f16", "f32", lambda a: a),
    "v_add_f16": ("f16", "f16 f16", lambda a, b: a + b),
    "v_mul_f16": ("f16", "f16 f16", lambda a, b: a * b),
    "v_max_f16": ("f16", "f16 f16", np.fmax),
    "v_min_f16": ("f16", "f16 f16", np.fmin),
    "v_fma_f16": ("f16", "f16 f16 f16", lambda a, b, c: a * b + c),
    **{f"v_cvt_f32_ubyte{i}": ("f32", "u32", lambda a, i=i: (a >> U32(8 * i)) & U32(255)) for i in range(4)},
}
TRANSCENDENTAL = ("v_rcp_f32", "v_rsq_f32", "v_sqrt_f32", "v_exp_f32", "v_log_f32")


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
    return lambda group: put(group, _fma(a(group), b(group), c(group)))


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
        for kind in ("u32", "i32", "f32", "u64", "f16", "u16")
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
    a, b, c = code.source(2, "u32"), code.source(3, "u32"), code.source(4, "u64")

    def step(group: Group) -> None:
        with np.errstate(over="ignore"):
            value = np.asarray(a(group)).astype(U64) * np.asarray(b(group)).astype(U64)
            total = value + c(group)
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


# Packed halves and dot products


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
            values.append(_fma(a, b, c[0]) if c else a * b if kind == "mul" else a + b if kind == "add" else a)
        if code.name == "v_pk_mov_b32":
            values[1] = np.broadcast_to(reads[1][1](group), group.lanes.shape)
        for i, value in enumerate(values):
            group.put_vector(target.file, target.first + i, np.ascontiguousarray(value, np.float32).view(U32))

    return step


@instruction("v_pack_b32_f16")
def _pack(code: Code) -> Step:
    chosen = code.bits("op_sel", "[0,0,0]", 3)
    code.done(3)
    put, a, b = code.target(0, "b32"), code.source(1, "b32"), code.source(2, "b32")

    def step(group: Group) -> None:
        low, high = (x(group) >> U32(16 * s) & U32(0xFFFF) for x, s in zip((a, b), chosen, strict=False))
        put(group, low | high << U32(16))

    return step


@instruction("v_cvt_pkrtz_f16_f32", "v_cvt_pk_rtz_f16_f32")
def _to_halves(code: Code) -> Step:
    code.done(3)
    put, a, b = code.target(0, "b32"), code.source(1, "f32"), code.source(2, "f32")

    def cut(x: Any) -> Any:
        near = np.asarray(x, np.float16)
        over = np.abs(near.astype(np.float64)) > np.abs(_wide(x))
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
        x, y = _bytes(a(group), signs[0]), _bytes(b(group), signs[1])
        put(group, (x * y).sum(-1) + np.asarray(c(group)).astype(np.int64))

    return step


@instruction("v_dot2_f32_f16", "v_dot2c_f32_f16", "v_dot2acc_f32_f16")
def _dot_halves(code: Code) -> Step:
    sums = code.name != "v_dot2_f32_f16"
    code.done(3 if sums else 4)
    put, a, b = code.target(0, "f32"), _packed(code, 1, 0, 1, (0, 0)), _packed(code, 2, 0, 1, (0, 0))
    c = code.source(0 if sums else 3, "f32")
    return lambda group: put(group, (a(group) * b(group)).sum(-1) + c(group))
