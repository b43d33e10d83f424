"""The import itself: what becomes of operators, weights and names; numbers against onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tvm
from onnx import helper, numpy_helper
from tvm import relax

from tesa.compiler import compile_model
from tesa.frontend import ImportedModel, import_onnx
from tesa.frontend.onnx import bindings
from tesa.models import digits_path
from tesa.runtime import load
from tests.support import QUICK

from .onnx_models import conv_model, floats, model, node, port

DIGITS = digits_path()


def operators(imported: ImportedModel) -> list[str]:
    return [b.value.op.name.removeprefix("relax.") for b in bindings(imported.mod) if isinstance(b.value, relax.Call)]


def constants(imported: ImportedModel) -> dict[str, Any]:
    return {
        f"{b.var.name}#{i}": arg.value.numpy()
        for b in bindings(imported.mod)
        for i, arg in enumerate(getattr(b.value, "args", ()))
        if isinstance(arg, tvm.ir.GenericConst)
    }


def compare(given: onnx.ModelProto, feeds: Mapping[str, Any], tolerance: float = 1e-5) -> ImportedModel:
    """Build with TVM's own pipeline and compare all outputs with onnxruntime."""
    imported = import_onnx(given)
    mod = relax.get_pipeline("zero")(imported.mod)
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target(QUICK)), tvm.cpu())
    found = machine["main"](*[tvm.runtime.tensor(feeds[p.name]) for p in imported.inputs])
    found = [found] if isinstance(found, tvm.runtime.Tensor) else list(found)
    session = onnxruntime.InferenceSession(given.SerializeToString(), providers=["CPUExecutionProvider"])
    for expected, ours in zip(session.run(None, dict(feeds)), found, strict=True):
        np.testing.assert_allclose(ours.numpy(), expected, rtol=tolerance, atol=tolerance)
    return imported


def test_a_convolution() -> None:
    given = conv_model(floats(4, 3, 3, 3), floats(4), pads=[1, 1, 1, 1], strides=[2, 2])
    imported = compare(given, {"x": floats(1, 3, 6, 6)})
    assert operators(imported) == ["nn.conv2d", "add"]
    assert imported.names == {"layer": "layer", "layer_add": "layer"}
    (use,) = imported.weights["layer.weight"]
    assert (use.layer, use.var, use.argument, use.axes) == ("layer", "layer", 1, None)
    assert constants(imported)["layer#1"].shape == (4, 3, 3, 3)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_automatic_padding_becomes_plain_padding(mode: str, stride: int) -> None:
    given = conv_model(floats(2, 3, 3, 3), size=6, auto_pad=mode, strides=[stride] * 2, dilations=[1, 1])
    assert operators(compare(given, {"x": floats(1, 3, 6, 6)})) == ["nn.conv2d"]


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0)])
def test_gemm(turned: int, alpha: float, beta: float) -> None:
    weight = floats(5, 4) if turned else floats(4, 5)
    nodes = [node("Gemm", ["x", "fc.weight", "fc.bias"], "y", transB=turned, alpha=alpha, beta=beta)]
    given = model(nodes, [port("x", [2, 4])], ["y"], {"fc.weight": weight, "fc.bias": floats(5, seed=1)})
    imported = compare(given, {"x": floats(2, 4, seed=2)})
    assert operators(imported) == ["matmul", "add"]
    (use,) = imported.weights["fc.weight"]
    assert use.axes == ((1, 0) if turned else None)
    np.testing.assert_allclose(constants(imported)[f"{use.var}#1"], alpha * (weight.T if turned else weight), rtol=1e-6)


def test_a_transposed_weight_is_folded_and_traced() -> None:
    nodes = [node("Transpose", ["w"], "wt", perm=[1, 0]), node("MatMul", ["x", "wt"], "y", name="dense")]
    given = model(nodes, [port("x", [2, 4])], ["y"], {"w": floats(3, 4)})
    imported = compare(given, {"x": floats(2, 4)})
    assert operators(imported) == ["matmul"]
    assert imported.weights["w"][0].axes == (1, 0)


CLIPS = [
    ({"low": np.float32(0), "high": np.float32(6)}, ["clip"]),
    ({"low": np.float32(0)}, ["nn.relu"]),
    ({"low": np.float32(-1)}, ["clip"]),
]


@pytest.mark.parametrize(("bounds", "expected"), CLIPS)
def test_clip(bounds: dict[str, Any], expected: list[str]) -> None:
    given = model([node("Clip", ["x", *bounds], "y")], [port("x", [50])], ["y"], bounds)
    assert operators(compare(given, {"x": floats(50) * 8})) == expected


def test_clip_with_attributes_of_old_opsets() -> None:
    given = model([node("Clip", ["x"], "y", min=0.0, max=6.0)], [port("x", [50])], ["y"], opset=6)
    assert operators(compare(given, {"x": floats(50) * 8})) == ["clip"]


def gelu(form: str) -> list[Any]:
    half = {
        "x * (1 + erf) * 0.5": [node("Mul", ["x", "plus"], "m"), node("Mul", ["m", "half"], "y")],
        "0.5 * (x * (1 + erf))": [node("Mul", ["plus", "x"], "m"), node("Mul", ["half", "m"], "y")],
        "0.5 * x * (1 + erf)": [node("Mul", ["half", "x"], "m"), node("Mul", ["m", "plus"], "y")],
        "x * (0.5 * (1 + erf))": [node("Mul", ["plus", "half"], "m"), node("Mul", ["x", "m"], "y")],
        "x * (1 + erf) / 2": [node("Mul", ["x", "plus"], "m"), node("Div", ["m", "two"], "y")],
    }[form]
    return [node("Erf", ["scaled"], "erf"), node("Add", ["one", "erf"], "plus"), *half]


NUMBERS = {"half": 0.5, "one": 1.0, "two": 2.0, "root": 2**0.5, "inverse": 2**-0.5}
FORMS = [
    "x * (1 + erf) * 0.5", "0.5 * (x * (1 + erf))", "0.5 * x * (1 + erf)", "x * (0.5 * (1 + erf))", "x * (1 + erf) / 2",
]  # fmt: skip


@pytest.mark.parametrize("scaling", [("Div", ["x", "root"]), ("Mul", ["x", "inverse"]), ("Mul", ["inverse", "x"])])
@pytest.mark.parametrize("form", FORMS)
def test_gelu_in_every_form(form: str, scaling: tuple[str, list[str]]) -> None:
    nodes = [node(*scaling, "scaled"), *gelu(form)]
    given = model(nodes, [port("x", [40])], ["y"], {n: np.float32(v) for n, v in NUMBERS.items()})
    assert operators(import_onnx(given)) == ["nn.gelu"]


def test_gelu_has_the_numbers_of_its_parts() -> None:
    nodes = [node("Div", ["x", "root"], "scaled"), *gelu(FORMS[0])]
    compare(model(nodes, [port("x", [40])], ["y"], {n: np.float32(v) for n, v in NUMBERS.items()}), {"x": floats(40)})


@pytest.mark.parametrize("change", [{"half": 0.4}, {"one": 2.0}, {"root": 2.0}])
def test_what_only_looks_like_gelu_stays(change: dict[str, float]) -> None:
    nodes = [node("Div", ["x", "root"], "scaled"), *gelu(FORMS[0])]
    given = model(nodes, [port("x", [40])], ["y"], {n: np.float32(v) for n, v in {**NUMBERS, **change}.items()})
    imported = compare(given, {"x": floats(40)})
    assert "erf" in operators(imported)
    assert "nn.gelu" not in operators(imported)


def test_gelu_whose_inside_is_also_an_output_stays() -> None:
    nodes = [node("Div", ["x", "root"], "scaled"), *gelu(FORMS[0])]
    given = model(nodes, [port("x", [40])], ["y", "plus"], {n: np.float32(v) for n, v in NUMBERS.items()})
    assert "erf" in operators(compare(given, {"x": floats(40)}))


def test_gather_counts_negative_indices_from_the_end() -> None:
    given = model([node("Gather", ["table", "i"], "y")], [port("i", [5], "int64")], ["y"], {"table": floats(7, 3)})
    imported = compare(given, {"i": np.array([0, 6, -1, -7, 3])})
    assert operators(imported)[-1] == "take"


def test_gather_with_constant_indices_is_one_take() -> None:
    given = model([node("Gather", ["x", "i"], "y", axis=1)], [port("x", [2, 5])], ["y"], {"i": np.array([-1, 2])})
    assert operators(compare(given, {"x": floats(2, 5)})) == ["take"]


def test_layer_norm_is_one_operator() -> None:
    nodes = [node("LayerNormalization", ["x", "g", "b"], "y", axis=-1)]
    given = model(nodes, [port("x", [2, 6])], ["y"], {"g": floats(6), "b": floats(6, seed=1)})
    imported = compare(given, {"x": floats(2, 6)})
    assert operators(imported) == ["nn.layer_norm"]
    assert list(imported.names.values()) == ["y"]


def test_identity_and_dropout_vanish() -> None:
    nodes = [node("Identity", ["x"], "a"), node("Dropout", ["a"], "b"), node("Relu", ["b"], "y")]
    assert operators(compare(model(nodes, [port("x", [4])], ["y"]), {"x": floats(4)})) == ["nn.relu"]


def norms(seed: int) -> dict[str, Any]:
    return {"g": floats(4, seed=seed), "b": floats(4, seed=seed + 1), "m": floats(4), "v": floats(4) ** 2}


def test_a_batch_norm_folds_into_its_convolution() -> None:
    weight = floats(4, 3, 1, 1)
    weight[1] = 0
    nodes = [
        node("Conv", ["x", "c.weight"], "c"),
        node("BatchNormalization", ["c", "g", "b", "m", "v"], "n"),
        node("Relu", ["n"], "y"),
    ]
    given = model(nodes, [port("x", [1, 3, 5, 5])], ["y"], {"c.weight": weight, **norms(5)})
    imported = compare(given, {"x": floats(1, 3, 5, 5)}, 1e-4)
    assert operators(imported) == ["nn.conv2d", "add", "nn.relu"]
    assert not constants(imported)["c#1"][1].any()
    assert imported.weights["c.weight"][0].layer == "c"
    assert imported.tensors["c_add"] == "n"


def test_a_batch_norm_alone_is_a_scale_and_a_shift() -> None:
    nodes = [node("BatchNormalization", ["x", "g", "b", "m", "v"], "y")]
    given = model(nodes, [port("x", [1, 4, 5, 5])], ["y"], norms(7))
    assert operators(compare(given, {"x": floats(1, 4, 5, 5)}, 1e-4)) == ["multiply", "add"]


@pytest.mark.parametrize("layout", ["coordinates", "linear"])
def test_a_sparse_initializer_becomes_dense(layout: str) -> None:
    weight = floats(4, 3, 1, 1) * (floats(4, 3, 1, 1, seed=1) > 0)
    given = conv_model(weight)
    del given.graph.initializer[0]
    where = np.argwhere(weight) if layout == "coordinates" else np.flatnonzero(weight)
    values = numpy_helper.from_array(weight[weight != 0], "layer.weight")
    indices = numpy_helper.from_array(where.astype(np.int64), "i")
    given.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, list(weight.shape)))
    np.testing.assert_array_equal(constants(import_onnx(given))["layer#1"], weight)


def qdq_model(axis: int = 0) -> tuple[onnx.ModelProto, Any, Any]:
    stored = np.random.default_rng(0).integers(-100, 100, (4, 3, 1, 1)).astype(np.int8)
    scale = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    names = ["qw", "scale", "zero"]
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], "q"),
        node("DequantizeLinear", ["q", "xs", "xz"], "dq"),
        node("DequantizeLinear", names, "w", axis=axis),
        node("Conv", ["dq", "w"], "y", name="conv"),
    ]
    given = {"qw": stored, "scale": scale, "zero": np.zeros(4, np.int8), "xs": np.float32(0.05), "xz": np.int8(3)}
    return model(nodes, [port("x", [1, 3, 4, 4])], ["y"], given), stored, scale


def test_a_quantized_weight_is_real_and_its_bits_are_known() -> None:
    given, stored, scale = qdq_model()
    imported = compare(given, {"x": floats(1, 3, 4, 4)}, 1e-4)
    assert operators(imported) == ["quantize", "dequantize", "nn.conv2d"]
    np.testing.assert_allclose(constants(imported)["conv#1"], stored * scale.reshape(4, 1, 1, 1), rtol=1e-6)
    quantization = imported.quantization["conv", 1]
    assert (quantization.bits, quantization.signed, quantization.scale.shape) == (8, True, (4, 1, 1, 1))
    assert imported.weights["qw"][0].var == "conv"


def test_masks_are_multiplied_into_the_weights(tmp_path: Path) -> None:
    mask = floats(4, 3, 1, 1, seed=3) > 0
    np.savez(tmp_path / "masks.npz", layer=mask)
    weight = floats(4, 3, 1, 1)
    for masks in ({"layer.weight": mask}, {"layer": mask.astype(float)}, {"layer.weight_mask": mask}):
        imported = import_onnx(conv_model(weight), masks=masks)
        np.testing.assert_array_equal(constants(imported)["layer#1"], np.where(mask, weight, 0))
        np.testing.assert_array_equal(imported.masks["layer.weight"], mask)
    np.testing.assert_array_equal(
        constants(import_onnx(conv_model(weight), masks=tmp_path / "masks.npz"))["layer#1"], np.where(mask, weight, 0)
    )


def test_a_mask_on_a_quantized_weight_means_its_zero_point() -> None:
    given, stored, scale = qdq_model()
    mask = floats(4, 3, 1, 1) > 0
    imported = import_onnx(given, masks={"qw": mask})
    np.testing.assert_allclose(
        constants(imported)["conv#1"], np.where(mask, stored * scale.reshape(4, 1, 1, 1), 0), rtol=1e-6
    )


def test_a_weight_of_two_layers() -> None:
    nodes = [node("MatMul", ["x", "w.weight"], "a", name="one"), node("MatMul", ["a", "w.weight"], "y", name="two")]
    imported = import_onnx(model(nodes, [port("x", [2, 4])], ["y"], {"w.weight": floats(4, 4)}))
    assert [use.layer for use in imported.weights["w.weight"]] == ["one", "two"]


def test_shapes_that_are_computed_in_the_graph_are_constants() -> None:
    nodes = [
        node("Shape", ["x"], "s"),
        node("Gather", ["s", "zero"], "n"),
        node("Unsqueeze", ["n", "axes"], "n1"),
        node("Concat", ["n1", "rest"], "target", axis=0),
        node("Reshape", ["x", "target"], "y"),
    ]
    given = {"zero": np.int64(0), "axes": np.array([0]), "rest": np.array([-1])}
    imported = import_onnx(model(nodes, [port("x", ["n", 3, 4])], ["y"], given), shapes={"x": (2, 3, 4)})
    assert operators(imported) == ["reshape"]
    assert imported.outputs[0].shape == (2, 12)


def test_names_are_unique_and_printable() -> None:
    nodes = [node("Relu", ["x"], f"t{i}", name="same/name") for i in range(3)]
    nodes.append(helper.make_node("Sum", ["t0", "t1", "t2"], ["y"]))
    imported = import_onnx(model(nodes, [port("x", [4])], ["y"]))
    assert sorted(imported.names.values())[:3] == ["same.name", "same.name_2", "same.name_3"]
    assert all(name.isidentifier() for name in imported.names)
    assert "same_name_2" in imported.mod.script()


def test_functions_of_the_model_are_inlined() -> None:
    opsets = [helper.make_opsetid("", 17)]
    body = [helper.make_node("MatMul", ["a", "w"], ["m"]), helper.make_node("Relu", ["m"], ["r"])]
    dense = helper.make_function("local", "Dense", ["a", "w"], ["r"], body, opsets)
    nodes = [node("Dense", ["x", "fc.weight"], "y", domain="local")]
    given = model(nodes, [port("x", [2, 4])], ["y"], {"fc.weight": floats(4, 3)})
    given.functions.append(dense)
    given.opset_import.append(helper.make_opsetid("local", 1))
    imported = compare(given, {"x": floats(2, 4)})
    assert operators(imported) == ["matmul", "nn.relu"]
    assert imported.weights["fc.weight"][0].layer == "fc"


def test_several_outputs_keep_their_order() -> None:
    nodes = [node("Relu", ["x"], "a"), node("Tanh", ["a"], "b")]
    imported = compare(model(nodes, [port("x", [4])], ["b", "a"]), {"x": floats(4)})
    assert [p.name for p in imported.outputs] == ["b", "a"]


def test_a_sentence_encoder_in_small() -> None:
    """Embedding, norm, attention over two heads with an additive mask, residual, mean over tokens, length 1."""
    length, width, heads = 5, 8, 2
    split = {"split": np.array([1, length, heads, width // heads]), "join": np.array([1, length, width])}
    nodes = [
        node("Gather", ["words", "ids"], "word"),
        node("Add", ["word", "places"], "sum"),
        node("LayerNormalization", ["sum", "g", "b"], "h", axis=-1),
        *(node("MatMul", ["h", f"{part}.weight"], part) for part in "qkv"),
        *(node("Reshape", [part, "split"], f"{part}s") for part in "qkv"),
        *(node("Transpose", [f"{p}s"], f"{p}t", perm=(0, 2, 3, 1) if p == "k" else (0, 2, 1, 3)) for p in "qkv"),
        node("MatMul", ["qt", "kt"], "scores"),
        node("Div", ["scores", "root"], "scaled"),
        node("Softmax", ["scaled"], "shares", axis=-1),
        node("MatMul", ["shares", "vt"], "mixed"),
        node("Transpose", ["mixed"], "turned", perm=(0, 2, 1, 3)),
        node("Reshape", ["turned", "join"], "joined"),
        node("Add", ["joined", "h"], "out"),
        node("ReduceMean", ["out"], "mean", axes=[1]),
        node("ReduceL2", ["mean"], "length", axes=[1]),
        node("Div", ["mean", "length"], "y"),
    ]
    nodes[-3].attribute.append(helper.make_attribute("keepdims", 0))
    weights = {f"{part}.weight": floats(width, width, seed=i) for i, part in enumerate("qkv")}
    norm = {"g": floats(width, seed=4), "b": floats(width, seed=5), "root": np.float32(2.0)}
    tables = {"words": floats(11, width, seed=6), "places": floats(length, width, seed=7)}
    given = model(nodes, [port("ids", [1, length], "int64")], ["y"], {**split, **weights, **norm, **tables})
    imported = compare(given, {"ids": np.array([[3, 10, 0, -2, 7]])}, 1e-4)
    assert operators(imported).count("matmul") == 5
    assert [use.layer for uses in imported.weights.values() for use in uses] == ["q", "k", "v"]


def test_digits() -> None:
    given = onnx.load(DIGITS)
    imported = compare(given, {"image": np.abs(floats(1, 1, 64, 64))}, 1e-4)
    assert set(operators(imported)) == {"nn.conv2d", "add", "clip", "mean", "reshape", "matmul"}
    layers = [use.layer for uses in imported.weights.values() for use in uses]
    assert layers[:3] == ["stem", "block1.depthwise", "block1.pointwise"]
    assert imported.tensors["classifier_add"] == "logits"


def test_the_import_is_quiet(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    import_onnx(DIGITS)
    out, err = capfd.readouterr()
    assert out + err == ""
    assert not list(recwarn)


@pytest.mark.parametrize(
    ("nodes", "output", "expected"),
    [
        ([node("Relu", ["x"], "y")], "x", np.arange(4)),
        ([node("Identity", ["x"], "y")], "y", np.arange(4)),
        ([node("Reshape", ["x", "shape"], "y")], "y", np.arange(4)),
        ([node("Identity", ["w"], "y")], "y", np.full(3, 7)),
    ],
)
def test_an_output_that_nothing_computes(tmp_path: Path, nodes: list[Any], output: str, expected: Any) -> None:
    arrays = {"w": np.full(3, 7, np.float32), "shape": np.array([4])}
    given = model(nodes, [port("x", [4])], [output], arrays)
    assert [out.shape for out in import_onnx(given).outputs] == [expected.shape]
    compiled = compile_model(given, output=tmp_path / "model.so", measure=False)
    results = load(compiled.path)({"x": np.arange(4, dtype=np.float32)})
    np.testing.assert_array_equal(results[output], expected)
