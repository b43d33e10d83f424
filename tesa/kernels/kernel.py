"""One kernel at a time, for exploration: made for a weight, called on NumPy arrays, looked at, timed, saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tesa.base import display
from tesa.base.display import Displayed
from tesa.base.files import atomic_path
from tesa.base.keywords import helpful
from tesa.base.listing import Listing
from tesa.base.numbers import whole
from tesa.base.progress import Progress, automatic, telling
from tesa.base.renamed import renamed
from tesa.base.scratch import Scratch
from tesa.build.package import ENTRY, package
from tesa.build.wasm_kernel import package_wasm
from tesa.choose.chosen import ChosenKernel
from tesa.choose.plan import LayerPlan, epilogue_words
from tesa.choose.predict import table_for
from tesa.choose.shortlist import INSTRUCTIONS
from tesa.decompose.candidates import Option, candidates
from tesa.decompose.prices import Prices
from tesa.errors import UsageError
from tesa.kernels.comparison import KernelComparison, compare
from tesa.kernels.gpu import gpu_kernel
from tesa.kernels.node import NodeKernel
from tesa.kernels.problem import (
    Pair,
    known,
)
from tesa.kernels.request import request
from tesa.kernels.roofline import Roofline, roofline
from tesa.measure.runners import lacking
from tesa.measure.timing import Timing
from tesa.records.log import Log
from tesa.runtime.arguments import FLOAT32, are_apart, check_array, checked_input, is_plain
from tesa.schedules.registry import find
from tesa.schedules.types import Code, Config, Epilogue, FloatArray, Problem
from tesa.targets.target import Target, refuse_gpu, runs_here
from tesa.tune.choose import choose

_SHOWN = 24
"""Configurations that an error message lists."""


@helpful("tesa.kernel")
def kernel(
    weight: ArrayLike,
    n: int | None = None,
    *,
    op: str = "linear",
    size: Sequence[int] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    batch: int | None = None,
    dtype: str = "float32",
    epilogue: str | Epilogue | None = None,
    bias: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    output: str | None = None,
    y_scale: float | None = None,
    y_zero: int | None = None,
    storage: str = "float32",
    arithmetic: str = "float32",
    flush_denormals: bool = True,
    target: Any = None,
    family: str | Sequence[str] | None = None,
    config: Config | None = None,
    threads: int = 1,
    measure: bool = True,
    code_budget: int = INSTRUCTIONS,
    max_bytes: int | None = None,
    log: str | Path | Log | None = None,
    jobs: int | None = None,
    progress: Progress | None = automatic,
    form: str | Sequence[str] | None = None,
    layout: str = "features_first",
    x_zero: int = 0,
) -> Any:
    """Make a kernel for exactly this weight: Y = epilogue(W X).

    op "linear": weight is (m, k), X (k, n) or with batch=b (b, k, n); n is 196 if not given. op "conv2d": weight is
    (out, in, height, width), X (batch, in, *size); stride, padding and dilation are a number or one for each direction,
    padding also (top, left, bottom, right). op "depthwise": weight is (channels, 1, height, width).

    epilogue: None, or what follows the sum, joined by "+": "bias", "residual", and one of relu, relu6, gelu, silu,
    sigmoid, tanh, hardswish, gelu_tanh; bias: m numbers. target: see tesa.targets.target.parse_target, by default this
    machine.
    family: the name of the kernel family or decomposition to take, or of those that compete (form is the old name of
    this); config: one configuration of the one family, out of those that it offers for this weight. threads: how many
    run the kernel. measure=False measures nothing: it takes what the log knows to be the fastest, for this weight or
    the nearest one, else what is expected to be, by the cost table of the target where there is one (`tesa
    calibrate`). code_budget: straight-line instructions that the measured candidates may have together, each about 10
    microseconds to compile and 8 bytes; what the log already knows competes whatever its size, and the plan names what
    was left out. progress: what is told how far it is, by default a bar in a terminal or notebook; None for
    silence. max_bytes: of the kernel's code and constants; a smaller one is taken where the fastest has more. log:
    folder of measured records, read and added to.

    dtype "int8": the weight holds whole numbers from -128 to 127, X is uint8, sums are int32. Without scale Y is the
    bare int32 sum. scale (one number or m): the sum times scale, plus bias, through the epilogue; output says how it is
    stored: "float32" (default), or "uint8" or "int8" as clip(round(y / y_scale) + y_zero), where 1 and 0 are the
    defaults. bias and residual are real numbers, not codes. A zero point z of X goes into the bias: subtract
    scale * z * weight.sum(axis=1).

    layout "features_last", of dtype "int8": X is (n, k), or (batch, n, k), of a convolution (batch, *size, in), and Y
    and the residual are (n, m) or (batch, height, width, out): tokens x features, and NHWC. Convolutions of any window
    are computed so, without im2col. x_zero: the zero point of X, which is subtracted from it, and pads a convolution.

    target "cuda" or "rocm": the kernel is a GpuKernel, see tesa.kernels.gpu. It is called on tensors that lie on a GPU,
    or on arrays of NumPy, which are copied there and back; `facts` says its registers and its time by the static model,
    `show("ptx")`, "sass", "amd" or "tir" its code. No GPU is needed to make it: where no
    driver is found, the log decides or the static model of time.

    dtype "mixed": as int8, but some elements of the weight, the outliers, are any float32 numbers, in the unit of the
    codes: scale[m] holds for both. Codes are added up exactly, outliers in float32. Y is float32, also without a scale,
    or quantized as output says. tesa.decompose.in_codes brings real weights into that form, and says their scale.

    storage "float16" or "bfloat16" rounds the weight to such numbers, so that a kernel that is bound by reading weights
    (n of a few columns) reads half as many bytes; it computes in float32.

    arithmetic "float16" allows sums of float16, twice as fast where a CPU has them: weight and X are rounded to it, and
    so is each sum on the way; Y is float32. Numbers beyond 65504 become infinite. UnsupportedError for another CPU.
    For GPUs there are "bfloat16" and "tfloat32" too, of which their matrix units make products.

    flush_denormals: elements below 1.2e-38, as weight decay leaves them where zeros were meant, are taken for zeros,
    and a warning says how many; False computes with them, slowly.

    Raises UsageError for a weight or option that makes no sense, UnsupportedError for what tesa cannot do yet.

    >>> weight = np.diag([1.0, 2.0, 0.0, 4.0])
    >>> k = kernel(weight, n=3, family="dense", measure=False)
    >>> k(np.ones((4, 3), np.float32))
    array([[1., 1., 1.],
           [2., 2., 2.],
           [0., 0., 0.],
           [4., 4., 4.]], dtype=float32)

    A convolution of codes, of an image of 4 x 4 with 2 channels:

    >>> k = kernel(np.ones((3, 2, 3, 3)), op="conv2d", size=(4, 4), dtype="int8", layout="features_last", measure=False)
    >>> k(np.ones((1, 4, 4, 2), np.uint8)).tolist()[0][0]
    [[18, 18, 18], [18, 18, 18]]

    Weights on a grid of 1/4, all but one:

    >>> from tesa.decompose import in_codes
    >>> codes = in_codes(np.array([[0.5, -1.0, 0.75, 100.3]], np.float32), np.array([0.25], np.float32))
    >>> k = kernel(codes.weight, n=16, dtype="mixed", scale=codes.scale, family="precision", measure=False)
    >>> [(part.bits, part.nonzeros) for part in k.plan.parts]
    [(8, 3), (32, 1)]
    >>> k(np.ones((4, 16), np.uint8))[0, :2]
    array([100.55, 100.55], dtype=float32)
    """
    asked = request(
        weight, n, op=op, size=size, stride=stride, padding=padding, dilation=dilation, batch=batch, dtype=dtype,
        epilogue=epilogue, bias=bias, scale=scale, output=output, y_scale=y_scale, y_zero=y_zero, storage=storage,
        arithmetic=arithmetic, flush_denormals=flush_denormals, target=target, threads=threads, layout=layout,
        x_zero=x_zero,
    )  # fmt: skip
    problem, matrix, where = asked.problem, asked.weight, asked.target
    families = _families(renamed("form", form, "family", family))
    if where.gpu is not None:
        if max_bytes is not None:
            refuse_gpu(where, "tesa.kernel(max_bytes=...)")
        options = None if config is None else _one_option(problem, matrix, where, families, config, None)
        return gpu_kernel(
            problem,
            matrix,
            asked.bias,
            asked.scale,
            where,
            families=families,
            options=options,
            jobs=jobs,
            log=log,
            measure=measure,
        )
    table = table_for(where, problem.threads, log)
    options = None if config is None else _one_option(problem, matrix, where, families, config, table)
    with telling(progress) as show, Scratch() as name:
        (chosen,) = choose(
            [asked.layer], where, log=log, measure=measure, jobs=jobs, families=families,
            options=options, folder=Path(name), progress=show,
            instructions=code_budget, table=table,
            max_bytes=None if max_bytes is None else whole("max_bytes", max_bytes),
        )  # fmt: skip
        return Kernel(chosen, problem, matrix, asked.bias, where, asked.scale)  # which links the objects


class Kernel(Displayed):
    """A kernel with its weight and bias inside, ready to call. tesa.kernel makes it.

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
        problem, parts = self.problem, self._chosen.parts
        return LayerPlan(
            layer="kernel",
            op=problem.op,
            kind="sparse",
            shape=(problem.m, problem.k, problem.n),
            sparsity=1 - sum(part.nonzeros for part in parts) / self.weight.size,
            epilogue="+".join(epilogue_words(problem.epilogue)),
            parts=parts,
            symbol=self._chosen.product.symbol,
            digest=self._chosen.digest,
            footprint=self._chosen.product.footprint,
        )

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


def _families(family: str | Sequence[str] | None) -> list[str] | None:
    """The names of the families that compete; None means all."""
    if family is None:
        return None
    names = [family] if isinstance(family, str) else list(family) if isinstance(family, list | tuple) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise UsageError(
            f"family is the name of a kernel family, or a list of one or more, got {family!r}; leave it out to let all "
            "compete (`tesa list families` shows them)"
        )
    return names


def _one_option(
    problem: Problem,
    weight: FloatArray,
    target: Target,
    families: Sequence[str] | None,
    config: Config,
    prices: Prices | None,
) -> list[Option]:
    """The one candidate that family and config name. UsageError if the family does not offer the configuration.

    The configurations of a decomposition have different parameters: each those of the kernels of its pieces.
    """
    if families is None or len(families) != 1:
        raise UsageError("config belongs to one family: give family as well")
    family = families[0]
    # "dense" stands for what computes with the zeros in other families too: their configurations come after its own
    options = sorted(candidates(problem, weight, target, families, prices), key=lambda option: option[0] != family)
    offered = [dict(config) for _, config in options]
    if not isinstance(config, Mapping):
        raise UsageError(f"config of {family} is a dictionary such as {offered[0]}, not {type(config).__name__}")
    for name in config:
        known(name, sorted({key for one in offered for key in one}), f"parameter of {family}")
    if dict(config) in offered and not any(isinstance(value, bool) for value in config.values()):
        return [(options[offered.index(dict(config))][0], {name: int(value) for name, value in config.items()})]
    alike = [one for one in offered if set(one) == set(config)]
    if alike:
        raise UsageError(f"config of {family}: {dict(config)} is not one for this weight and target; {_offer(alike)}")
    nearest = min(offered, key=lambda one: (len(set(one) ^ set(config)), offered.index(one)))
    lacking, extra = sorted(set(nearest) - set(config)), sorted(set(config) - set(nearest))
    words = [f"{', '.join(names)} {what}" for names, what in ((lacking, "missing"), (extra, "too much")) if names]
    raise UsageError(f"config of {family}: {' and '.join(words)}; {_offer(offered)}")


def _offer(offered: Sequence[Config]) -> str:
    more = f" and {len(offered) - _SHOWN} more" if len(offered) > _SHOWN else ""
    return f"valid are {', '.join(str(dict(one)) for one in offered[:_SHOWN])}{more}"
