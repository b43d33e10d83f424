"""The resources that the kernels of a cubin or of a code object of AMD take, as their ELF file says."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tesa.build.gpu.product import Entry


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    info: int
    offset: int
    size: int


def _sections(content: bytes) -> Iterator[_Section]:
    (start,) = struct.unpack_from("<Q", content, 0x28)
    width, count, names = struct.unpack_from("<HHH", content, 0x3A)
    raw = [struct.unpack_from("<IIQQQQII", content, start + i * width) for i in range(count)]
    texts = raw[names][4]
    for name, kind, _, _, offset, size, _, info in raw:
        end = content.index(b"\0", texts + name)
        yield _Section(content[texts + name : end].decode(), kind, info, offset, size)


def cubin_entries(content: bytes) -> tuple[Entry, ...]:
    """The kernels of a cubin. Registers stand in the upper byte of a section's info, or in the attribute 0x2f."""
    sections = {one.name: one for one in _sections(content)}
    symbols = _symbols(content, sections)
    attributes = _attributes(content, sections.get(".nv.info"))
    found = []
    for name, one in sections.items():
        if not name.startswith(".text."):
            continue
        entry = name.removeprefix(".text.")
        registers = attributes.get((0x2F, symbols.get(entry, -1)), one.info >> 24)
        stack = attributes.get((0x12, symbols.get(entry, -1)), 0)
        shared = sections.get(f".nv.shared.{entry}")
        found.append(Entry(entry, registers, one.size, shared.size if shared else 0, stack))
    return tuple(found)


def _symbols(content: bytes, sections: dict[str, _Section]) -> dict[str, int]:
    """The index of each symbol."""
    table, texts = sections.get(".symtab"), sections.get(".strtab")
    if table is None or texts is None:
        return {}
    found = {}
    for i in range(table.size // 24):
        (name,) = struct.unpack_from("<I", content, table.offset + 24 * i)
        end = content.index(b"\0", texts.offset + name)
        found[content[texts.offset + name : end].decode()] = i
    return found


def _attributes(content: bytes, section: _Section | None) -> dict[tuple[int, int], int]:
    """Numbers by attribute and symbol: 0x2f, registers of a kernel, and 0x12, bytes of its stack."""
    found: dict[tuple[int, int], int] = {}
    at = section.offset if section else 0
    end = at + section.size if section else 0
    while at + 4 <= end:
        form, attribute, size = struct.unpack_from("<BBH", content, at)
        at += 4
        if form != 4:  # the others have their value in place of the size
            continue
        if size == 8:
            symbol, value = struct.unpack_from("<II", content, at)
            found[attribute, symbol] = value
        at += size
    return found


def code_object_entries(content: bytes, text: str) -> tuple[Entry, ...]:
    """The kernels of a code object of AMD; registers are those that its text asks for."""
    sections = {one.name: one for one in _sections(content)}
    code = sections[".text"].size if ".text" in sections else 0
    found = []
    for block in re.findall(r"\.amdhsa_kernel (\S+)(.*?)\.end_amdhsa_kernel", text, re.DOTALL):
        numbers = dict(re.findall(r"\.amdhsa_(\w+) (\d+)", block[1]))
        registers = int(numbers.get("next_free_vgpr", 0))
        shared, spills = (int(numbers.get(f"{name}_segment_fixed_size", 0)) for name in ("group", "private"))
        found.append(Entry(block[0], registers, code, shared, spills))
    return tuple(found)
