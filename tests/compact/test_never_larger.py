"""The smaller file is never larger: what was folded, tied, sparse or quantized is written as the file has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tesa.compact import compact, save
from tesa.frontend import expand, import_onnx
from tesa.frontend.given import parameters
from tesa.propagate import propagate

from .shrink import dense, model, node, operators, port, shapes, shrink, weights, without


def pruned_layers(before: str, after: str) -> tuple[list[Any], dict[str, Any]]:
    """Two linear layers from one tensor of 32 features to another, half of the hidden features pruned."""
    nodes = [
        node("MatMul", [before, "p.weight"], f"{after}.p"),
        node("Relu", [f"{after}.p"], f"{after}.r"),
        node("MatMul", [f"{after}.r", "q.weight"], after),
    ]
    first = without(dense(32, 64), *range(0, 64, 2), axis=1)
    return nodes, {"p.weight": first, "q.weight": dense(64, 32)}


def test_before_is_the_files_own_size() -> None:
    nodes, arrays = pruned_layers("x", "y")
    proto = model(nodes, [port("x", [1, 32])], ["y"], {**arrays, "unread": dense(7, 7)})
    found = shrink(proto)
    assert found.parameters_before == parameters(proto) == 2 * 32 * 64 + 49
    assert found.parameters_after == parameters(found.proto) == 2 * 32 * 32
    assert (found.size_before, found.size_after) == (proto.ByteSize(), found.proto.ByteSize())
    assert found.smaller


def test_weights_that_are_tied_stay_tied() -> None:
    """A table of embeddings that is, transposed, the last layer: rows and columns of it are pruned."""
    table, hidden = dense(50, 32), dense(32, 32)
    table[[3, 7]], table[:, ::4], hidden[:, ::4] = 0, 0, 0
    nodes = [
        node("Gather", ["table", "ids"], "e"),
        node("MatMul", ["e", "hidden.weight"], "h"),
        node("Transpose", ["table"], "turned", perm=[1, 0]),
        node("MatMul", ["h", "turned"], "y"),
    ]
    arrays = {"table": table, "hidden.weight": hidden}
    found = shrink(model(nodes, [port("ids", [2, 6], "int64")], ["y"], arrays))
    assert shapes(found) == {"table": (50, 24), "hidden.weight": (24, 24)}


def test_a_tied_weight_of_which_the_layers_need_different_parts() -> None:
    """Cut for each, it would be stored twice: 2 times 48 rows of it are more than all 64. So nothing goes."""
    shared = dense(64, 40)
    left, right = (without(dense(8, 64), *gone, axis=1) for gone in (range(16), range(48, 64)))
    nodes = [
        node("MatMul", ["x", "left.weight"], "a"),
        node("MatMul", ["x", "right.weight"], "b"),
        node("MatMul", ["a", "shared.weight"], "c"),
        node("MatMul", ["b", "shared.weight"], "d"),
        node("Add", ["c", "d"], "y"),
    ]
    arrays = {"left.weight": left, "right.weight": right, "shared.weight": shared}
    proto = model(nodes, [port("x", [2, 8])], ["y"], arrays)
    found = compact(propagate(import_onnx(proto)))
    assert found.removed == ()
    assert not found.smaller
    assert shapes(found)["shared.weight"] == (64, 40)
    assert "tied to what is needed" in found.kept[0]


def test_what_was_folded_is_written_as_it_was() -> None:
    """A mask made out of a few numbers, and a weight of 4 bits, are far smaller before they are folded."""
    nodes, arrays = pruned_layers("m", "h")
    nodes = [
        node("Expand", ["one", "size"], "mask"),
        node("Mul", ["x", "mask"], "m"),
        *nodes,
        node("DequantizeLinear", ["codes", "scale"], "w"),
        node("MatMul", ["h", "w"], "y"),
    ]
    codes = np.random.default_rng(0).integers(-128, 128, (32, 500)).astype(np.int8)
    arrays |= {"one": dense(1, 32), "size": np.array([64, 32]), "codes": codes, "scale": np.float32(0.1)}
    proto = model(nodes, [port("x", [64, 32])], ["y"], arrays)
    found = shrink(proto)
    assert operators(found) == [n.op_type for n in proto.graph.node]
    made = weights(found.proto)
    assert made["one"].shape == (1, 32)
    assert made["codes"].dtype == np.int8
    assert shapes(found)["p.weight"] == (32, 32)
    assert found.size_after < found.size_before - 2 * 32 * 32 * 4 + 200


def long_sum(writer: Any, node: Any) -> list[str]:
    """x @ w, written out feature by feature: 192 nodes."""
    x, total = node.input[0], ""
    for k in range(64):
        at, row = (writer.constant(np.array([v])) for v in (k, k))
        one = writer.add("Gather", x, at, axis=1)
        product = writer.add("MatMul", one, writer.add("Gather", node.input[1], row, axis=0))
        total = writer.add("Add", total, product) if total else product
    return [total]


@pytest.mark.parametrize("pruned", [False, True])
def test_an_operator_is_not_written_out_in_the_file(monkeypatch: pytest.MonkeyPatch, pruned: bool) -> None:
    """Nor where something could be cut from it that is worth less than its many nodes."""
    monkeypatch.setitem(expand._EXPANSIONS, ("com.example", "LongSum"), long_sum)
    nodes, arrays = pruned_layers("x", "h")
    arrays["r.weight"] = without(dense(32, 64), 5, axis=1) if pruned else dense(32, 64)
    arrays["s.weight"] = dense(64, 8)
    last = [node("MatMul", ["h", "r.weight"], "a"), node("LongSum", ["a", "s.weight"], "y", domain="com.example")]
    proto = model([*nodes, *last], [port("x", [2, 32])], ["y"], arrays)
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    found = compact(propagate(import_onnx(proto)))
    assert operators(found) == ["MatMul", "Relu", "MatMul", "MatMul", "LongSum"]
    made = shapes(found)
    assert (made["p.weight"], made["r.weight"], made["s.weight"]) == ((32, 32), (32, 64), (64, 8))
    assert found.size_after < found.size_before - 2 * 32 * 32 * 4 + 200


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_a_recurrent_cell_is_not_written_out_in_the_file(operator: str, gates: int) -> None:
    hidden, steps = 8, 40
    nodes, arrays = pruned_layers("x", "h")
    cell = helper.make_node(operator, ["h", "W", "R"], ["y"], "cell", hidden_size=hidden)
    arrays |= {"W": dense(1, gates * hidden, 32) / 32, "R": dense(1, gates * hidden, hidden) / 32}
    found = shrink(model([*nodes, cell], [port("x", [steps, 1, 32])], ["y"], arrays))
    assert operators(found) == ["MatMul", "Relu", "MatMul", operator]
    assert found.size_after < found.size_before - 2 * 32 * 32 * 4 + 200


def sparse_model() -> Any:
    nodes, arrays = pruned_layers("x", "y")
    table = np.where(np.random.default_rng(0).random((32, 64)) < 0.05, dense(32, 64), 0).astype(np.float32)
    arrays["p.weight"] = without(table, *range(0, 64, 2), axis=1)
    proto = model(nodes, [port("x", [1, 32])], ["y"], arrays)
    first = next(t for t in proto.graph.initializer if t.name == "p.weight")
    places = np.flatnonzero(arrays["p.weight"])
    values = numpy_helper.from_array(arrays["p.weight"].reshape(-1)[places], "p.weight")
    indices = numpy_helper.from_array(places.astype(np.int64), "p.places")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [32, 64]))
    proto.graph.initializer.remove(first)
    return proto


def test_a_sparse_initializer_stays_sparse() -> None:
    proto = sparse_model()
    found = compact(propagate(import_onnx(proto)))
    assert [t.values.name for t in found.proto.graph.sparse_initializer] == ["p.weight"]
    left = int(numpy_of(proto)["p.weight"].any(axis=0).sum())
    assert list(found.proto.graph.sparse_initializer[0].dims) == [32, left]
    assert left <= 32
    assert found.parameters_before == len(proto.graph.sparse_initializer[0].values.raw_data) // 4 + 64 * 32
    assert found.size_after < found.size_before
    x = np.random.default_rng(1).standard_normal((1, 32)).astype(np.float32)
    first, second = (numpy_of(p) for p in (proto, found.proto))
    np.testing.assert_allclose(
        np.maximum(x @ second["p.weight"], 0) @ second["q.weight"],
        np.maximum(x @ first["p.weight"], 0) @ first["q.weight"],
        rtol=1e-4,
    )


def numpy_of(proto: Any) -> Any:
    graph = import_onnx(proto).graph
    assert graph is not None
    return graph.constants


@pytest.mark.parametrize("external", [False, True])
def test_a_model_is_saved_in_one_file_or_in_two(tmp_path: Path, external: bool) -> None:
    nodes, arrays = pruned_layers("x", "y")
    proto = model(nodes, [port("x", [1, 32])], ["y"], {**arrays, "q.weight": dense(64, 32)})
    expected = weights(proto)
    beside = save(proto, tmp_path / "m.onnx", external=external)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == (["m.onnx", "m.onnx.data"] if external else ["m.onnx"])
    assert (beside is not None) == external
    graph = import_onnx(tmp_path / "m.onnx").graph
    assert graph is not None
    assert graph.given.external == external
    for name, array in expected.items():
        np.testing.assert_array_equal(weights(onnx.load(tmp_path / "m.onnx"))[name], array)
    assert graph.given.parameters == sum(array.size for array in expected.values())


def test_integers_of_a_quantized_weight_are_cut_as_integers() -> None:
    codes = np.random.default_rng(0).integers(-127, 128, (32, 64)).astype(np.int8)
    codes[:, ::2] = 0
    nodes = [
        node("DequantizeLinear", ["codes", "scale", "zero"], "w", axis=1),
        node("MatMul", ["x", "w"], "a"),
        node("Relu", ["a"], "r"),
        node("MatMul", ["r", "q.weight"], "y"),
    ]
    arrays = {"codes": codes, "scale": dense(64), "zero": np.zeros(64, np.int8), "q.weight": dense(64, 8)}
    found = shrink(model(nodes, [port("x", [1, 32])], ["y"], arrays))
    stored = [t for t in found.proto.graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) == 2]
    assert [list(t.dims) for t in stored] == [[32, 32]]
    assert found.size_after < found.size_before


def test_a_constant_that_repeats_itself_is_written_once_although_it_is_cut() -> None:
    """The file makes 64 x 64 numbers out of one; half of the features go."""
    nodes = [
        node("MatMul", ["x", "p.weight"], "a"),
        node("Expand", ["one", "size"], "table"),
        node("Mul", ["a", "table"], "b"),
        node("MatMul", ["b", "q.weight"], "y"),
    ]
    arrays = {"p.weight": without(dense(8, 64), *range(0, 64, 2), axis=1), "q.weight": dense(64, 4)}
    arrays |= {"one": dense(1, 1), "size": np.array([64, 64])}
    found = shrink(model(nodes, [port("x", [64, 8])], ["y"], arrays))
    assert found.size_after < found.size_before
    assert max(array.size for array in weights(found.proto).values()) == 8 * 32
