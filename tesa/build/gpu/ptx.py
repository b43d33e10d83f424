"""Assembles PTX to cubins: by ptxas where there is one, else in this process by nvJitLink. No driver is needed."""

import ctypes
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from tesa.base.scratch import Scratch
from tesa.build.gpu import tools

_PTX = 2  # NVJITLINK_INPUT_PTX
_LIMIT_S = 1200.0


class AssemblerError(Exception):
    """A text could not be assembled. The message is the assembler's."""


def assembler() -> str:
    """The name of what assembles PTX here, "" where nothing does."""
    if tools.program("ptxas") is not None:
        return "ptxas"
    return "nvJitLink" if tools.library("nvJitLink") is not None else ""


def assemble_ptx(text: str, architecture: str) -> bytes:
    """The cubin of a module of PTX. AssemblerError with the assembler's words.

    A text whose target is of one architecture alone, as sm_90a is of sm_90, is assembled for that.
    """
    architecture = alone(text) or architecture
    found = tools.program("ptxas")
    return _by_ptxas(found, text, architecture) if found is not None else _by_library(text, architecture)


def _by_ptxas(program: Path, text: str, architecture: str) -> bytes:
    with Scratch() as name:
        source, made = Path(name) / "code.ptx", Path(name) / "code.cubin"
        source.write_text(text)
        command = [str(program), "-arch", architecture, str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
        if done.returncode:
            raise AssemblerError("; ".join((done.stderr or done.stdout).strip().splitlines()[:3]))
        return made.read_bytes()


def alone(text: str) -> str:
    """The target of a text that is of one architecture alone, "" for one that newer devices run too.

    >>> alone(".version 8.0\\n.target sm_90a\\n"), alone(".version 8.0\\n.target sm_90\\n")
    ('sm_90a', '')
    """
    found = re.search(r"^\.target (sm_\d+[a-z])", text, re.M)
    return found[1] if found else ""


@cache
def _library() -> Any:
    path = tools.library("nvJitLink")
    if path is None:
        raise AssemblerError(f"neither ptxas nor nvJitLink: {tools.EXTRA}")
    return ctypes.CDLL(str(path))


def _function(name: str) -> Any:
    """A function of nvJitLink: its symbols carry the version that they came with."""
    library, plain = _library(), f"nvJitLink{name}"
    versions = (f"__nvJitLink{name}_{major}_{minor}" for major in (13, 12) for minor in range(12, -1, -1))
    for symbol in (plain, *versions):
        if hasattr(library, symbol):
            return getattr(library, symbol)
    raise AssemblerError(f"nvJitLink has no {plain}")


def _by_library(text: str, architecture: str) -> bytes:
    handle, options = ctypes.c_void_p(), (ctypes.c_char_p * 1)(f"-arch={architecture}".encode())
    if _function("Create")(ctypes.byref(handle), ctypes.c_uint32(1), options):
        raise AssemblerError(f"nvJitLink knows no architecture {architecture}")
    try:
        data = text.encode() + b"\0"
        size = ctypes.c_size_t(len(data))
        code = _function("AddData")(handle, ctypes.c_int(_PTX), data, size, b"code") or _function("Complete")(handle)
        if code:
            raise AssemblerError("; ".join(_log(handle).strip().splitlines()[:3]))
        length = ctypes.c_size_t()
        _function("GetLinkedCubinSize")(handle, ctypes.byref(length))
        made = ctypes.create_string_buffer(length.value)
        _function("GetLinkedCubin")(handle, made)
        return made.raw
    finally:
        _function("Destroy")(ctypes.byref(handle))


def _log(handle: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _function("GetErrorLogSize")(handle, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value + 1)
    _function("GetErrorLog")(handle, text)
    return text.value.decode(errors="replace")
