"""Loads compiled libraries with TVM's runtime alone: without the compiler a process starts in 0.1 seconds."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

from tesa.errors import ModelError, UsageError

_CPU, _POOLED = 1, 2


@functools.cache
def runtime() -> Any:
    """The tvm_ffi module, after libtvm_runtime.so was loaded into the process."""
    # The thread pool is made at its first use and never grows, so its size is settled before anything runs.
    os.environ.setdefault("TVM_NUM_THREADS", str(os.cpu_count() or 1))
    import tvm_ffi

    spec = importlib.util.find_spec("tvm")
    if spec is None or spec.origin is None:
        raise UsageError("TVM's runtime is not installed: pip install apache-tvm==0.27.0.post1")
    ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libtvm_runtime.so"), ctypes.RTLD_GLOBAL)
    return tvm_ffi


def load_library(path: Path) -> Any:
    """The module of a shared library. ModelError where the file is missing or is no library."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; compile a model with `tesa compile model.onnx -o {path}`")
    try:
        return runtime().load_module(str(path.resolve()))
    except Exception as error:
        line = str(error).strip().splitlines()[-1]
        raise ModelError(f"{path}: cannot be loaded as a compiled model: {line}") from error


def open_machine(library: Any, path: Path) -> Any:
    """A virtual machine with a pooled allocator for the compiled model in a library."""
    try:
        machine = library.get_function("vm_load_executable")()
    except Exception as error:
        raise ModelError(f"{path}: is a library, but not a compiled model (it has no vm_load_executable)") from error
    machine.get_function("vm_initialization")(_CPU, 0, _POOLED)
    return machine


def set_threads(count: int) -> None:
    """How many threads the kernels of this process run on."""
    runtime().get_global_func("runtime.config_threadpool")(-1, count)
