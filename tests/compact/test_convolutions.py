"""Channels are removed over networks of convolutions: in a row, side by side, in groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .shrink import dense, model, node, operators, port, shapes, shrink, weights, without

IMAGE = port("x", [1, 3, 6, 6])


def conv(x: str, weight: str, y: str, bias: bool = False, name: str = "", **attributes: Any) -> Any:
    inputs = [x, f"{weight}.weight", *([f"{weight}.bias"] if bias else [])]
    return node("Conv", inputs, y, name=name or f"/{weight}/Conv", **attributes)


def test_a_pruned_filter_takes_the_next_layers_column_with_it() -> None:
    nodes = [conv("x", "a", "t"), node("Relu", ["t"], "r"), conv("r", "b", "y", pads=[1, 1, 1, 1])]
    constants = {"a.weight": without(dense(8, 3, 3, 3), 1, 4, 5), "b.weight": dense(4, 8, 3, 3)}
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found) == {"a.weight": (5, 3, 3, 3), "b.weight": (4, 5, 3, 3)}
    assert [str(row) for row in found.removed] == ["a: a.weight axis 0: 8 -> 5", "b: b.weight axis 1: 8 -> 5"]
    assert (found.parameters_before, found.parameters_after) == (8 * 27 + 32 * 9, 5 * 27 + 20 * 9)
    assert found.macs_after == 16 * 5 * 27 + 16 * 4 * 5 * 9


def test_an_unread_filter_is_removed() -> None:
    nodes = [conv("x", "a", "t", bias=True), node("Sigmoid", ["t"], "s"), conv("s", "b", "y")]
    constants = {
        "a.weight": dense(6, 3, 3, 3),
        "a.bias": dense(6),
        "b.weight": without(dense(4, 6, 1, 1), 0, 3, axis=1),
    }
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found) == {"a.weight": (4, 3, 3, 3), "a.bias": (4,), "b.weight": (4, 4, 1, 1)}
    np.testing.assert_array_equal(weights(found.proto)["a.bias"], np.delete(dense(6), [0, 3]))


@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_goes_into_the_next_bias(bias: bool) -> None:
    """A pruned filter with a bias of 0.7 gives relu(0.7) everywhere."""
    nodes = [conv("x", "a", "t", bias=True), node("Relu", ["t"], "r"), conv("r", "b", "y", bias=bias)]
    second, shift = dense(4, 6, 3, 3, seed=1), dense(4, seed=2)
    constants = {"a.weight": without(dense(6, 3, 3, 3), 2), "a.bias": np.full(6, 0.7, np.float32), "b.weight": second}
    constants |= {"b.bias": shift} if bias else {}
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    made = weights(found.proto)
    name = found.proto.graph.node[-1].input[2]
    assert name == "b.bias" if bias else name != ""
    expected = 0.7 * second[:, 2].sum(axis=(1, 2)) + (shift if bias else 0)
    np.testing.assert_allclose(made[name], expected, rtol=1e-6)
    assert made["a.weight"].shape == (5, 3, 3, 3)
    assert operators(found) == ["Conv", "Relu", "Conv"]


def test_constants_behind_a_padded_depthwise_convolution_become_a_small_table() -> None:
    """They differ at the border: what replaces them is a constant map, stored by its distinct rows and columns."""
    nodes = [
        conv("x", "a", "t", bias=True), node("Relu", ["t"], "r"),
        conv("r", "d", "u", bias=True, pads=[1, 1, 1, 1], group=16), node("Relu", ["u"], "v"),
        conv("v", "b", "w"), node("Relu", ["w"], "q"), conv("q", "e", "y", pads=[1, 1, 1, 1]),
    ]  # fmt: skip
    gone = range(10)
    constants = {
        "a.weight": without(dense(16, 3, 1, 1), *gone), "a.bias": dense(16, seed=1), "d.weight": dense(16, 1, 3, 3),
        "d.bias": -dense(16, seed=2), "b.weight": dense(4, 16, 1, 1), "e.weight": dense(4, 4, 3, 3),
    }  # fmt: skip
    found = shrink(model(nodes, [port("x", [1, 3, 12, 12])], ["y"], constants))
    made = shapes(found)
    assert made["d.weight"] == (6, 1, 3, 3)
    assert made["b.weight"] == (4, 6, 1, 1)
    assert [s for s in made.values() if len(s) == 3] == [(4, 3, 3)]
    assert found.parameters_after < found.parameters_before


def test_a_map_that_costs_more_than_it_saves_is_not_made() -> None:
    nodes = [conv("x", "a", "t", bias=True), conv("t", "d", "u", pads=[1, 1, 1, 1], group=4), conv("u", "b", "y")]
    constants = {"a.weight": without(dense(4, 3, 1, 1), 0), "a.bias": dense(4, seed=1), "d.weight": dense(4, 1, 3, 3)}
    found = shrink(model(nodes, [IMAGE], ["y"], constants | {"b.weight": dense(4, 4, 1, 1)}))
    assert found.removed == ()
    assert any("costs more" in line for line in found.kept)


def test_a_residual_sum_is_shrunk_together_or_not_at_all() -> None:
    nodes = [
        conv("x", "a", "t"),
        conv("t", "b", "u", pads=[1, 1, 1, 1]),
        node("Add", ["t", "u"], "s"),
        conv("s", "c", "y"),
    ]
    constants = {"a.weight": without(dense(6, 3, 1, 1), 0, 1, 2), "b.weight": without(dense(6, 6, 3, 3), 1, 2, 3),
                 "c.weight": dense(2, 6, 1, 1)}  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found) == {"a.weight": (4, 3, 1, 1), "b.weight": (4, 4, 3, 3), "c.weight": (2, 4, 1, 1)}
    assert any(line.startswith("a: 1 of 6 stay") for line in found.kept)
    assert any(line.startswith("b: 1 of 6 stay") for line in found.kept)


def test_what_one_of_two_readers_needs_stays() -> None:
    nodes = [conv("x", "a", "t"), conv("t", "b", "y"), conv("t", "c", "z")]
    constants = {"a.weight": dense(6, 3, 1, 1), "b.weight": without(dense(2, 6, 1, 1), 0, 1, axis=1),
                 "c.weight": without(dense(2, 6, 1, 1), 1, 2, axis=1)}  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y", "z"], constants))
    assert shapes(found) == {"a.weight": (5, 3, 1, 1), "b.weight": (2, 5, 1, 1), "c.weight": (2, 5, 1, 1)}


def test_a_concat_keeps_track_of_both_sides() -> None:
    nodes = [conv("x", "a", "t"), conv("x", "b", "u"), node("Concat", ["t", "u"], "s", axis=1), conv("s", "c", "y")]
    constants = {"a.weight": without(dense(4, 3, 1, 1), 0), "b.weight": dense(5, 3, 1, 1, seed=1),
                 "c.weight": without(dense(2, 9, 1, 1), 5, 8, axis=1)}  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found) == {"a.weight": (3, 3, 1, 1), "b.weight": (3, 3, 1, 1), "c.weight": (2, 6, 1, 1)}


def test_a_split_gets_new_sizes() -> None:
    nodes = [conv("x", "a", "t"), node("Split", ["t", "sizes"], "p", axis=1), conv("p", "b", "y"), conv("q", "c", "z")]
    nodes[1].output.append("q")
    constants = {"a.weight": without(dense(8, 3, 1, 1), 1, 6, 7), "sizes": np.array([3, 5]),
                 "b.weight": dense(2, 3, 1, 1), "c.weight": dense(2, 5, 1, 1)}  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y", "z"], constants))
    assert weights(found.proto)[found.proto.graph.node[1].input[1]].tolist() == [2, 3]


@pytest.mark.parametrize("steps", [1, 2, -1])
def test_a_slice_takes_the_same_channels(steps: int) -> None:
    """With steps, what is left is no stretch any more and is gathered."""
    bounds = {"starts": np.array([7 if steps < 0 else 1]), "ends": np.array([0 if steps < 0 else 8]),
              "axes": np.array([1]), "steps": np.array([steps])}  # fmt: skip
    count = len(range(8)[slice(int(bounds["starts"][0]), int(bounds["ends"][0]), steps)])
    nodes = [conv("x", "a", "t"), node("Slice", ["t", *bounds], "s"), conv("s", "b", "y"), conv("t", "c", "z")]
    constants = {"a.weight": without(dense(8, 3, 1, 1), 2, 5), "b.weight": dense(2, count, 1, 1, seed=1), **bounds,
                 "c.weight": dense(2, 8, 1, 1)}  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y", "z"], constants))
    assert shapes(found)["a.weight"] == (6, 3, 1, 1)
    assert ("Slice" in operators(found)) == (steps == 1)


def test_a_depthwise_convolution_goes_with_its_channels() -> None:
    nodes = [conv("x", "a", "t"), conv("t", "d", "u", pads=[1, 1, 1, 1], group=6), conv("u", "b", "y")]
    constants = {"a.weight": without(dense(6, 3, 1, 1), 0), "d.weight": without(dense(6, 1, 3, 3), 2),
                 "b.weight": without(dense(4, 6, 1, 1), 4, axis=1)}  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found) == {"a.weight": (3, 3, 1, 1), "d.weight": (3, 1, 3, 3), "b.weight": (4, 3, 1, 1)}
    assert found.proto.graph.node[1].attribute[0].i == 3 or found.proto.graph.node[1].attribute[1].i == 3


def test_groups_lose_equally_many_channels() -> None:
    """Of 4 + 4 inputs 3 + 1 could go: 1 + 1 do. Of 2 + 2 outputs 1 + 0: none."""
    nodes = [conv("x", "a", "t"), conv("t", "g", "u", group=2), conv("u", "b", "y")]
    constants = {"a.weight": without(dense(8, 3, 1, 1), 0, 1, 2, 6), "g.weight": without(dense(4, 4, 3, 3), 0),
                 "b.weight": dense(2, 4, 1, 1)}  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found) == {"a.weight": (6, 3, 1, 1), "g.weight": (4, 3, 3, 3), "b.weight": (2, 4, 1, 1)}
    assert "a: 2 of 8 stay on axis 1: the groups must stay equally large" in found.kept


def test_a_whole_group_goes() -> None:
    nodes = [conv("x", "a", "t"), conv("t", "g", "u", group=3), conv("u", "b", "y")]
    constants = {"a.weight": without(dense(6, 3, 1, 1), 2, 3), "g.weight": dense(6, 2, 3, 3),
                 "b.weight": dense(2, 6, 1, 1)}  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found) == {"a.weight": (4, 3, 1, 1), "g.weight": (4, 2, 3, 3), "b.weight": (2, 4, 1, 1)}


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(groups: int) -> None:
    nodes = [conv("x", "a", "t"), node("ConvTranspose", ["t", "d.weight"], "u", name="d", strides=[2, 2], group=groups),
             conv("u", "b", "y")]  # fmt: skip
    constants = {"a.weight": without(dense(6, 3, 1, 1), 0, 5), "d.weight": without(dense(6, 4, 2, 2), 1, axis=1),
                 "b.weight": dense(2, 4 * groups, 1, 1)}  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found) == {"a.weight": (4, 3, 1, 1), "d.weight": (4, 3, 2, 2), "b.weight": (2, 3 * groups, 1, 1)}


def test_convolutions_of_one_axis() -> None:
    nodes = [conv("x", "a", "t"), node("Relu", ["t"], "r"), conv("r", "b", "y", pads=[1, 1])]
    constants = {"a.weight": without(dense(6, 3, 3), 0, 5), "b.weight": dense(2, 6, 3)}
    found = shrink(model(nodes, [port("x", [1, 3, 9])], ["y"], constants))
    assert shapes(found) == {"a.weight": (4, 3, 3), "b.weight": (2, 4, 3)}


def test_flattened_channels_go_with_all_their_pixels() -> None:
    nodes = [conv("x", "a", "t"), node("Flatten", ["t"], "f"), node("Gemm", ["f", "b.weight"], "y", name="b", transB=1)]
    constants = {"a.weight": without(dense(5, 3, 1, 1), 1, 3), "b.weight": dense(7, 5 * 36)}
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found) == {"a.weight": (3, 3, 1, 1), "b.weight": (7, 3 * 36)}


def test_one_channel_stays_where_all_could_go() -> None:
    nodes = [conv("x", "a", "t"), conv("t", "b", "y", bias=True), node("Relu", ["x"], "z")]
    constants = {"a.weight": np.zeros((4, 3, 1, 1), np.float32), "b.weight": dense(2, 4, 1, 1), "b.bias": dense(2)}
    found = shrink(model(nodes, [IMAGE], ["y", "z"], constants))
    assert shapes(found) == {"a.weight": (1, 3, 1, 1), "b.weight": (2, 1, 1, 1), "b.bias": (2,)}
    assert "a: 1 of 4 stay on axis 1: one has to stay" in found.kept


def test_a_weight_of_two_layers_is_copied_only_where_the_cuts_differ() -> None:
    nodes = [conv("x", "a", "t"), conv("x", "b", "u"), conv("t", "c", "y", name="/p"), conv("u", "c", "z", name="/q")]
    constants = {"a.weight": without(dense(4, 3, 1, 1), 0), "b.weight": without(dense(4, 3, 1, 1, seed=1), 0),
                 "c.weight": dense(4, 4, 1, 1)}  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y", "z"], constants))
    assert shapes(found) == {"a.weight": (3, 3, 1, 1), "b.weight": (3, 3, 1, 1), "c.weight": (4, 3, 1, 1)}
    constants["b.weight"] = without(dense(4, 3, 1, 1, seed=1), 2, 3)
    found = shrink(model(nodes, [IMAGE], ["y", "z"], constants))
    assert sorted(s for n, s in shapes(found).items() if "c.weight" in n) == [(4, 2, 1, 1), (4, 3, 1, 1)]


def test_norms_of_groups_and_channels() -> None:
    nodes = [
        conv("x", "a", "t"), node("InstanceNormalization", ["t", "s", "o"], "i"), conv("i", "b", "u"),
        node("BatchNormalization", ["u", "s", "o", "m", "v"], "n"), node("Relu", ["u"], "u2"),
        node("Add", ["n", "u2"], "w"), conv("w", "c", "y"),
    ]  # fmt: skip
    constants = {
        "a.weight": dense(6, 3, 3, 3), "s": dense(6), "o": dense(6, seed=3), "m": dense(6, seed=4),
        "v": dense(6, seed=5), "b.weight": without(dense(6, 6, 1, 1), 1, axis=1),
        "c.weight": without(dense(2, 6, 1, 1), 0, 4, axis=1),
    }  # fmt: skip
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found)["a.weight"] == (5, 3, 3, 3)
    assert shapes(found)["b.weight"] == (4, 5, 1, 1)


def test_padding_channels_with_zeros() -> None:
    """The shortcut of a ResNet without weights: channels that were added are known to be 0 and go."""
    pads = np.array([0, 2, 0, 0, 0, 2, 0, 0])
    nodes = [conv("x", "a", "t"), node("Pad", ["t", "pads"], "p"), conv("p", "b", "y")]
    constants = {"a.weight": without(dense(4, 3, 1, 1), 0), "pads": pads, "b.weight": dense(2, 8, 1, 1)}
    found = shrink(model(nodes, [IMAGE], ["y"], constants))
    assert shapes(found)["b.weight"] == (2, 3, 1, 1)


WINDOWS = [
    {"pads": [1, 1, 1, 1]}, {"pads": [2, 0, 1, 1], "strides": [2, 1]}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"auto_pad": "VALID"}, {"pads": [2, 2, 2, 2], "dilations": [2, 2]},
    {"pads": [1, 1, 1, 1], "group": 2}, {"op": "ConvTranspose", "strides": [2, 2], "pads": [1, 0, 0, 1]},
    {"op": "ConvTranspose", "strides": [2, 3], "output_padding": [1, 1], "dilations": [2, 1], "group": 2},
]  # fmt: skip


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("twice", [False, True])
def test_the_border_of_constants_is_right(window: dict[str, Any], twice: bool) -> None:
    """Constant channels into any window; twice: through a padded depthwise one, behind which they vary in space."""
    op = window.get("op", "Conv")
    attributes = {key: value for key, value in window.items() if key != "op"}
    nodes = [conv("x", "a", "t", bias=True), node("Relu", ["t"], "r")]
    nodes += [conv("r", "d", "s", bias=True, pads=[1, 1, 1, 1], group=8)] if twice else [node("Abs", ["r"], "s")]
    nodes += [node(op, ["s", "b.weight"], "y", name="/b/b", **attributes)]
    shape = (8, 4) if op == "ConvTranspose" else (4, 8 // attributes.get("group", 1))
    constants = {"a.weight": without(dense(8, 3, 1, 1), 0, 1, 4, 5), "a.bias": dense(8, seed=1),
                 "d.weight": dense(8, 1, 3, 3), "d.bias": dense(8), "b.weight": dense(*shape, 3, 3)}  # fmt: skip
    found = shrink(model(nodes, [port("x", [1, 3, 7, 8])], ["y"], constants))
    assert (shapes(found)["a.weight"][0] == 4) == (op == "Conv" or not twice)
