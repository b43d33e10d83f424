"""Facts of the user that cannot be: each is one message that says what, where and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tesa.attributes.attribute import ContradictionError, Origin, TeSA, from_constant, from_mask, unknown
from tesa.errors import UsageError
from tesa.frontend import import_onnx
from tesa.propagate.network import Network, build_network
from tesa.propagate.user_facts import check_facts, merge_named

from ..frontend.onnx_models import floats, model, node, port


@pytest.fixture(scope="module")
def net() -> Network:
    nodes = [node("Relu", ["x"], "h", name="first"), node("MatMul", ["h", "w"], "y", name="second")]
    imported = import_onnx(model(nodes, [port("x", [1, 3])], ["y"], {"w": floats(3, 2)}))
    return build_network(imported.mod["main"], imported.names)


def refused(net: Network, given: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        check_facts(net, given)
    return str(caught.value)


def test_a_tensor_that_does_not_exist(net: Network) -> None:
    assert refused(net, {"frist": unknown((1, 3))}) == (
        "facts are given for 'frist', which is no tensor of the model. Did you mean 'first'?"
    )
    assert "Its tensors: x, " in refused(net, {"zzzzzzzz": unknown((1, 3))})


def test_another_shape(net: Network) -> None:
    text = refused(net, {"first": from_mask(np.ones((3, 1)))})
    assert "'first' are about a tensor of shape [3, 1], but it has [1, 3]" in text


def test_no_facts_at_all(net: Network) -> None:
    assert "are a ndarray, expected a TeSA" in refused(net, {"first": np.ones((1, 3))})


def test_bits_without_a_grid(net: Network) -> None:
    facts = replace(unknown((1, 3)), bits=np.full((1, 1), 4, np.int8))
    assert "4 bits, but not on which grid" in refused(net, {"first": facts})


def test_a_value_that_is_no_number(net: Network) -> None:
    facts = replace(unknown((1, 3)), known=np.ones((1, 1), bool), value=np.full((1, 1), np.nan))
    assert "NaN" in refused(net, {"first": facts})


def test_good_facts_pass(net: Network) -> None:
    facts = from_mask(np.array([[1, 0, 1]]))
    assert check_facts(net, {"x": facts}) == {"x": facts}


def test_a_contradiction_names_tensor_layer_and_both_origins(net: Network) -> None:
    mine = from_constant(np.ones((1, 3)), Origin("value", "user"))
    rule = replace(mine, value=np.zeros((1, 1)), origins=frozenset())
    with pytest.raises(ContradictionError) as caught:
        merge_named(net, "first", mine, rule, Origin("", "rule", "relax.nn.relu", "first"))
    text = str(caught.value)
    assert "tensor 'first', made by layer 'first'" in text
    assert "1 (the user's mask)" in text
    assert "0 (rule relax.nn.relu of first)" in text
    with pytest.raises(ContradictionError, match="tensor 'x', an input of the model"):
        merge_named(net, "x", mine, replace(rule, origins=frozenset({Origin("value", "weight")})))


def test_two_names_of_one_tensor_must_agree() -> None:
    net = Network(shapes={"x": (2,)}, aliases={"same": "x"})
    zero, one = (from_constant(np.full(2, v), Origin("value", "user")) for v in (0.0, 1.0))
    with pytest.raises(ContradictionError, match="tensor 'x'"):
        check_facts(net, {"x": zero, "same": one})
    facts: TeSA = check_facts(net, {"x": zero, "same": unknown((2,))})["x"]
    assert facts.known.all()
