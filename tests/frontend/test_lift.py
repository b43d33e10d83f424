"""Nodes of old opsets raised to opset 18: onnxruntime computes the same of both."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tesa.errors import UnsupportedError
from tesa.frontend import import_onnx
from tesa.frontend.graph import Graph
from tesa.frontend.lift import _RAISES, OPSET, lift
from tesa.frontend.load import load_graph

from .onnx_models import floats, model, node, port

X = floats(2, 3, 4, 5)


@dataclass(frozen=True)
class Old:
    """A node of an old opset. inputs: fed; constants: in the file, behind them."""

    op: str
    opset: int
    attrs: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Any, ...] = (X,)
    constants: tuple[Any, ...] = ()
    outputs: int = 1
    exists: bool = True
    """False where onnxruntime is too new for it; `expected` says what comes out."""
    expected: Any = None

    def model(self) -> onnx.ModelProto:
        feeds, constants = self.feeds(), {f"c{i}": np.asarray(c) for i, c in enumerate(self.constants)}
        outs = [f"y{i}" for i in range(self.outputs)]
        made = helper.make_node(self.op, [*feeds, *constants], outs, "node", **self.attrs)
        kind = helper.np_dtype_to_tensor_dtype
        ports = [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in feeds.items()]
        tensors = [numpy_helper.from_array(a, n) for n, a in constants.items()]
        graph = helper.make_graph([made], "test", ports, [onnx.ValueInfoProto(name=n) for n in outs], tensors)
        given = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=7)
        return onnx.shape_inference.infer_shapes(given)

    def feeds(self) -> dict[str, Any]:
        return {f"x{i}": np.asarray(x) for i, x in enumerate(self.inputs)}


def raised(given: onnx.ModelProto) -> onnx.ModelProto:
    """The model of opset 18."""
    graph = load_graph(given)
    lift(graph)
    tensors = [numpy_helper.from_array(a, n) for n, a in graph.constants.items()]
    body = helper.make_graph(graph.nodes, "raised", graph.inputs, graph.outputs, tensors)
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", graph.opset)], ir_version=8)
    made = onnx.shape_inference.infer_shapes(made)
    onnx.checker.check_model(made)
    return made


def run(given: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(given.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


F = np.float32
AXES = {"axes": [1, -1]}
BATCH = (X, floats(3, seed=1), floats(3, seed=2), floats(3, seed=3), np.abs(floats(3, seed=4)))
PIXELS = (3, 4, 5)
OLD = [
    *(Old(f"Reduce{name}", 11, attrs, (np.abs(X),)) for name in (
        "L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"
    ) for attrs in (AXES, {}, {"axes": [2], "keepdims": 0})),
    Old("ReduceMax", 13, AXES),
    Old("Squeeze", 11, {"axes": [0, -1]}, (floats(1, 3, 1),)),
    Old("Squeeze", 7, {}, (floats(1, 3, 1),)),
    Old("Unsqueeze", 11, {"axes": [0, -1]}),
    Old("Unsqueeze", 7, {"axes": [0, 2]}),
    *(Old("Clip", 7, attrs) for attrs in ({"min": -0.5, "max": 0.25}, {"max": 0.5}, {"min": 0.0}, {})),
    Old("Clip", 7, {"min": -0.5}, (X.astype(np.float16),)),
    *(Old("Dropout", opset, {"ratio": 0.25}, outputs=n) for opset in (7, 10) for n in (1, 2)),
    Old("Pad", 7, {"pads": [0, 0, 1, 2, 0, 1, 0, -1], "value": 1.5}),
    Old("Pad", 7, {"pads": [0, 0, 1, 2, 0, 1, 0, 1], "mode": "reflect"}),
    Old("Slice", 7, {"starts": [1, -3], "ends": [1000, -1], "axes": [1, 3]}),
    Old("Slice", 9, {"starts": [0, 1], "ends": [1, -1]}),
    Old("TopK", 7, {"k": 2, "axis": 1}, outputs=2),
    Old("TopK", 10, {"axis": -1}, constants=(np.array([3]),), outputs=2),
    Old("Split", 11, {"split": [1, 2], "axis": 1}, outputs=2),
    Old("Split", 7, {"axis": 2}, outputs=2),
    Old("Split", 13, {"axis": 1}, outputs=3),
    *(Old(op, opset, {} if axis is None else {"axis": axis}) for op in ("Softmax", "LogSoftmax", "Hardmax")
      for opset, axis in ((7, None), (9, 0), (11, 2), (11, -1), (12, 3), (11, -3))),
    Old("Softmax", 11, {"axis": 1}, (floats(2, 7, 1, 1),)),
    Old("Softmax", 11, {"axis": 0}, (floats(7),)),
    Old("BatchNormalization", 7, {"epsilon": 0.1}, BATCH),
    Old("BatchNormalization", 9, {}, BATCH),
    Old("BatchNormalization", 7, {"spatial": 0}, (X, *(np.abs(floats(*PIXELS, seed=i)) for i in range(4)))),
    Old("RoiAlign", 10, {"output_height": 2, "output_width": 2},
        (floats(1, 2, 6, 6), np.array([[0.5, 1, 4, 5]], F), np.array([0]))),
    Old("Scatter", 9, {"axis": 1}, (floats(2, 5), np.array([[1, 3], [0, 4]]), floats(2, 2, seed=1))),
    *(Old("Upsample", 7, {"mode": mode, "scales": [1.0, 1.0, 2.0, 1.5]}) for mode in ("nearest", "linear")),
    Old("Upsample", 9, {"mode": "nearest"}, constants=(np.array([1, 2, 1.3, 1], F),)),
    *(Old("Resize", 10, {"mode": mode}, constants=(np.array([1, 1, 2.5, 1.6], F),)) for mode in ("nearest", "linear")),
    *(Old("Resize", 10, {"mode": "nearest"}, constants=(np.array(scales, F),))
      for scales in ([1, 1, 0.4, 0.6], [1, 2, 0.4, 0.6], [1, 1, 1, 1])),
    Old("Resize", 11, {"mode": "cubic"}, constants=(np.zeros(0, F), np.array([1, 1, 2.5, 1.6], F))),
    Old("Resize", 11, {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        constants=(np.zeros(0, F), np.zeros(0, F), np.array([2, 3, 7, 9]))),
    Old("Resize", 11, {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
        constants=(np.array([0, 0, 0.2, 0.1, 1, 1, 0.9, 1.4], F), np.array([1, 1, 2, 3], F))),
    Old("AveragePool", 7, {"kernel_shape": [2, 2]}),
    Old("Gemm", 7, {"transB": 1}, (floats(2, 3), floats(4, 3)), (floats(1, 4),)),
    # what onnxruntime no longer reads
    Old("Add", 6, {"broadcast": 1, "axis": 1}, (X, floats(3, seed=1)), expected=X + floats(3, seed=1)[:, None, None]),
    Old("Mul", 6, {"broadcast": 1}, (X, floats(5, seed=1)), expected=X * floats(5, seed=1)),
    Old("Sub", 6, {"broadcast": 1, "axis": -2}, (X, floats(4, seed=1)), expected=X - floats(4, seed=1)[:, None]),
    Old("Add", 6, {}, (X, X), expected=X + X),
    Old("Reshape", 4, {"shape": [6, -1]}, expected=X.reshape(6, 20)),
    Old("Concat", 3, {}, (X, X), expected=np.concatenate([X, X], 1)),
    Old("Cast", 5, {"to": "INT32"}, expected=X.astype(np.int32)),
    Old("Dropout", 6, {"is_test": 1}, expected=X),
    Old("BatchNormalization", 6, {"is_test": 1, "epsilon": 0.5}, BATCH, expected=(
        (X - BATCH[3][:, None, None]) / np.sqrt(BATCH[4][:, None, None] + 0.5) * BATCH[1][:, None, None]
        + BATCH[2][:, None, None])),
    Old("Relu", 5, {"consumed_inputs": [0]}, expected=np.maximum(X, 0)),
    Old("Tile", 5, {}, (X,), (np.array([2.0], F), np.array([1.0], F)), expected=np.tile(X, (1, 2, 1, 1))),
    Old("Pad", 1, {"paddings": [0, 0, 1, 0, 0, 0, 0, 1]}, expected=np.pad(X, ((0, 0), (0, 0), (1, 0), (0, 1)))),
    Old("Upsample", 6, {"height_scale": 2.0, "width_scale": 1.0, "mode": "nearest"}, expected=X.repeat(2, 2)),
    Old("Clip", 6, {"min": 0.0, "max": 1.0}, expected=X.clip(0, 1)),
]  # fmt: skip


@pytest.mark.parametrize("old", OLD, ids=lambda old: f"{old.op}-{old.opset}")
def test_the_raised_node_says_the_same(old: Old) -> None:
    given = old.model()
    expected = [old.expected] if old.expected is not None else run(given, old.feeds())
    found = run(raised(given), old.feeds())
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_every_old_form_is_raised() -> None:
    """An operator that lost an attribute, an input form or its name since opset 7 has a raise."""
    tested = {old.op for old in OLD}
    alike = {"And", "Div", "Equal", "Greater", "Less", "Or", "Pow", "Xor", "Selu", "RNN", "GRU", "LSTM", "Scan"}
    assert set(_RAISES) - tested <= alike
    newest = {schema.name: schema for schema in onnx.defs.get_all_schemas() if not schema.domain}
    for old in onnx.defs.get_all_schemas_with_history():
        if old.domain or old.since_version >= OPSET or old.name not in newest:
            continue
        now = onnx.defs.get_schema(old.name, OPSET, "")
        lost = set(old.attributes) - set(now.attributes) - {"consumed_inputs"}
        assert not lost or now.deprecated or old.name in _RAISES, (old.name, lost)
        assert not now.deprecated or old.name in _RAISES, old.name


def test_the_body_of_a_branch_is_raised() -> None:
    bodies = {}
    for name, axis in (("then_branch", 0), ("else_branch", 1)):
        out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
        nodes = [helper.make_node("Unsqueeze", ["x"], [f"{name}_u"], axes=[axis]),
                 helper.make_node("Softmax", [f"{name}_u"], [name])]  # fmt: skip
        bodies[name] = helper.make_graph(nodes, name, [], out)
    nodes = [helper.make_node("If", ["c"], ["y"], "branch", **bodies)]
    ports = [helper.make_tensor_value_info("c", TensorProto.BOOL, ()), port("x", [2, 3])]
    given = model(nodes, ports, ["y"], opset=11)
    graph = Graph(
        [copy.deepcopy(n) for n in given.graph.node], {}, list(given.graph.input), list(given.graph.output), 11, "test"
    )
    lift(graph)
    made = helper.make_model(helper.make_graph(graph.nodes, "g", graph.inputs, graph.outputs),
                             opset_imports=[helper.make_opsetid("", 18)], ir_version=8)  # fmt: skip
    for condition in (True, False):
        feeds = {"c": np.array(condition), "x": floats(2, 3)}
        np.testing.assert_allclose(run(made, feeds)[0], run(given, feeds)[0], rtol=1e-6)


def test_the_scan_of_opset_8_runs_over_a_batch() -> None:
    nodes = [helper.make_node("Add", ["s", "e"], ["s2"]), helper.make_node("Identity", ["s2"], ["o"])]
    ports = [port("s", [3]), port("e", [3])]
    body = helper.make_graph(nodes, "body", ports, [port("s2", [3]), port("o", [3])])
    nodes = [helper.make_node("Scan", ["", "i", "x"], ["f", "y"], body=body, num_scan_inputs=1, directions=[1])]
    graph = helper.make_graph(
        nodes, "g", [port("i", [2, 3]), port("x", [2, 4, 3])], [port("f", [2, 3]), port("y", [2, 4, 3])]
    )
    given = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=7)
    feeds = {"i": floats(2, 3), "x": floats(2, 4, 3, seed=1)}
    expected = run(given, feeds)
    found = Graph(
        [copy.deepcopy(n) for n in given.graph.node], {}, list(given.graph.input), list(given.graph.output), 8, "test"
    )
    lift(found)
    tensors = [numpy_helper.from_array(a, n) for n, a in found.constants.items()]
    made = helper.make_model(helper.make_graph(found.nodes, "g", found.inputs, found.outputs, tensors),
                             opset_imports=[helper.make_opsetid("", 18)], ir_version=8)  # fmt: skip
    for one, other in zip(run(made, feeds), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_broadcast_that_cannot_be_aligned_is_refused() -> None:
    nodes = [node("Reshape", ["x", "s"], "r"), node("Add", ["x", "r"], "y", broadcast=1, axis=0)]
    given = model(nodes, [port("x", [2, 3]), port("s", [1], "int64")], ["y"], opset=6)
    with pytest.raises(UnsupportedError, match=r"node 'y' \(Add\).*axes are not known"):
        import_onnx(given)
