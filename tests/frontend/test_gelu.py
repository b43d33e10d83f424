"""GELU by tanh in the forms that exporters write: one operator, and what only looks like it stays as it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tesa.frontend import import_onnx

from .onnx_models import floats, model, node, port
from .test_import import compare, operators

C = math.sqrt(2 / math.pi)
NUMBERS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "k": 0.044715, "c": C, "c2": 2 * C, "ck": C * 0.044715,
    "inverse": 1 / C,
}  # fmt: skip

CUBES = {
    "pow(x, 3)": [node("Pow", ["x", "three"], "cube")],
    "x * x * x": [node("Mul", ["x", "x"], "xx"), node("Mul", ["x", "xx"], "cube")],
    "pow(x, 2) * x": [node("Pow", ["x", "two"], "xx"), node("Mul", ["xx", "x"], "cube")],
}
INNER = {
    "c * (x + k * cube)": [
        node("Mul", ["k", "cube"], "kc"), node("Add", ["x", "kc"], "sum"), node("Mul", ["sum", "c"], "t"),
    ],
    "(k * cube + x) / (1 / c)": [
        node("Mul", ["cube", "k"], "kc"), node("Add", ["kc", "x"], "sum"), node("Div", ["sum", "inverse"], "t"),
    ],
    "c * x + c * k * cube": [
        node("Mul", ["c", "x"], "cx"), node("Mul", ["ck", "cube"], "kc"), node("Add", ["cx", "kc"], "t"),
    ],
    "x * c * (1 + k * x * x)": [
        node("Mul", ["x", "k"], "kx"), node("Mul", ["kx", "x"], "kxx"), node("Add", ["one", "kxx"], "sum"),
        node("Mul", ["x", "c"], "cx"), node("Mul", ["cx", "sum"], "t"),
    ],
}  # fmt: skip
TANH = node("Tanh", ["t"], "u")
OUTER = {
    "0.5 * x * (1 + u)": [
        TANH, node("Add", ["u", "one"], "v"), node("Mul", ["half", "x"], "hx"), node("Mul", ["hx", "v"], "y"),
    ],
    "x * (0.5 + 0.5 * u)": [
        TANH, node("Mul", ["u", "half"], "hu"), node("Add", ["half", "hu"], "v"), node("Mul", ["x", "v"], "y"),
    ],
    "0.5 * x + 0.5 * x * u": [
        TANH, node("Mul", ["x", "half"], "hx"), node("Mul", ["hx", "u"], "hxu"), node("Add", ["hx", "hxu"], "y"),
    ],
    "x * (1 + u) / 2": [
        TANH, node("Add", ["one", "u"], "v"), node("Mul", ["v", "x"], "xv"), node("Div", ["xv", "two"], "y"),
    ],
    "x * sigmoid(2 t)": [
        node("Mul", ["t", "two"], "tt"), node("Sigmoid", ["tt"], "u"), node("Mul", ["x", "u"], "y"),
    ],
}  # fmt: skip


def given(cube: str, inner: str, outer: str, dtype: Any = np.float32, outputs: Any = ("y",), **change: float) -> Any:
    constants = {name: np.asarray(value, dtype) for name, value in {**NUMBERS, **change}.items()}
    nodes = [*CUBES[cube], *INNER[inner], *OUTER[outer]]
    if "cube" not in [name for n in [*INNER[inner], *OUTER[outer]] for name in n.input]:
        nodes = nodes[len(CUBES[cube]) :]
    return model(nodes, [port("x", [3, 40])], list(outputs), constants)


@pytest.mark.parametrize("cube", CUBES)
@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("outer", OUTER)
def test_every_form_is_one_operator(cube: str, inner: str, outer: str) -> None:
    assert operators(import_onnx(given(cube, inner, outer))) == ["nn.gelu_tanh"]


@pytest.mark.parametrize("outer", OUTER)
def test_the_numbers_are_those_of_the_parts(outer: str) -> None:
    proto = given("pow(x, 3)", "c * (x + k * cube)", outer)
    assert operators(compare(proto, {"x": floats(3, 40) * 3})) == ["nn.gelu_tanh"]


@pytest.mark.parametrize("change", [{"half": 0.4}, {"one": 2.0}, {"k": 0.0447}, {"c": 0.8}, {"three": 2.0}])
def test_what_only_looks_like_it_stays(change: dict[str, float]) -> None:
    proto = given("pow(x, 3)", "c * (x + k * cube)", "0.5 * x * (1 + u)", **change)
    assert "nn.gelu_tanh" not in operators(compare(proto, {"x": floats(3, 40)}))


@pytest.mark.parametrize("inside", ["u", "v"])
def test_where_its_inside_is_an_output_it_stays(inside: str) -> None:
    proto = given("pow(x, 3)", "c * (x + k * cube)", "0.5 * x * (1 + u)", outputs=("y", inside))
    assert "nn.gelu_tanh" not in operators(compare(proto, {"x": floats(3, 40)}))


def test_constants_of_16_bits_are_meant_as_the_real_ones() -> None:
    proto = given("x * x * x", "c * (x + k * cube)", "0.5 * x * (1 + u)", dtype=np.float16)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    assert "nn.gelu_tanh" in operators(import_onnx(proto))


def test_fast_gelu() -> None:
    nodes = [node("FastGelu", ["x", "b"], "y", domain="com.microsoft")]
    proto = model(nodes, [port("x", [3, 40])], ["y"], {"b": floats(40)})
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert operators(compare(proto, {"x": floats(3, 40)})) == ["add", "nn.gelu_tanh"]
