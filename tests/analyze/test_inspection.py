"""inspect_model: the layers of a model as plain data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import helper

from tesa.analyze.inspection import inspect_model
from tesa.errors import UsageError
from tesa.models import digits_path
from tesa.propagate import remove_rule, rule_scope

from ..frontend.onnx_models import floats, model, node, port

DIGITS = digits_path()


def test_digits() -> None:
    inspection = inspect_model(DIGITS)
    assert [p.name for p in inspection.inputs + inspection.outputs] == ["image", "logits"]
    stem = inspection.layer("stem")
    assert (stem.op, stem.weight, stem.output) == ("conv2d", (32, 1, 3, 3), (1, 32, 32, 32))
    assert (stem.pattern, stem.bits, stem.bytes) == ("dense", 32, 32 * 9 * 4)
    assert inspection.layer("block1.depthwise").op == "depthwise"
    pruned = inspection.layer("block5.pointwise")
    assert pruned.sparsity == pytest.approx(0.9, abs=1e-3)
    assert pruned.pattern == "unstructured"
    assert inspection.layer("classifier").op == "linear"
    assert inspection.layer("pool").weight is None
    assert set(inspection.weights) == {layer.layer for layer in inspection.layers if layer.weight is not None}
    assert not inspection.unruled


def test_json_holds_everything_but_the_weights() -> None:
    inspection = inspect_model(DIGITS)
    data = json.loads(json.dumps(inspection.to_json()))
    assert len(data["layers"]) == len(inspection.layers)
    assert data["layers"][0]["layer"] == "stem"
    assert data["inputs"] == [{"name": "image", "shape": [1, 1, 64, 64], "dtype": "float32"}]


def test_masks_and_propagation_are_noted() -> None:
    nodes = [
        node("MatMul", ["x", "a.weight"], "a"),
        node("Relu", ["a"], "r"),
        node("MatMul", ["r", "b.weight"], "b"),
        node("CumSum", ["b", "axis"], "y", name="sum"),
    ]
    constants = {"a.weight": floats(4, 6), "b.weight": floats(6, 2), "axis": np.int64(1)}
    mask = np.ones((4, 6), bool)
    mask[:, :3] = False
    inspection = inspect_model(model(nodes, [port("x", [1, 4])], ["y"], constants), masks={"a": mask})
    assert inspection.layer("a").note == "masked by the user"
    assert inspection.layer("a").pattern == "channel 3/6 x 4/4"
    assert inspection.layer("b").sparsity == 0
    assert inspection.layer("b").propagated == 0.5
    assert inspection.layer("b").note == "50.0% after propagation"
    assert inspection.layer("a").initializer == "a.weight"
    assert inspection.layer("sum").initializer is None


def test_an_operator_without_a_rule_is_noted() -> None:
    nodes = [node("CumSum", ["x", "axis"], "y", name="sum")]
    with rule_scope():
        remove_rule("relax.cumsum")
        inspection = inspect_model(model(nodes, [port("x", [1, 4])], ["y"], {"axis": np.int64(1)}))
    assert inspection.layer("sum").note == "scrambled"
    assert "sum" in inspection.to_json()["notes"]


def test_a_quantized_weight_shows_its_bits() -> None:
    nodes = [node("DequantizeLinear", ["q", "s"], "w"), node("MatMul", ["x", "w"], "y", name="fc")]
    constants = {"q": np.array([[-128, 3, 1], [4, -1, 5], [9, -2, 6], [5, 3, 127]], np.int8), "s": np.float32(0.5)}
    layer = inspect_model(model(nodes, [port("x", [2, 4])], ["y"], constants)).layer("fc")
    assert (layer.bits, layer.bytes) == (8, 12)
    assert layer.note == "stored as int8, 1 scale"


def test_fewer_bits_than_stored_are_noted() -> None:
    nodes = [node("DequantizeLinear", ["q", "s"], "w"), node("MatMul", ["x", "w"], "y", name="fc")]
    constants = {"q": np.arange(-6, 6, dtype=np.int8).reshape(4, 3), "s": np.float32(0.5)}
    layer = inspect_model(model(nodes, [port("x", [2, 4])], ["y"], constants)).layer("fc")
    assert layer.bits == 8
    assert layer.note == "stored as int8, 1 scale, 4 bits are enough"


@pytest.mark.parametrize("sorted_rows", [True, False])
def test_the_scales_of_a_packed_weight_are_counted_as_stored_and_are_not_left_out(sorted_rows: bool) -> None:
    """64 outputs with 4 blocks of 32 inputs each: 256 scales, also where a list says which row has which."""
    rng = np.random.default_rng(0)
    constants = {
        "B": rng.integers(0, 256, (64, 4, 16)).astype(np.uint8), "S": floats(256),
        "Z": rng.integers(0, 256, 64 * 2).astype(np.uint8), "G": (np.arange(128) % 4).astype(np.int32),
    }  # fmt: skip
    inputs = ["x", "B", "S", "Z", *([] if sorted_rows else ["G"])]
    sizes = {"domain": "com.microsoft", "K": 128, "N": 64, "bits": 4, "block_size": 32}
    nodes = [node("MatMulNBits", inputs, "y", name="fc", **sizes),
             node("MatMulNBits", ["x", "B2", "S2"], "z", name="lost", **sizes)]  # fmt: skip
    constants |= {"B2": constants["B"], "S2": constants["S"]}
    proto = model(nodes, [port("x", [2, 128])], ["y"], constants)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    inspection = inspect_model(proto)
    (layer,) = (row for row in inspection.layers if row.weight is not None)
    assert (layer.weight, layer.bits) == ((128, 64), 4)
    assert "stored as uint4, 256 scales" in layer.note
    assert set(inspection.unused) == {"B2", "S2", *(["G"] if sorted_rows else [])}
    assert "lost" in inspection.dropped


def test_the_scales_of_blocks_are_counted_as_stored() -> None:
    nodes = [node("DequantizeLinear", ["q", "s"], "w", axis=0, block_size=4),
             node("Gemm", ["x", "w"], "y", name="fc")]  # fmt: skip
    constants = {"q": np.arange(-16, 8, dtype=np.int8).reshape(8, 3), "s": floats(2, 3)}
    layer = inspect_model(model(nodes, [port("x", [2, 8])], ["y"], constants, opset=21)).layer("fc")
    assert layer.note.startswith("stored as int8, 6 scales")


@pytest.mark.parametrize(
    ("op", "shape", "kind"),
    [
        ("Conv", (5, 2, 3), "conv1d"),
        ("Conv", (5, 2, 3, 3), "conv2d"),
        ("Conv", (5, 2, 3, 3, 3), "conv3d"),
        ("ConvTranspose", (2, 5, 3, 3), "conv2d_transpose"),
    ],
)
def test_every_convolution(op: str, shape: tuple[int, ...], kind: str) -> None:
    weight = floats(*shape)
    np.moveaxis(weight, int(op != "Conv"), 0)[1] = 0
    size = [1, 2, *[6] * (len(shape) - 2)]
    layer = inspect_model(model([node(op, ["x", "c.weight"], "y")], [port("x", size)], ["y"], {"c.weight": weight}))
    row = layer.layer("c")
    assert (row.op, row.weight, row.sparsity) == (kind, shape, pytest.approx(0.2))
    assert row.pattern is not None
    assert row.pattern.startswith("channel 4/5")


def test_errors_are_those_of_the_import() -> None:
    with pytest.raises(UsageError, match="Give one, for example --shape x="):
        inspect_model(model([node("Relu", ["x"], "y")], [port("x", ["n"])], ["y"]))
