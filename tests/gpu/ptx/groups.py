"""The matrix units of four warps: wgmma. They read shared memory, and add to registers, while the threads go on.

What the interpreter holds a kernel to: the registers of sums are fenced (wgmma.fence) after other instructions wrote
them, and are not touched until the group is waited for; what threads wrote to shared memory was fenced
(fence.proxy.async) by those who wrote it, before a barrier; nobody writes there until the group is waited for; all 128
threads come together with the same descriptors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.faults import Fault
from tests.gpu.ptx.machine import WARP, Block, Step
from tests.gpu.ptx.matrix import ELEMENTS
from tests.gpu.ptx.operands import Code
from tests.gpu.ptx.table import instruction
from tests.gpu.ptx.text import Register

GROUP = 4 * WARP
DEPTH_BYTES = 32
"""Of a row of either factor, in one instruction."""


@dataclass(eq=False)
class Product:
    """An instruction under way: of a group of warps, its sums (registers, threads), and the shared memory it reads."""

    warps: int
    sums: dict[int, tuple[Register, NDArray[Any]]]
    places: NDArray[np.int64]
    group: int = -1


def _groups(block: Block, what: str) -> list[int]:
    """The groups of four warps that are here, each as a whole."""
    here = block.mask.reshape(-1, GROUP) if block.count % GROUP == 0 else None
    if here is None or (here.any(1) != here.all(1)).any():
        raise Fault(f"{what} is reached by part of four warps")
    return np.flatnonzero(here.any(1)).tolist()


@instruction("wgmma")
def _wgmma(code: Code) -> Step:
    kind = code.must("fence", "commit_group", "wait_group", "mma_async")
    code.must("sync")
    code.must("aligned")
    if not re.search(r"sm_\d+a\b", code.kernel.target):
        raise code.fail(f"{code.kernel.target} has no wgmma")
    if kind == "mma_async":
        return _multiply(code)
    code.done(1 if kind == "wait_group" else 0)
    if kind == "fence":
        return lambda block: [block.dirty.pop(group, None) for group in _groups(block, "wgmma.fence")] and None
    if kind == "commit_group":
        return _commit
    left = int(str(code.operands[0]))
    return lambda block: _wait(block, left)


def _commit(block: Block) -> None:
    for group in _groups(block, "wgmma.commit_group"):
        number = block.committed.get(group, 0) + 1
        block.committed[group] = number
        for product in block.products:
            if product.warps == group and product.group < 0:
                product.group = number


def _wait(block: Block, left: int) -> None:
    mask, full = block.mask, block.full
    for group in _groups(block, "wgmma.wait_group"):
        limit = block.committed.get(group, 0) - left
        done = [p for p in block.products if p.warps == group and 0 < p.group <= limit]
        block.products = [p for p in block.products if p not in done]
        for product in done:
            block.shared.release(product.places, group * GROUP + WARP * np.arange(4))
        pending = {slot for p in block.products if p.warps == group for slot in p.sums}
        block.mask = block.threads // GROUP == group
        block.full = block.count == GROUP
        dirty = set(block.dirty.get(group, ()))  # what a unit wrote itself needs no fence
        for product in done:
            for slot, (register, values) in product.sums.items():
                if slot not in pending:
                    block.under_way.discard((group, slot))
                    bits = np.zeros(block.count, values.dtype)
                    bits[block.mask] = values
                    block.put(register, bits.view(np.uint32))
        block.dirty[group] = dirty
    block.mask, block.full = mask, full


def _multiply(code: Code) -> Step:
    words = code.rest()
    if words[-1:] == ["satfinite"]:
        words.pop()
    found = re.fullmatch(r"m64n(\d+)k(\d+)", words[0])
    if len(words) != 4 or not found or words[2] not in ELEMENTS or words[3] not in ELEMENTS:
        raise code.fail("wgmma of this kind")
    columns, depth, kind = int(found[1]), int(found[2]), words[1]
    left, right = ELEMENTS[words[2]], ELEMENTS[words[3]]
    if left.bits != right.bits or depth * left.bits != 8 * DEPTH_BYTES or kind not in ("f32", "s32"):
        raise code.fail("wgmma of this shape")
    if (kind == "s32") != (left.bits == 8) or (left.bits != 8 and words[2] != words[3]):
        raise code.fail("wgmma of these elements")
    if columns % (16 if kind == "s32" and columns > 32 else 8) or not 8 <= columns <= 256:
        raise code.fail("wgmma of so many columns")
    more = {8: 4, 32: 6, 16: 8}[left.bits]
    code.done(more)
    if any(str(one) != wanted for one, wanted in zip(code.operands[4:], ("1", "1", "0", "0"), strict=False)):
        raise code.fail("signs and turned factors are not known")
    sums = code.operands[0]
    if not isinstance(sums, tuple) or len(sums) != columns // 2:
        raise code.fail(f"sums take {columns // 2} registers")
    registers = [one for one in sums if isinstance(one, Register)]
    reads = [code.bits(one, kind) for one in registers]
    descriptors, adds = (code.bits(1, "b64"), code.bits(2, "b64")), code.bits(3, "pred")
    shapes = ((64, left), (columns, right))

    def step(block: Block) -> None:
        mask, full = block.mask, block.full
        for group in _groups(block, "wgmma"):
            block.mask, block.full = block.threads // GROUP == group, block.count == GROUP
            factors, places = [], []
            for read, (lines, element) in zip(descriptors, shapes, strict=True):
                at = _places(_same(block, np.broadcast_to(read(block), block.count)), lines)
                places.append(at)
                raw = block.shared.held(at, group * GROUP + WARP * np.arange(4))
                factors.append(element.decode(np.ascontiguousarray(raw).view(f"u{element.bits // 8}")))
            added = bool(_same(block, np.broadcast_to(adds(block), block.count)))
            old = _old(block, group, registers, reads, columns, kind) if added else 0.0
            with np.errstate(all="ignore"):
                whole = factors[0] @ factors[1].T + old
            block.products.append(Product(group, _spread(block, group, registers, whole, kind), np.concatenate(places)))
        block.mask, block.full = mask, full

    return step


def _same(block: Block, values: NDArray[Any]) -> int:
    found = np.unique(values[block.mask])
    if len(found) != 1:
        raise Fault("the threads of four warps give wgmma different operands")
    return int(found[0])


def _places(descriptor: int, lines: int) -> NDArray[np.int64]:
    """(lines, 32) places in shared memory of a matrix of so many rows, or columns, of 32 bytes."""
    start, leading, stride = ((descriptor >> shift & 0x3FFF) * 16 for shift in (0, 16, 32))
    if descriptor & ~(0x3FFF | 0x3FFF << 16 | 0x3FFF << 32):
        raise Fault(f"the descriptor {descriptor:#x} has bits that are not known: offsets, swizzles")
    line, byte = np.arange(lines)[:, None], np.arange(DEPTH_BYTES)
    return np.asarray(start + byte // 16 * leading + line // 8 * stride + line % 8 * 16 + byte % 16, np.int64)


def _rows_of(columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(registers, threads) rows and columns of the sums of four warps."""
    r, t = np.arange(columns // 2)[:, None], np.arange(GROUP)
    lane = t % WARP
    return 16 * (t // WARP) + lane // 4 + 8 * (r // 2 % 2), 8 * (r // 4) + 2 * (lane % 4) + r % 2


def _old(block: Block, group: int, registers: Any, reads: Any, columns: int, kind: str) -> NDArray[np.float64]:
    values = np.zeros((len(registers), GROUP))
    for i, (register, read) in enumerate(zip(registers, reads, strict=True)):
        mine = [p for p in block.products if p.warps == group and register.slot in p.sums]
        if mine:
            values[i] = mine[-1].sums[register.slot][1]
        else:
            if register.slot in block.dirty.get(group, ()):
                raise Fault(f"{register.name} was written with no wgmma.fence since")
            values[i] = np.broadcast_to(read(block), block.count)[block.mask]
    whole = np.zeros((64, columns))
    whole[_rows_of(columns)] = values
    return whole


def _spread(block: Block, group: int, registers: Any, whole: NDArray[np.float64], kind: str) -> Any:
    values = whole[_rows_of(whole.shape[1])].astype(np.int32 if kind == "s32" else np.float32)
    block.under_way |= {(group, register.slot) for register in registers}
    return {register.slot: (register, values[i]) for i, register in enumerate(registers)}
