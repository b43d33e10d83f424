"""One kernel for a GPU: made for a weight, called on arrays or tensors, looked at, timed, saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tesa.base import display
from tesa.base.files import write_text
from tesa.base.scratch import Scratch
from tesa.build.cache import Cache
from tesa.build.footprint import Footprint
from tesa.build.gpu.facts import KernelFacts, facts_of
from tesa.build.gpu.kernel_program import program_of
from tesa.build.gpu.library import c_name, write_library
from tesa.build.gpu.source import source
from tesa.build.package import ENTRY
from tesa.choose.gpu import GpuKernel as Chosen
from tesa.choose.plan import LayerPlan
from tesa.decompose.candidates import Option
from tesa.errors import UsageError
from tesa.layers.layer import Layer
from tesa.measure.reference import Inputs, reference
from tesa.measure.timing import Timing
from tesa.records.log import Log
from tesa.runtime.gpu import GpuLibrary
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.target import Target
from tesa.tune.gpu import GpuBench


def gpu_kernel(
    problem: Problem,
    weight: FloatArray,
    bias: FloatArray | None,
    scale: FloatArray | None,
    target: Target,
    *,
    families: Sequence[str] | None,
    options: Sequence[Option] | None,
    jobs: int | None,
    log: str | Path | Log | None = None,
    measure: bool = True,
) -> GpuKernel:
    """The kernel for a weight (m, k): the fastest by the log and by measuring, else by the static model of time."""
    layer = Layer("kernel", problem, weight)
    bench = GpuBench.of(target, log, measure)
    chosen = bench.choose(layer, families=families, options=options, cache=Cache(), jobs=jobs)
    return GpuKernel(chosen, problem, weight, bias, target, scale)


class GpuKernel:
    """A kernel for a GPU with its weight and bias inside, ready to call. tesa.kernel makes it.

    >>> import numpy as np
    >>> import tesa
    >>> k = tesa.kernel(np.eye(16), n=64, target="cuda:sm_80", family="unrolled", epilogue="relu")
    >>> k
    Kernel(linear 16x16x64, group 16, 94% zeros, relu, cuda:sm_80, unrolled)
    >>> k.show("ptx").count("fma.rn.f32")
    16
    """

    def __init__(
        self,
        chosen: Chosen,
        problem: Problem,
        weight: FloatArray,
        bias: FloatArray | None,
        target: Target,
        scale: FloatArray | None = None,
    ) -> None:
        self.problem, self.target, self.weight, self.bias, self.scale = problem, target, weight, bias, scale
        self._chosen = chosen
        self._folder = Scratch()

    @property
    def plan(self) -> LayerPlan:
        """The decision for the kernel: pattern, candidates with their times, and the reason."""
        product = self._chosen.product
        footprint = Footprint(product.code_bytes, sum(array.nbytes for array in product.constants))
        return LayerPlan.alone(
            self.problem, self._chosen.parts, product.symbol, self._chosen.digest, footprint, str(self.facts)
        )  # fmt: skip

    @cached_property
    def facts(self) -> KernelFacts:
        """The facts of the code: images, registers, warps, loads, bytes, and the time that the static model expects."""
        assert self.target.gpu is not None
        return facts_of(self._chosen.product, self.target.gpu)

    def __call__(self, x: Any, residual: Any = None, *, out: Any = None) -> Any:
        """Y for X: a tensor on a GPU of torch or CuPy, or of any package with out given; an array of NumPy is copied.

        Raises UsageError for another shape, dtype or device; CheckFailed, with the driver's words, where it cannot run.
        """
        given = (x,) if residual is None else (x, residual)
        if len(given) != len(self._library.inputs):
            wanted = "k(X, residual)" if residual is None else "k(X): it adds no residual"
            raise UsageError(f"call this kernel as {wanted}")
        return self._library(*given, out=out)

    def time(self, *, budget_ms: float = 200.0, device: int = 0) -> Timing:
        """Milliseconds of a call on random numbers, by the events of the driver, in about budget_ms."""
        inputs = Inputs.random(self.problem)
        arrays = [inputs.x, *([inputs.residual] if inputs.residual is not None else [])]
        self._library.device = device
        first = self._library.time_ms(arrays, 3)
        calls = int(min(max(budget_ms / 10 / max(first, 1e-3), 1), 10_000))
        return Timing.of([self._library.time_ms(arrays, calls) for _ in range(10)])

    def check(self, seed: int = 0) -> str:
        """The difference from NumPy's result on random numbers in words, "" where rounding explains it."""
        inputs = Inputs.random(self.problem, seed)
        inputs = replace(inputs, bias=self.bias, scale=self.scale)
        arrays = [inputs.x, *([inputs.residual] if inputs.residual is not None else [])]
        return reference(self.problem, self.weight, inputs).difference(self._library(*arrays))

    def show(self, kind: str = "") -> str:
        """The code as text: "ptx" and "sass", or "amd"; "tir" where the kernel is one of TVM's functions.

        Raises UsageError for another kind, and where a tool is missing.
        """
        return source(self._chosen.code, self.target, kind or ("amd" if self.target.arch == "rocm" else "ptx"))

    def save(self, path: str | Path) -> Path:
        """Write the kernel as a library with its constants inside, and beside it a .json that says how to call it.

        From C: NAME_run(inputs, outputs, stream), NAME being the file's name without its ending, on pointers to memory
        of the device. It needs the GPU's driver and nothing else. UsageError for a path that does not end in .so or
        cannot be written.
        """
        path = Path(path)
        if path.suffix != ".so":
            raise UsageError(f"{path}: a kernel is saved as a shared library; give a name that ends in .so")
        self._write(path, c_name(path))
        manifest = json.dumps(self._manifest(c_name(path)), indent=1, allow_nan=False) + "\n"
        write_text(path.with_suffix(".json"), manifest)
        return path

    def __repr__(self) -> str:
        plan = self.plan
        shape = "x".join(map(str, plan.shape))
        words = [f"{plan.op} {shape}", plan.pattern, f"{plan.sparsity:.0%} zeros", plan.epilogue, self.target.name]
        return f"Kernel({', '.join(word for word in (*words, plan.kernel) if word)})"

    def _repr_html_(self) -> str:
        return display.html(self)

    @cached_property
    def _library(self) -> GpuLibrary:
        path = Path(self._folder.name) / f"{self._chosen.product.symbol}.so"
        self._write(path, "kernel")
        return GpuLibrary(path, "kernel", ENTRY)

    def _write(self, path: Path, name: str) -> None:
        program = program_of(self.problem, self._chosen.product, self.bias, self.scale)
        write_library(program, path, self.target, name, ENTRY)

    def _manifest(self, name: str) -> dict[str, Any]:
        from tesa.base.version import versions

        inputs, outputs = self._library.inputs, self._library.outputs
        return {
            "tesa_kernel": 1,
            "entry": ENTRY,
            "name": name,
            "call": f"{name}_run(inputs, outputs, stream): pointers to memory of the device; 0, or {name}_error() says",
            "inputs": inputs,
            "outputs": outputs,
            "target": self.target.name,
            "images": self._chosen.product.said,
            "problem": asdict(self.problem),
            "plan": asdict(self.plan),
            "versions": versions(),
        }
