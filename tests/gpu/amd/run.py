"""Runs a kernel of AMD's assembly, block by block."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np

from tests.gpu.amd import matrices, memories, operators, packed, scalars, vectors
from tests.gpu.amd.machine import Group, Launch, Step
from tests.gpu.amd.operands import build
from tests.gpu.amd.text import Argument, Kernel, parse
from tests.gpu.faults import Fault
from tests.gpu.memory import Memory

_ = matrices, memories, operators, packed, scalars, vectors  # they fill the table of instructions

SHARED_MOST = 64 * 1024


@lru_cache(16)
def _prepare(text: str, entry: str) -> tuple[Kernel, list[Step]]:
    kernel = parse(text, entry)
    return kernel, [build(kernel, instruction, at) for at, instruction in enumerate(kernel.code)]


def parameters(text: str, entry: str) -> tuple[Argument, ...]:
    """The arguments of a kernel, in their order."""
    return _prepare(text, entry)[0].arguments


def pack(text: str, entry: str, arguments: Sequence[int | float | bytes]) -> bytes:
    """The block of arguments from addresses and numbers."""
    kernel = _prepare(text, entry)[0]
    known = kernel.arguments
    if len(known) != len(arguments):
        raise Fault(f"{entry} takes {len(known)} arguments and not {len(arguments)}")
    size = kernel.directives.get("kernarg_size", 0)
    packed = bytearray(size)
    for argument, value in zip(known, arguments, strict=True):
        if isinstance(value, bytes):
            raw = value
        elif isinstance(value, float):
            raw = struct.pack("<f", value)
        else:
            raw = (value & (1 << 8 * argument.size) - 1).to_bytes(argument.size, "little")
        if len(raw) != argument.size or argument.offset + argument.size > size:
            raise Fault(f"{argument.name}: {len(raw)} bytes, {argument.size} in a block of {size}")
        packed[argument.offset : argument.offset + len(raw)] = raw
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
    """Run blocks of a grid, all by default; how often a wave ran each instruction."""
    kernel, steps = _prepare(text, entry)
    if not 1 <= int(np.prod(block)) <= 1024:
        raise Fault(f"a block of {block} threads")
    if kernel.directives.get("group_segment_fixed_size", 0) + shared_bytes > SHARED_MOST:
        raise Fault("more than 64 KiB of LDS")
    where = memory.place(np.frombuffer(packed or b"\0", np.uint8))
    memory.begin()
    counts: Counter[str] = Counter()
    launch = Launch(kernel, steps, grid, block, shared_bytes, where, memory, counts)
    try:
        for z, y, x in product(*(range(n) for n in reversed(grid))):
            if blocks is None or (x, y, z) in blocks:
                Group(launch, (x, y, z)).run()
    finally:
        memory.take_back(where)
    return counts
