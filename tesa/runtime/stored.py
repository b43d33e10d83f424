"""The way back from what a layer's kernel stores to the tensor of the model that it computes."""

from math import prod

import numpy as np

from tesa.choose.plan import LayerPlan
from tesa.runtime.inputs import Array


def unpacked(result: Array, layer: LayerPlan, shape: tuple[int, ...]) -> Array:
    """The result of a layer's kernel as the row-major tensor that it stands for.

    shape: of the tensor; an upsampling layer may store more along its axes, which is cut off. Codes of int8 that are
    stored as uint8 come back as int8.

    >>> plan = LayerPlan("up", "conv2d", "sparse", (2, 1, 3), stored=(1, 2, 1, 3), layout=(0, -3, 1, 2))
    >>> unpacked(np.array([[[0, 2, 4], [1, 3, 5]]]), plan, (1, 1, 5)).tolist()
    [[[0, 1, 2, 3, 4]]]
    """
    array = result.reshape(layer.stored or result.shape)
    if layer.signed:
        array = (array ^ np.uint8(128)).view(np.int8)
    places = [
        [layer.layout.index(place) for place in (axis, ~axis) if place in layer.layout]
        for axis in range(max(layer.layout) + 1)
    ]
    turned = array.transpose([place for axis in places for place in axis])
    whole = turned.reshape([prod(array.shape[place] for place in axis) for axis in places])
    for axis, extent in enumerate(shape):
        if ~axis in layer.layout:
            whole = whole.take(np.arange(extent), axis)
    return np.ascontiguousarray(whole)
