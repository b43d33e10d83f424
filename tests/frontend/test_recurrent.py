"""LSTM, GRU and RNN against onnxruntime, written out and as loops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tesa.errors import UnsupportedError
from tesa.frontend import import_onnx
from tesa.frontend.control.repeat import UNROLLED
from tests.support import QUICK, rest_slow

from .onnx_models import floats
from .test_import import compare

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
SHORT, LONG = 3, 27
INPUTS, HIDDEN, BATCH = 3, 4, 2


@dataclass(frozen=True)
class Cell:
    """One recurrent node. given: of its optional inputs, those that it has; fed: those that are inputs of the model."""

    op: str
    steps: int = SHORT
    direction: str = "forward"
    given: tuple[str, ...] = ("B",)
    fed: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[int, ...] = (0, 1, 2)

    def parts(self, name: str) -> tuple[Any, dict[str, Any], dict[str, Any], list[str]]:
        """(node, constants, fed arrays, outputs)."""
        d, gates = 2 if self.direction == "bidirectional" else 1, GATES[self.op]
        seed = sum(map(ord, name))
        lengths = np.asarray([self.steps, max(self.steps // 2, 1)], np.int32)
        arrays = {
            "W": floats(d, gates * HIDDEN, INPUTS, seed=seed) * 0.5,
            "R": floats(d, gates * HIDDEN, HIDDEN, seed=seed + 1) * 0.5,
            "B": floats(d, 2 * gates * HIDDEN, seed=seed + 2) * 0.3,
            "lengths": lengths,
            "h": floats(d, BATCH, HIDDEN, seed=seed + 3),
            "c": floats(d, BATCH, HIDDEN, seed=seed + 4),
            "P": floats(d, 3 * HIDDEN, seed=seed + 5),
        }
        order = ["W", "R", "B", "lengths", "h", "c", "P"][: 7 if self.op == "LSTM" else 5]
        has = {"W", "R", *self.given}
        x = {f"{name}.x": floats(self.steps, BATCH, INPUTS, seed=seed + 6)}
        inputs = [f"{name}.x", *(f"{name}.{key}" if key in has else "" for key in order)]
        made = [f"{name}.y{i}" if i in self.outputs else "" for i in range(3 if self.op == "LSTM" else 2)]
        node = helper.make_node(
            self.op, inputs, made, name, hidden_size=HIDDEN, direction=self.direction, **self.attrs
        )  # fmt: skip
        constants = {f"{name}.{key}": arrays[key] for key in order if key in has and key not in self.fed}
        feeds = x | {f"{name}.{key}": arrays[key] for key in self.fed}
        return node, constants, feeds, [name for name in made if name]


def model_of(cells: Mapping[str, Cell], opset: int = 18) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """(one model with all cells side by side, its inputs)."""
    nodes, constants, feeds, outputs = [], {}, {}, []
    for name, cell in cells.items():
        node, own, fed, made = cell.parts(name)
        nodes.append(node)
        constants |= own
        feeds |= fed
        outputs += made
    ports = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()
    ]
    tensors = [numpy_helper.from_array(a, n) for n, a in constants.items()]
    outs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs]
    graph = helper.make_graph(nodes, "test", ports, outs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), feeds


ALL = ("B", "lengths", "h", "c", "P")
GROUPS: dict[str, dict[str, Cell]] = {
    "directions": {
        f"{op}_{direction}_{steps}": Cell(op, steps, direction)
        for op in GATES
        for direction in ("forward", "reverse", "bidirectional")
        for steps in (SHORT, LONG)
    },
    "one step, and without a bias": {
        f"{op}_{direction}": Cell(op, 1, direction, given=()) for op in GATES for direction in ("forward", "reverse")
    },
    "states and lengths": {
        f"{op}_{direction}_{steps}": Cell(op, steps, direction, given=ALL[: 5 if op == "LSTM" else 3])
        for op in GATES
        for direction in ("reverse", "bidirectional")
        for steps in (SHORT, LONG)
    },
    "states and lengths that are inputs": {
        f"{op}_{steps}": Cell(
            op, steps, "bidirectional", ALL[: 5 if op == "LSTM" else 3], ("lengths", "h", "c")[: GATES[op] // 2 + 1]
        )
        for op in GATES
        for steps in (SHORT, LONG)
    },
    "weights that are inputs": {f"{op}_fed": Cell(op, fed=("W", "R", "B")) for op in GATES},
    "peepholes, clip and forgetting": {
        "peepholes": Cell("LSTM", given=("B", "P")),
        "clip": Cell("LSTM", given=("B", "P"), attrs={"clip": 0.4}),
        "clip_gru": Cell("GRU", attrs={"clip": 0.3}),
        "clip_rnn": Cell("RNN", attrs={"clip": 0.3}),
        "forget": Cell("LSTM", attrs={"input_forget": 1}),
        "reset": Cell("GRU", LONG, "bidirectional", attrs={"linear_before_reset": 1}),
        "reset_bare": Cell("GRU", given=("h",), attrs={"linear_before_reset": 1}),
        "last_only": Cell("LSTM", outputs=(1,)),
        "cell_only": Cell("LSTM", LONG, outputs=(2,)),
        "all_only": Cell("GRU", LONG, outputs=(0,)),
    },
    "activations": {
        "two": Cell("RNN", direction="bidirectional", attrs={"activations": ["Relu", "Sigmoid"]}),
        "three": Cell("LSTM", attrs={"activations": ["HardSigmoid", "Softsign", "Relu"],
                                     "activation_alpha": [0.3], "activation_beta": [0.4]}),
        "affine": Cell("RNN", attrs={"activations": ["Affine"], "activation_alpha": [0.3], "activation_beta": [0.1]}),
        "leaky": Cell("RNN", attrs={"activations": ["LeakyRelu"], "activation_alpha": [0.2]}),
        "thresholded": Cell("RNN", attrs={"activations": ["ThresholdedRelu"], "activation_alpha": [0.2]}),
        "scaled": Cell("RNN", attrs={"activations": ["ScaledTanh"], "activation_alpha": [0.6],
                                     "activation_beta": [0.7]}),
        "hard": Cell("GRU", attrs={"activations": ["HardSigmoid", "Tanh"]}),
        "elu": Cell("RNN", attrs={"activations": ["Elu"], "activation_alpha": [0.6]}),
        "softplus": Cell("RNN", attrs={"activations": ["Softplus"]}),
        "mixed": Cell("GRU", direction="bidirectional", attrs={
            "activations": ["HardSigmoid", "ScaledTanh", "Sigmoid", "LeakyRelu"],
            "activation_alpha": [0.25, 0.8, 0.1], "activation_beta": [0.45, 0.9]}),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "group", [pytest.param(name, marks=pytest.mark.slow if len(cells) > 3 else ()) for name, cells in GROUPS.items()]
)
def test_against_onnxruntime(group: str) -> None:
    compare(*model_of(GROUPS[group]))


def test_a_long_loop_is_a_few_functions_and_names_each_weight_once() -> None:
    given, feeds = model_of({"cell": Cell("LSTM", 200, "bidirectional")})
    imported = compare(given, feeds)
    functions = [var.name_hint for var, _ in imported.mod.functions_items()]
    assert len(functions) < 12
    layers = [name for name in imported.names.values() if name.startswith("cell.")]
    for name in ("cell.W", "cell.R", "cell.W_reverse", "cell.R_reverse"):
        assert name in layers
    assert sum(1 for var in imported.names if var.startswith("cell_R")) == 2  # the product of each direction


def test_a_short_loop_is_written_out() -> None:
    imported = import_onnx(model_of({"cell": Cell("RNN", 2)})[0])
    assert [var.name_hint for var, _ in imported.mod.functions_items()] == ["main"]
    assert UNROLLED > 2


def test_batch_first_is_the_other_layout_turned() -> None:
    """onnxruntime does not run layout 1; it is layout 0 with transposes around it."""
    cells = {"cell": Cell("LSTM", 5, "bidirectional", given=("B", "h", "c"))}
    plain, feeds = model_of(cells)
    turned = onnx.ModelProto()
    turned.CopyFrom(plain)
    node, graph = turned.graph.node[0], turned.graph
    node.attribute.append(helper.make_attribute("layout", 1))
    for tensor in graph.initializer:
        if tensor.name in ("cell.h", "cell.c"):
            tensor.CopyFrom(numpy_helper.from_array(np.swapaxes(numpy_helper.to_array(tensor), 0, 1), tensor.name))
    dims = graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value, dims[1].dim_value = dims[1].dim_value, dims[0].dim_value
    x = feeds["cell.x"]
    ours = run(turned, {"cell.x": np.ascontiguousarray(np.swapaxes(x, 0, 1))})
    y, h, c = run(plain, feeds)
    np.testing.assert_allclose(ours[0], y.transpose(2, 0, 1, 3), rtol=1e-6)
    np.testing.assert_allclose(ours[1], h.swapaxes(0, 1), rtol=1e-6)
    np.testing.assert_allclose(ours[2], c.swapaxes(0, 1), rtol=1e-6)


def run(given: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    """The outputs, by TVM's own pipeline."""
    import tvm
    from tvm import relax

    imported = import_onnx(given)
    mod = relax.get_pipeline("zero")(imported.mod)
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target(QUICK)), tvm.cpu())
    return [t.numpy() for t in machine["main"](*[tvm.runtime.tensor(feeds[p.name]) for p in imported.inputs])]


def test_an_unknown_activation_is_refused_by_name() -> None:
    given, _ = model_of({"cell": Cell("RNN", attrs={"activations": ["Cosine"]})})
    with pytest.raises(UnsupportedError, match="node 'cell' \\(RNN\\): its activations are \\['cosine'\\]"):
        import_onnx(given)


@pytest.mark.parametrize("per_channel", rest_slow([False, True]))
def test_dynamically_quantized(per_channel: bool) -> None:
    """DynamicQuantizeLSTM: weights of 8 bits with a zero point, inputs and states quantized to their own range.

    The batch is 1: of more, onnxruntime quantizes the states of each sequence by themselves if it has several threads.
    """
    rng, steps, d = np.random.default_rng(0), 4, 2
    w, r = (
        rng.integers(0 if not per_channel else -127, 255 if not per_channel else 127, (d, k, 4 * HIDDEN)).astype(
            np.int8 if per_channel else np.uint8
        )
        for k in (INPUTS, HIDDEN)
    )
    scales = (d, 4 * HIDDEN) if per_channel else (d,)
    arrays = {
        "W": w, "R": r, "B": floats(d, 8 * HIDDEN), "h": floats(d, 1, HIDDEN), "c": floats(d, 1, HIDDEN),
        "ws": (0.005 + 0.01 * rng.random(scales)).astype(np.float32),
        "wz": np.zeros(scales, np.int8) if per_channel else np.full(scales, 120, np.uint8),
        "rs": (0.005 + 0.01 * rng.random(scales)).astype(np.float32),
        "rz": np.zeros(scales, np.int8) if per_channel else np.full(scales, 130, np.uint8),
    }  # fmt: skip
    first = ["h", "c"] if per_channel else ["", ""]  # the range of a state of zeros is nothing
    inputs = ["x", "W", "R", "B", "", *first, "", "ws", "wz", "rs", "rz"]
    node = helper.make_node(
        "DynamicQuantizeLSTM", inputs, ["y", "yh", "yc"], "cell", domain="com.microsoft", hidden_size=HIDDEN,
        direction="bidirectional",
    )  # fmt: skip
    port = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [steps, 1, INPUTS])
    outs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("y", "yh", "yc")]
    tensors = [numpy_helper.from_array(a, n) for n, a in arrays.items()]
    graph = helper.make_graph([node], "test", [port], outs, tensors)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    given = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    compare(given, {"x": floats(steps, 1, INPUTS)})
