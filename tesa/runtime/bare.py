"""A compiled model that needs no runtime, in this process: its C functions are called as they are."""

import ctypes
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tesa.errors import ModelError
from tesa.runtime.inputs import Array
from tesa.runtime.library import loader_path
from tesa.runtime.manifest import Manifest, SizeInfo
from tesa.runtime.model import Model
from tesa.runtime.tensors import numpy_dtype

_ALIGNMENT = 64
_Task = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32)
_Launch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, _Task, ctypes.c_void_p, ctypes.c_int32)


class BareModel(Model):
    """A compiled model that needs no runtime, for any number of threads: each call has an arena of its own."""

    def __init__(self, path: Path, manifest: Manifest, threads: int = 1) -> None:
        super().__init__(path, manifest, threads)
        about = manifest.library
        if about.get("format") != "so":
            raise ModelError(
                f"{path}: is of format {about.get('format')!r}, to be linked into programs, see {path.stem}.h; "
                "to load a model in Python, compile it with --format so or vm"
            )
        with loader_path(path) as file:
            self._library = ctypes.CDLL(str(file))
        self._name = str(about["name"])
        self._check()
        self._arena_bytes = int(about["arena"])
        self._arenas: deque[Array] = deque()  # its methods are safe among threads
        functions = [
            self._function(f"run_parallel{name.removeprefix(f'{self._name}_run')}") for name in about["functions"]
        ]
        self._runs = {size.function: run for size, run in zip(manifest.sizes, functions, strict=True)}
        self._launcher = _Launcher(threads) if threads > 1 else None

    def execute(self, prepared: Sequence[Any]) -> list[Array]:
        """Run on prepared inputs, with an arena that no other call has."""
        size = self._size_of(prepared)
        outputs = [_aligned(info.shape, info.dtype) for info in size.outputs]
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = _aligned((self._arena_bytes,), "uint8")
        pointers = [array.ctypes.data for array in (*prepared, *outputs, arena)]
        self._run(size, pointers)
        self._arenas.append(arena)
        return outputs

    def _run(self, size: SizeInfo, pointers: Sequence[int]) -> None:
        arguments = [ctypes.c_void_p(pointer) for pointer in pointers]
        launch = None if self._launcher is None else self._launcher.pointer
        status = self._runs[size.function](*arguments, launch, None)
        if status:
            raise ModelError(f"{self.path}: {self._text('error', status)}")

    def _function(self, name: str) -> Any:
        try:
            return getattr(self._library, f"{self._name}_{name}")
        except AttributeError as error:
            raise ModelError(
                f"{self.path}: has no function {self._name}_{name}, as its description says: they are not of one "
                "compile; compile the model again"
            ) from error

    def _text(self, name: str, *arguments: Any) -> str:
        function = self._function(name)
        function.restype = ctypes.c_char_p
        return str(function(*arguments).decode())

    def _check(self) -> None:
        """ModelError for a library of another compile than its description, or one that this CPU cannot run."""
        if self._text("digest") != self.manifest.digest:
            raise ModelError(
                f"{self.path}: its description {self.path.with_suffix('.json').name} is of another model or compile; "
                "copy both files of one compile"
            )
        missing, text = self._function("missing"), ctypes.create_string_buffer(1024)
        missing.restype = ctypes.c_size_t
        if missing(text, ctypes.c_size_t(1024)):
            raise ModelError(
                f"{self.path}: was compiled for {self.plan.target}, and this machine's CPU cannot run it: it lacks "
                f"{text.value.decode()}; compile it for this machine, or for an older CPU"
            )

    def _wrapped(self, array: Array) -> Array:
        return array

    def _unwrapped(self, result: Array) -> Array:
        return result


def _aligned(shape: Sequence[int], dtype: str) -> Array:
    """An array that is not filled and begins where vectors are read fastest."""
    kind = numpy_dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(kind).reshape(shape)


class _Launcher:
    """Runs the tasks of a model: the first one by the caller, the others by threads that live on."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0
        self.pointer = _Launch(self._launch)

    def _launch(self, _user: int, task: Any, data: int, tasks: int) -> int:
        try:
            pool = self._workers()
            waiting = [pool.submit(task, data, number) for number in range(1, tasks)]
            task(data, 0)
            for one in waiting:
                one.result()
        except Exception:  # an exception cannot pass through the library
            return 1
        return 0

    def _workers(self) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():  # threads do not come along into a child
            self._pool, self._process = ThreadPoolExecutor(max(self._threads - 1, 1), "tesa"), os.getpid()
        return self._pool
