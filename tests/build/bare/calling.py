"""Calls a model that needs no runtime, by ctypes alone."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from tesa.compiler import compile_model

Arrays = Mapping[str, NDArray[Any]]


def aligned(size: int, alignment: int = 64) -> NDArray[np.uint8]:
    """Bytes that begin at a multiple of the alignment; they hold what is no number."""
    room = np.full(size + alignment, 0xFF, np.uint8)
    start = -room.ctypes.data % alignment
    return room[start : start + size]


class Library:
    """A shared library with its description."""

    pointer = ctypes.c_void_p

    def __init__(self, path: Path) -> None:
        self.described: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        self.name = str(self.described["library"]["name"])
        self.c = ctypes.CDLL(str(path))
        self.arena_bytes = int(self.described["library"]["arena"])

    def function(self, name: str, restype: Any = ctypes.c_int) -> Any:
        """NAME_name."""
        found = getattr(self.c, f"{self.name}_{name}")
        found.restype = restype
        return found

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Arrays for the outputs."""
        return {
            one["name"]: aligned(int(np.prod(one["shape"])) * np.dtype(one["dtype"]).itemsize)
            .view(one["dtype"])
            .reshape(one["shape"])
            for one in self.described["outputs"]
        }

    def run(self, feeds: Arrays, arena: NDArray[np.uint8] | None = None, more: Sequence[Any] = ()) -> Arrays:
        """The outputs by name. more: arguments behind the arena, of NAME_run_parallel."""
        arena = aligned(self.arena_bytes) if arena is None else arena
        made = self.outputs()
        given = [np.ascontiguousarray(feeds[one["name"]]) for one in self.described["inputs"]]
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*given, *made.values(), arena)]
        status = self.function("run_parallel" if more else "run")(*pointers, *more)
        assert status == 0, self.function("error", ctypes.c_char_p)(status)
        return made


def built(folder: Path, proto: Any, **options: Any) -> Library:
    """The library of a model, compiled without measuring."""
    onnx.save(proto, folder / "model.onnx")
    output = folder / "net.so"
    compile_model(folder / "model.onnx", output=output, format="so", measure=False, **options)
    return Library(output)


def expected(proto: Any, feeds: Arrays) -> Arrays:
    """onnxruntime's outputs by name."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def check(folder: Path, proto: Any, feeds: Arrays, tolerance: float = 1e-5, **options: Any) -> Library:
    """Hold the library of a model against onnxruntime, on these inputs."""
    library = built(folder, proto, **options)
    wanted = expected(proto, feeds)
    made = library.run(feeds)
    assert made.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(made[name], array, rtol=tolerance, atol=tolerance, err_msg=name)
    return library
