"""Folds known constant inputs of a layer: their weights become 0, their contribution becomes a constant."""

from dataclasses import dataclass, replace

import numpy as np

from tesa.attributes.attribute import Bools, TeSA, Values, compact, reduce_to
from tesa.propagate.registry import Operator
from tesa.propagate.rules.common import pad_axes
from tesa.propagate.rules.conv import constant_part

PLAIN_LAYERS = ("relax.matmul", "relax.nn.conv2d")


@dataclass(frozen=True, eq=False)
class Fold:
    """A folded layer: layer(x, weight) + shift. weight: of its own shape and type. shift: of the output's type.

    shift has as many axes as the layer's output, each of full length or of length 1. Beside padding it differs from
    position to position.
    """

    weight: Values
    shift: Values


def fold(op: Operator, argument: int, x: TeSA, weight: Values) -> Fold | None:
    """Take what is known of the other input `x` out of a convolution or matmul with a constant weight.

    argument: the place of the weight. None if nothing but zeros is known of whole channels, or the operator is another.
    Infinite values stay where they are. Computed in float64.
    """
    parts = _matmul(argument, x, weight) if op.op == "relax.matmul" else constant_part(op, x, weight)
    if parts is None:
        return None
    left, shift = parts
    kind = op.dtypes[0] or weight.dtype
    return Fold(left.astype(weight.dtype), compact(pad_axes(shift, len(op.outputs[0]))).astype(kind))


def fold_by_channel(op: Operator, argument: int, x: TeSA, weight: Values) -> tuple[Values, Values] | None:
    """(weight, shift of shape (outputs,)): the fold of those channels that are the same everywhere.

    For x @ W with a matrix W, and for a 2-D convolution in one group; None for others, and where padding makes the
    shift differ from pixel to pixel.
    """
    grouped = op.op == "relax.nn.conv2d" and (op.attrs["groups"] != 1 or op.attrs["data_layout"] != "NCHW")
    if op.op not in PLAIN_LAYERS or grouped or argument != 1 or weight.ndim != (4 if "conv" in op.op else 2):
        return None
    axis = 1 if "conv" in op.op else len(x.shape) - 1
    found = fold(op, argument, _same_everywhere(x, axis), weight)
    if found is None:
        return None
    axis = 1 if "conv" in op.op else found.shift.ndim - 1
    if any(n != 1 for i, n in enumerate(found.shift.shape) if i != axis):
        return None
    return found.weight, np.broadcast_to(found.shift.reshape(-1), op.outputs[0][axis : axis + 1]).copy()


def _same_everywhere(x: TeSA, axis: int) -> TeSA:
    """Known only in channels that have one value everywhere."""
    others = tuple(i for i in range(len(x.shape)) if i != axis)
    first = x.value[tuple(slice(None) if i == axis else slice(0, 1) for i in range(len(x.shape)))]
    same = (x.known & (x.value == first)).all(axis=others, keepdims=True)
    return replace(x, known=same, value=np.where(same, first, 0))


def _matmul(argument: int, x: TeSA, weight: Values) -> tuple[Values, Values] | None:
    if x.known.ndim < 2 or weight.ndim < 2 or not x.known.any():
        return None
    k_axis, other = (-1, -2) if argument == 1 else (-2, -1)
    value = x.value.astype(np.float64)
    good = x.known & np.isfinite(value)
    shape = list(weight.shape)
    shape[k_axis] = 1  # the weight's axis that is not summed over

    def of_weight(mask: Bools) -> Bools:
        along = np.asarray(mask.any(axis=other, keepdims=True)).swapaxes(-1, -2)
        return reduce_to(pad_axes(along, max(along.ndim, weight.ndim)), shape)

    fixed = ~of_weight(~good) & of_weight(good & (value != 0))
    if not fixed.any():
        return None
    wide = list(value.shape)
    wide[k_axis] = x.shape[k_axis]
    value = np.broadcast_to(np.where(good, value, 0.0), wide)
    taken = np.where(fixed, weight.astype(np.float64), 0.0)
    shift = value @ taken if argument == 1 else taken @ value
    return np.where(fixed, np.zeros((), weight.dtype), weight), shift
