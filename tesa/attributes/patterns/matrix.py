"""The matrix (outputs, k) that a layer's weight is, whatever shape its operator keeps it in."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def weight_matrix(op: str, weight: ArrayLike) -> NDArray[Any]:
    """A layer's weight as (outputs, k).

    op "conv1d" to "conv3d": (out, in/groups, *taps) -> (out, in/groups * taps), a depthwise one included; transposed
    ones: (in, out/groups, *taps) -> (out/groups, in * taps), all groups side by side. op "linear" or "matmul": Relax
    keeps (k, out) -> (out, k). ValueError for another op.
    """
    array = np.asarray(weight)
    kind = op.removeprefix("relax.").removeprefix("nn.")
    if kind in ("conv1d", "conv2d", "conv3d", "depthwise"):
        return array.reshape(array.shape[0], -1)
    if kind in ("conv1d_transpose", "conv2d_transpose", "conv3d_transpose"):
        return array.swapaxes(0, 1).reshape(array.shape[1], -1)
    if kind in ("linear", "matmul"):
        return array.reshape(-1, array.shape[-1]).T
    raise ValueError(f"no weight matrix for op {op!r}; expected conv2d, depthwise, linear or matmul")
