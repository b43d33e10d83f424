"""The bytes that a built kernel takes: its code, the values of its weight, and the indices of where they belong."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tesa.schedules.types import Code, Problem

_ALLOCATED, _EXECUTABLE, _NO_BITS = 2, 4, 8
_WASM_CODE, _WASM_DATA = 10, 11


@dataclass(frozen=True)
class Footprint:
    """Bytes of a kernel. code: machine code, with the tables that lie beside it; values: constants that are numbers;
    indices: those that say where the values belong. An unrolled kernel has its values and places in its code.

    >>> Footprint(100, 40, 20) + Footprint(1, 2, 3), Footprint(100, 40, 20).total
    (Footprint(code=101, values=42, indices=23), 160)
    """

    code: int = 0
    values: int = 0
    indices: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.code + self.values + self.indices

    def __add__(self, other: Footprint) -> Footprint:
        return Footprint(self.code + other.code, self.values + other.values, self.indices + other.indices)


def footprint(code: Code, problem: Problem, objects: Iterable[bytes]) -> Footprint:
    """The bytes of a kernel. problem: of its layer; objects: the object files that code was compiled to."""
    values = sum(array.nbytes for array in _values(code, problem))
    every = sum(array.nbytes for array in code.constants)
    return Footprint(sum(map(code_bytes, objects)), values, every - values)


def _values(code: Code, problem: Problem) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """The constants that are numbers: of integers the first, which holds several codes in an element, all real ones."""
    if code.pieces:
        for _, piece in code.pieces:
            yield from _values(piece, problem)
        return
    packed = problem.dtype != "float32" or problem.storage == "bfloat16"
    for number, array in enumerate(code.constants):
        is_table = array.dtype == np.int32 and problem.dtype == "float32"
        if array.dtype.kind == "f" or (packed and number == 0 and not is_table):
            yield array


def code_bytes(content: bytes) -> int:
    """The bytes of an object file that get into a program: code and constants, not symbols and names.

    Of a format that is neither ELF nor WebAssembly, all of them.
    """
    if content[:5] == b"\x7fELF\x02":
        return sum(size for flags, kind, size in _sections(content) if flags & _ALLOCATED and kind != _NO_BITS)
    if content[:4] == b"\0asm":
        return sum(size for kind, size in _wasm_sections(content) if kind in (_WASM_CODE, _WASM_DATA))
    return len(content)


def _sections(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(flags, type, size) of each section of a 64-bit ELF file, but for the tables that unwind the stack."""
    order = "<" if content[5] == 1 else ">"
    (start,) = struct.unpack_from(order + "Q", content, 0x28)
    width, count, names = struct.unpack_from(order + "HHH", content, 0x3A)
    headers = [struct.unpack_from(order + "IIQQQQ", content, start + i * width) for i in range(count)]
    texts = headers[names][4] if names < count else 0
    for name, kind, flags, _, _, size in headers:
        if not content.startswith(b".eh_frame", texts + name):
            yield flags, kind, size


def _wasm_sections(content: bytes) -> Iterator[tuple[int, int]]:
    """(id, size) of each section of a WebAssembly file, whose sizes are numbers of seven bits a byte."""
    at = 8
    while at < len(content):
        kind, size, shift = content[at], 0, 0
        at += 1
        while True:
            byte = content[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield kind, size
        at += size
