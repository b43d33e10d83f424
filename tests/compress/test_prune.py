"""Pruned files: what the patterns say is zero, all else is as it was, and what cannot be is said in words."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tesa.attributes.patterns import classify
from tesa.cli import main
from tesa.compress import prune
from tesa.errors import UsageError
from tesa.frontend import import_onnx

from ..frontend.onnx_models import floats, model, node, port

Capture = pytest.CaptureFixture[str]
PATTERNS = ("0.7", "0.5:16x1", "0.5:4x4", "0.5:1x4", "2:4", "3:8", "0.5:filter", "0.5:channel", "0.5:row", "0.5:column")


def network() -> Any:
    """Convolutions of all kinds, one named by its node and one by its weight, and linear layers of both orders."""
    constants = {
        "stem.weight": floats(32, 3, 3, 3),
        "dw.weight": floats(32, 1, 3, 3, seed=1),
        "pw.weight": floats(64, 32, 1, 1, seed=2),
        "pw.bias": floats(64),
        "grouped.weight": floats(64, 32, 3, 3, seed=3),
        "up.weight": floats(64, 32, 2, 2, seed=4),
        "shape": np.array([1, -1]),
        "fc": floats(32 * 64, 48, seed=5),
        "head": floats(10, 48, seed=6),
    }
    nodes = [
        node("Conv", ["x", "stem.weight"], "a", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Conv", ["a", "dw.weight"], "b", group=32, pads=[1, 1, 1, 1]),
        node("Conv", ["b", "pw.weight", "pw.bias"], "c"),
        node("Relu", ["c"], "d"),
        node("Conv", ["d", "grouped.weight"], "e", group=2, pads=[1, 1, 1, 1]),
        node("ConvTranspose", ["e", "up.weight"], "f", strides=[2, 2], name="/up/ConvTranspose"),
        node("Reshape", ["f", "shape"], "g"),
        node("MatMul", ["g", "fc"], "h", name="/fc/MatMul"),
        node("Gemm", ["h", "head"], "y", transB=1, name="head_gemm"),
    ]
    return model(nodes, [port("x", [1, 3, 8, 8])], ["y"], constants)


def arrays(proto: Any) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def matrices(proto: Any) -> dict[str, Any]:
    """The weights as (outputs, k), in a way of their own."""
    found = arrays(proto)
    return {
        "pw": found["pw.weight"].reshape(64, 32),
        "grouped": found["grouped.weight"].reshape(64, -1),
        "up": found["up.weight"].transpose(1, 0, 2, 3).reshape(32, -1),
        "fc.MatMul": found["fc"].T,
    }


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_layer_has_its_pattern(pattern: str) -> None:
    proto = network()
    found = prune(proto, pattern)
    assert [row.name for row in found.layers] == list(matrices(proto))
    before, after = matrices(proto), matrices(found.proto)
    for row in found.layers:
        weight, dense = after[row.name], before[row.name]
        np.testing.assert_array_equal(weight[weight != 0], dense[weight != 0])
        share = 0.7 if pattern == "0.7" else 0.625 if pattern == "3:8" else 0.5
        assert np.mean(weight == 0) == pytest.approx(share, abs=0.02)
        assert row.sparsity == pytest.approx(np.mean(weight == 0))
        assert row.kept == pytest.approx(np.abs(weight).sum() / np.abs(dense).sum(), rel=1e-5)
        if "x" in pattern:
            rows, columns = (int(n) for n in pattern.rpartition(":")[2].split("x"))
            kind = classify(np.ascontiguousarray(weight))
            assert kind.kind == "block"
            assert kind.block == (rows, columns)
    for name in ("stem.weight", "dw.weight", "head", "pw.bias", "shape"):
        np.testing.assert_array_equal(arrays(found.proto)[name], arrays(proto)[name])
    assert "the first layer is kept" in dict(found.left).values()
    import_onnx(found.proto)


def test_balanced_groups_keep_equally_many_and_a_global_budget_the_best() -> None:
    proto = network()
    weight = arrays(proto)["pw.weight"].copy()
    weight[:16] *= 10
    for tensor in proto.graph.initializer:
        if tensor.name == "pw.weight":
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    even = matrices(prune(proto, "16x1", 0.5).proto)["pw"].reshape(4, 16, 32).any(axis=1).sum(axis=1)
    assert even.tolist() == [16] * 4
    uneven = matrices(prune(proto, "16x1", 0.5, budget="global").proto)["pw"].reshape(4, 16, 32).any(axis=1).sum(axis=1)
    assert uneven[0] == 32
    assert uneven.sum() == 64
    whole = prune(proto, "unstructured", 0.5, budget="network")
    assert whole.sparsity == pytest.approx(0.5, abs=1e-3)
    assert np.ptp([row.sparsity for row in whole.layers]) > 0.01
    least = min(np.abs(m[m != 0]).min() for m in matrices(whole.proto).values())
    gone = max(np.abs(b[a == 0]).max() for a, b in zip(matrices(whole.proto).values(), matrices(proto).values()))  # noqa: B905
    assert gone <= least


def test_layers_have_rules_of_their_own() -> None:
    found = prune(
        network(), "16x1", 0.5, layers={"pw": 0.25, "gr*": "0.5:4x1", "/fc/MatMul": None, "dw.weight": "0.3:taps=4"}
    )
    rows = {row.name: row for row in found.layers}
    assert rows["pw"].sparsity == 0.25
    assert rows["grouped"].pattern == "block=4x1"
    assert ("fc.MatMul", "asked for") in found.left
    taps = arrays(found.proto)["dw.weight"].reshape(8, 4, 9) != 0
    assert (taps == taps[:, :1]).all()
    assert taps[:, 0].sum(axis=1).tolist() == [6] * 8
    every = prune(network(), "0.5:16x1", depthwise="0.3:taps=16", ends=True, infeasible="dense")
    assert {"stem", "dw"} <= {row.name for row in every.layers}
    assert any(name == "head_gemm" and "10x48" in why and "10x1" in why for name, why in every.left)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            {"pattern": "16x1", "sparsity": 0.3, "layers": {"pww": None}},
            "no layer with a weight fits 'pww'; the nearest",
        ),
        ({"pattern": "64x1", "sparsity": 0.3}, "layer grouped: its weight of 64x288 in 2 groups is too small for"),
        ({"pattern": "24x1", "sparsity": 0.3}, "layer grouped: its 2 groups of 32 outputs are not made of 24 rows"),
        ({"pattern": "3:7"}, "layer pw: its 32 columns are not made of groups of 7; the nearest is 3:8"),
        ({"pattern": "filter", "sparsity": 0.995}, "leaves none of its 64 units of 1x32; at most 0.984 can go"),
        ({"pattern": "2:4", "sparsity": 0.3}, "take 3:4, which leaves 0.25"),
        ({"pattern": "2:4", "layers": {"p*": 0.9}}, "the rule 'p*=0.9': 2:4 leaves 0.5 of the elements zero"),
        ({"pattern": "2:4", "layers": {"pw": "0.5:16x"}}, "the rule 'pw=0.5:16x': cannot impose"),
        ({"pattern": "16x1"}, "needs a share of zeros"),
        ({"pattern": "16x1", "sparsity": 1.5}, "no share of zeros"),
        ({"pattern": "0.5", "budget": "even"}, "there is no budget 'even'"),
        ({"pattern": "0.5", "importance": "l3"}, "there is no importance 'l3'"),
        ({"pattern": "0.5", "importance": "wanda"}, "needs calibration data"),
        ({"pattern": "0.5", "importance": {"pv": np.ones(3)}}, "no layer that is pruned. Did you mean"),
        ({"pattern": "0.5", "importance": {"pw": np.ones(3)}}, "the importance has the shape [3]"),
        ({"pattern": "0.5", "importance": lambda *_: np.full(3, np.nan)}, "the importance has the shape [3]"),
        ({"pattern": "0.5", "importance": lambda _, w, __: w * np.nan}, "some importance is not finite"),
    ],
)
def test_what_cannot_be_names_the_layer_and_the_nearest(words: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        prune(network(), **words)
    assert text in str(raised.value)


def test_scores_of_a_user() -> None:
    scores = np.zeros((64, 32, 1, 1))
    scores[:, ::2] = 1
    found = prune(network(), "unstructured", 0.5, importance={"pw.weight": scores})
    assert (matrices(found.proto)["pw"][:, ::2] != 0).all()
    found = prune(network(), "unstructured", 0.5, importance=lambda _, weight, __: 1 / (1e-3 + np.abs(weight)))
    assert found.kept < 0.5


def test_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    proto = network()
    proto.metadata_props.add(key="made by", value="somebody")
    proto.graph.doc_string = "words"
    proto.graph.node[2].doc_string = "a layer"
    proto.producer_name = "pytest"
    stored = copy.deepcopy(proto)  # saving takes the numbers out of it
    onnx.save(stored, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    code = main(["prune", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "out.onnx"), "--sparsity", "0.5", "--json"])
    assert code == 0
    again = onnx.load(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").exists()
    changed = {row.tensor for row in prune(proto, "0.5").layers}
    for message in (proto, again):
        for tensor in message.graph.initializer:
            for field in ("external_data", "data_location"):
                tensor.ClearField(field)
            if tensor.name in changed:
                tensor.ClearField("raw_data")
    assert again == proto or again.SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


def test_nothing_is_written_over_the_model_or_after_an_error(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(network(), path)
    assert main(["prune", str(path), "-o", str(path), "--sparsity", "0.5"]) == 2
    assert main(["prune", str(path), "-o", str(tmp_path / "o.onnx"), "--pattern", "3:7"]) == 2
    assert "layer pw" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx"]


def test_weights_wherever_the_file_keeps_them() -> None:
    """A Constant node, a sparse initializer, float16 behind a Cast, a turned one, a recurrent one, integers."""
    rng = np.random.default_rng(0)
    sparse = rng.standard_normal((16, 16)).astype(np.float32)
    codes = rng.integers(0, 255, (16, 16)).astype(np.uint8)
    constant = helper.make_node("Constant", [], ["w1"], value=numpy_helper.from_array(floats(16, 16), "w1"))
    constants = {
        "w0": floats(16, 16), "half": floats(16, 16).astype(np.float16), "turned": floats(16, 16), "codes": codes,
        "scale": np.float32(0.1), "zero": np.uint8(128), "lstm": floats(1, 64, 16), "again": floats(1, 64, 16),
        "w9": floats(16, 16),
    }  # fmt: skip
    nodes = [
        node("MatMul", ["x", "w0"], "a"), constant, node("MatMul", ["a", "w1"], "b"),
        node("MatMul", ["b", "s"], "c"), node("Cast", ["half"], "wide", to=TensorProto.FLOAT),
        node("MatMul", ["c", "wide"], "d"), node("Transpose", ["turned"], "t", perm=[1, 0]),
        node("MatMul", ["d", "t"], "e"), node("DequantizeLinear", ["codes", "scale", "zero"], "q"),
        node("MatMul", ["e", "q"], "f"), node("Unsqueeze", ["f", "axes"], "g"),
        helper.make_node("LSTM", ["g", "lstm", "again"], ["h"], "lstm", hidden_size=16),
        node("MatMul", ["h", "w9"], "y"),
    ]  # fmt: skip
    proto = model(nodes, [port("x", [4, 16])], ["y"], {**constants, "axes": np.array([1])})
    tensor = numpy_helper.from_array(sparse.reshape(-1), "s")
    places = numpy_helper.from_array(np.arange(256), "s_places")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, places, [16, 16]))
    found = prune(proto, "2:4")
    assert [row.name for row in found.layers] == ["b", "c", "d", "e", "f", "lstm", "lstm.recurrent"]
    assert all(row.sparsity == 0.5 for row in found.layers)
    assert len(found.proto.graph.sparse_initializer[0].values.dims) == 1
    assert found.proto.graph.sparse_initializer[0].values.dims[0] == 128
    after = arrays(found.proto)
    assert (after["codes"] == 128).mean() >= 0.5
    assert after["half"].dtype == np.float16
    assert ((after["half"].T.reshape(16, 4, 4) != 0).sum(axis=2) == 2).all()
    assert ((after["turned"].reshape(16, 4, 4) != 0).sum(axis=2) == 2).all()
    assert ((after["lstm"].reshape(64, 4, 4) != 0).sum(axis=2) == 2).all()
    import_onnx(found.proto)


def test_without_data_a_warning_says_what_that_costs(tmp_path: Path, capsys: Capture) -> None:
    onnx.save(network(), tmp_path / "m.onnx")
    words = [
        "prune",
        str(tmp_path / "m.onnx"),
        "-o",
        str(tmp_path / "o.onnx"),
        "--pattern",
        "16x1",
        "--sparsity",
        "0.3",
    ]
    assert main([*words, "--layer", "pw=dense", "--layer", "gr*=0.5"]) == 0
    shown = capsys.readouterr().out
    assert "without calibration data" in shown
    assert "stays dense: pw: asked for" in shown
    assert main([*words, "--json", "--depthwise", "0.3:taps=4"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {row["op"] for row in data["layers"]} == {"conv", "depthwise", "linear"}
