"""Writes masks into the weights of a file, and says what that left of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.attributes.zeros import Mask
from tesa.compress.layers import Layer
from tesa.compress.result import PrunedLayer
from tesa.compress.tensors import Tensors


def apply_mask(tensors: Tensors, layer: Layer, mask: Mask, imposed: Imposed, **more: Any) -> tuple[PrunedLayer, Mask]:
    """Write zeros into a weight. (its row in the result, the mask in the stored shape)."""
    array = tensors.get(layer.tensor)
    assert array is not None
    before = layer.numbers(tensors)
    stored = layer.stored(mask)
    zero = array.dtype.type(0) if layer.codes is None else layer.codes.zeros(array.shape)
    tensors.set(layer.tensor, np.ascontiguousarray(np.where(stored, array, zero)).astype(array.dtype))
    return summary(layer, before, np.where(mask, before, np.float32(0)), imposed, **more), np.ascontiguousarray(stored)


def summary(layer: Layer, before: NDArray[Any], after: NDArray[Any], imposed: Imposed, **more: Any) -> PrunedLayer:
    """The row of a layer: what its weight was, and is."""
    total = float(np.abs(before).sum(dtype=np.float64))
    left = float(np.abs(np.where(after != 0, before, 0)).sum(dtype=np.float64))
    return PrunedLayer(
        layer.name, layer.tensor, layer.op, (layer.rows, layer.k), imposed.text,
        1 - int(np.count_nonzero(after)) / after.size, left / total if total else 1.0, **more,
    )  # fmt: skip
