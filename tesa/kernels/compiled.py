"""A kernel that was made for one weight: called on NumPy arrays, looked at, timed, saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base import display
from tesa.base.display import Displayed
from tesa.base.files import atomic_path
from tesa.base.listing import Listing
from tesa.base.scratch import Scratch
from tesa.build.package import ENTRY, package
from tesa.build.wasm_kernel import package_wasm
from tesa.choose.chosen import ChosenKernel
from tesa.choose.plan import LayerPlan
from tesa.errors import UsageError
from tesa.kernels.comparison import KernelComparison, compare
from tesa.kernels.node import NodeKernel
from tesa.kernels.roofline import Roofline, roofline
from tesa.measure.runners import lacking
from tesa.measure.timing import Timing
from tesa.runtime.arguments import FLOAT32, are_apart, check_array, checked_input, is_plain
from tesa.schedules.registry import find
from tesa.schedules.types import Code, FloatArray, Problem
from tesa.targets.target import Target, runs_here


class Kernel(Displayed):
    """A kernel with its weight and bias inside, ready to call. tesa.kernel makes it.

    >>> from tesa import kernel
    >>> k = kernel(np.eye(4), n=16, epilogue="relu", family="indexed", measure=False)
    >>> k  # doctest: +ELLIPSIS
    Kernel(linear 4x4x16, group 4, 75% zeros, relu, ..., indexed)
    """

    def __init__(
        self,
        chosen: ChosenKernel,
        problem: Problem,
        weight: FloatArray,
        bias: FloatArray | None,
        target: Target,
        scale: FloatArray | None = None,
    ) -> None:
        self.problem, self.target, self.weight, self.bias, self.scale = problem, target, weight, bias, scale
        self._chosen = chosen
        self._folder = Scratch()
        self._names = ("X", *(["residual"] if problem.epilogue.residual else []), "Y")
        product = chosen.product
        constants = (*product.constants, *(array for array in (scale, bias) if array is not None))
        self._library_path = Path(self._folder.name) / f"{product.symbol}{target.toolchain.suffix}"
        pack = package if target.runtime else package_wasm
        pack(self._library_path, product.objects, product.symbol, constants, self._names, target)
        self._y_shape = problem.y_shape
        self._x_dtype, self._y_dtype = np.dtype(problem.x_dtype), np.dtype(problem.output.dtype)
        self._in_shapes = (problem.x_shape, problem.y_shape)[: len(self._names) - 1]
        self._in_dtypes = (self._x_dtype, FLOAT32)[: len(self._names) - 1]
        self._entry: Any = lambda *_: self._check_runs()
        if not target.runtime:
            if not lacking(target):
                self._entry = NodeKernel(self._library_path, target, self._sizes(), problem.alignment)
        elif runs_here(target):
            self._use_threads()
            self._entry = self._library[ENTRY]

    @property
    def plan(self) -> LayerPlan:
        """The decision for the kernel: pattern, candidates with their times, and the reason."""
        product = self._chosen.product
        return LayerPlan.alone(
            self.problem, self._chosen.parts, product.symbol, self._chosen.digest, product.footprint
        )  # fmt: skip

    def __call__(
        self, x: NDArray[Any], residual: NDArray[Any] | None = None, *, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Y for X: contiguous, of the shape that the kernel was made for, float32 (uint8 for an int8 or mixed kernel).

        residual: float32, in the shape of Y.

        out: where to write Y instead of into a new array; it must not overlap the inputs.

        Raises UsageError, with what is expected and what was given, for another shape, dtype or memory layout.
        """
        y = np.empty(self._y_shape, self._y_dtype) if out is None else out
        arrays: tuple[NDArray[Any], ...] = (x,) if residual is None else (x, residual)
        if (
            len(arrays) != len(self._in_shapes)
            or not all(map(is_plain, arrays, self._in_shapes, self._in_dtypes))
            or (out is not None and not (is_plain(out, self._y_shape, self._y_dtype) and are_apart(out, arrays)))
        ):
            arrays = self._careful(x, residual, out)
        self._entry(*arrays, y)  # tvm_ffi makes DLPack tensors of them
        return y

    def time(self, *, budget_ms: float = 200.0) -> Timing:
        """Measure one call of the generated code on random numbers, in about budget_ms.

        The median, least and spread of up to 20 samples in milliseconds, with warm caches and without Python; the
        arrays are aligned to 16 bytes, as NumPy's are.
        """
        import tvm

        from tesa.measure.reference import Inputs
        from tesa.measure.tensors import placed
        from tesa.measure.timing import time_warm

        self._check_runs()
        inputs = Inputs.random(self.problem)
        arrays = [inputs.x, *([inputs.residual] if inputs.residual is not None else [])]
        if isinstance(self._entry, NodeKernel):
            return self._entry.time(arrays, budget_ms)
        self._use_threads()
        tensors = [placed(array, self.problem.alignment) for array in arrays]
        y = tvm.runtime.empty(self._y_shape, self.problem.output.dtype)
        return time_warm(self._library, ENTRY, (*tensors, y), budget_ms)

    def slices(self) -> Callable[[], float]:
        """A function that runs the kernel for some milliseconds on random numbers, and answers those of one call."""
        import tvm

        from tesa.measure.reference import Inputs
        from tesa.measure.tensors import placed
        from tesa.measure.timing import WARM_CALLS, calls_per_slice

        self._check_runs()
        if isinstance(self._entry, NodeKernel):
            raise UsageError("kernels that Node.js runs are timed one by one: use time()")
        inputs = Inputs.random(self.problem)
        given = [inputs.x, *([inputs.residual] if inputs.residual is not None else [])]
        tensors = [placed(array, self.problem.alignment) for array in given]
        tensors.append(tvm.runtime.empty(self._y_shape, self.problem.output.dtype))

        def run(number: int) -> float:
            self._use_threads()
            evaluator = self._library.time_evaluator(ENTRY, tvm.cpu(), number=number, repeat=1)
            return float(evaluator(*tensors).results[0]) * 1e3

        number = calls_per_slice(min(run(1), run(1)), 1, WARM_CALLS)
        return lambda: run(number)

    def compare(self, *others: Kernel, rounds: int = 20) -> KernelComparison:
        """This kernel and others, timed in turn; see tesa.kernels.comparison.compare."""
        return compare(self, *others, rounds=rounds)

    def roofline(self) -> Roofline:
        """This kernel under the roof of its machine: operations and bytes, and what they allow."""
        return roofline(self)

    def plot_mask(self, path: str | Path | None = None) -> Any:
        """A picture of the zeros of the weight, to scale. path: where to write it. UsageError without matplotlib."""
        return display.picture(self, path=path)

    def show(self, kind: str = "tir", *, full: bool = False) -> Listing:
        """The generated code as text: "tir", "llvm" or "asm", the main function and then every panel it calls.

        "llvm" and "asm" are the loops alone, "asm" below a count of its instructions; full=True has the checks of a
        call's arguments, too. A notebook colours it where it is the last value of a cell.

        Raises UsageError for another kind.
        """
        from tesa.build.source import KINDS, source

        if not isinstance(kind, str):
            raise UsageError(f"cannot show {kind!r}; expected {', '.join(repr(name) for name in KINDS)}")
        return Listing(source(self._code, self.target, kind, full), kind)

    def save(self, path: str | Path) -> Path:
        """Write the kernel as a library, with its constants inside, and beside it a .json that says how to call it.

        Anybody can call it who has libtvm_ffi: `tvm_ffi.load_module("./k.so")["entry"](X, Y)`, or from C
        `__tvm_ffi_entry`. Without TVM's runtime in the process it runs on one thread. For WebAssembly it is a module
        with the function entry(X, Y) of addresses in its memory, see tesa.build.wasm_kernel.

        Raises UsageError if path does not end in .so (.wasm) or cannot be written.
        """
        path = Path(path)
        suffix = self.target.toolchain.suffix
        if path.suffix != suffix:
            raise UsageError(f"{path}: a kernel is saved as {self._kind}; give a name that ends in {suffix}")
        description = path.with_suffix(".json")
        with atomic_path(path) as library, atomic_path(description) as text:
            library.write_bytes(self._library_path.read_bytes())
            text.write_text(json.dumps(self._manifest(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return path

    def __repr__(self) -> str:
        plan = self.plan
        shape = "x".join(map(str, plan.shape))
        words = [f"{plan.op} {shape}", plan.pattern, f"{plan.sparsity:.0%} zeros", plan.epilogue, self.target.name]
        return f"Kernel({', '.join(word for word in (*words, plan.kernel) if word)})"

    @cached_property
    def _code(self) -> Code:
        part = self._chosen.part
        emit = find(part.family, self.target.kind).emit
        code: Code = emit(self.problem, self.weight, self.target.core, part.config, self._chosen.product.symbol)
        return code

    @cached_property
    def _library(self) -> Any:
        import tvm

        from tesa.runtime.library import runtime

        runtime()  # settles how many threads there can be before the pool starts
        return tvm.runtime.load_module(str(self._library_path))

    def _use_threads(self) -> None:
        """The pool is the process's: another kernel or model may have set it otherwise since."""
        if self.problem.threads > 1:
            from tesa.runtime.library import runtime, set_threads

            runtime()
            set_threads(self.problem.threads)

    def _check_runs(self) -> None:
        if self.target.portable:
            if why := lacking(self.target):
                raise UsageError(why)
        elif not runs_here(self.target):
            raise UsageError(
                f"this machine's CPU cannot run code for {self.target.name}: save the kernel and run it there, or make "
                "it for target 'x86'"
            )

    def _careful(self, x: Any, residual: Any, out: Any) -> tuple[NDArray[Any], ...]:
        """The inputs of a call that is not the plain case, or the UsageError that says what is wrong."""
        if residual is not None and len(self._in_shapes) == 1:
            raise UsageError("this kernel adds no residual: make it with epilogue='residual'")
        if residual is None and len(self._in_shapes) == 2:
            raise UsageError("this kernel adds a residual: call it as k(X, residual)")
        given = (x,) if residual is None else (x, residual)
        names = ("X", "residual")
        facts = zip(names, given, self._in_shapes, self._in_dtypes, strict=False)
        arrays = tuple(checked_input(*fact) for fact in facts)
        if out is not None:
            check_array("out", out, self._y_shape, self._y_dtype)
            if not out.flags.writeable:
                raise UsageError("out: is read-only")
            if not are_apart(out, arrays):
                raise UsageError("out: overlaps an input; the kernel reads its inputs while it writes")
        return arrays

    def _sizes(self) -> list[int]:
        """Bytes of each argument of a call."""
        shapes, dtypes = (*self._in_shapes, self._y_shape), (*self._in_dtypes, self._y_dtype)
        return [int(np.prod(shape)) * dtype.itemsize for shape, dtype in zip(shapes, dtypes, strict=True)]

    @property
    def _kind(self) -> str:
        return "a shared library" if self.target.runtime else "a module of WebAssembly"

    @property
    def _how(self) -> str:
        tensors = "contiguous row-major DLPack tensors on the CPU"
        return tensors if self.target.runtime else "addresses of contiguous row-major arrays in the module's memory"

    def _manifest(self) -> dict[str, Any]:
        from tesa.base.version import versions

        def port(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
            return {"name": name, "shape": list(shape), "dtype": dtype.name}

        return {
            "tesa_kernel": 1,
            "entry": ENTRY,
            "call": f"{ENTRY}({', '.join(self._names)}): {self._how}; Y is written",
            "inputs": [port(*facts) for facts in zip(self._names, self._in_shapes, self._in_dtypes, strict=False)],
            "outputs": [port("Y", self._y_shape, self._y_dtype)],
            "target": self.target.name,
            "threads": self.problem.threads,
            "problem": asdict(self.problem),
            "plan": asdict(self.plan),
            "versions": versions(),
        }
