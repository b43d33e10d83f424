"""The models that mutants are made of: ONNX's own node tests, those of ONNX Runtime's operators, small networks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.microsoft import microsoft_operators

LARGEST = 20_000  # bytes; larger node tests are slow and say no more


@cache
def seeds() -> tuple[onnx.ModelProto, ...]:
    """All seeds, always in the same order."""
    return (*networks(), *microsoft_operators(), *node_tests())


def node_tests() -> Iterator[onnx.ModelProto]:
    """The node tests of the package onnx, with what is not a real number made a constant of the file: as sizes are."""
    from tests.propagate.onnx_nodes import cases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the numbers that onnx makes its tests of
        found = cases()
    for case in found.values():
        if not case.data_sets or case.model.ByteSize() > LARGEST:
            continue
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        for value, array in zip(list(model.graph.input), case.data_sets[0][0], strict=False):
            tensor = array if isinstance(array, TensorProto) else _tensor(array)
            if tensor is not None and tensor.data_type != TensorProto.FLOAT and tensor.ByteSize() < LARGEST:
                model.graph.input.remove(value)
                tensor.name = value.name
                model.graph.initializer.append(tensor)
        yield model


def _tensor(array: Any) -> Any:
    plain = isinstance(array, np.ndarray | np.generic | int | float)
    return numpy_helper.from_array(np.asarray(array)) if plain and np.asarray(array).dtype.kind in "biuf" else None


def _model(
    nodes: Sequence[Any], inputs: dict[str, tuple[int, ...]], output: str, arrays: dict[str, Any], opset: int = 18
) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    results = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(list(nodes), "seed", ports, results, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def _floats(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def networks() -> list[onnx.ModelProto]:
    """Networks of several operators: convolutions, cells, attention, codes, branches, loops, functions, sparse ones."""
    return [_convolutional(), _products(), _codes(), _cells(), _attention(), _branches(), _loops(), _sparse(),
            _function(), _sequences(), _older(), _microsoft()]  # fmt: skip


def _convolutional() -> onnx.ModelProto:
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w", "b"], ["c"], "conv1", pads=[1, 1, 1, 1]),
        make("BatchNormalization", ["c", "s", "s", "b", "v"], ["n"], "norm"), make("Relu", ["n"], ["r"]),
        make("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Conv", ["p", "w2"], ["d"], "conv2", group=2, strides=[2, 2], dilations=[1, 1], auto_pad="SAME_UPPER"),
        make("Resize", ["d", "", "scales"], ["u"], mode="nearest"), make("Concat", ["u", "p"], ["j"], axis=1),
        make("ConvTranspose", ["j", "w3"], ["t"], "up", strides=[2, 2]), make("GlobalAveragePool", ["t"], ["g"]),
        make("Flatten", ["g"], ["f"]), make("Gemm", ["f", "w4", "b4"], ["y"], "head", transB=1),
    ]  # fmt: skip
    arrays = {
        "w": _floats(4, 3, 3, 3), "b": _floats(4), "s": _floats(4), "v": abs(_floats(4)), "w2": _floats(4, 2, 3, 3),
        "scales": np.array([1, 1, 2, 2], np.float32), "w3": _floats(8, 2, 2, 2), "w4": _floats(5, 2), "b4": _floats(5),
    }  # fmt: skip
    return _model(nodes, {"x": (1, 3, 8, 8)}, "y", arrays)


def _products() -> onnx.ModelProto:
    make = helper.make_node
    nodes = [
        make("MatMul", ["x", "w"], ["a"], "first"), make("Add", ["a", "b"], ["s"]), make("Gelu", ["s"], ["g"]),
        make("LayerNormalization", ["g", "b", "b"], ["n"]), make("Einsum", ["n", "w2"], ["e"], equation="ij,jk->ik"),
        make("Reshape", ["e", "shape"], ["r"]), make("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        make("Slice", ["t", "from", "to", "axes"], ["l"]), make("Pad", ["l", "pads"], ["p"]),
        make("ReduceMean", ["p", "axes"], ["m"], keepdims=1), make("Softmax", ["m"], ["q"], axis=-1),
        make("Tile", ["q", "times"], ["i"]), make("Expand", ["i", "wide"], ["y"]),
    ]  # fmt: skip
    arrays = {
        "w": _floats(6, 8), "b": _floats(8), "w2": _floats(8, 4), "shape": np.array([2, 2, -1]), "from": np.array([0]),
        "to": np.array([1]), "axes": np.array([1]), "pads": np.array([0, 1, 0, 0, 1, 0]), "times": np.array([1, 2, 1]),
        "wide": np.array([2, 2, 2]),
    }  # fmt: skip
    return _model(nodes, {"x": (2, 6)}, "y", arrays, 20)


def _codes() -> onnx.ModelProto:
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["q"]), make("DequantizeLinear", ["q", "s", "z"], ["d"]),
        make("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=1), make("MatMul", ["d", "wd"], ["m"], "layer"),
        make("DynamicQuantizeLinear", ["m"], ["u", "us", "uz"]), make("MatMulInteger", ["u", "w2", "uz"], ["i"]),
        make("Cast", ["i"], ["f"], to=TensorProto.FLOAT), make("Mul", ["f", "us"], ["y"]),
    ]  # fmt: skip
    arrays = {
        "s": np.float32(0.1), "z": np.uint8(128), "w": np.ones((6, 8), np.int8), "sw": abs(_floats(8)),
        "zw": np.zeros(8, np.int8), "w2": np.ones((8, 4), np.uint8),
    }  # fmt: skip
    return _model(nodes, {"x": (2, 6)}, "y", arrays)


def _cells() -> onnx.ModelProto:
    make = helper.make_node
    nodes = [
        make("LSTM", ["x", "w", "r", "b"], ["h", "", ""], "cell", hidden_size=3, direction="bidirectional"),
        make("Squeeze", ["h", "axis"], ["q"]), make("GRU", ["flat", "w2", "r2"], ["", "g"], hidden_size=2),
        make("Reshape", ["h", "shape"], ["flat"]), make("ReduceSum", ["g"], ["y"]),
    ]  # fmt: skip
    arrays = {
        "w": _floats(2, 12, 4), "r": _floats(2, 12, 3), "b": _floats(2, 24), "axis": np.array([1]),
        "shape": np.array([3, 1, 6]), "w2": _floats(1, 6, 6), "r2": _floats(1, 6, 2),
    }  # fmt: skip
    return _model([nodes[0], *nodes[3:0:-1], nodes[4]], {"x": (3, 1, 4)}, "y", arrays)


def _attention() -> onnx.ModelProto:
    make = helper.make_node
    nodes = [
        make("Gather", ["table", "ids"], ["e"], axis=0), make("MatMul", ["e", "wq"], ["q"], "query"),
        make("MatMul", ["e", "wk"], ["k"], "key"), make("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        make("MatMul", ["q", "kt"], ["s"]), make("Softmax", ["s"], ["p"], axis=-1), make("MatMul", ["p", "e"], ["c"]),
        make("Split", ["c"], ["l", "r"], axis=2, num_outputs=2), make("Where", ["mask", "l", "r"], ["o"]),
        make("Shape", ["x"], ["sx"]), make("Gather", ["sx", "zero"], ["n"]), make("Unsqueeze", ["n", "axis"], ["nu"]),
        make("Concat", ["nu", "rest"], ["target"], axis=0), make("Reshape", ["o", "target"], ["f"]),
        make("Add", ["f", "x"], ["y"]),
    ]  # fmt: skip
    arrays = {
        "table": _floats(7, 4), "ids": np.array([[1, 2, 3]]), "wq": _floats(4, 4), "wk": _floats(4, 4),
        "mask": np.array([True, False]), "zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1]),
    }  # fmt: skip
    return _model(nodes, {"x": (1, 6)}, "y", arrays)


def _value(name: str, shape: Sequence[int] | None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _branches() -> onnx.ModelProto:
    make = helper.make_node
    ways = [
        helper.make_graph([make("Mul", ["x", name], [f"{name}o"])], name, [], [_value(f"{name}o", [2, 3])],
                          [numpy_helper.from_array(_floats(3), name)])
        for name in ("then", "else")
    ]  # fmt: skip
    nodes = [make("If", ["on"], ["i"], then_branch=ways[0], else_branch=ways[1]), make("Relu", ["i"], ["y"])]
    return _model(nodes, {"x": (2, 3)}, "y", {"on": np.array(True)})


def _loops() -> onnx.ModelProto:
    make = helper.make_node
    body = helper.make_graph(
        [make("MatMul", ["h", "w"], ["m"], "inner"), make("Tanh", ["m"], ["t"]), make("Identity", ["go"], ["on"]),
         make("Identity", ["t"], ["seen"])],
        "body", [_value("step", [], TensorProto.INT64), _value("go", [], TensorProto.BOOL), _value("h", [2, 3])],
        [_value("on", [], TensorProto.BOOL), _value("t", [2, 3]), _value("seen", [2, 3])],
    )  # fmt: skip
    scan = helper.make_graph(
        [make("Add", ["state", "row"], ["next"]), make("Identity", ["next"], ["each"])], "scanned",
        [_value("state", [3]), _value("row", [3])], [_value("next", [3]), _value("each", [3])],
    )  # fmt: skip
    nodes = [
        make("Loop", ["times", "yes", "x"], ["last", "all"], body=body),
        make("Scan", ["start", "last"], ["sum", "rows"], body=scan, num_scan_inputs=1),
        make("Add", ["sum", "rows"], ["y"]),
    ]  # fmt: skip
    arrays = {"times": np.array(4), "yes": np.array(True), "w": _floats(3, 3), "start": np.zeros(3, np.float32)}
    return _model(nodes, {"x": (2, 3)}, "y", arrays)


def _sparse() -> onnx.ModelProto:
    make = helper.make_node
    values, places = (numpy_helper.from_array(np.array(a), n) for a, n in (([1, 2], "w"), ([[0, 1], [3, 2]], "i")))
    values.CopyFrom(numpy_helper.from_array(np.array([1, 2], np.float32), "w"))
    inner = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([5], np.float32), "v"), numpy_helper.from_array(np.array([2]), "p"), [4]
    )
    nodes = [make("MatMul", ["x", "w"], ["m"], "layer"), make("Constant", [], ["c"], sparse_value=inner),
             make("Add", ["m", "c"], ["y"])]  # fmt: skip
    model = _model(nodes, {"x": (2, 4)}, "y", {})
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4, 4]))
    return model


def _function() -> onnx.ModelProto:
    make = helper.make_node
    inner = [make("Mul", ["a", "a"], ["s"]), make("Elu", ["s"], ["b"])]
    inner[1].attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    own, plain = helper.make_opsetid("own", 1), helper.make_opsetid("", 18)
    square = helper.make_function("own", "Square", ["a"], ["b"], inner, [plain], ["slope"])
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"],
        [make("Square", ["a"], ["m"], domain="own", slope=1.0), make("Square", ["m"], ["b"], domain="own", slope=2.0)],
        [plain, own],
    )  # fmt: skip
    model = _model([make("Twice", ["x"], ["t"], domain="own"), make("MatMul", ["t", "w"], ["y"])], {"x": (2, 4)}, "y",
                   {"w": _floats(4, 3)})  # fmt: skip
    model.opset_import.append(own)
    model.functions.extend([square, twice])
    return model


def _sequences() -> onnx.ModelProto:
    make = helper.make_node
    nodes = [
        make("SplitToSequence", ["x", "sizes"], ["q"], axis=1), make("SequenceInsert", ["q", "x"], ["r"]),
        make("SequenceErase", ["r", "first"], ["e"]), make("SequenceAt", ["e", "first"], ["a"]),
        make("SequenceLength", ["e"], ["n"]), make("ConcatFromSequence", ["e"], ["c"], axis=1),
        make("Cast", ["n"], ["f"], to=TensorProto.FLOAT), make("Concat", ["a", "c"], ["j"], axis=1),
        make("Mul", ["j", "f"], ["y"]),
    ]  # fmt: skip
    return _model(nodes, {"x": (2, 4)}, "y", {"sizes": np.array([1, 3]), "first": np.array(0)})


def _older() -> onnx.ModelProto:
    make = helper.make_node
    nodes = [
        make("Slice", ["x"], ["a"], starts=[0], ends=[2], axes=[1]), make("Clip", ["a"], ["b"], min=0.0, max=1.0),
        make("Upsample", ["b", "scales"], ["c"], mode="nearest"), make("Softmax", ["c"], ["d"], axis=1),
        make("Squeeze", ["d"], ["e"], axes=[0]), make("Pad", ["e"], ["f"], pads=[0, 0, 1, 1, 0, 0]),
        make("TopK", ["f"], ["g", "i"], axis=-1, k=3), make("ReduceSum", ["g"], ["h"], axes=[0], keepdims=0),
        make("Split", ["h"], ["l", "r"], axis=0, split=[1, 2]), make("Dropout", ["r"], ["y"], ratio=0.5),
    ]  # fmt: skip
    return _model(nodes, {"x": (1, 3, 3, 3)}, "y", {"scales": np.array([1, 1, 2, 2], np.float32)}, 9)


def _microsoft() -> onnx.ModelProto:
    make = helper.make_node
    own = {"domain": "com.microsoft"}
    nodes = [
        make("FusedMatMul", ["x", "w"], ["a"], "fused", alpha=0.5, transB=0, **own),
        make("BiasGelu", ["a", "b"], ["g"], **own),
        make("SkipLayerNormalization", ["g", "a", "b", "b"], ["s"], epsilon=1e-5, **own),
        make("MatMulNBits", ["s", "codes", "scales"], ["n"], "packed", K=16, N=4, bits=4, block_size=16, **own),
        make("QuickGelu", ["n"], ["y"], **own),
    ]
    arrays = {"w": _floats(6, 16), "b": _floats(16), "codes": np.ones((4, 1, 8), np.uint8), "scales": _floats(4)}
    model = _model(nodes, {"x": (1, 2, 6)}, "y", arrays)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model
