"""The sections of a file of WebAssembly, and the checksum that tesa writes behind a module."""

import zlib
from collections.abc import Iterator

SUM = "tesa.crc32"
"""The name of the section with the checksum of what stands before it."""


def number(content: bytes, at: int) -> tuple[int, int]:
    """A number in LEB128, and where it ends. IndexError where the content is cut off.

    >>> number(written(300) + b"x", 0)
    (300, 2)
    """
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise IndexError("a number without an end")


def written(value: int) -> bytes:
    """A number in LEB128, seven bits a byte, the lowest first."""
    made = []
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def sections(content: bytes) -> Iterator[tuple[int, str, int, int, int]]:
    """(kind, name of one of kind 0, start, start of its content behind the name, end) of each section."""
    at = 8
    while at < len(content):
        size, body = number(content, at + 1)
        kind, end, name = content[at], body + size, ""
        if kind == 0:
            length, body = number(content, body)
            name, body = content[body : body + length].decode("utf-8", "replace"), body + length
        yield kind, name, at, body, end
        at = end


def changed(content: bytes) -> bool:
    """True where a module is not what its checksum says. One without a checksum, as other tools leave it, may be it.

    >>> changed(b"\\0asm\\1\\0\\0\\0")
    False
    """
    try:
        last = next(iter([*sections(content)][-1:]), None)
    except IndexError:
        return True
    if last is None or last[1] != SUM:
        return False
    return zlib.crc32(content[: last[2]]) != int.from_bytes(content[last[3] : last[4]], "little")
