"""The matrix instructions of PTX. Fragments are laid out by the tables of the PTX ISA, "Matrix fragments for mma".

Lane 4 g + q of a warp holds, of a matrix A (16 x K) of elements of b bits in registers of p = 32 / b each, element e of
register r at row g + 8 (r mod 2), column p q + 4 p (r div 2) + e; of B (K x 8) at row p q + 4 p r + e, column g; of the
sums (16 x 8) at row g + 8 (r div 2), column 2 q + r mod 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.faults import Fault
from tests.gpu.numbers import cut_tf32, from_bf16, from_f16, to_f16
from tests.gpu.ptx.machine import WARP, Block, Step
from tests.gpu.ptx.moves import fetch
from tests.gpu.ptx.operands import Code, Read
from tests.gpu.ptx.table import instruction

LANE = np.arange(WARP)
G, Q = LANE // 4, LANE % 4


def _signed(bits: NDArray[Any]) -> NDArray[np.float64]:
    return bits.view(np.int8).astype(np.float64)


@dataclass(frozen=True)
class Element:
    """An element type of a matrix: its bits, the shapes that know it, dense and sparse, and how bits become numbers."""

    bits: int
    sums: tuple[str, ...]
    dense: tuple[str, ...]
    sparse: tuple[str, ...]
    decode: Callable[[NDArray[Any]], NDArray[np.float64]]


ELEMENTS = {
    "f16": Element(16, ("f32", "f16"), ("m16n8k8", "m16n8k16"), ("m16n8k32",), from_f16),
    "bf16": Element(16, ("f32",), ("m16n8k8", "m16n8k16"), ("m16n8k32",), lambda b: from_bf16(b).astype(np.float64)),
    "tf32": Element(
        32, ("f32",), ("m16n8k4", "m16n8k8"), (), lambda b: cut_tf32(b.view(np.float32)).astype(np.float64)
    ),
    "s8": Element(8, ("s32",), ("m8n8k16", "m16n8k16", "m16n8k32"), ("m16n8k64",), _signed),
    "u8": Element(8, ("s32",), ("m8n8k16", "m16n8k16", "m16n8k32"), ("m16n8k64",), lambda b: b.astype(np.float64)),
}


@instruction("mma")
def _mma(code: Code) -> Step:
    kind = code.flag("sp", "sp::ordered_metadata")
    sparse = bool(kind)
    if code.kernel.version < {"": (7, 0), "sp": (7, 1)}.get(kind, (8, 5)):
        raise code.fail(f"version {code.kernel.version} of PTX has not got this")
    code.must("sync")
    code.must("aligned")
    code.flag("satfinite")
    words = code.rest()
    if words[1:3] != ["row", "col"]:
        raise code.fail("mma takes .row.col")
    del words[1:3]
    if len(words) != 5 or words[2] not in ELEMENTS or words[3] not in ELEMENTS:
        raise code.fail("mma of this kind")
    shape, d, a, b, c = words
    element, other = ELEMENTS[a], ELEMENTS[b]
    if a != b and {a, b} != {"s8", "u8"}:
        raise code.fail(f"mma of {a} and {b}")
    if shape not in (element.sparse if sparse else element.dense) or d != c or d not in element.sums:
        raise code.fail("mma of this shape")
    code.done(6 if sparse else 4)
    depth, high = int(shape.rpartition("k")[2]), int(shape[1 : shape.index("n")])
    if high == 16 and element.bits == 8 and code.kernel.target == "sm_75":
        raise code.fail(f"sm_75 has no {shape} of bytes")
    stored = depth // 2 if sparse else depth
    read_a = _fragment(code, 1, high * stored * element.bits // 1024)
    read_b = _fragment(code, 2, 8 * depth * element.bits // 1024)
    read_c, put_d = _sums(code, 3, d, high), _results(code, 0, d, high)
    metadata = code.bits(4, "b32") if sparse else None
    selector = int(str(code.operands[5]), 0) if sparse else 0

    def step(block: Block) -> None:
        if block.count % WARP:
            raise Fault("mma takes whole warps")
        block.whole_warps("mma")
        left = element.decode(_rows(read_a(block), element.bits, stored, high))
        if metadata is not None:
            left = _expand(left, np.broadcast_to(metadata(block), block.count), selector, element.bits, block.mask)
        right = other.decode(_columns(read_b(block), element.bits, depth))
        with np.errstate(all="ignore"):
            put_d(block, left @ right + read_c(block))

    return step


def _fragment(code: Code, at: int, many: int) -> Callable[[Block], NDArray[np.uint32]]:
    """Reader of a fragment of so many registers as (warps, registers, lanes)."""
    operand = code.operands[at]
    registers = operand if isinstance(operand, tuple) else (operand,)
    if len(registers) != many:
        raise code.fail(f"operand {at} takes {many} registers")
    reads: list[Read] = [code.bits(register, "b32") for register in registers]

    def read(block: Block) -> NDArray[np.uint32]:
        values = [np.broadcast_to(r(block), block.count).reshape(-1, WARP) for r in reads]
        return np.ascontiguousarray(np.stack(values, 1))

    return read


def _elements(fragment: NDArray[np.uint32], bits: int) -> NDArray[Any]:
    """(warps, registers, lanes) -> (warps, registers, lanes, elements of a register) as unsigned integers."""
    return fragment.view(f"u{bits // 8}").reshape(*fragment.shape, 32 // bits)


def _rows(fragment: NDArray[np.uint32], bits: int, depth: int, high: int = 16) -> NDArray[Any]:
    """The matrix A of (warps, high, depth) that a fragment is: of 8 rows, it is the registers of the upper 8."""
    parts, per = _elements(fragment, bits), 32 // bits
    matrix = np.zeros((len(parts), high, depth), parts.dtype)
    if high == 8:
        for e in range(per):
            matrix[:, G, per * Q + e] = parts[:, 0, :, e]
        return matrix
    for r in range(parts.shape[1]):
        for e in range(per):
            matrix[:, G + 8 * (r % 2), per * Q + 4 * per * (r // 2) + e] = parts[:, r, :, e]
    return matrix


def _columns(fragment: NDArray[np.uint32], bits: int, depth: int) -> NDArray[Any]:
    """The matrix B of (warps, depth, 8) that a fragment is."""
    parts, per = _elements(fragment, bits), 32 // bits
    matrix = np.zeros((len(parts), depth, 8), parts.dtype)
    for r in range(parts.shape[1]):
        for e in range(per):
            matrix[:, per * Q + 4 * per * r + e, G] = parts[:, r, :, e]
    return matrix


def _expand(
    stored: NDArray[np.float64], words: NDArray[np.uint32], selector: int, bits: int, mask: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """A of (warps, 16, depth) from its (warps, 16, depth / 2) elements and the places that lanes hold, two bits each.

    Of 16 bits: lanes 2 selector + j of each four have the places of columns 16 j to 16 j + 15, row g in the lower half
    and row g + 8 in the upper one. Of 8 bits: all lanes, q that of row g + 8 (q mod 2), columns from 32 (q div 2) on.
    """
    lanes = words.reshape(-1, 8, 4).astype(np.int64)
    if selector not in ((0, 1) if bits == 16 else (0,)):
        raise Fault(f"there is no selector {selector}")
    warps, _, depth = stored.shape
    wide = np.zeros((warps, 16, 2 * depth))
    one, row = np.arange(warps)[:, None], np.arange(8)
    for half in range(2):
        for pair in range(depth // 2):
            if bits == 16:
                shift = 16 * half + 4 * (pair % 4)
                nibble = lanes[:, :, 2 * selector + pair // 4] >> shift & 15
            else:
                nibble = lanes[:, :, half + 2 * (pair // 8)] >> 4 * (pair % 8) & 15
            first, second = nibble & 3, nibble >> 2
            if (first >= second)[mask.reshape(-1, WARP).all(1)].any():
                raise Fault("the two places of a 2:4 group do not rise")
            wide[one, row + 8 * half, 4 * pair + first] = stored[:, row + 8 * half, 2 * pair]
            wide[one, row + 8 * half, 4 * pair + second] = stored[:, row + 8 * half, 2 * pair + 1]
    return wide


def _sums(code: Code, at: int, kind: str, high: int = 16) -> Callable[[Block], NDArray[np.float64]]:
    """Reader of the sums to add to, (warps, high, 8)."""
    if kind == "f16":
        halves = _fragment(code, at, 2)

        def read_halves(block: Block) -> NDArray[np.float64]:
            parts = from_f16(_elements(halves(block), 16))
            matrix = np.zeros((len(parts), 16, 8))
            for r in range(2):
                for e in range(2):
                    matrix[:, G + 8 * r, 2 * Q + e] = parts[:, r, :, e]
            return matrix

        return read_halves
    operand = code.operands[at]
    if not isinstance(operand, tuple) or len(operand) != high // 4:
        raise code.fail(f"sums take {high // 4} registers")
    reads = [code.bits(register, kind) for register in operand]

    def read(block: Block) -> NDArray[np.float64]:
        matrix = np.zeros((block.count // WARP, high, 8))
        for r, each in enumerate(reads):
            values = np.broadcast_to(each(block), block.count).reshape(-1, WARP)
            matrix[:, G + 8 * (r // 2), 2 * Q + r % 2] = values
        return matrix

    return read


def _results(code: Code, at: int, kind: str, high: int = 16) -> Callable[[Block, NDArray[np.float64]], None]:
    """Writer of the sums."""
    operand = code.operands[at]
    if not isinstance(operand, tuple) or len(operand) != (2 if kind == "f16" else high // 4):
        raise code.fail("another number of registers for the sums")
    puts = [code.write(register, "b32" if kind == "f16" else kind) for register in operand]

    def write(block: Block, matrix: NDArray[np.float64]) -> None:
        for r, put in enumerate(puts):
            if kind == "f16":
                pair = np.stack([matrix[:, G + 8 * r, 2 * Q + e] for e in range(2)], -1)
                put(block, to_f16(pair).view(np.uint32).reshape(-1))
            else:
                values = matrix[:, G + 8 * (r // 2), 2 * Q + r % 2].reshape(-1)
                put(block, values.astype(np.int64) if kind == "s32" else values)

    return write


@instruction("ldmatrix")
def _load_matrix(code: Code) -> Step:
    code.must("sync")
    code.must("aligned")
    code.must("m8n8")
    many = int(code.must("x1", "x2", "x4")[1:])
    turned = bool(code.flag("trans"))
    code.must("shared", "shared::cta")
    code.type("b16")
    code.done(2)
    targets = code.operands[0] if isinstance(code.operands[0], tuple) else (code.operands[0],)
    if len(targets) != many:
        raise code.fail(f"{many} registers")
    puts, address = [code.write(target, "b32") for target in targets], code.address(1, "shared")

    def step(block: Block) -> None:
        block.whole_warps("ldmatrix")
        rows = address(block).reshape(-1, WARP)
        if (rows[:, : 8 * many].reshape(-1)[block.mask.reshape(-1, WARP)[:, : 8 * many].reshape(-1)] % 16).any():
            raise Fault("a row of a matrix is misaligned for 16 bytes")
        for matrix, put in enumerate(puts):
            # A lane reads what it gets, whoever named the address: that is what a race is about.
            if turned:
                halves = [rows[:, 8 * matrix + 2 * Q + e] + (2 * G).astype(np.uint64) for e in range(2)]
                parts = [_lanes(block, places, 2) for places in halves]
            else:
                parts = [_lanes(block, rows[:, 8 * matrix + G] + (4 * Q).astype(np.uint64), 4)]
            put(block, np.concatenate(parts, 1).view(np.uint32)[:, 0])

    return step


def _lanes(block: Block, places: NDArray[np.uint64], size: int) -> NDArray[np.uint8]:
    """(threads, size) bytes of shared memory, those of the threads that are here."""
    found = np.zeros((block.count, size), np.uint8)
    found[block.mask] = fetch(block, "shared", places.reshape(-1)[block.mask], size, "ldmatrix")
    return found
