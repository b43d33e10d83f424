"""Calls libraries for GPUs from Python: on tensors of DLPack on a GPU, or on arrays of NumPy, which are copied."""

from __future__ import annotations

import copy
import ctypes
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.errors import CheckFailed, ModelError, UsageError
from tesa.runtime.library import loader_path

DEVICES = {2: "cuda", 10: "rocm"}
"""DLPack's numbers of the kinds of GPUs."""


class GpuLibrary:
    """A library that tesa has made for GPUs: `library(*inputs)` gives its outputs.

    Tensors of DLPack on a GPU, as those of torch and CuPy, are used where they are, and the outputs are made by the
    package that the first input is of, or are given as `out`; the work is started on the package's current stream.
    Arrays of NumPy are copied to `device` and back.

    Raises ModelError for a file that is no such library; UsageError for inputs that it does not take; CheckFailed with
    the driver's words where it cannot run.
    """

    def __init__(self, path: str | Path, name: str, entry: str, device: int = 0) -> None:
        self.path, self.device = Path(path), device
        self._name, self._entry, self._size = name, entry, 0
        with loader_path(self.path) as file:
            self._library = ctypes.CDLL(str(file))
        try:
            self._run_hosts = [self._function("run_host")]
            self._error = self._function("error")
            self._error.restype = describe = ctypes.c_char_p
            described = self._function("description")
        except AttributeError as error:
            raise ModelError(f"{path}: is a library, but not one of tesa's for GPUs: {error}") from error
        described.restype = describe
        self.facts: dict[str, Any] = json.loads(described())
        self.inputs, self.outputs = self.facts["inputs"], self.facts["outputs"]
        others = range(1, len(self.facts.get("sizes", ())))
        self._run_hosts += [self._function(f"run_host_{size}") for size in others]

    def at(self, size: int) -> GpuLibrary:
        """The same library for its size of that number, 0 for the first one."""
        one = copy.copy(self)
        one._size = size
        ports = self.facts["sizes"][size] if "sizes" in self.facts else self.facts
        one.inputs, one.outputs = ports["inputs"], ports["outputs"]
        return one

    def __call__(self, *inputs: Any, out: Any = None) -> Any:
        """The output, or a tuple of several. out: tensors, or one, to write to."""
        self._check_count(inputs)
        if all(isinstance(one, np.ndarray) for one in inputs):
            return self._of_arrays(inputs, out)
        given = self._made(inputs[0]) if out is None else out if isinstance(out, list | tuple) else [out]
        try:
            self._packed(*inputs, *given)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.path.name}: {error}") from error
        except RuntimeError as error:
            raise CheckFailed(f"{self.path.name}: {error}") from error
        return given[0] if len(given) == 1 else tuple(given)

    def time_ms(self, inputs: Sequence[NDArray[Any]], calls: int = 100) -> float:
        """Milliseconds of a call on the device, by the driver's events, after a first call that is not counted."""
        self._check_count(inputs)
        milliseconds = ctypes.c_float()
        self._host(inputs, self._empty(), calls + 1, ctypes.byref(milliseconds))
        return float(milliseconds.value)

    def _function(self, what: str) -> Any:
        return getattr(self._library, f"{self._name}_{what}")

    @cached_property
    def _packed(self) -> Any:
        from tesa.runtime.library import runtime

        with loader_path(self.path) as file:
            return runtime().load_module(str(file))[self._entry]

    def _check_count(self, inputs: Sequence[Any]) -> None:
        if len(inputs) != len(self.inputs):
            names = ", ".join(port["name"] for port in self.inputs)
            raise UsageError(f"{self.path.name}: takes {len(self.inputs)} input(s): {names}; got {len(inputs)}")

    def _made(self, like: Any) -> list[Any]:
        """Outputs of the package and on the device of a tensor."""
        package = type(like).__module__.partition(".")[0]
        if package not in ("torch", "cupy"):
            raise UsageError(
                f"{self.path.name}: outputs are made for inputs of torch, CuPy and NumPy; give out= for {package}"
            )
        module = __import__(package)
        where = {"device": like.device} if package == "torch" else {}
        return [module.empty(tuple(p["shape"]), dtype=getattr(module, p["dtype"]), **where) for p in self.outputs]

    def _empty(self) -> list[NDArray[Any]]:
        return [np.empty(port["shape"], port["dtype"]) for port in self.outputs]

    def _of_arrays(self, inputs: Sequence[NDArray[Any]], out: Any) -> Any:
        given = self._empty() if out is None else list(out) if isinstance(out, list | tuple) else [out]
        arrays = [self._array(port, one) for port, one in zip(self.inputs, inputs, strict=True)]
        self._host(arrays, given, 1, None)
        return given[0] if len(given) == 1 else tuple(given)

    def _array(self, port: dict[str, Any], given: NDArray[Any]) -> NDArray[Any]:
        if list(given.shape) != port["shape"] or given.dtype != port["dtype"]:
            raise UsageError(
                f"{self.path.name}: input {port['name']}: expected {port['dtype']} of shape {tuple(port['shape'])}, "
                f"got {given.dtype} of shape {given.shape}"
            )
        return np.ascontiguousarray(given)

    def _host(self, inputs: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]], calls: int, time: Any) -> None:
        def pointers(arrays: Sequence[NDArray[Any]]) -> Any:
            return (ctypes.c_void_p * max(len(arrays), 1))(*(array.ctypes.data for array in arrays))

        run = self._run_hosts[self._size]
        code = run(ctypes.c_int(self.device), pointers(inputs), pointers(outputs), ctypes.c_int(calls), time)
        if code:
            raise CheckFailed(f"{self.path.name}: {self.error()}")

    def error(self) -> str:
        """The words of the last failure."""
        return str(self._error().decode(errors="replace"))
