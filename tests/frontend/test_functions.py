"""Operators that only ONNX's schemas define, and the types of what ONNX cannot infer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from tvm import relax

from tesa.errors import UnsupportedError
from tesa.frontend import converter, converter_scope, import_onnx

from .onnx_models import floats, model, node, port
from .test_import import compare, operators


def test_a_schema_s_function_is_written_out() -> None:
    nodes = [node("HannWindow", ["n"], "w", periodic=0), node("Mul", ["x", "w"], "y")]
    given = model(nodes, [port("x", [3, 8])], ["y"], {"n": np.asarray(8, np.int64)})
    assert operators(import_onnx(given)) == ["multiply"]
    compare(given, {"x": floats(3, 8)})


def test_a_shape_behind_an_operator_of_a_user() -> None:
    nodes = [
        node("Halve", ["x"], "h", domain="com.example"), node("Shape", ["h"], "s"), node("Concat", ["s", "one"], "t",
        axis=0), node("Reshape", ["h", "t"], "y"),
    ]  # fmt: skip
    given = model(nodes, [port("x", ["n", 6])], ["y"], {"one": np.asarray([1], np.int64)})
    given.opset_import.append(helper.make_opsetid("com.example", 1))
    with converter_scope():

        @converter("com.example::Halve")
        def halve(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
            return relax.op.strided_slice(inputs[0], [1], [0], [3])

        imported = import_onnx(given, shapes={"x": (2, 6)})
    assert imported.outputs[0].shape == (2, 3, 1)
    assert "shape_of" not in operators(imported)


def _with_function(op: str, opset: int) -> Any:
    """A model of opset 17 that calls a function of another opset twice, once without the optional input."""
    imports = [helper.make_opsetid("", opset)]
    inner = [helper.make_node(op, ["a", "b"] if op == "Clip" else ["a"], ["c"])]
    made = helper.make_function("loc", "Limited", ["a", "b"], ["c"], inner, imports)
    nodes = [node("Limited", ["x", "low"], "h", domain="loc"), node("Limited", ["h", ""], "y", domain="loc")]
    given = model(nodes, [port("x", [2, 6])], ["y"], {"low": np.zeros((), np.float32)})
    given.functions.append(made)
    given.opset_import.append(helper.make_opsetid("loc", 1))
    return given


def test_a_function_of_the_model_of_another_opset() -> None:
    compare(_with_function("Clip", 13), {"x": floats(2, 6)})


def test_a_function_whose_operators_mean_something_else_is_refused() -> None:
    expected = "function 'Limited' of the model is written for opset 11 .* opset 17, and Softmax is another operator"
    with pytest.raises(UnsupportedError, match=expected):
        import_onnx(_with_function("Softmax", 11))
