"""Reads the arrays of an .npz file that anybody may have written: nothing is allocated before its size was checked.

NumPy allocates what a header says, however little follows it, and unpacks whatever the archive holds. Here the header
of an array is held against the bytes that the archive says it has, and these against what is in the file.
"""

import io
import lzma
import math
import os
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.told import Untruthful, line, shown

Arrays = dict[str, NDArray[Any]]

_MOST_ARRAYS = 100_000
_LARGE = 1 << 30  # bytes: less than that is unpacked without a question
_DENSE = 100  # times the packed bytes: more than that, and large, is made to fill the memory
_MAGIC = b"\x93NUMPY"
_HEADER = 1 << 16
_DAMAGED = (
    EOFError, ValueError, RuntimeError, NotImplementedError, struct.error, zlib.error, lzma.LZMAError,
    SyntaxError, tokenize.TokenError, zipfile.BadZipFile, TypeError, KeyError, RecursionError, MemoryError,
    OverflowError, IndexError,
)  # fmt: skip


def read_arrays(path: str | os.PathLike[str]) -> Arrays:
    """All arrays of an .npz file by name.

    Raises OSError if it cannot be read, and Untruthful, a ValueError, with the reason for anything that is no archive
    of numbers, is damaged or encrypted, or is far larger than it looks.
    """
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):  # opening a pipe would wait
        raise Untruthful("is no file")
    with open(path, "rb") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            raise Untruthful("holds one array without a name")
        try:
            archive = zipfile.ZipFile(file)
        except _DAMAGED as error:
            raise Untruthful("is not an .npz file") from error
        with archive:
            members = _members(archive, os.fstat(file.fileno()).st_size)
            return {name: _array(archive, info, name) for name, info in members.items()}


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an archive by name, if they can be what it says. size: bytes of the file."""
    infos = [info for info in archive.infolist() if not info.filename.endswith("/")]  # is_dir fails without a name
    if len(infos) > _MOST_ARRAYS:
        raise Untruthful(f"holds {len(infos)} arrays, more than {_MOST_ARRAYS}")
    packed, unpacked = sum(info.compress_size for info in infos), sum(info.file_size for info in infos)
    if packed > size:
        raise Untruthful("its arrays take more room than the file has")
    if unpacked > max(_LARGE, _DENSE * packed):
        raise Untruthful(f"would unpack to {unpacked / (1 << 30):.1f} GiB, {unpacked // max(packed, 1)} times its size")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            raise Untruthful(f"{shown(name)} is not an array")
        if name in members:
            raise Untruthful(f"has two arrays called {shown(name)}")
        if info.flag_bits & 1:
            raise Untruthful(f"array {shown(name)} is encrypted")
        members[name] = info
    return members


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    try:
        with archive.open(info) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser of Python, which reads the header
            shape, by_columns, dtype = _header(stream)
            return _content(stream, info.file_size, shape, by_columns, dtype)
    except Untruthful as error:
        raise Untruthful(f"array {shown(name)} cannot be read: {error}") from error
    except OSError as error:
        raise Untruthful(f"array {shown(name)} is damaged: {error.strerror or line(str(error))}") from error
    except _DAMAGED as error:
        raise Untruthful(f"array {shown(name)} is damaged: {_line(error)}") from error


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type as the header of an array tells them."""
    version = np.lib.format.read_magic(stream)
    width = struct.Struct("<H" if version == (1, 0) else "<I")
    head = stream.read(width.size)
    (length,) = width.unpack(head)
    if length > _HEADER:
        raise Untruthful(f"its header has {length} bytes")
    text = stream.read(length)
    if re.search(rb"[(\[{]{20}", text):
        raise Untruthful("its header is nested")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(io.BytesIO(head + text))


def _content(
    stream: IO[bytes], size: int, shape: tuple[int, ...], by_columns: bool, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """The elements behind a header. size: bytes of the member with its header."""
    if dtype.hasobject:
        raise Untruthful("it holds objects of Python; store plain numbers")
    if dtype.fields is not None or dtype.subdtype is not None or dtype.itemsize == 0:
        raise Untruthful(f"its elements are {line(str(dtype), 60)}; store plain numbers")
    if len(shape) > 32 or any(extent < 0 for extent in shape):
        raise Untruthful(f"its shape is {shown(shape)}")
    wanted, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if wanted != there:
        raise Untruthful(f"its shape {shown(shape)} wants {wanted} bytes, and there are {there}")
    flat = np.empty(math.prod(shape), dtype)
    room: Any = flat.view(np.uint8) if flat.size else flat
    at = 0
    while at < wanted:
        part = stream.read(min(wanted - at, 1 << 24))
        if not part:
            raise EOFError("it is cut off")
        room[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    stream.read(1)  # the end, at which the checksum is compared
    return flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)


def _line(error: BaseException) -> str:
    return line(str(error)) or type(error).__name__
