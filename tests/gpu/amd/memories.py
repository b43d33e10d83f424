"""Loads and stores of AMD: global memory by vectors, and LDS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.amd.machine import Group, Request, Step
from tests.gpu.amd.operands import Code, instruction
from tests.gpu.amd.text import Registers
from tests.gpu.faults import Fault

SIZES = {"dword": 4, "dwordx2": 8, "dwordx3": 12, "dwordx4": 16, "b32": 4, "b64": 8, "b96": 12, "b128": 16}
PARTS = {"ubyte": "u1", "sbyte": "i1", "ushort": "u2", "sshort": "i2", "u8": "u1", "i8": "i1", "u16": "u2", "i16": "i2"}
HALVES = {"short_d16": 0, "d16_b16": 0, "short_d16_hi": 1, "d16_hi_b16": 1}
STORED = {"byte": 1, "b8": 1, "short": 2, "b16": 2}
CACHES = ("glc", "slc", "dlc", "nt", "sc0", "sc1")


def _check(addresses: NDArray[Any], size: int) -> None:
    if (addresses % addresses.dtype.type(min(size, 4))).any():
        raise Fault(f"an address is misaligned for {min(size, 4)} bytes")


class Place:
    """The addresses of a global load or store: a vector of 64 bits, or a scalar base and a vector of 32 bits."""

    def __init__(self, code: Code, at: int) -> None:
        self.offset = int(code.modifier("offset", "0"), 0)
        for word in CACHES:
            code.word(word)
        limits = {9: (-4096, 4095), 10: (-2048, 2047), 11: (-4096, 4095)}[code.kernel.generation]
        if not limits[0] <= self.offset <= limits[1]:
            raise code.fail(f"an offset beyond {limits}")
        self.far = code.operands[at + 1].text == "off"
        self.vector = code.source(at, "u64" if self.far else "u32")
        self.base = None if self.far else code.scalar(at + 1, "u64")
        self.scalar = None if self.far else code.registers(at + 1, "s")

    def __call__(self, group: Group) -> NDArray[np.uint64]:
        """The addresses of the lanes that take part."""
        if self.scalar is not None:
            group.check_hazard(self.scalar, False)
        with np.errstate(over="ignore"):
            whole = np.broadcast_to(self.vector(group), group.lanes.shape).astype(np.uint64)
            if self.base is not None:
                whole = whole + np.broadcast_to(self.base(group), group.waves)[:, None].astype(np.uint64)
            return whole[group.lanes] + np.uint64(self.offset & (1 << 64) - 1)


def _waves(group: Group) -> list[int]:
    return np.flatnonzero(group.mask).tolist()


def _fill(group: Group, registers: Registers, words: NDArray[np.uint32]) -> None:
    """Put (n, count) words to registers, for the n lanes that take part."""
    for i in range(registers.count):
        value = np.zeros(group.lanes.shape, np.uint32)
        value[group.lanes] = words[:, i]
        group.put_vector(registers.file, registers.first + i, value)


def _fill_half(group: Group, registers: Registers, half: int, words: NDArray[np.uint16]) -> None:
    """Put (n,) words of 16 bits to a half of a register, for the n lanes that take part."""
    value = np.zeros(group.lanes.shape, np.uint32)
    value[group.lanes] = words
    group.put_half(registers.file, registers.first, half, value, comes=True)


@instruction(*(f"global_load_{kind}" for kind in (*SIZES, *PARTS, *HALVES)))
def _load(code: Code) -> Step:
    kind = code.name.removeprefix("global_load_")
    place = Place(code, 1)
    code.done(3)
    target = code.registers(0, "va")
    size = SIZES.get(kind) or (np.dtype(PARTS[kind]).itemsize if kind in PARTS else 2)
    if target.count != -(-size // 4):
        raise code.fail(f"{size} bytes into {target.count} registers")

    def step(group: Group) -> None:
        addresses = place(group)
        _check(addresses, size)
        found = group.launch.memory.read(addresses, size, "global_load")
        if kind in SIZES:
            words = np.ascontiguousarray(found).view(np.uint32)
        elif kind in PARTS:
            words = np.ascontiguousarray(found).view(PARTS[kind]).astype(np.int64).astype(np.uint32)
        else:
            _fill_half(group, target, HALVES[kind], np.ascontiguousarray(found).view(np.uint16)[:, 0])
        if kind not in HALVES:
            _fill(group, target, words)
        group.ask(group.loads, {wave: Request(target) for wave in _waves(group)})

    return step


@instruction(*(f"global_store_{kind}" for kind in (*SIZES, *STORED, "short_d16_hi", "d16_hi_b16")))
def _store(code: Code) -> Step:
    kind = code.name.removeprefix("global_store_")
    place = Place(_moved(code), 0)
    code.done(3)
    data = code.registers(2, "va")
    size = SIZES.get(kind) or STORED.get(kind) or 2
    if data.count != -(-size // 4):
        raise code.fail(f"{size} bytes from {data.count} registers")

    def step(group: Group) -> None:
        addresses = place(group)
        _check(addresses, size)
        words = np.stack([group.vector(data.file, data.first + i)[group.lanes] for i in range(data.count)], -1)
        if kind in ("short_d16_hi", "d16_hi_b16"):
            words = words >> np.uint32(16)
        values = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), 4 * data.count)[:, :size]
        threads = group.thread[group.lanes] + group.number * group.thread.size
        group.launch.memory.write(addresses, values, "global_store", threads)
        queue = group.stores if group.kernel.generation >= 10 else group.loads
        group.ask(queue, {wave: Request() for wave in _waves(group)})

    return step


def _moved(code: Code) -> Code:
    """A store names its address, its data, and its base: the base beside the address, as a load has them."""
    code.operands = (code.operands[0], code.operands[2], code.operands[1]) if len(code.operands) == 3 else code.operands
    return code


@instruction("global_atomic_add_f32", "global_atomic_add", "global_atomic_add_u32")
def _atomic(code: Code) -> Step:
    place = Place(_moved(code), 0)
    code.done(3)
    data = code.registers(2, "va")
    kind = "<f4" if code.name.endswith("f32") else "<u4"

    def step(group: Group) -> None:
        addresses = place(group)
        _check(addresses, 4)
        values = group.vector(data.file, data.first)[group.lanes].view(kind)
        group.launch.memory.add(addresses, kind, values, "global_atomic")
        queue = group.stores if group.kernel.generation >= 10 else group.loads
        group.ask(queue, {wave: Request() for wave in _waves(group)})

    return step


LOCAL = {"b32": 4, "b64": 8, "b96": 12, "b128": 16, "u8": 1, "b8": 1, "u16": 2, "b16": 2, "i8": 1, "i16": 2}
TWO = ("2_b32", "2_b64", "2st64_b32", "2st64_b64")


def _lds(code: Code, group: Group, address: Any, offset: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n, size) places in LDS and the n threads that touch them."""
    whole = np.broadcast_to(address(group), group.lanes.shape)[group.lanes].astype(np.int64) + offset
    align = 16 if size == 16 and group.kernel.generation < 9 else min(size, 8)
    if (whole % align).any():
        raise Fault(f"an address of LDS is misaligned for {align} bytes")
    return whole[:, None] + np.arange(size), group.thread[group.lanes]


@instruction(
    *(f"ds_read_{k}" for k in LOCAL),
    *(f"ds_load_{k}" for k in LOCAL),
    *(f"ds_read{k}" for k in TWO),
    *(f"ds_load_{k}addr_{k2}" for k, k2 in (("2", "b32"), ("2", "b64"), ("2st64", "b32"), ("2st64", "b64"))),
)
def _read(code: Code) -> Step:
    two = "2addr" in code.name or "read2" in code.name or "2st64" in code.name
    offsets, size = _local_offsets(code, two)
    signed = code.name.rpartition("_")[2] in ("i8", "i16")
    code.done(2)
    target, address = code.registers(0, "va"), code.source(1, "u32")
    if target.count != max(1, size * len(offsets) // 4):
        raise code.fail(f"{size * len(offsets)} bytes into {target.count} registers")

    def step(group: Group) -> None:
        parts = []
        for offset in offsets:
            places, threads = _lds(code, group, address, offset, size)
            parts.append(group.shared.read(places, threads))
        found = np.ascontiguousarray(np.concatenate(parts, 1))
        if size < 4:
            words = found.view(f"{'i' if signed else 'u'}{size}").astype(np.int64).astype(np.uint32)
        else:
            words = found.view(np.uint32)
        _fill(group, target, words)
        group.ask(group.locals, {wave: Request(target) for wave in _waves(group)})

    return step


def _local_offsets(code: Code, two: bool) -> tuple[list[int], int]:
    kind = code.name.rpartition("_")[2]
    size = LOCAL[kind]
    if two:
        step = size * (64 if "st64" in code.name else 1)
        found = [int(code.modifier(f"offset{i}", "0"), 0) for i in range(2)]
        if max(found) > 255:
            raise code.fail("an offset beyond 8 bits")
        return [step * each for each in found], size
    offset = int(code.modifier("offset", "0"), 0)
    if not 0 <= offset < 1 << 16:
        raise code.fail("an offset beyond 16 bits")
    return [offset], size


@instruction(
    *(f"ds_write_{k}" for k in LOCAL if k[0] == "b"),
    *(f"ds_store_{k}" for k in LOCAL if k[0] == "b"),
    *(f"ds_write{k}" for k in TWO),
    *(f"ds_store_{k}addr_{k2}" for k, k2 in (("2", "b32"), ("2", "b64"), ("2st64", "b32"), ("2st64", "b64"))),
)
def _write(code: Code) -> Step:
    two = "2addr" in code.name or "write2" in code.name or "2st64" in code.name
    offsets, size = _local_offsets(code, two)
    code.done(3 if two else 2)
    address, data = code.source(0, "u32"), [code.registers(i + 1, "va") for i in range(len(offsets))]
    if any(d.count != max(1, size // 4) for d in data):
        raise code.fail(f"{size} bytes from another number of registers")

    def step(group: Group) -> None:
        requests: dict[int, Request] = {}
        for offset, registers in zip(offsets, data, strict=True):
            places, threads = _lds(code, group, address, offset, size)
            parts = [group.vector(registers.file, registers.first + i)[group.lanes] for i in range(registers.count)]
            values = (
                np.ascontiguousarray(np.stack(parts, -1)).view(np.uint8).reshape(len(places), 4 * len(parts))[:, :size]
            )
            group.shared.write(places, threads, values)
            for wave in _waves(group):
                mine = threads // group.wave == wave
                requests[wave] = Request(writes=(places[mine], threads[mine]))
        group.ask(group.locals, requests)

    return step


@instruction("ds_bpermute_b32")
def _exchange(code: Code) -> Step:
    offset = int(code.modifier("offset", "0"), 0)
    code.done(3)
    target, address, data = code.registers(0, "v"), code.source(1, "u32"), code.registers(2, "v")

    def step(group: Group) -> None:
        lane = (np.broadcast_to(address(group), group.lanes.shape) + np.uint32(offset)) // 4 % group.wave
        row = np.arange(group.waves)[:, None]
        if not group.lanes[row, lane][group.lanes].all():
            raise Fault("an exchange with a lane that is not here")
        words = group.vector("v", data.first)[row, lane][group.lanes][:, None]
        _fill(group, target, words)
        group.ask(group.locals, {wave: Request(target) for wave in _waves(group)})

    return step
