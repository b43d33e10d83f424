"""Runs a kernel of PTX, block by block."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from tests.gpu.faults import Fault
from tests.gpu.memory import Memory
from tests.gpu.ptx import arithmetic, bits, comparisons, control, groups, matrix, moves
from tests.gpu.ptx.machine import Block, Launch, Step
from tests.gpu.ptx.table import build
from tests.gpu.ptx.text import Kernel, Parameter, parse

_ = arithmetic, bits, comparisons, control, groups, matrix, moves  # they fill the table of instructions

FORMATS = {"u8": "B", "s8": "b", "u16": "H", "s16": "h", "u32": "I", "s32": "i", "u64": "Q", "s64": "q"}
FORMATS |= {"b8": "B", "b16": "H", "b32": "I", "b64": "Q", "f32": "f", "f64": "d"}
SHARED_MOST = 227 * 1024
STATIC_MOST = 48 * 1024


@lru_cache(16)
def _prepare(text: str, entry: str) -> tuple[Kernel, list[Step]]:
    kernel = parse(text, entry)
    return kernel, [build(kernel, instruction) for instruction in kernel.code]


def parameters(text: str, entry: str) -> tuple[Parameter, ...]:
    """The parameters of a kernel, in their order."""
    return _prepare(text, entry)[0].parameters


def pack(text: str, entry: str, arguments: Sequence[int | float | bytes]) -> bytes:
    """The block of parameters from addresses and numbers."""
    known = parameters(text, entry)
    if len(known) != len(arguments):
        raise Fault(f"{entry} takes {len(known)} arguments and not {len(arguments)}")
    packed = bytearray()
    for parameter, value in zip(known, arguments, strict=True):
        packed = packed.ljust(parameter.offset, b"\0")
        if isinstance(value, bytes):
            if len(value) != parameter.size:
                raise Fault(f"{parameter.name} takes {parameter.size} bytes")
            packed += value
        else:
            packed += struct.pack("<" + FORMATS[parameter.type], value)
    return bytes(packed)


def run(
    text: str,
    entry: str,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    shared_bytes: int,
    packed: bytes,
    memory: Memory,
    blocks: Sequence[tuple[int, int, int]] | None = None,
) -> Counter[str]:
    """Run blocks of a grid, all by default; how often a warp ran each instruction."""
    kernel, steps = _prepare(text, entry)
    _check_size(kernel, block, shared_bytes)
    constants = np.frombuffer(bytes(kernel.constants) or b"\0", np.uint8).copy()
    where = memory.place(constants)
    memory.begin()
    counts: Counter[str] = Counter()
    launch = Launch(kernel, steps, grid, block, shared_bytes, packed, memory, where, counts)
    try:
        for z, y, x in product(*(range(n) for n in reversed(grid))):
            if blocks is None or (x, y, z) in blocks:
                Block(launch, (x, y, z)).run()
    finally:
        memory.take_back(where)
    return counts


def _check_size(kernel: Kernel, block: tuple[int, int, int], shared_bytes: int) -> None:
    threads: Any = int(np.prod(block))
    if not 1 <= threads <= 1024:
        raise Fault(f"a block of {threads} threads")
    for name, numbers in re.findall(r"\.(maxntid|reqntid)\s+([\d,\s]+)", kernel.directives):
        most = [int(n) for n in numbers.replace(" ", "").strip(",").split(",")]
        if (name == "maxntid" and threads > np.prod(most)) or (name == "reqntid" and list(block)[: len(most)] != most):
            raise Fault(f"a block of {block} where .{name} says {most}")
    if kernel.shared > STATIC_MOST:
        raise Fault(f"{kernel.shared} bytes of shared memory are declared, and 48 KiB may be")
    if kernel.shared + shared_bytes > SHARED_MOST:
        raise Fault(f"{kernel.shared + shared_bytes} bytes of shared memory")
