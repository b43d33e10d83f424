"""Runs a kernel for a GPU without one: PTX text or AMD assembly, on NumPy. See `run`."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.amd import run as _amd
from tests.gpu.faults import Fault
from tests.gpu.memory import Memory
from tests.gpu.ptx import run as _ptx

Argument = NDArray[Any] | int | float | np.generic
Size = int | tuple[int, ...]


def run(
    text: str,
    entry: str,
    grid: Size,
    block: Size,
    shared_bytes: int,
    arguments: Sequence[Argument],
    *,
    memory: Memory | None = None,
    blocks: Sequence[tuple[int, int, int]] | None = None,
) -> Counter[str]:
    """Run a kernel as a GPU would; its output arrays are written in place.

    text: a module of PTX (it begins with .version) or an assembly of AMD (with .amdgcn_target). entry: the kernel's
    name. grid, block: blocks of the grid and threads of a block, up to three numbers (AMD: the grid counts blocks too).
    shared_bytes: of dynamic shared memory, beside what the text declares. arguments: one for each parameter: contiguous
    arrays of NumPy, which are seen at made-up addresses, or numbers; a number for a pointer is an address in `memory`.
    blocks: run only these (x, y, z) of the grid. Comes back: how often a warp or wave ran each instruction.

    Fault, with the line of the text, for everything that a GPU or its assembler would not forgive or would answer by
    chance: an unknown instruction or modifier, a register or a byte of shared memory that is read before it is set, an
    address beside the arrays or misaligned, a write to a read-only array, a race in shared memory, data that is used
    before its load or copy was waited for, a barrier that some threads miss, a fragment of part of a warp, more shared
    memory or threads than there may be.

    >>> text = '''.version 8.0
    ... .target sm_80
    ... .address_size 64
    ... .visible .entry twice(.param .u64 x) {
    ...   .reg .u64 %a; .reg .u64 %o; .reg .u32 %t; .reg .f32 %v;
    ...   ld.param.u64 %a, [x]; mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, 4; add.u64 %a, %a, %o;
    ...   ld.global.f32 %v, [%a]; add.f32 %v, %v, %v; st.global.f32 [%a], %v; ret;
    ... }'''
    >>> x = np.arange(4, dtype=np.float32)
    >>> run(text, "twice", 1, 4, 0, [x])["add.f32"], x.tolist()
    (1, [0.0, 2.0, 4.0, 6.0])
    """
    own = memory or Memory()
    placed = [own.place(a) if isinstance(a, np.ndarray) and a.ndim else None for a in arguments]
    plain = [
        address
        if address is not None
        else argument.item()
        if isinstance(argument, np.generic | np.ndarray)
        else argument
        for address, argument in zip(placed, arguments, strict=True)
    ]
    try:
        packed = _machine(text).pack(text, entry, plain)
        return _machine(text).run(text, entry, _three(grid), _three(block), shared_bytes, packed, own, blocks)
    finally:
        for address in placed:
            if address is not None:
                own.take_back(address)


def launch(
    text: str, entry: str, grid: Size, block: Size, shared_bytes: int, pointers: int, memory: Memory
) -> Counter[str]:
    """Run a kernel as a driver's launch asks for it.

    pointers: the address of an array of pointers to the arguments, as cuLaunchKernel and hipModuleLaunchKernel take
    it; how many bytes each of them has is known from the text. memory: what the kernel may reach; a driver that gives
    out memory of its own process calls `memory.lend(address, size)` for it.
    """
    machine = _machine(text)
    known = machine.parameters(text, entry)
    table = (ctypes.c_void_p * len(known)).from_address(pointers)
    values = [ctypes.string_at(at or 0, parameter.size) for at, parameter in zip(table, known, strict=True)]
    packed = machine.pack(text, entry, values)
    return machine.run(text, entry, _three(grid), _three(block), shared_bytes, packed, memory, None)


def parameters(text: str, entry: str) -> int:
    """How many parameters a kernel has."""
    return len(_machine(text).parameters(text, entry))


def entries(text: str) -> tuple[str, ...]:
    """The names of the kernels in a text."""
    return tuple(re.findall(r"\.entry\s+([\w$]+)", text) or re.findall(r"\.amdhsa_kernel\s+([\w$]+)", text))


def _machine(text: str) -> Any:
    if re.match(r"\s*(//[^\n]*\n\s*)*\.version", text):
        return _ptx
    if ".amdgcn_target" in text:
        return _amd
    raise Fault("neither PTX nor AMD assembly")


def _three(size: Size) -> tuple[int, int, int]:
    whole = (size,) if isinstance(size, int) else tuple(size)
    return (*whole, *(1 for _ in range(3 - len(whole))))  # type: ignore[return-value]


__all__ = ["Fault", "Memory", "entries", "launch", "parameters", "run"]
