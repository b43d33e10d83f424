"""The comparison of a smaller model with the given one: by what its numbers are, and on inputs that it can take."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tesa.compact import check_smaller, compact
from tesa.frontend import import_onnx
from tesa.layers.prepare import prepare
from tesa.propagate import propagate
from tests.frontend.onnx_models import floats, model, node, port


def _map(bias: float, second: Any = None) -> Any:
    """A map of probabilities, as text detectors make: half of the inner channels are dead."""
    first = floats(16, 3, 3, 3)
    first[::2] = 0
    nodes = [
        node("Conv", ["x", "w1"], "a", name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "b"),
        node("Conv", ["b", "w2", "c"], "l", name="second", pads=[1, 1, 1, 1]),
        node("Sigmoid", ["l"], "y"),
    ]
    weight = floats(1, 16, 3, 3, seed=1) * np.float32(0.02) if second is None else second
    constants = {"w1": first, "w2": weight, "c": np.array([bias], np.float32)}
    return model(nodes, [port("x", [1, 3, 16, 16])], ["y"], constants)


def _changed(proto: Any, name: str, factor: float) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array((array * np.float32(factor)).astype(array.dtype), name))
    return copy


@pytest.mark.parametrize("bias", [0.0, -8.0, -16.0])
def test_outputs_near_zero_pass(bias: float) -> None:
    found = prepare(_map(bias))
    assert not any("comparison" in note for note in found.notes)
    assert found.imported.graph is not None
    assert found.imported.graph.constants["w1"].shape[0] == 8


@pytest.mark.parametrize("bias", [0.0, -8.0])
def test_a_wrong_model_does_not(bias: float) -> None:
    proto = _map(bias)
    small = compact(propagate(import_onnx(proto))).proto
    assert check_smaller(proto, small).fault == ""
    assert "'y' differs" in check_smaller(proto, _changed(small, "w2", 1.5)).fault


def test_nothing_but_nan_is_no_agreement() -> None:
    nodes = [
        node("MatMul", ["x", "w"], "h", name="fc"),
        node("Abs", ["h"], "a"),
        node("Sub", ["none", "a"], "n"),
        node("Log", ["n"], "y"),
    ]
    weight = floats(4, 6)
    proto = model(nodes, [port("x", [2, 4])], ["y"], {"w": weight, "none": np.array(-1, np.float32)})
    assert "all of the output 'y' is NaN" in check_smaller(proto, proto).fault


def test_positive_inputs_where_others_give_no_number() -> None:
    nodes = [node("ReduceMin", ["x"], "m", keepdims=0), node("Log", ["m"], "y")]
    proto = model(nodes, [port("x", [64])], ["y"], {})
    assert check_smaller(proto, proto).fault == ""


def test_indices_that_the_tables_have() -> None:
    nodes = [
        node("Gather", ["words", "tokens"], "a"),
        node("Gather", ["one", "types"], "b"),
        node("Add", ["a", "b"], "y"),
    ]
    inputs = [port("tokens", [1, 6], "int64"), port("types", [1, 6], "int64")]
    proto = model(nodes, inputs, ["y"], {"words": floats(30, 8), "one": floats(1, 8, seed=1)})
    assert check_smaller(proto, proto).fault == ""
