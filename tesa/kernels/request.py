"""A kernel as a user asks for it: the weight and what is computed with it, checked and brought into one form."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import ArrayLike

from tesa.attributes.denormals import flushed, subnormals, told_of
from tesa.base.keywords import helpful
from tesa.base.numbers import whole
from tesa.kernels.problem import (
    Pair,
    bias_array,
    make_epilogue,
    make_output,
    make_problem,
    round_to,
    scale_array,
    storage_of,
    weight_array,
)
from tesa.layers.layer import Layer
from tesa.schedules.types import Epilogue, FloatArray, Problem
from tesa.targets.target import Target, parse_target


@dataclass(frozen=True)
class Request:
    """The kernel that is asked for. weight: (m, k), zeros included; bias and scale: m numbers, or None."""

    problem: Problem
    weight: FloatArray
    bias: FloatArray | None
    scale: FloatArray | None
    target: Target

    @property
    def layer(self) -> Layer:
        """The layer that has this kernel alone."""
        return Layer("kernel", self.problem, self.weight)


@helpful("tesa.kernel")
def request(
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
    threads: int = 1,
    layout: str = "features_first",
    x_zero: int = 0,
) -> Request:
    """The problem that the arguments of tesa.kernel mean, which describes them.

    Raises UsageError for a weight or option that makes no sense, UnsupportedError for what tesa cannot do yet.

    >>> request([[1.0, 0.0], [0.0, 2.0]], 16, epilogue="relu").problem.m
    2
    """
    threads = whole("threads", threads)
    where = parse_target(target)
    storage = storage_of(storage, arithmetic, where)
    array = round_to(_given(weight_array(weight, op), flush_denormals), storage, dtype)
    offset, factor = bias_array(bias, array.shape[0]), scale_array(scale, array.shape[0])
    problem = make_problem(
        array, op=op, n=n, size=size, stride=stride, padding=padding, dilation=dilation, batch=batch,
        epilogue=make_epilogue(epilogue, offset is not None, factor is not None), dtype=dtype, threads=threads,
        output=make_output(dtype, output, factor is not None, y_scale, y_zero), layout=layout, x_zero=x_zero,
    )  # fmt: skip
    # callers bring arrays of NumPy
    problem = replace(problem, storage=storage, arithmetic=arithmetic, alignment=16)
    return Request(problem, array.reshape(problem.m, problem.k), offset, factor, where)


def _given(weight: FloatArray, flush: bool) -> FloatArray:
    """The weight without its subnormal elements; a warning if there were any."""
    count = subnormals(weight) if flush else 0
    if count:
        said = told_of(count, weight.size).replace("which are no zeros to a kernel", "and taken for zeros")
        warnings.warn(f"{said}; flush_denormals=False computes with them", stacklevel=6)
    return flushed(weight) if count else weight
