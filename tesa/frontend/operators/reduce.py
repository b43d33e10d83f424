"""Reductions, over the axes of their second input: none of them means all, or nothing at all where the node says so."""

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from tesa.errors import UnsupportedError
from tesa.frontend.expressions import at, constant, constant_value, like, static_shape
from tesa.frontend.registry import imports

Reduction = Callable[[Any, Any, list[int], bool], Any]
"""Gets the builder, the tensor, the axes and whether they stay as axes of length 1."""


def _square(bb: Any, x: Any) -> Any:
    return bb.normalize(relax.op.multiply(x, x))


def _finite(bb: Any, x: Any, axes: list[int]) -> Any:
    """The largest element, 0 where that is infinite or no number."""
    top = bb.normalize(relax.op.max(x, axes, True))
    return bb.normalize(relax.op.where(bb.normalize(relax.op.isfinite(top)), top, like(0, x)))


def _log_sum_exp(bb: Any, x: Any, axes: list[int], keep: bool) -> Any:
    emit, top = bb.normalize, _finite(bb, x, axes)
    total = emit(relax.op.sum(emit(relax.op.exp(emit(relax.op.subtract(x, top)))), axes, keep))
    back = top if keep else emit(relax.op.squeeze(top, axes))
    return relax.op.add(emit(relax.op.log(total)), back)


def _root(bb: Any, x: Any, axes: list[int], keep: bool) -> Any:
    return relax.op.sqrt(bb.normalize(relax.op.sum(_square(bb, x), axes, keep)))


FORMULAS: dict[str, Reduction] = {
    "ReduceSum": lambda bb, x, axes, keep: relax.op.sum(x, axes, keep),
    "ReduceMean": lambda bb, x, axes, keep: relax.op.mean(x, axes, keep),
    "ReduceProd": lambda bb, x, axes, keep: relax.op.prod(x, axes, keep),
    "ReduceMax": lambda bb, x, axes, keep: relax.op.max(x, axes, keep),
    "ReduceMin": lambda bb, x, axes, keep: relax.op.min(x, axes, keep),
    "ReduceL1": lambda bb, x, axes, keep: relax.op.sum(bb.normalize(relax.op.abs(x)), axes, keep),
    "ReduceL2": _root,
    "ReduceSumSquare": lambda bb, x, axes, keep: relax.op.sum(_square(bb, x), axes, keep),
    "ReduceLogSum": lambda bb, x, axes, keep: relax.op.log(bb.normalize(relax.op.sum(x, axes, keep))),
    "ReduceLogSumExp": _log_sum_exp,
}
ALONE: dict[str, Callable[[Any, Any], Any]] = {  # what is left of a reduction over no axis
    "ReduceL1": lambda bb, x: relax.op.abs(x),
    "ReduceL2": lambda bb, x: relax.op.abs(x),
    "ReduceSumSquare": _square,
    "ReduceLogSum": lambda bb, x: relax.op.log(x),
}
REAL = ("ReduceMean", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")


def _converter(name: str) -> Any:
    def reduction(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
        x, kind = inputs[0], str(inputs[0].ty.dtype)
        work = kind
        if "int" in kind and name in REAL:
            work = "float64"
        elif kind == "bool":
            work = "int8"
        x = x if work == kind else bb.normalize(relax.op.astype(x, work))
        rank = len(static_shape(x))
        axes = _axes(inputs, rank)
        if not axes and attrs.get("noop_with_empty_axes", 0):
            result = ALONE[name](bb, x) if name in ALONE else x
        else:
            axes = sorted({axis % rank for axis in axes}) if axes else list(range(rank))
            keep = bool(attrs.get("keepdims", 1))
            result = FORMULAS[name](bb, x, axes, keep) if axes else _of_a_number(bb, name, x)
        return result if work == kind else relax.op.astype(bb.normalize(result), kind)

    return reduction


def _of_a_number(bb: Any, name: str, x: Any) -> Any:
    """A reduction of a tensor without axes."""
    wide = bb.normalize(relax.op.reshape(x, (1,)))
    return FORMULAS[name](bb, wide, [0], False)


def _axes(inputs: Any, rank: int) -> list[int]:
    if at(inputs, 1) is None:
        return []
    given = constant_value(inputs[1])
    if given is None:
        raise UnsupportedError("its axes depend on the model's inputs; tesa compiles for fixed sizes")
    return [int(axis) for axis in given.reshape(-1)]


for _name in FORMULAS:
    imports(_name)(_converter(_name))


@imports("Hardmax")
def hardmax(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """1 where the first of the largest elements along an axis is, else 0."""
    x, emit = inputs[0], bb.normalize
    shape = static_shape(x)
    axis = int(attrs.get("axis", -1)) % len(shape)
    first = emit(relax.op.argmax(x, axis, True))
    view = [-1 if i == axis else 1 for i in range(len(shape))]
    places = np.arange(shape[axis], dtype=str(first.ty.dtype)).reshape(view)
    return relax.op.astype(emit(relax.op.equal(first, constant(places))), str(x.ty.dtype))
