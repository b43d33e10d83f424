"""The arrays of a kernel that is written as a function of TVM, and the code that such functions become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import flat, named, parameter
from tesa.schedules.gpus import GpuCode, GpuTir, Launch, Work
from tesa.schedules.types import Problem

_WHOLE = (0, 0, 0)


@dataclass(frozen=True)
class Elements:
    """The kinds of elements of a kernel: of X and of its weights as they are stored, and of the sums."""

    x: str
    weight: str
    sums: str


@dataclass(frozen=True)
class Arrays:
    """The arrays of a kernel, flat. constants are in the order of GpuCode.constants."""

    x: Any
    y: Any
    constants: tuple[Any, ...]
    bias: Any = None
    residual: Any = None
    scale: Any = None


def elements(problem: Problem) -> Elements:
    """The kinds of elements that a problem has. Raises ValueError for a dtype that GPUs' kernels do not know.

    >>> elements(Problem("linear", 4, 8, 2, (1, 8, 2), (1, 4, 2), dtype="int8"))
    Elements(x='uint8', weight='int8', sums='int32')
    """
    if problem.dtype == "float32":
        return Elements("float32", "float16" if problem.storage == "float16" else "float32", "float32")
    if problem.dtype == "float16":
        return Elements("float16", "float16", "float32")
    if problem.dtype == "int8":
        return Elements("uint8", "int8", "int32")
    raise ValueError(f"no kernel of functions of TVM for a GPU computes {problem.dtype}")


def parameters(problem: Problem, constants: Sequence[NDArray[Any]]) -> Arrays:
    """Declare the parameters of the function that is being written: those of `arguments`, in that order."""
    e = problem.epilogue
    shapes: dict[str, tuple[Sequence[int], str]] = {"x": (problem.x_shape, elements(problem).x)}
    shapes |= {f"constant{i}": (one.shape, str(one.dtype)) for i, one in enumerate(constants)}
    shapes |= {name: ((problem.m,), "float32") for name, there in (("scale", e.scale), ("bias", e.bias)) if there}
    if e.residual:
        shapes["residual"] = (problem.y_shape, problem.residual.dtype)
    shapes["y"] = (problem.y_shape, problem.output.dtype)
    shaped = {name: parameter(name, *given) for name, given in shapes.items()}
    # every parameter comes before the first declaration
    views = {name: flat(buffer) for name, buffer in shaped.items()}
    ordered = tuple(views.pop(f"constant{i}") for i in range(len(constants)))
    return Arrays(constants=ordered, **views)


def arguments(problem: Problem, constants: int) -> tuple[str, ...]:
    """The names of a kernel's arguments, as Launch has them: x, the constants, scale, bias, residual, y."""
    e = problem.epilogue
    there = (("scale", e.scale), ("bias", e.bias), ("residual", e.residual))
    names = (name for name, wanted in there if wanted)
    return ("x", *(f"constant{i}" for i in range(constants)), *names, "y")


def one_kernel(symbol: str, function: Any, problem: Problem, constants: Sequence[NDArray[Any]], work: Work) -> GpuCode:
    """The code of a kernel that is one function of TVM."""
    module = GpuTir(symbol, ((symbol, function),))
    launch = Launch(symbol, _WHOLE, _WHOLE, arguments(problem, len(constants)))
    return GpuCode((module,), (launch,), tuple(constants), work=(work,), tir=lambda: module)


def local(name: str, count: int, dtype: str) -> Any:
    """An array of a thread: its registers, where all indices are known."""
    return named(name, T.alloc_buffer((max(count, 1),), dtype, scope="local"))


def keep(name: str, value: Any) -> Any:
    """An int32 that is computed once, here. TVM's passes write a bound value into each of its uses, but no element."""
    kept = local(name, 1, "int32")
    T.buffer_store(kept, value, [0])
    return kept[0]


def shared(name: str, count: int, dtype: str) -> Any:
    """An array that the threads of a block share."""
    return named(name, T.alloc_buffer((max(count, 1),), dtype, scope="shared"))


def barrier() -> None:
    """Wait for all threads of the block."""
    T.evaluate(T.tvm_storage_sync("shared"))


def zero(dtype: str) -> Any:
    """The number 0 of a kind."""
    return T.int32(0) if dtype == "int32" else T.float32(0)


def at_least_one(values: Any, dtype: Any) -> NDArray[Any]:
    """An array that has an element: an argument may not be empty."""
    found = np.asarray(values, dtype)
    return found if found.size else np.zeros((1, *found.shape[1:]), dtype)
