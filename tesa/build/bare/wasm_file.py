"""Files of WebAssembly: which symbols of an object others may see, and a checksum that tells of a changed module."""

import zlib
from collections.abc import Collection, Iterator

from tesa.base.wasm_sections import SUM, number, sections, written

_LINKING, _SYMBOLS = "linking", 8
_FUNCTION, _DATA, _GLOBAL, _SECTION, _EVENT, _TABLE = range(6)
_LOCAL, _BINDING, _UNDEFINED, _EXPLICIT = 2, 3, 0x10, 0x40


def with_sum(module: bytes) -> bytes:
    """The module, and behind it a section of its own with the checksum of all that stands before.

    Engines pass over sections that they do not know; tesa.js and tesa.load look at it.
    """
    content = written(len(SUM)) + SUM.encode() + zlib.crc32(module).to_bytes(4, "little")
    return module + b"\0" + written(len(content)) + content


def with_local_symbols(content: bytes, shown: Collection[str]) -> bytes:
    """An object file in which symbols are its own, but for those named, and for those that it wants from elsewhere.

    The layout is that of WebAssembly's tool conventions (Linking.md): a linker knows symbols by a table in the section
    "linking", in which bits of a number say who sees each of them.
    """
    parts = [content[:8]]
    for kind, name, start, body, end in sections(content):
        if kind == 0 and name == _LINKING:
            made = written(len(name)) + name.encode() + _linking(content[body:end], frozenset(shown))
            parts.append(b"\0" + written(len(made)) + made)
        else:
            parts.append(content[start:end])
    return b"".join(parts)


def _linking(content: bytes, shown: frozenset[str]) -> bytes:
    _, at = number(content, 0)  # version
    parts = [content[:at]]
    while at < len(content):
        kind = content[at]
        size, body = number(content, at + 1)
        inside = content[body : body + size]
        if kind == _SYMBOLS:
            inside = b"".join(_symbols(inside, shown))
        parts.append(bytes([kind]) + written(len(inside)) + inside)
        at = body + size
    return b"".join(parts)


def _symbols(content: bytes, shown: frozenset[str]) -> Iterator[bytes]:
    count, at = number(content, 0)
    yield written(count)
    for _ in range(count):
        kind = content[at]
        flags, rest = number(content, at + 1)
        end, name = _entry(content, rest, kind, flags)
        if not flags & _UNDEFINED and name is not None and name not in shown:
            flags = flags & ~_BINDING | _LOCAL
        yield bytes([kind]) + written(flags) + content[rest:end]
        at = end


def _entry(content: bytes, at: int, kind: int, flags: int) -> tuple[int, str | None]:
    """The end of a symbol's entry, and its name; None for one that stands for a whole section."""
    if kind == _SECTION:
        return number(content, at)[1], None
    name = ""
    if kind != _DATA:
        at = number(content, at)[1]
    if kind == _DATA or not flags & _UNDEFINED or flags & _EXPLICIT:
        size, at = number(content, at)
        name, at = content[at : at + size].decode(), at + size
    if kind == _DATA and not flags & _UNDEFINED:
        for _ in range(3):  # segment, offset, size
            at = number(content, at)[1]
    return at, name
