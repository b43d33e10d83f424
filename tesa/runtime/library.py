"""Loads compiled libraries with TVM's runtime alone: without the compiler a process starts in 0.1 seconds."""

import ctypes
import functools
import importlib.util
import os
import platform
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tesa.base.hostinfo import architecture, usable_cpus
from tesa.base.scratch import Scratch
from tesa.errors import ModelError, UsageError
from tesa.targets.architecture import architectures

_CPU, _POOLED = 1, 2
_ELF = struct.Struct("<18xH20xQ10xHH2x")
"""In the 64-bit header: the machine; where the table of sections begins, size and number of its entries. The table ends
the file."""

_PROGRAM = struct.Struct("<32xQ14xHH6x")
"""In the 64-bit header: where the table of segments begins, size and number of its entries."""

_SEGMENT = struct.Struct("<8xQ16xQ16x")
"""Of a segment: where it begins in the file, and its bytes there."""

_OTHERS = {243: "riscv64", 40: "arm", 3: "x86"}
"""Names of machines in that header that no architecture of tesa has."""

_LOADED: dict[Path, tuple[int, int]] = {}
"""Device and inode of the file that each path was first loaded from."""


_POOL = threading.local()
"""threads: how many the pool of this thread was last set to."""


@functools.cache
def runtime() -> Any:
    """The tvm_ffi module, after libtvm_runtime.so was loaded into the process."""
    # The thread pool is made at its first use and never grows, so its size is settled before anything runs.
    os.environ.setdefault("TVM_NUM_THREADS", str(usable_cpus()))
    # TVM would bind its workers to cores, but not the caller: where both are on one core, each waits for the other to
    # use up its turn, and a call of 0.1 ms takes 4.
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    import tvm_ffi

    spec = importlib.util.find_spec("tvm")
    if spec is None or spec.origin is None:
        raise UsageError("TVM's runtime is not installed: pip install apache-tvm==0.27.0.post1")
    ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libtvm_runtime.so"), ctypes.RTLD_GLOBAL)
    return tvm_ffi


def load_library(path: Path) -> Any:
    """The module of a shared library. ModelError where the file is missing, cut off, or no library."""
    with loader_path(path) as file:
        return runtime().load_module(str(file))


@contextmanager
def loader_path(path: Path) -> Iterator[Path]:
    """The path by which the system's loader gives the library that is there now, and what it says as a ModelError.

    ModelError where the file is missing, cut off, or no library. The loader gives the old file back for a name that it
    knows, so that a new file there has to get another name.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; compile a model with `tesa compile model.onnx -o {path}`")
    fault = _fault(path)
    if fault:
        raise ModelError(f"{path}: cannot be loaded as a compiled model: {fault}; compile the model again")
    if foreign := _foreign(path):
        raise ModelError(f"{path}: cannot be loaded here: {foreign}")
    try:
        whole = path.resolve()
        stat = whole.stat()
        now = (stat.st_dev, stat.st_ino)
        if _LOADED.setdefault(whole, now) == now:
            yield whole
            return
        with Scratch() as folder:
            link = Path(folder) / whole.name
            link.symlink_to(whole)
            yield link
    except Exception as error:
        line = str(error).strip().splitlines()[-1].rpartition(": ")[2]
        raise ModelError(f"{path}: cannot be loaded as a compiled model: {line}") from error


def _fault(path: Path) -> str:
    """The fault of a library that shows at first sight, "" if none. The loader crashes on one that is cut off."""
    if path.suffix != ".so":
        return "its name does not end in .so"
    return elf(path)[0]


def elf(path: Path) -> tuple[str, str]:
    """The fault of a file that is to be a library, "" if none, and the architecture that it is made for, if known."""
    with path.open("rb") as file:
        header = file.read(_ELF.size)
    if not header.startswith(b"\x7fELF"):
        return "it is no shared library", ""
    if len(header) < _ELF.size:
        return "it is cut off", ""
    machine, sections, size, count = _ELF.unpack(header)
    known = {one.elf: architecture(one.triple.partition("-")[0]) for one in architectures() if one.elf}
    cut = max(sections + size * count, _loaded_end(path)) > path.stat().st_size
    return "it is cut off" if cut else "", (known | _OTHERS).get(machine, "")


def _loaded_end(path: Path) -> int:
    """The place in the file behind the last byte that the loader maps; 0 where the header tells none."""
    with path.open("rb") as file:
        start, size, count = _PROGRAM.unpack(file.read(_PROGRAM.size))
        if size != _SEGMENT.size:
            return 0
        file.seek(start)
        table = file.read(size * count)
    whole = range(0, len(table) - size + 1, size)
    return max((sum(_SEGMENT.unpack_from(table, at)) for at in whole), default=0)


def _foreign(path: Path) -> str:
    """Advice for a library that is made for another machine, "" for one of this."""
    made, here = elf(path)[1], architecture(platform.machine())
    if not made or made == here:
        return ""
    return (
        f"it is made for {made}, and this machine is {here}; run it on a device of a tracker (--rpc HOST:PORT --key "
        "KEY, in Python rpc= and key=), or compile the model for this machine"
    )


def open_machine(library: Any, path: Path) -> Any:
    """A virtual machine with a pooled allocator for the compiled model in a library."""
    try:
        machine = library.get_function("vm_load_executable")()
    except Exception as error:
        raise ModelError(f"{path}: is a library, but not a compiled model (it has no vm_load_executable)") from error
    machine.get_function("vm_initialization")(_CPU, 0, _POOLED)
    return machine


def set_threads(count: int) -> None:
    """Set how many threads the kernels run on that the calling thread calls: each has a pool of workers of its own."""
    if getattr(_POOL, "threads", 0) != count:
        runtime().get_global_func("runtime.config_threadpool")(-1, count)
        _POOL.threads = count
