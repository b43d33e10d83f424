"""A compiled model in Python without tesa: NumPy, tvm_ffi and libtvm_runtime.so are all that it needs.

    from tesa_model import Model

    model = Model("model.so", "bundle/lib/libtvm_runtime.so")
    logits = model({"image": image})["logits"]

This one file may be copied into a program.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import platform
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_CPU, _POOLED = 1, 2
_HEADER = struct.Struct("<18xH20xQ10xHH2x")
_MACHINES = {62: ("x86_64", "amd64"), 183: ("aarch64", "arm64")}
_BFLOAT16 = "bfloat16"


class ModelError(ValueError):
    """Raised for what cannot be done; the text says what was expected."""


class Model:
    """A compiled model, for any number of threads. sizes: its inputs and outputs, of each size that it takes."""

    def __init__(self, path: str | os.PathLike[str], runtime: str | os.PathLike[str] | None = None) -> None:
        """Load a library. runtime: where libtvm_runtime.so is; by default beside the model, in lib beside it, or in the
        package apache-tvm. Raises ModelError for what is no model, or not for this machine."""
        self.path = Path(path).absolute()
        _check(self.path)
        ffi = _loaded(self.path, runtime)
        try:
            self._library = ffi.load_module(str(self.path))
            missing, text = (self._library.get_function(f"tesa_{name}", True)() for name in ("missing", "description"))
            self._function = self._library.get_function("tesa_function", True)
        except Exception as error:
            raise ModelError(f"{self.path}: is a library, but no compiled model") from error
        if missing:
            target = self._library.get_function("tesa_target", True)()
            raise ModelError(f"{self.path}: made for {target}, this CPU lacks {missing}")
        self.sizes: list[dict[str, Any]] = json.loads(str(text))["sizes"]
        self._ffi = ffi
        self._free: deque[Any] = deque([self._opened()])  # its methods are safe among threads

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Name, shape and dtype of each input, at the first size."""
        inputs: list[dict[str, Any]] = self.sizes[0]["inputs"]
        return inputs

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model on an array for each input. Returns an array for each output, which owns its memory.

        Raises ModelError for a missing or unknown name, a wrong dtype or shape, an index without a row.
        """
        names = [info["name"] for info in self.inputs]
        if set(feeds) != set(names):
            raise ModelError(
                f"the model takes the inputs {', '.join(names)}; got {', '.join(map(str, feeds)) or 'none'}"
            )
        tensors = [self._tensor(np.asarray(feeds[name])) for name in names]
        try:
            function = str(self._function(*tensors))
        except (TypeError, ValueError, IndexError) as error:
            raise ModelError(str(error)) from error
        # A machine holds the registers of one call. One in which a call has failed is not used again.
        try:
            machine = self._free.pop()
        except IndexError:
            machine = self._opened()
        result = machine.get_function(function)(*tensors)
        self._free.append(machine)
        results: Sequence[Any] = [result] if hasattr(result, "shape") else list(result)
        outputs = next(size["outputs"] for size in self.sizes if size["function"] == function)
        return {info["name"]: self._array(tensor) for info, tensor in zip(outputs, results, strict=True)}

    def _opened(self) -> Any:
        machine = self._library.get_function("vm_load_executable")()
        machine.get_function("vm_initialization")(_CPU, 0, _POOLED)
        return machine

    def _tensor(self, array: Any) -> Any:
        array = np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])
        if array.dtype.name == _BFLOAT16:  # DLPack has it, NumPy has not
            return self._seen_as(self._ffi.from_dlpack(array.view(np.uint16)), _BFLOAT16)
        return self._ffi.from_dlpack(array)

    def _array(self, tensor: Any) -> Any:
        if str(tensor.dtype) == _BFLOAT16:
            return np.array(np.from_dlpack(self._seen_as(tensor, "uint16")))  # the bits
        return np.array(np.from_dlpack(tensor))

    def _seen_as(self, tensor: Any, dtype: str) -> Any:
        view = self._ffi.get_global_func("runtime.TVMTensorCreateView")
        return view(tensor, self._ffi.Shape(tuple(tensor.shape)), self._ffi.dtype(dtype), 0)


def _check(path: Path) -> None:
    """Refuse what the system's loader would crash on."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; compile a model: tesa compile model.onnx -o model.so")
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    if not header.startswith(b"\x7fELF"):
        raise ModelError(f"{path}: is no shared library")
    if len(header) < _HEADER.size:
        raise ModelError(f"{path}: is cut off; copy or compile it again")
    machine, sections, size, count = _HEADER.unpack(header)
    if sections + size * count > path.stat().st_size:
        raise ModelError(f"{path}: is cut off; copy or compile it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"tesa_description") < 0:
            raise ModelError(f"{path}: is a library, but no compiled model")
    names = _MACHINES.get(machine, ())
    if names and platform.machine().lower() not in names:
        raise ModelError(f"{path}: was compiled for {names[0]}, and this machine is {platform.machine()}")


def _loaded(path: Path, runtime: str | os.PathLike[str] | None) -> Any:
    """tvm_ffi, after the runtime is in the process."""
    os.environ.setdefault("TVM_BIND_THREADS", "0")  # else a worker is bound to a core that the caller may be on
    import tvm_ffi

    name = "libtvm_runtime.so"
    places = [Path(runtime)] if runtime else [path.parent / name, path.parent / "lib" / name, *_installed(name)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ModelError(
            f"{name} is not at {', '.join(map(str, places))}; `tesa bundle {path.name} -o folder` writes it"
        )
    ctypes.CDLL(str(found), ctypes.RTLD_GLOBAL)
    return tvm_ffi


def _installed(name: str) -> list[Path]:
    """The library of the package apache-tvm, found without importing it: that would load its compiler, too."""
    from importlib.util import find_spec

    spec = find_spec("tvm")
    return [Path(spec.origin).parent / "lib" / name] if spec is not None and spec.origin else []
