"""Channels that go through what splits, merges and shuffles axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .shrink import dense, model, node, port, shapes, shrink

SIDE = 2


def pruned(mode: str) -> Any:
    """16 filters that become 4 channels of 2 x 2 pixels: all of channel 1 and half of channel 2 are 0."""
    weight = dense(*((4, SIDE, SIDE) if mode == "CRD" else (SIDE, SIDE, 4)), 3, 3, 3)
    if mode == "CRD":
        weight[1], weight[2, 0] = 0, 0
    else:
        weight[:, :, 1], weight[0, :, 2] = 0, 0
    return weight.reshape(16, 3, 3, 3)


def between_convolutions(nodes: list[Any], weight: Any, channels: int, constants: dict[str, Any]) -> Any:
    """Nodes from `a`, the output of a convolution, to `d`, which a second one reads."""
    first = node("Conv", ["x", "w.weight"], "a", pads=[1] * 4)
    last = [node("Relu", ["d"], "r"), node("Conv", ["r", "v.weight"], "y", pads=[1] * 4)]
    arrays = {"w.weight": weight, "v.weight": dense(2, channels, 3, 3), **constants}
    return model([first, *nodes, *last], [port("x", [1, 3, 6, 6])], ["y"], arrays)


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
def test_a_channel_goes_with_all_the_filters_that_its_pixels_come_from(mode: str) -> None:
    shuffle = node("DepthToSpace", ["a"], "d", blocksize=SIDE, mode=mode)
    found = shrink(between_convolutions([shuffle], pruned(mode), 4, {}))
    assert shapes(found) == {"w.weight": (12, 3, 3, 3), "v.weight": (2, 3, 3, 3)}
    assert found.kept == ("w: 2 of 16 stay on axis 1: tied to what is needed",)


def test_a_pixel_shuffle_that_is_written_as_reshapes() -> None:
    nodes = [
        node("Reshape", ["a", "s1"], "b"),
        node("Transpose", ["b"], "c", perm=[0, 1, 4, 2, 5, 3]),
        node("Reshape", ["c", "s2"], "d"),
    ]
    sizes = {"s1": np.array([1, 4, 2, 2, 6, 6]), "s2": np.array([1, 4, 12, 12])}
    made = shapes(shrink(between_convolutions(nodes, pruned("CRD"), 4, sizes)))
    assert (made["w.weight"], made["v.weight"]) == ((12, 3, 3, 3), (2, 3, 3, 3))


def test_a_channel_that_becomes_several() -> None:
    weight = dense(4, 3, 3, 3)
    weight[[1, 3]] = 0
    shuffle = node("SpaceToDepth", ["a"], "d", blocksize=SIDE)
    made = shapes(shrink(between_convolutions([shuffle], weight, 16, {})))
    assert made == {"w.weight": (2, 3, 3, 3), "v.weight": (2, 8, 3, 3)}


def test_a_shuffle_of_channels_loses_the_same_of_each_group() -> None:
    weight = dense(8, 3, 3, 3)
    weight[[1, 5, 2]] = 0
    nodes = [
        node("Reshape", ["a", "s1"], "b"),
        node("Transpose", ["b"], "c", perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["c", "s2"], "d"),
    ]
    sizes = {"s1": np.array([1, 2, 4, 6, 6]), "s2": np.array([1, 8, 6, 6])}
    made = shapes(shrink(between_convolutions(nodes, weight, 8, sizes)))
    assert (made["w.weight"], made["v.weight"]) == ((6, 3, 3, 3), (2, 6, 3, 3))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("middle", ["Relu", "Add", "BatchNormalization"])
def test_a_linear_layer_whose_features_become_channels_and_pixels(last: bool, middle: str) -> None:
    weight = dense(16, 3, 3, 8) if last else dense(16, 8, 3, 3)
    weight[(..., slice(None, None, 2)) if last else (slice(None), slice(None, None, 2))] = 0
    nodes = [node("MatMul", ["x", "w.weight"], "a"), node("Reshape", ["a", "s"], "b")]
    constants = {"Add": {"c0": dense(8, 1, 1)}, "BatchNormalization": {f"c{k}": dense(8) for k in range(4)}}
    more = constants.get(middle, {})
    turned = [node("Transpose", ["b"], "t", perm=[0, 3, 1, 2])] if last else []
    rest = [node(middle, ["t" if last else "b", *more], "r"), node("Conv", ["r", "v.weight"], "y")]
    sizes = np.array([2, 3, 3, 8] if last else [2, 8, 3, 3])
    arrays = {"w.weight": weight.reshape(16, 72), "v.weight": dense(4, 8, 1, 1), "s": sizes, **more}
    made = shapes(shrink(model([*nodes, *turned, *rest], [port("x", [2, 16])], ["y"], arrays)))
    assert (made["w.weight"], made["v.weight"]) == ((16, 36), (4, 4, 1, 1))


def test_what_stays_names_the_operator_that_is_not_known() -> None:
    weight = dense(8, 3, 3, 3)
    weight[[1, 5, 2]] = 0
    top = node("TopK", ["a", "k"], "d", axis=1)
    top.output.append("places")
    found = shrink(between_convolutions([top], weight, 3, {"k": np.array([3])}))
    assert found.removed == ()
    why = "TopK (node 'd') reads it, an operator that nothing is removed through"
    assert found.kept == (f"w: 3 of 8 stay on axis 1: {why}",)
