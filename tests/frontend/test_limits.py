"""The indices that the tables of a model have rows for, by input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tesa.frontend import import_onnx
from tesa.frontend.limits import input_limits
from tests.frontend.onnx_models import floats, model, node, port

TABLE = floats(5, 8)


def _limits(nodes: list[Any], constants: dict[str, Any], inputs: list[Any], outputs: list[str]) -> dict[str, Any]:
    graph = import_onnx(model(nodes, inputs, outputs, constants)).graph
    assert graph is not None
    return input_limits(graph)


def _ints(*names: str, shape: tuple[int, ...] = (1, 6)) -> list[Any]:
    return [port(name, list(shape), "int64") for name in names]


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        ([], {}, (0, 4)),
        ([node("Cast", ["x"], "i", to=6)], {}, (0, 4)),
        ([node("Reshape", ["x", "flat"], "i")], {"flat": np.array([6])}, (0, 4)),
        ([node("Add", ["x", "two"], "i")], {"two": np.array(2)}, (-2, 2)),
        ([node("Sub", ["x", "two"], "i")], {"two": np.array(2)}, (2, 6)),
        ([node("Sub", ["two", "x"], "i")], {"two": np.array(2)}, (-2, 2)),
        ([node("Mul", ["x", "two"], "i")], {"two": np.array(2)}, (0, 2)),
        ([node("Div", ["x", "two"], "i")], {"two": np.array(2)}, (0, 8)),
        ([node("Neg", ["x"], "n"), node("Add", ["n", "two"], "i")], {"two": np.array(2)}, (-2, 2)),
        ([node("CumSum", ["x", "one"], "i")], {"one": np.array(1)}, (0, 0)),
        ([node("Squeeze", ["x"], "s"), node("Concat", ["s", "s"], "i", axis=0)], {}, (0, 4)),
    ],
    ids=["plain", "cast", "reshape", "add", "sub", "from", "mul", "div", "neg", "cumsum", "concat"],
)  # fmt: skip
def test_through_what_leads_to_a_table(nodes: list[Any], constants: dict[str, Any], expected: Any) -> None:
    gather = node("Gather", ["t", "i" if nodes else "x"], "y")
    assert _limits([*nodes, gather], {"t": TABLE, **constants}, _ints("x"), ["y"]) == {"x": expected}


def test_the_smallest_of_several_tables() -> None:
    nodes = [
        node("Gather", ["words", "tokens"], "a"),
        node("Gather", ["types", "kinds"], "b"),
        node("Gather", ["few", "tokens"], "c"),
        node("Add", ["tokens", "kinds"], "sum"),
        node("Gather", ["words", "sum"], "d"),
        *(node("Add", pair, name) for pair, name in ((["a", "b"], "ab"), (["c", "d"], "cd"), (["ab", "cd"], "y"))),
        node("Cast", ["free"], "z", to=1),
    ]
    constants = {"words": floats(30, 8), "types": floats(1, 8), "few": floats(9, 8)}
    found = _limits(nodes, constants, _ints("tokens", "kinds", "free"), ["y", "z"])
    assert found == {"tokens": (0, 8), "kinds": (0, 0)}


def test_other_tables() -> None:
    nodes = [
        node("OneHot", ["x", "depth", "values"], "a"),
        node("GatherND", ["image", "places"], "b"),
        node("GatherElements", ["image", "rows"], "c", axis=1),
        node("Cast", ["real"], "index", to=7),
        node("Gather", ["t", "index"], "d"),
    ]
    constants = {"depth": np.array(3), "values": np.array([0, 1.0], np.float32), "image": floats(7, 4), "t": TABLE}
    inputs = [*_ints("x"), *_ints("places", shape=(3, 2)), *_ints("rows", shape=(7, 2)), port("real", [4])]
    found = _limits(nodes, constants, inputs, ["a", "b", "c", "d"])
    assert found == {"x": (0, 2), "places": (0, 3), "rows": (0, 3), "real": (0, 4)}


def test_what_bounds_nothing() -> None:
    nodes = [
        node("Equal", ["x", "zero"], "same"),
        node("Cast", ["same"], "i", to=helper.np_dtype_to_tensor_dtype(np.dtype("int64"))),
        node("Gather", ["t", "i"], "y"),
    ]
    assert _limits(nodes, {"t": TABLE, "zero": np.array(0)}, _ints("x"), ["y"]) == {}


@pytest.mark.parametrize(("size", "expected"), [(8, 16000), (5, 16001)])
def test_a_switch_is_what_it_is_compared_with(size: int, expected: int) -> None:
    """As the sampling rate of a speech model. A branch that cannot run with the given sizes is not the one to take."""
    x = port("x", [1, size])
    then = helper.make_graph(
        [node("MatMul", ["x", "w"], "then")], "then", [], [helper.make_empty_tensor_value_info("then")],
        [numpy_helper.from_array(floats(8, 4), "w")],
    )  # fmt: skip
    other = helper.make_graph(
        [node("Slice", ["x", "from", "to", "axis"], "other")], "other", [],
        [helper.make_empty_tensor_value_info("other")],
        [numpy_helper.from_array(np.array([n]), name) for name, n in (("from", 0), ("to", 4), ("axis", 1))],
    )  # fmt: skip
    nodes = [
        node("Equal", ["rate", "known"], "same"),
        node("If", ["same"], "y", then_branch=then, else_branch=other),
    ]
    given = model(nodes, [x, port("rate", [], "int64")], ["y"], {"known": np.array(16000)})
    imported = import_onnx(given)
    assert imported.graph is not None
    assert input_limits(imported.graph) == {"rate": (expected, expected)}
