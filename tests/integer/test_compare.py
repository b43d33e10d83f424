"""The comparison of integer networks finds what differs, and knows a rounding tie from a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.frontend.onnx_models import floats, model, node, port
from tests.integer import compare
from tests.runtime.models import build

FEEDS = {"x": floats(2, 3, 6, 6, seed=9)}


@pytest.fixture(scope="module")
def network() -> Any:
    """Two convolutions, a sum, a pooling and a classifier, with codes of 8 bits between them, as quantizers write."""
    rng = np.random.default_rng(0)
    constants: dict[str, Any] = {"six": np.float32(6)}
    nodes = []

    def codes(name: str, scale: float, zero: int) -> str:
        constants[f"{name}.s"], constants[f"{name}.z"] = np.float32(scale), np.uint8(zero)
        nodes.append(node("QuantizeLinear", [name, f"{name}.s", f"{name}.z"], f"{name}.q"))
        nodes.append(node("DequantizeLinear", [f"{name}.q", f"{name}.s", f"{name}.z"], f"{name}.d"))
        return f"{name}.d"

    def weight(name: str, *shape: int) -> str:
        values = rng.integers(-90, 91, shape) * (rng.random(shape) < 0.4)
        constants[f"{name}.w"] = values.astype(np.int8)
        constants[f"{name}.ws"] = (rng.random(shape[0]) * 0.002 + 0.002).astype(np.float32)
        constants[f"{name}.wz"] = np.zeros(shape[0], np.int8)
        nodes.append(node("DequantizeLinear", [f"{name}.{n}" for n in ("w", "ws", "wz")], f"{name}.wd", axis=0))
        return f"{name}.wd"

    def step(op: str, inputs: list[str], name: str, scale: float, zero: int, **attributes: Any) -> str:
        nodes.append(node(op, inputs, name, **attributes))
        return codes(name, scale, zero)

    a = codes("x", 0.03, 120)
    nodes.append(node("Conv", [a, weight("stem", 8, 3, 3, 3)], "stem", pads=[1] * 4))
    b = step("Relu", ["stem"], "relu", 0.02, 0)
    c = step("Conv", [b, weight("mix", 8, 8, 1, 1)], "mix", 0.03, 128)
    d = step("Add", [b, c], "sum", 0.04, 100)
    e = step("GlobalAveragePool", [d], "pool", 0.02, 110)
    nodes.append(node("Flatten", [e], "flat"))
    step("Gemm", ["flat", weight("fc", 4, 8)], "fc", 0.02, 128, transB=1)
    return model(nodes, [port("x", [2, 3, 6, 6])], ["fc.d"], constants, opset=17)


@pytest.fixture(scope="module")
def compiled(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build(tmp_path_factory.mktemp("integer"), network)


def test_outputs_are_compared_as_codes(network: Any, compiled: Any) -> None:
    (row,) = compare.outputs(compiled, network, FEEDS)
    assert (row.name, row.elements, row.more) == ("fc.d", 8, 0)


def test_every_step_is_right_but_for_ties(network: Any, tmp_path: Path) -> None:
    rows = compare.inner(network, FEEDS, tmp_path)
    assert [row.name for row in rows] == ["x.q", "relu.q", "mix.q", "sum.q", "pool.q", "fc.q", "fc.d"]
    assert all(row.only_ties for row in rows), compare.report(rows)


def test_steps_of_the_library_as_it_ships(network: Any, compiled: Any) -> None:
    rows = compare.layers(compiled, network, FEEDS)
    assert rows[-1].name == "fc.d"
    assert all(row.more == 0 for row in rows), compare.report(rows)


def test_a_wrong_code_is_found_where_it_arises(network: Any) -> None:
    """A step is held against what follows from the codes before it, right or wrong."""
    names = ["relu.q", "mix.q", "sum.q", "pool.q"]
    right = compare.reference_outputs(network, FEEDS, names)
    codes = {name: right[name] for name in names}
    (*rows, end) = compare.step_by_step(network, FEEDS, codes, right)
    assert [row.only_ties for row in rows] == [True] * 4
    assert end.worst == 0
    off = codes["mix.q"].copy()
    off[0, 0, 0, :2] += np.uint8([1, 7])
    rows = list(compare.step_by_step(network, FEEDS, codes | {"mix.q": off}, right))
    by = {row.name: (row.ties, row.ones, row.more, row.worst) for row in rows}
    assert by["mix.q"] == (0, 1, 1, 7)
    assert by["sum.q"][1] + by["sum.q"][2] == 2  # the sum was not made of the wrong codes, and is seen to differ
    assert by["relu.q"] == by["pool.q"] == (0, 0, 0, 0)
    assert "mix.q: 576 codes, 0 ties, 1 by one, 1 by more (worst 7)" in compare.report(rows)


def test_a_tie_is_one_of_the_number_before_rounding() -> None:
    constants = {"s": np.float32(0.5), "z": np.uint8(10)}
    nodes = [node("Relu", ["x"], "r"), node("QuantizeLinear", ["r", "s", "z"], "q")]
    proto = model(nodes, [port("x", [4])], ["q"], constants)
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    feeds = {"x": np.float32([0.25, 0.75, 1.0, 2.0])}  # 0.5 and 1.5 codes are ties, 2 and 4 are none
    found = {"q": np.uint8([11, 11, 13, 17])}
    (row,) = compare.step_by_step(proto, feeds, found, found)
    assert (row.ties, row.ones, row.more, row.worst) == (2, 1, 1, 3)
    assert not row.only_ties


def test_what_follows_a_tie_on_the_way_is_one() -> None:
    constants = {"s": np.float32(0.5), "z": np.uint8(10), "t": np.float32(0.3), "c": np.float32(0.07)}
    nodes = [node("Relu", ["x"], "r"), node("QuantizeLinear", ["r", "s", "z"], "inside"),
             node("DequantizeLinear", ["inside", "s", "z"], "d"), node("Add", ["d", "c"], "a"),
             node("QuantizeLinear", ["a", "t", "z"], "q")]  # fmt: skip
    proto = model(nodes, [port("x", [3])], ["q"], constants)
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    feeds = {"x": np.float32([0.75, 1.0, 2.0])}  # 1.5 codes are a tie, which the second rounding does not see
    right = np.rint((np.rint(feeds["x"] / 0.5) * 0.5 + 0.07) / 0.3).astype(np.uint8) + np.uint8(10)
    (row,) = compare.step_by_step(proto, feeds, {"q": right - np.uint8([2, 1, 0])}, {"q": right})
    assert (row.ties, row.ones, row.more, row.worst) == (1, 1, 0, 2)


def test_an_output_without_codes_is_compared_as_numbers() -> None:
    row = compare._outer("y", np.float32([1.0, 2.0]), np.float32([1.0, 4.0]), None)
    assert row.error == pytest.approx(0.5)
    assert not row.only_ties
    assert "largest difference 5.0e-01" in str(row)


def test_each_scale_belongs_to_its_channel() -> None:
    x = floats(1, 2, 3)
    quantize = node("QuantizeLinear", ["x", "s"], "q", axis=1)
    numbers = compare._before_rounding(quantize, {"x": x, "s": np.float32([1.0, 2.0])})
    np.testing.assert_array_equal(numbers[:, 1], x[:, 1].astype(np.float64) / 2)
