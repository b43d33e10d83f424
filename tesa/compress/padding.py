"""Leaves out what stands in for nothing: the rows of an activation at positions that an attention mask has masked.

Sentences of different lengths are padded to one; what a layer makes of padding is never read, and least squares would
fit it at the cost of what is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.compress.layers import Layer

NAMES = ("attention_mask", "input_mask")
"""Inputs that say by 1 and 0 which positions (batch, length) count: as exporters of encoders call them."""


def without_padding(
    layer: Layer, feeds: Mapping[str, Any], dense: NDArray[Any], now: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The rows of an activation in both networks that are no padding; as they are where that is not known.

    feeds: the inputs of this run. dense, now: (batch, length, ...) or (batch x length, k), as a linear layer reads it.
    """
    if layer.op != "linear" or layer.position != 1 or layer.options.get("transA", 0):
        return dense, now
    for name in NAMES:
        mask = np.asarray(feeds.get(name, ()))
        if mask.ndim != 2 or not np.isin(mask, (0, 1)).all() or not mask.any() or mask.all():
            continue
        live = mask.astype(bool)
        if dense.ndim >= 3 and dense.shape[:2] == live.shape:
            return (dense[live], now[live]) if dense is not now else (dense[live],) * 2
        if dense.ndim == 2 and len(dense) == live.size:
            flat = live.reshape(-1)
            return (dense[flat], now[flat]) if dense is not now else (dense[flat],) * 2
    return dense, now
