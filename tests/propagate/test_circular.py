"""Circular support: each zero the reason for the other's deadness. Never may both be removed; one of them must be.

Each network here invites two facts to lean on each other: chains and loops of products, gates made of what they gate,
products of two pruned tensors, attention with zero queries and zero keys. The law is checked on each, with different
values for everything that is not known, and that propagation finds something there at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tesa.frontend import import_onnx
from tesa.propagate import TesaModel, propagate

from ..frontend.onnx_models import floats, model, node, port
from .interpreter import evaluator, widened
from .law import check_law

Build = Callable[[], tuple[list[Any], list[int], dict[str, Any]]]


def keeping(rows: int, columns: int, kept: list[int], seed: int = 0) -> Any:
    """A weight of which only some columns are not 0."""
    weight = floats(rows, columns, seed=seed)
    mask = np.zeros(columns, np.float32)
    mask[kept] = 1
    return weight * mask


def two(kept_p: list[int], kept_q: list[int], size: int = 4) -> tuple[list[Any], dict[str, Any]]:
    """p and q, two pruned linear layers of x."""
    nodes = [node("MatMul", ["x", "wp"], "p"), node("MatMul", ["x", "wq"], "q")]
    return nodes, {"wp": keeping(size, size, kept_p), "wq": keeping(size, size, kept_q, seed=1)}


def product() -> Any:
    """p * q, both 0 in column 0, each alone in another one."""
    nodes, constants = two([2, 3], [1, 3])
    return [*nodes, node("Mul", ["p", "q"], "y")], [2, 4], constants


def chain() -> Any:
    """p * q * p * q: later products lean on earlier factors."""
    nodes, constants = two([2, 3], [1, 3])
    nodes += [node("Mul", ["p", "q"], "m"), node("Mul", ["m", "p"], "n"), node("Mul", ["q", "n"], "y")]
    return nodes, [2, 4], constants


def crossed() -> Any:
    """sigmoid(p) * q and sigmoid(q) * p, multiplied: each gate is made of the other's factor."""
    nodes, constants = two([2, 3], [1, 3])
    nodes += [node("Sigmoid", ["p"], "sp"), node("Sigmoid", ["q"], "sq"), node("Mul", ["sp", "q"], "a"),
              node("Mul", ["sq", "p"], "b"), node("Mul", ["a", "b"], "y")]  # fmt: skip
    return nodes, [2, 4], constants


def residual() -> Any:
    """h = p * q, then (h + p) * (h + q): both sums are 0 where both terms are."""
    nodes, constants = two([2, 3], [1, 3])
    nodes += [node("Mul", ["p", "q"], "h"), node("Add", ["h", "p"], "a"), node("Add", ["h", "q"], "b"),
              node("Mul", ["a", "b"], "c"), node("Add", ["c", "h"], "y")]  # fmt: skip
    return nodes, [2, 4], constants


def square() -> Any:
    """p * p: a tensor leans on itself."""
    nodes, constants = two([2, 3], [1, 3])
    return [*nodes, node("Mul", ["p", "p"], "s"), node("Mul", ["s", "q"], "y")], [2, 4], constants


def gated() -> Any:
    """sigmoid(p) * p, and tanh(p) * p times that."""
    nodes, constants = two([2, 3], [1])
    nodes += [node("Sigmoid", ["p"], "s"), node("Mul", ["s", "p"], "g"), node("Tanh", ["p"], "t"),
              node("Mul", ["t", "p"], "u"), node("Mul", ["g", "u"], "v"), node("Add", ["v", "q"], "y")]  # fmt: skip
    return nodes, [2, 4], constants


def matrices() -> Any:
    """p^T q, where p and q have zero columns and the product's rows and columns are 0."""
    nodes, constants = two([1, 3], [2, 3])
    nodes += [node("Transpose", ["p"], "pt", perm=[0, 2, 1]), node("MatMul", ["pt", "q"], "y")]
    return nodes, [1, 5, 4], constants


def inner() -> Any:
    """p q^T: the zero columns of both lie in the sum; a column that is 0 in both supports neither."""
    nodes, constants = two([1, 3], [2, 3])
    nodes += [node("Transpose", ["q"], "qt", perm=[0, 2, 1]), node("MatMul", ["p", "qt"], "y")]
    return nodes, [1, 5, 4], constants


def gram() -> Any:
    """p p^T, one pruned tensor twice, and p times its own transpose element by element."""
    nodes, constants = two([1, 3], [0])
    nodes += [node("Transpose", ["p"], "pt", perm=[0, 2, 1]), node("MatMul", ["p", "pt"], "g"),
              node("Mul", ["p", "pt"], "e"), node("Add", ["g", "e"], "z"), node("Add", ["z", "q"], "y")]  # fmt: skip
    return nodes, [1, 4, 4], constants


def attention() -> Any:
    """Zero queries, zero keys, some features zero in both, and zero values."""
    nodes, constants = two([1, 3], [2, 3])
    constants["wv"], constants["wo"] = keeping(4, 4, [0, 2], seed=2), floats(4, 4, seed=3)
    nodes += [node("MatMul", ["x", "wv"], "v"), node("Transpose", ["q"], "qt", perm=[0, 2, 1]),
              node("MatMul", ["p", "qt"], "scores"), node("Softmax", ["scores"], "s", axis=-1),
              node("MatMul", ["s", "v"], "c"), node("MatMul", ["c", "wo"], "y")]  # fmt: skip
    return nodes, [1, 5, 4], constants


def masked() -> Any:
    """A causal mask of minus infinity: its zeros in the weights meet zero rows of the values."""
    nodes, constants = two([0, 1, 2], [0, 1, 3])
    constants["mask"] = np.where(np.triu(np.ones((4, 4), bool), 1), -np.inf, 0).astype(np.float32)
    constants["rows"] = np.array([[1], [0], [1], [0]], np.float32)
    nodes += [node("Transpose", ["q"], "qt", perm=[0, 2, 1]), node("MatMul", ["p", "qt"], "a"),
              node("Add", ["a", "mask"], "b"), node("Softmax", ["b"], "s", axis=-1),
              node("Mul", ["x", "rows"], "v"), node("MatMul", ["s", "v"], "y")]  # fmt: skip
    return nodes, [1, 4, 4], constants


def extremes() -> Any:
    """max and min of pruned tensors, multiplied by each other and by what they are made of."""
    nodes, constants = two([2, 3], [1, 3])
    nodes += [node("Max", ["p", "q"], "a"), node("Min", ["p", "q"], "b"), node("Mul", ["a", "b"], "c"),
              node("Mul", ["c", "p"], "y")]  # fmt: skip
    return nodes, [2, 4], constants


def chosen() -> Any:
    """where(p > 0, q, p) * q: condition and branches are pruned alike."""
    nodes, constants = two([2, 3], [1, 3])
    constants["none"] = np.float32(0)
    nodes += [node("Greater", ["p", "none"], "c"), node("Where", ["c", "q", "p"], "w"), node("Mul", ["w", "q"], "y")]
    return nodes, [2, 4], constants


def sliced() -> Any:
    """concat(p, q) times concat(q, p), cut in two and multiplied again."""
    nodes, constants = two([2, 3], [1, 3])
    constants.update(a=np.array([0]), b=np.array([4]), c=np.array([8]), axis=np.array([1]))
    nodes += [node("Concat", ["p", "q"], "l", axis=1), node("Concat", ["q", "p"], "r", axis=1),
              node("Mul", ["l", "r"], "m"), node("Slice", ["m", "a", "b", "axis"], "left"),
              node("Slice", ["m", "b", "c", "axis"], "right"), node("Mul", ["left", "right"], "y")]  # fmt: skip
    return nodes, [2, 4], constants


def divided() -> Any:
    """0 / (1 + |q|): the denominator leans on the numerator, which leans on q in a product."""
    nodes, constants = two([2, 3], [1, 3])
    constants["one"] = np.float32(1)
    nodes += [node("Abs", ["q"], "aq"), node("Add", ["aq", "one"], "d"), node("Div", ["p", "d"], "r"),
              node("Mul", ["r", "q"], "y")]  # fmt: skip
    return nodes, [2, 4], constants


def summed() -> Any:
    """einsum of two pruned activations, and of one with itself."""
    nodes, constants = two([1, 3], [2, 3])
    nodes += [node("Einsum", ["p", "q"], "e", equation="bij,bkj->bik"),
              node("Einsum", ["p", "p"], "f", equation="bij,bkj->bik"), node("Mul", ["e", "f"], "y")]  # fmt: skip
    return nodes, [1, 5, 4], constants


def convolved() -> Any:
    """Two pruned convolutions gate each other by channel, one of them pooled."""
    weights = [floats(4, 4, 1, 1, seed=seed) for seed in (0, 1)]
    weights[0][[0, 1]], weights[1][[0, 2]] = 0, 0
    nodes = [node("Conv", ["x", "wp"], "p"), node("Conv", ["x", "wq"], "q"),
             node("GlobalAveragePool", ["p"], "g"), node("Mul", ["g", "q"], "m"),
             node("Mul", ["m", "p"], "n"), node("Conv", ["n", "wr"], "y")]  # fmt: skip
    return nodes, [1, 4, 3, 3], {"wp": weights[0], "wq": weights[1], "wr": floats(2, 4, 3, 3)}


def integer() -> Any:
    """The same with integers: two pruned casts multiplied."""
    nodes, constants = two([2, 3], [1, 3])
    nodes += [node("Cast", ["p"], "pi", to=6), node("Cast", ["q"], "qi", to=6), node("Mul", ["pi", "qi"], "m"),
              node("Mul", ["m", "pi"], "n"), node("Cast", ["n"], "y", to=1)]  # fmt: skip
    return nodes, [2, 4], constants


NETWORKS = [product, chain, crossed, residual, square, gated, matrices, inner, gram, attention, masked, extremes,
            chosen, sliced, divided, summed, convolved, integer]  # fmt: skip


ALL_LIVE = {gated, matrices, gram}  # each zero here comes of a known one and makes no other element idle


def solved(build: Build) -> TesaModel:
    nodes, shape, constants = build()
    return propagate(import_onnx(model(nodes, [port("x", shape)], ["y"], constants)))


@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_the_law_where_zeros_meet(build: Build) -> None:
    """For several inputs; and something is known and something is dead beyond what was given."""
    found = solved(build)
    for seed in range(8):
        x = np.random.default_rng(seed).normal(size=found.imported.inputs[0].shape) * 3
        check_law(widened(found.network), found.tesa, {"x": x}, evaluator(found.imported.mod), seed)
    made = [name for node in found.network.nodes for name in node.outputs]
    assert any(found.tesa[name].zero.any() for name in made)
    dead = any((found.tesa[name].dead & ~found.tesa[name].known).any() for name in [*made, *found.network.constants])
    assert dead != (build in ALL_LIVE)


def test_one_of_two_zero_factors_stays() -> None:
    """Column 0 of p and q is 0: there both are live. In columns 1 and 2 the factor that is not 0 is dead."""
    found = solved(product)
    np.testing.assert_array_equal(np.broadcast_to(found.tesa["p"].dead, (2, 4))[0], [False, False, True, False])
    np.testing.assert_array_equal(np.broadcast_to(found.tesa["q"].dead, (2, 4))[0], [False, True, False, False])


def test_the_weights_behind_the_factors_go() -> None:
    """What makes a dead column is dead, whichever of the factors it is."""
    found = solved(product)
    for weight, column in (("p", 2), ("q", 1)):
        assert not found.weights[weight].effective_weight[:, column].any()
        assert found.weights[weight].effective_weight[:, 3].all()


def test_zero_queries_remove_keys_and_the_other_way_round() -> None:
    """Feature 1 of the keys is dead as the query is 0 there, feature 2 of the queries; feature 0 is 0 in both."""
    found = solved(attention)
    assert not found.weights["q"].effective_weight[:, 1].any()
    assert not found.weights["p"].effective_weight[:, 2].any()
    assert found.weights["p"].effective_weight[:, 3].all()
    assert not found.weights["y"].effective_weight[[1, 3]].any()
