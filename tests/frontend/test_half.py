"""Models of float16 and bfloat16: sums in float32, and the file's own types at inputs, outputs and casts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tesa.analyze.inspection import inspect_model
from tesa.compact import check_smaller, compact
from tesa.frontend import import_onnx
from tesa.layers.network import to_network
from tesa.propagate import propagate
from tests.frontend.onnx_models import floats, node
from tests.runtime.models import build

F16, BF16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)


def _model(
    nodes: list[Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any], constants: Mapping[str, Any]
) -> Any:
    """A model whose inputs are like these arrays; outputs: dtypes."""
    kind = helper.np_dtype_to_tensor_dtype
    ins = [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in inputs.items()]
    outs = [helper.make_tensor_value_info(n, kind(np.dtype(d)), None) for n, d in outputs.items()]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "test", ins, outs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _run(tmp_path: Path, proto: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
    return build(tmp_path, proto)(dict(feeds))


def _onnxruntime(proto: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(feeds)), strict=True))


def _positive(*shape: int, dtype: Any = F16) -> Any:
    return np.abs(floats(*shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=["float16", "bfloat16"])
def test_long_sums_are_rounded_once(tmp_path: Path, dtype: Any) -> None:
    """A matrix product over 4096 terms, a convolution over 576, a mean over 4096 and a sum of squares."""
    nodes = [
        node("MatMul", ["x", "w"], "product", name="fc"),
        node("Conv", ["image", "k"], "convolved", name="conv", pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["image"], "mean"),
        node("ReduceSumSquare", ["x"], "squares", keepdims=0),
        node("Softmax", ["x"], "softmax"),
    ]
    feeds = {"x": _positive(4, 4096, dtype=dtype), "image": _positive(1, 64, 64, 64, dtype=dtype)}
    constants = {"w": _positive(4096, 16, dtype=dtype), "k": _positive(8, 64, 3, 3, dtype=dtype)}
    outputs = dict.fromkeys(["product", "convolved", "mean", "squares", "softmax"], dtype)
    got = _run(tmp_path, _model(nodes, feeds, outputs, constants), feeds)
    wide = {name: array.astype(np.float32) for name, array in (feeds | constants).items()}
    exact = _onnxruntime(
        _model(nodes, {n: wide[n] for n in feeds}, dict.fromkeys(outputs, np.float32), {n: wide[n] for n in constants}),
        {n: wide[n] for n in feeds},
    )
    step = float(ml_dtypes.finfo(dtype).eps)
    for name, expected in exact.items():
        assert got[name].dtype == dtype, name
        real = got[name].astype(np.float64)
        finite = np.abs(expected) < float(ml_dtypes.finfo(dtype).max)
        assert finite.any()
        np.testing.assert_allclose(real[finite], expected[finite], rtol=0.51 * step, atol=1e-7, err_msg=name)
        assert np.isinf(real[~finite]).all()


def test_casts_of_the_file_round(tmp_path: Path) -> None:
    """What the file casts to 16 bits, or from 16 bits to integers, is what it is in the file."""
    nodes = [
        node("Cast", ["x"], "low", to=TensorProto.FLOAT16),
        node("Cast", ["low"], "rounded", to=TensorProto.FLOAT),
        node("Cast", ["n"], "n16", to=TensorProto.FLOAT16),
        node("Cast", ["n16"], "n32", to=TensorProto.FLOAT),
        node("Div", ["h", "three"], "third"),
        node("Mul", ["third", "three"], "again"),
        node("Floor", ["again"], "floor"),
        node("Cast", ["again"], "whole", to=TensorProto.INT64),
        node("Cast", ["again"], "true", to=TensorProto.BOOL),
        node("Cast", ["h"], "double", to=TensorProto.DOUBLE),
        node("CastLike", ["x", "three"], "like"),
        node("Cast", ["x"], "brain", to=TensorProto.BFLOAT16),
        node("Cast", ["brain"], "brain32", to=TensorProto.FLOAT),
    ]
    x = np.array([1.0001, 3.14159, -2049.0, 70000.0, 1e-8, 0.0, np.inf, np.nan], np.float32)
    feeds = {"x": x, "n": np.array([4097, 2049, -3, 70000], np.int32), "h": np.array([3.0, 2.9, 7.0, -5.0], np.float16)}
    outputs = {
        "rounded": np.float32, "n32": np.float32, "whole": np.int64, "true": np.bool_, "double": np.float64,
        "like": np.float16, "low": np.float16, "brain": BF16, "brain32": np.float32,
    }  # fmt: skip
    got = _run(tmp_path, _model(nodes, feeds, outputs, {"three": np.array(3.0, np.float16)}), feeds)
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
        expected = {
            "rounded": half.astype(np.float32), "low": half, "like": half,
            "n32": feeds["n"].astype(np.float16).astype(np.float32),
            "whole": np.array([3, 2, 7, -5]), "true": np.ones(4, bool), "double": feeds["h"].astype(np.float64),
            "brain": x.astype(BF16), "brain32": x.astype(BF16).astype(np.float32),
        }  # fmt: skip
    for name, array in expected.items():
        assert got[name].dtype == outputs[name], name
        np.testing.assert_array_equal(got[name].astype(np.float64), np.asarray(array).astype(np.float64), err_msg=name)


def test_a_file_of_both_types(tmp_path: Path) -> None:
    """float32 ports around 16-bit weights, as converters write; constants made by nodes; an input that is an output."""
    nodes = [
        node("Cast", ["x"], "x16", to=TensorProto.FLOAT16),
        node("Gemm", ["x16", "w", "b"], "a", name="fc1"),
        node("ConstantOfShape", ["shape"], "half", value=numpy_helper.from_array(np.array([0.5], np.float16))),
        node("Add", ["a", "half"], "shifted"),
        node("LayerNormalization", ["shifted", "scale"], "normal", stash_type=1),
        node("Clip", ["normal", "", "high"], "clipped"),
        node("MatMul", ["clipped", "w2"], "y16", name="fc2"),
        node("Cast", ["y16"], "y", to=TensorProto.FLOAT),
        node("Shape", ["y16"], "size"),
        node("Cast", ["size"], "size16", to=TensorProto.FLOAT16),
        node("Identity", ["h"], "same"),
    ]
    constants = {
        "w": floats(32, 24).astype(np.float16), "b": floats(24, seed=1).astype(np.float16),
        "shape": np.array([1, 24]), "scale": np.ones(24, np.float16), "high": np.array(1.5, np.float16),
        "w2": floats(24, 8, seed=2).astype(np.float16),
    }  # fmt: skip
    feeds = {"x": floats(4, 32, seed=3), "h": floats(3, seed=4).astype(np.float16)}
    outputs = {"y": np.float32, "y16": np.float16, "size16": np.float16, "same": np.float16, "h": np.float16}
    proto = _model(nodes, feeds, outputs, constants)
    got, expected = _run(tmp_path, proto, feeds), _onnxruntime(proto, feeds)
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_allclose(got[name], array, rtol=2e-3, atol=4e-3, err_msg=name)


def _network(dtype: Any = F16) -> tuple[Any, dict[str, Any]]:
    """A convolution of which half of the channels are zero, and a product."""
    kernel = floats(8, 4, 3, 3).astype(dtype)
    kernel[::2] = 0
    nodes = [
        node("Conv", ["x", "conv.weight"], "a", name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "r"),
        node("GlobalAveragePool", ["r"], "g"),
        node("Flatten", ["g"], "f"),
        node("MatMul", ["f", "fc.weight"], "y", name="fc"),
    ]
    constants = {"conv.weight": kernel, "fc.weight": floats(8, 256).astype(dtype)}
    feeds = {"x": floats(2, 4, 8, 8, seed=1).astype(dtype)}
    return _model(nodes, feeds, {"y": dtype}, constants), feeds


def test_layers_get_float32_kernels_and_count_as_16_bits() -> None:
    proto, _ = _network()
    network = to_network(proto)
    assert [layer.name for layer in network.layers] == ["conv", "fc"]
    assert network.skipped == ()
    rows = inspect_model(proto)
    assert rows.inputs[0].dtype == rows.outputs[0].dtype == "float16"
    assert [(rows.layer(name).bits, rows.layer(name).bytes) for name in ("conv", "fc")] == [(16, 576), (16, 4096)]


def test_the_smaller_model_keeps_16_bits() -> None:
    proto, feeds = _network()
    imported = import_onnx(proto)
    small = compact(propagate(imported)).proto
    stored = {tensor.name: (list(tensor.dims), tensor.data_type) for tensor in small.graph.initializer}
    assert stored["conv.weight"] == ([4, 4, 3, 3], TensorProto.FLOAT16)
    assert stored["fc.weight"] == ([4, 256], TensorProto.FLOAT16)
    assert small.ByteSize() < proto.ByteSize()
    onnx.checker.check_model(small, full_check=True)
    got, expected = _onnxruntime(small, feeds)["y"], _onnxruntime(proto, feeds)["y"]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-3)
    again = import_onnx(small)
    assert {"x.float32", "conv", "fc", "y.float16"} <= set(again.names.values())
    assert again.dropped == ()
    assert again.halves == {"conv.weight": "float16", "fc.weight": "float16"}


def test_the_last_layer_has_a_counterpart_in_the_file(tmp_path: Path) -> None:
    plan = build(tmp_path, _network()[0]).plan
    assert plan.layer("fc").tensor == "y"


def test_branches_and_bodies_are_widened(tmp_path: Path) -> None:
    """The nodes of an inner graph read what is around it, and have types of their own."""
    from tesa.frontend.half import widen_halves
    from tesa.frontend.load import load_graph

    proto, _ = _network()
    out = helper.make_tensor_value_info("branch", TensorProto.FLOAT16, [2, 4, 8, 8])
    ten = numpy_helper.from_array(np.array(10.0, np.float16), "ten")
    body = helper.make_graph([node("Mul", ["x", "ten"], "branch")], "body", [], [out], [ten])
    graph = load_graph(proto)
    graph.nodes[0] = helper.make_node("If", ["yes"], ["a"], then_branch=body, else_branch=body)
    widen_halves(graph)
    branch = graph.nodes[1].attribute[0].g
    assert graph.nodes[1].op_type == "If"
    assert branch.node[0].input[0] == "x#float32"
    assert branch.output[0].type.tensor_type.elem_type == branch.initializer[0].data_type == TensorProto.FLOAT


def test_nan_in_a_bfloat16_weight_is_refused() -> None:
    from tesa.errors import ModelError

    feeds = {"x": floats(2, 4).astype(BF16)}
    weight = np.full((4, 4), np.nan, BF16)
    with pytest.raises(ModelError, match=r"'w'.*NaN"):
        import_onnx(_model([node("MatMul", ["x", "w"], "y")], feeds, {"y": BF16}, {"w": weight}))


def test_the_smaller_model_of_bfloat16_is_checked() -> None:
    proto, _ = _network(BF16)
    imported = import_onnx(proto)
    small = compact(propagate(imported)).proto
    assert {t.name: t.data_type for t in small.graph.initializer}["fc.weight"] == TensorProto.BFLOAT16
    assert check_smaller(imported, small).fault == check_smaller(proto, small).fault == ""
    for tensor in small.graph.initializer:
        if tensor.name == "fc.weight":
            array = numpy_helper.to_array(tensor).astype(np.float32) * 1.1
            tensor.CopyFrom(numpy_helper.from_array(array.astype(BF16), tensor.name))
    assert "'y' differs" in check_smaller(imported, small).fault


def test_arrays_of_bfloat16_come_back_from_files(tmp_path: Path) -> None:
    proto, feeds = _network(BF16)
    compiled = build(tmp_path, proto)
    np.savez(tmp_path / "in.npz", **feeds)
    stored = dict(np.load(tmp_path / "in.npz"))
    assert stored["x"].dtype == np.dtype("V2")
    np.testing.assert_array_equal(compiled(stored)["y"].view(np.uint16), compiled(feeds)["y"].view(np.uint16))
