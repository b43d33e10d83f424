"""Matrix instructions of AMD: MFMA of CDNA by waves of 64, WMMA of RDNA3 by waves of 32.

MFMA of M x M x K: a lane l holds p = K M / 64 neighbouring elements, of row l mod M of A and of column l mod M of B,
from p (l div M) on; of the sums, register r is at row 4 (l div 16) + r for M = 16, 8 (r div 4) + 4 (l div 32) + r mod 4
for M = 32, and column l mod M ("AMD Instinct MI200 / MI300 ISA", chapter 7). WMMA of 16 x 16 x 16: lane l holds all 16
elements of row l mod 16 of A (column of B), both halves of the wave the same; register r of the sums is at row
2 r + l div 16, column l mod 16 ("RDNA3 ISA", 7.9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.amd.machine import Group, Hazard, Step
from tests.gpu.amd.operands import Code, instruction
from tests.gpu.amd.text import Registers
from tests.gpu.faults import Fault
from tests.gpu.numbers import cut_tf32, from_bf16, from_f16

Decode = Callable[[NDArray[Any]], NDArray[np.float64]]
ELEMENTS: dict[str, tuple[int, Decode]] = {
    "f16": (16, from_f16),
    "bf16": (16, lambda b: from_bf16(b).astype(np.float64)),
    "f32": (32, lambda b: b.view(np.float32).astype(np.float64)),
    "xf32": (32, lambda b: cut_tf32(b.view(np.float32)).astype(np.float64)),
    "i8": (8, lambda b: b.view(np.int8).astype(np.float64)),
    "u8": (8, lambda b: b.astype(np.float64)),
}

MFMA = {
    ("f32", 32, 8, "f16"): 16,
    ("f32", 16, 16, "f16"): 8,
    ("f32", 32, 8, "bf16"): 16,
    ("f32", 16, 16, "bf16"): 8,
    ("f32", 32, 2, "f32"): 16,
    ("f32", 16, 4, "f32"): 8,
    ("f32", 32, 4, "xf32"): 16,
    ("f32", 16, 8, "xf32"): 8,
    ("i32", 32, 8, "i8"): 16,
    ("i32", 16, 16, "i8"): 8,
    ("i32", 32, 16, "i8"): 16,
    ("i32", 16, 32, "i8"): 8,
}
"""(sums, M, K, elements): passes, of which the results need 3 more slots; the most of any target."""

NAMES = {
    **{f"v_mfma_{d}_{m}x{m}x{k}{e}": (d, m, k, e) for d, m, k, e in MFMA if e in ("f16", "f32", "i8")},
    **{f"v_mfma_{d}_{m}x{m}x{k}_{e}": (d, m, k, e) for d, m, k, e in MFMA},
    **{f"v_mfma_f32_{m}x{m}x{k}bf16_1k": ("f32", m, k, "bf16") for m, k in ((32, 8), (16, 16))},
}
"""Texts call an instruction by both forms, as LLVM does."""


def words(group: Group, registers: Registers, sums: bool = False) -> NDArray[np.uint32]:
    """(waves, lanes, registers) of neighbouring vector registers, all lanes of a wave taking part."""
    files = range(registers.first, registers.first + registers.count)
    return np.stack([group.vector(registers.file, at, sums=sums) for at in files], -1)


def _whole(group: Group) -> None:
    if not group.execute[group.mask].all():
        raise Fault("a matrix instruction with part of a wave")


def _count(code: Code, at: int, count: int) -> Registers:
    registers = code.registers(at, "va")
    if registers.count != count:
        raise code.fail(f"operand {at} takes {count} registers")
    if registers.first % 2 and count > 1 and code.kernel.target in ("gfx90a", "gfx942"):
        raise code.fail(f"{registers} begins at an odd register")
    return registers


@instruction(*NAMES)
def _mfma(code: Code) -> Step:
    sums, size, depth, kind = NAMES[code.name]
    code.done(4)
    bits, decode = ELEMENTS[kind]
    per = depth * size // 64
    many = per * bits // 32
    a, b = _count(code, 1, many), _count(code, 2, many)
    d = _count(code, 0, size * size // 64)
    c = None if code.operands[3].registers is None else _count(code, 3, size * size // 64)
    if c is None and code.operands[3].text != "0":
        raise code.fail("sums begin at registers or at 0")
    passes = MFMA[sums, size, depth, kind]
    lane = np.arange(64)
    element = per * (lane // size)

    def fragment(group: Group, registers: Registers) -> NDArray[np.float64]:
        parts = decode(np.ascontiguousarray(words(group, registers)).view(f"u{bits // 8}"))  # (waves, 64, per)
        matrix = np.zeros((group.waves, size, depth))
        for e in range(per):
            matrix[:, lane % size, element + e] = parts[:, :, e]
        return matrix

    def row(r: int) -> NDArray[np.int64]:
        return 8 * (r // 4) + 4 * (lane // 32) + r % 4 if size == 32 else 4 * (lane // 16) + r

    def step(group: Group) -> None:
        _whole(group)
        for registers in filter(None, (a, b, c)):
            group.settled(registers)
        total = np.zeros((group.waves, size, size))
        if c is not None:
            group.check_hazard(c, True)
            start = words(group, c, sums=True).view(np.float32 if sums == "f32" else np.int32)
            for r in range(c.count):
                total[:, row(r), lane % size] = start[:, :, r]
        with np.errstate(all="ignore"):
            total += fragment(group, a) @ fragment(group, b).transpose(0, 2, 1)
        group.hazards = [h for h in group.hazards if h.registers != d]
        _put(group, d, sums, lambda r: total[:, row(r), lane % size])
        group.hazards.append(Hazard(d, group.slot + passes + 3 + 1, "a matrix instruction is not done with it"))

    return step


def _put(group: Group, d: Registers, sums: str, values: Callable[[int], NDArray[np.float64]]) -> None:
    for r in range(d.count):
        value = values(r)
        bits = value.astype(np.float32).view(np.uint32) if sums == "f32" else value.astype(np.int64).astype(np.uint32)
        group.put_vector(d.file, d.first + r, bits)


SMFMAC = {
    "v_smfmac_f32_16x16x32_f16": ("f32", 32, "f16"),
    "v_smfmac_f32_16x16x32_bf16": ("f32", 32, "bf16"),
    "v_smfmac_i32_16x16x64_i8": ("i32", 64, "i8"),
}
"""MFMA of 16 x 16 x K whose A has two of each four along K: lane l holds K / 8 of them, of row l mod 16, from column
(K / 4) (l div 16) on, and in the lowest bits of a register their places, two bits each, rising in each pair; of B K / 4
elements as in MFMA. The sums begin where they end ("AMD Instinct MI300 ISA", 7.4)."""


@instruction(*SMFMAC)
def _smfmac(code: Code) -> Step:
    sums, depth, kind = SMFMAC[code.name]
    code.done(4)
    bits, decode = ELEMENTS[kind]
    per = depth // 4
    a, b = _count(code, 1, per * bits // 64), _count(code, 2, per * bits // 32)
    d, where = _count(code, 0, 4), _count(code, 3, 1)
    if code.kernel.target != "gfx942":
        raise code.fail(f"{code.kernel.target} has no smfmac")
    lane = np.arange(64)
    row, first = lane % 16, per * (lane // 16)

    def step(group: Group) -> None:
        _whole(group)
        for registers in (a, b, d, where):
            group.settled(registers)
        group.check_hazard(d, True)
        places = words(group, where)[..., 0].astype(np.int64)
        kept = decode(np.ascontiguousarray(words(group, a)).view(f"u{bits // 8}"))
        full = decode(np.ascontiguousarray(words(group, b)).view(f"u{bits // 8}"))
        left, right = (np.zeros((group.waves, 16, depth)) for _ in range(2))
        for pair in range(per // 4):
            low, high = places >> 4 * pair & 3, places >> 4 * pair + 2 & 3
            if (low >= high)[group.mask].any():
                raise Fault("the two places of a 2:4 group do not rise")
            for wave in range(group.waves):
                left[wave, row, first + 4 * pair + low[wave]] = kept[wave, :, 2 * pair]
                left[wave, row, first + 4 * pair + high[wave]] = kept[wave, :, 2 * pair + 1]
        for e in range(per):
            right[:, row, first + e] = full[:, :, e]
        total = np.zeros((group.waves, 16, 16))
        start = words(group, d, sums=True).view(np.float32 if sums == "f32" else np.int32)
        for r in range(4):
            total[:, 4 * (lane // 16) + r, row] = start[:, :, r]
        with np.errstate(all="ignore"):
            total += left @ right.transpose(0, 2, 1)
        group.hazards = [h for h in group.hazards if h.registers != d]
        _put(group, d, sums, lambda r: total[:, 4 * (lane // 16) + r, row])
        group.hazards.append(Hazard(d, group.slot + 8 + 3 + 1, "a matrix instruction is not done with it"))

    return step


WMMA = {
    "v_wmma_f32_16x16x16_f16": ("f32", "f16"),
    "v_wmma_f32_16x16x16_bf16": ("f32", "bf16"),
    "v_wmma_i32_16x16x16_iu8": ("i32", "i8"),
}


@instruction(*WMMA)
def _wmma(code: Code) -> Step:
    sums, kind = WMMA[code.name]
    signs = code.bits("neg_lo", "[0,0,0]", 3) if sums == "i32" else [0, 0, 0]
    code.word("clamp")
    code.done(4)
    if code.kernel.wave != 32:
        raise code.fail("WMMA by waves of 64")
    bits, _ = ELEMENTS[kind]
    many = 16 * bits // 32
    a, b, d = _count(code, 1, many), _count(code, 2, many), _count(code, 0, 8)
    c = None if code.operands[3].registers is None else _count(code, 3, 8)
    if c is None and code.operands[3].text != "0":
        raise code.fail("sums begin at registers or at 0")
    if any(d.first < o.first + o.count and o.first < d.first + 8 for o in (a, b)):
        raise code.fail("the sums lie over a factor")
    lane = np.arange(32)

    def fragment(group: Group, registers: Registers, which: int) -> NDArray[np.float64]:
        whole = words(group, registers)
        if (whole[:, :16] != whole[:, 16:])[group.mask].any():
            raise Fault(f"{registers}: lanes 16 to 31 have to repeat lanes 0 to 15")
        decode = ELEMENTS[kind if sums == "f32" else "i8" if signs[which] else "u8"][1]
        return decode(np.ascontiguousarray(whole[:, :16]).view(f"u{bits // 8}"))  # (waves, 16, 16)

    def step(group: Group) -> None:
        _whole(group)
        total = np.zeros((group.waves, 16, 16))
        if c is not None:
            start = words(group, c, sums=True).view(np.float32 if sums == "f32" else np.int32)
            for r in range(8):
                total[:, 2 * r + lane // 16, lane % 16] = start[:, :, r]
        with np.errstate(all="ignore"):
            total += fragment(group, a, 0) @ fragment(group, b, 1).transpose(0, 2, 1)
        _put(group, d, sums, lambda r: total[:, 2 * r + lane // 16, lane % 16])

    return step
