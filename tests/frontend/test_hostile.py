"""Models that are wrong on purpose or by accident: refused with the reason, or read where onnxruntime reads them."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tesa
from tesa.cli import main
from tesa.errors import ModelError, TesaError, UnsupportedError, UsageError
from tesa.frontend import import_onnx, load_masks
from tesa.frontend.equations import fault
from tesa.propagate import propagate
from tests.frontend.onnx_models import floats, model, node, port

W = {"w": floats(4, 3)}
X = [port("x", [2, 4])]


def message(error: type[TesaError], given: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        import_onnx(given, **options)
    return str(caught.value)


def matmul(**options: Any) -> onnx.ModelProto:
    return model([node("MatMul", ["x", "w"], "y", **options)], X, ["y"], W)


def sparse(indices: Any, values: Any = (1.0, 2.0), dims: Any = (4, 3)) -> Any:
    stored = numpy_helper.from_array(np.asarray(values, np.float32), "w")
    places = numpy_helper.from_array(np.asarray(indices, np.int64), "places")
    made = helper.make_sparse_tensor(stored, places, [4, 3])
    made.dims[:] = dims
    return made


# nodes against their schemas


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (node("Concat", ["x", ""], "y", axis=0), "its input 1 is left out"),
        (node("Reshape", ["x", ""], "y"), "has an empty string"),
        (node("CenterCropPad", ["x", ""], "y"), "has an empty string"),
        (node("EyeLike", [""], "y"), "has an empty string"),
        (node("MatMul", ["x"], "y"), "has input size 1 not in range"),
        (node("Softmax", ["x"], "y", axis=1.0), "Mismatched attribute type"),
        (node("Cast", ["x"], "y"), "Required attribute 'to' is missing"),
        (node("And", ["x", "x"], "y"), "its input 'x' is a tensor(float), expected one of bool"),
        (node("Add", ["x", "n"], "y"), "are a tensor(float) and a tensor(int64), expected one type"),
        (node("Einsum", ["x", "w"], "y", equation="ij,jk->zz"), "names 'z' more than once"),
        (node("Einsum", ["x"], "y", equation="..ii ->...i"), "at most one ellipsis"),
        (helper.make_node("Split", ["x"], ["y", "z"], num_outputs=1, axis=0), "num_outputs is 1, and it has 2 outputs"),
        (helper.make_node("Split", ["x"], ["y", ""], num_outputs=3, axis=0), "num_outputs is 3, and it has 2 outputs"),
        (node("ConcatFromSequence", ["x"], "y", axis=0), "its input 'x' is a tensor(float), expected one of seq("),
    ],
)
def test_a_node_that_its_schema_does_not_allow(made: Any, expected: str) -> None:
    given = model([made], X, ["y"], {**W, "n": np.array([1, 2, 3, 4])}, 18)
    text = message(ModelError, given)
    assert f"node 'y' ({made.op_type})" in text
    assert expected in text


def test_a_node_in_a_body_is_held_against_its_schema_as_well() -> None:
    ways = [helper.make_graph([node("Concat", ["x", ""], "o", axis=0)], "way", [],
                              [helper.make_empty_tensor_value_info("o")]) for _ in range(2)]  # fmt: skip
    given = model([node("If", ["on"], "y", then_branch=ways[0], else_branch=ways[1])], X, ["y"], {"on": np.array(True)})
    assert "node 'o' (Concat): its input 1 is left out" in message(ModelError, given)


def test_attributes_that_are_there_twice_or_have_no_type() -> None:
    given = model([node("Softmax", ["x"], "y", axis=1)], X, ["y"])
    given.graph.node[0].attribute.add().CopyFrom(helper.make_attribute("axis", 0))
    assert "its attribute 'axis' is there 2 times" in message(ModelError, given)
    del given.graph.node[0].attribute[1]
    given.graph.node[0].attribute[0].type = 0
    assert "its attribute 'axis' has no type" in message(ModelError, given)


@pytest.mark.parametrize(
    ("equation", "shapes", "wrong"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], ""),
        ("...ij,...jk", [(5, 2, 3), (3, 4)], ""),
        ("ii->i", [(3, 3)], ""),
        ("ij,jk->ik", [(2, 3), (4, 4)], "gives 'j' the sizes 3 and 4"),
        ("ij->ij", [(2, 3, 4)], "has 2 labels in 'ij'"),
        ("ij,jk->ik", [(2, 3)], "has 2 terms, and there are 1 inputs"),
        ("i->q", [(2,)], "names 'q' behind the arrow"),
        ("i1->i", [(2, 3)], "has the term 'i1'"),
        ("i->i->i", [(2,)], "has the term"),
    ],
)
def test_equations(equation: str, shapes: list[Any], wrong: str) -> None:
    found = fault(equation, shapes)
    assert found.startswith(wrong) if wrong else found == ""


# what is declared


def test_names_that_are_there_twice() -> None:
    twice = matmul()
    twice.graph.initializer.add().CopyFrom(twice.graph.initializer[0])
    assert "there are 2 initializers called 'w'" in message(ModelError, twice)
    inputs = matmul()
    inputs.graph.input.add().CopyFrom(inputs.graph.input[0])
    assert "there are 2 inputs called 'x'" in message(ModelError, inputs)


def test_element_types_that_there_are_not() -> None:
    given = matmul()
    given.graph.input[0].type.tensor_type.elem_type = 99
    assert "input 'x' is declared with the element type 99" in message(ModelError, given)
    given = matmul()
    given.graph.output[0].type.tensor_type.elem_type = 99
    assert "'y' is declared with the element type 99" in message(ModelError, given)


def test_operator_sets() -> None:
    given = matmul()
    given.opset_import[0].version = 0
    assert "opset 0" in message(ModelError, given)
    given.opset_import[0].version = 999
    assert "opset 999" in message(UnsupportedError, given)


@pytest.mark.parametrize("listed", ["", "ai.onnx"])
def test_the_other_name_of_the_domain(listed: str) -> None:
    given = matmul(domain="ai.onnx")
    given.opset_import[0].domain = listed
    assert propagate(import_onnx(given)).weights
    assert given.graph.node[0].domain == "ai.onnx"


@pytest.mark.parametrize("place", ["node", "input", "output"])
def test_something_called_main(place: str) -> None:
    names = {"node": "first", "input": "x", "output": "y", place: "main"}
    made = node("MatMul", [names["input"], "w"], names["output"], name=names["node"])
    found = import_onnx(model([made], [port(names["input"], [2, 4])], [names["output"]], W))
    assert (found.inputs[0].name, found.outputs[0].name) == (names["input"], names["output"])


@pytest.mark.parametrize("shape", [[3, 3], [3], [2, 3, 1]])
def test_a_wrong_shape_of_an_output_is_a_warning(shape: list[int]) -> None:
    given = matmul()
    given.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, shape))
    with pytest.warns(UserWarning, match="output 'y' is declared with the shape"):
        assert import_onnx(given).outputs[0].shape == (2, 3)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(given.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": floats(2, 4)})[0].shape == (2, 3)


def test_functions_that_call_each_other_for_ever() -> None:
    given = model([node("F", ["x"], "y", domain="own")], X, ["y"])
    own = helper.make_opsetid("own", 1)
    given.opset_import.append(own)
    body = [helper.make_node("F", ["a"], ["b"], domain="own")]
    given.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, [own]))
    assert "must not be recursive" in message(ModelError, given)


def functions(calls: list[list[str]], width: int = 1) -> onnx.ModelProto:
    """A model whose function F0 is called; function i calls those of row i one after the other, `width` times."""
    given = model([node("F0", ["x"], "y", domain="own")], X, ["y"])
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    given.opset_import.append(sets[1])
    for i, row in enumerate(calls):
        names = ["a", *(f"t{j}" for j in range(len(row) * width - 1)), "b"]
        body = [
            helper.make_node(name, [names[j]], [names[j + 1]], domain="" if name == "Relu" else "own")
            for j, name in enumerate(row * width)
        ]
        given.functions.append(helper.make_function("own", f"F{i}", ["a"], ["b"], body, sets))
    return given


def test_functions_that_become_endless_nodes() -> None:
    doubling = functions([*([f"F{i + 1}"] for i in range(39)), ["Relu"]], width=2)
    assert "they are 2.2e+12 nodes where they are written out, and at most 20000 are" in message(ModelError, doubling)
    wide = functions([["F1"], ["F2"], ["F3"], ["Relu"]], width=20)
    assert "nodes where they are written out" in message(ModelError, wide)
    assert import_onnx(functions([["F1"], ["F2"], ["Relu"]], width=3)).outputs[0].shape == (2, 4)


def test_functions_that_are_called_with_more_than_they_take() -> None:
    given = functions([["Relu"]])
    given.graph.node[0].input.append("x")
    assert "calls function 'F0' of the model with 2 inputs and 1 outputs" in message(ModelError, given)
    given.functions.append(given.functions[0])
    assert "the model has several functions 'F0'" in message(ModelError, given)


@pytest.mark.parametrize("steps", [1 << 25, 10**12, (1 << 63) - 1])
def test_a_loop_of_more_steps_than_anybody_waits_for(steps: int) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])], "body",
        [port("i", [], "int64"), port("c", [], "bool"), port("v", [2, 4])],
        [port("d", [], "bool"), port("w", [2, 4])],
    )  # fmt: skip
    given = model([node("Loop", ["n", "", "x"], "y", body=body)], X, ["y"], {"n": np.array(steps)})
    assert f"it makes {steps} iterations" in message(UnsupportedError, given)


def counting(step: list[Any], limit: str, arrays: dict[str, Any]) -> onnx.ModelProto:
    """x is doubled until `step` says that the state s, which begins with 0, is large enough: it makes t and d of s."""
    body = helper.make_graph(
        [*step, helper.make_node("Add", ["v", "v"], ["w"])], "body",
        [port("i", [], "int64"), port("c", [], "bool"), port("s", None, "int64"), port("v", [2, 4])],
        [port("d", [], "bool"), port("t", None, "int64"), port("w", [2, 4])],
    )  # fmt: skip
    made = helper.make_node("Loop", [limit, "", "zero", "x"], ["", "y"], "loop", body=body)
    return model([made], X, ["y"], {"zero": np.array(0), "one": np.array(1), **arrays})


def test_a_loop_whose_condition_takes_long_to_follow() -> None:
    step = [helper.make_node("Add", ["s", "one"], ["t"]), helper.make_node("Less", ["t", "end"], ["d"])]
    for limit, end in (("", 10**9), ("most", 10**9)):
        given = counting(step, limit, {"end": np.array(end), "most": np.array(1 << 40)})
        assert "decides how often it runs" in message(UnsupportedError, given)
    short = counting(step, "most", {"end": np.array(3), "most": np.array(1 << 40)})
    assert import_onnx(short).outputs[0].shape == (2, 4)


def test_a_condition_that_is_made_of_giants_or_of_another_loop() -> None:
    shape = [helper.make_node("Expand", ["s", "many"], ["e"]), helper.make_node("ReduceMax", ["e"], ["t"], keepdims=0)]
    inner = helper.make_graph(
        [helper.make_node("Identity", ["ic"], ["id"]), helper.make_node("Add", ["it", "one"], ["iu"])], "inner",
        [port("ii", [], "int64"), port("ic", [], "bool"), port("it", [], "int64")],
        [port("id", [], "bool"), port("iu", [], "int64")],
    )  # fmt: skip
    loop = [helper.make_node("Loop", ["many0", "", "s"], ["t"], body=inner)]
    for step in (shape, loop):
        step = [*step, helper.make_node("Less", ["t", "one"], ["d"])]
        arrays = {"many": np.array([1 << 33]), "many0": np.array(1 << 40)}
        message(UnsupportedError, counting(step, "", arrays))


def test_norms_and_scales_that_do_not_fit() -> None:
    nodes = [node("Conv", ["x", "k"], "c"), node("BatchNormalization", ["c", "s", "s", "s", "v"], "y")]
    ports = [port("x", [1, 3, 4, 4])]
    ones = np.ones(4, np.float32)
    short = model(nodes, ports, ["y"], {"k": floats(4, 3, 1, 1), "s": ones[:3], "v": ones})
    assert "(BatchNormalization): its parameters have the shapes [3]" in message(ModelError, short)
    negative = model(nodes, ports, ["y"], {"k": floats(4, 3, 1, 1), "s": ones, "v": -ones})
    assert "a variance plus epsilon is not above 0" in message(ModelError, negative)
    codes = [node("QuantizeLinear", ["x", "s", "z"], "y")]
    zero = model(codes, X, ["y"], {"s": np.float32(0), "z": np.uint8(0)})
    assert "its scale 's' is 0" in message(ModelError, zero)
    weight = [node("DequantizeLinear", ["w", "s"], "d", axis=5), node("MatMul", ["x", "d"], "y")]
    axis = model(weight, X, ["y"], {"w": np.ones((4, 3), np.int8), "s": np.ones(3, np.float32)})
    assert "does not fit x of shape [4, 3] along axis 5" in message(ModelError, axis)


# sparse initializers, masks


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (sparse([-1, 3]), "which is no place"),
        (sparse([[-1, -1], [3, 2]]), "which is no place"),
        (sparse([3, 12]), "which is no place"),
        (sparse([3, 3]), "not in rising order, or name a place twice"),
        (sparse([9, 3]), "not in rising order"),
        (sparse([1, 3, 5]), "do not fit its values"),
        (sparse([1, 3, 5], [1.0]), "do not fit its values"),
        (sparse([1, 3], dims=(-4, 3)), "sizes are not below 0"),
        (sparse([1, 3], dims=(1 << 20, 1 << 20)), "which is 4 TiB; at most 2 GiB"),
    ],
)
def test_sparse_tensors_that_are_none(made: Any, expected: str) -> None:
    given = model([node("MatMul", ["x", "w"], "y")], X, ["y"])
    given.graph.sparse_initializer.append(made)
    assert expected in message(ModelError, given)


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_tensors_that_are_right(indices: Any) -> None:
    given = model([node("MatMul", ["x", "w"], "y")], X, ["y"])
    given.graph.sparse_initializer.append(sparse(indices))
    (facts,) = propagate(import_onnx(given)).weights.values()
    assert np.flatnonzero(facts.weight).tolist() == [1, 5]
    assert facts.weight.reshape(-1)[[1, 5]].tolist() == [1, 2]


def test_a_mask_with_nan_from_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "masks.npz", w=np.full((4, 3), np.nan))
    with pytest.raises(UsageError, match="mask 'w' has NaN"):
        load_masks(tmp_path / "masks.npz")


# data beside the model


def external(tensor: Any, location: str, **more: object) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))


def with_external(kind: str, location: str, **more: object) -> onnx.ModelProto:
    """A model whose weight is in a file: as an initializer, in a Constant node, or as the values of a sparse tensor."""
    given = matmul()
    if kind == "initializer":
        external(given.graph.initializer[0], location, **more)
        return given
    tensor = given.graph.initializer.pop()
    if kind == "sparse":
        given.graph.sparse_initializer.append(sparse(np.arange(12), np.arange(12)))
        external(given.graph.sparse_initializer[0].values, location, **more)
        return given
    external(tensor, location, **more)
    given.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    return given


@pytest.mark.parametrize("kind", ["initializer", "constant", "sparse"])
def test_external_data_is_read_from_the_folder_of_the_model_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    given = with_external(kind, "data")
    (here / "data").write_bytes(np.full(12, 7, np.float32).tobytes())  # of that name in the current folder
    (there / "model.onnx").write_bytes(given.SerializeToString())
    assert "Put that file beside the model" in message(ModelError, there / "model.onnx")
    assert "a model in memory has no folder" in message(ModelError, given)
    (there / "data").write_bytes(np.arange(1, 13, dtype=np.float32).tobytes())
    (facts,) = propagate(import_onnx(there / "model.onnx")).weights.values()
    assert sorted(facts.weight.reshape(-1).tolist()) == list(range(1, 13))


@pytest.mark.parametrize(
    ("location", "more", "expected"),
    [
        ("link", {}, "It is a symbolic link"),
        ("hard", {}, "hard link"),
        ("../data", {}, "names a file outside of its folder"),
        ("/etc/hostname", {}, "by an absolute path"),
        ("", {}, "does not name the file"),
        ("real", {"offset": 99999}, "offset"),
        ("real", {"offset": -4}, "offset must be non-negative"),
        ("real", {"offset": "x"}, "What is wrong"),
        ("real", {"length": 10**15}, "length"),
    ],
)
def test_external_data_that_is_refused_says_why(
    location: str, more: dict[str, object], expected: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "data").write_bytes(bytes(48))
    (folder / "real").write_bytes(bytes(48))
    (folder / "link").symlink_to(tmp_path / "data")
    os.link(tmp_path / "data", folder / "hard")
    (folder / "model.onnx").write_bytes(with_external("constant", location, **more).SerializeToString())
    text = message(ModelError, folder / "model.onnx")
    assert "tensor 'w'" in text
    assert expected in text


# giants


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("ConstantOfShape", ["s"], "e")], {"s": [1 << 20, 1 << 20]}),
        ([node("Expand", ["x", "s"], "e")], {"s": [1 << 20, 1 << 20, 2, 4]}),
        ([node("Tile", ["x", "s"], "e")], {"s": [1 << 20, 1 << 20]}),
        ([node("Pad", ["x", "s"], "e")], {"s": [1 << 30, 0, 1 << 30, 0]}),
        ([node("Resize", ["x", "", "", "s"], "e")], {"s": [1 << 20, 1 << 20]}),
        ([node("OneHot", ["i", "d", "v"], "e")], {"i": [1, 2], "d": 1 << 40, "v": np.float32([0, 1])}),
    ],
    ids=lambda value: value[0].op_type if isinstance(value, list) else "",
)
def test_what_would_become_a_giant(nodes: list[Any], constants: dict[str, Any]) -> None:
    given = model([*nodes, node("ReduceMax", ["e"], "m", keepdims=0), node("Add", ["x", "m"], "y")], X, ["y"],
                  {name: np.asarray(value) for name, value in constants.items()})  # fmt: skip
    text = message(ModelError, given)
    assert f"({nodes[0].op_type}): tensor 'e' would have the shape" in text
    assert "at most 2 GiB is allocated for one tensor" in text


def test_many_constants_that_are_a_giant_together() -> None:
    nodes = [node("Expand", [f"e{i}" if i else "one", f"s{i}"], f"e{i + 1}") for i in range(1)]
    sizes = {"s0": np.array([1 << 12, 1 << 12])}
    nodes += [node("Mul", [f"e{i}", "one"], f"e{i + 1}") for i in range(1, 40)]
    nodes += [node("ReduceMax", ["e40"], "m", keepdims=0), node("Add", ["x", "m"], "y")]
    given = model(nodes, X, ["y"], {**sizes, "one": np.float32(1)})
    with tesa.largest_tensor(1 << 28):
        assert "what is computed from constants has" in message(ModelError, given)


def test_a_window_that_leaves_less_than_nothing() -> None:
    given = model([node("AveragePool", ["x"], "y", kernel_shape=[99, 3])], [port("x", [1, 4, 6, 6])], ["y"])
    assert "with a size below 0" in message(ModelError, given)


def test_the_limit_is_lifted_by_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = model(
        [node("Relu", ["x"], "r"), node("ReduceMax", ["r"], "y", keepdims=0)], [port("x", [1 << 29, 2])], ["y"]
    )
    assert "input 'x' would have the shape [536870912, 2], which is 4 GiB" in message(ModelError, given)
    with tesa.largest_tensor(8 << 30):
        assert import_onnx(given).inputs[0].shape == (1 << 29, 2)
    path = tmp_path / "model.onnx"
    path.write_bytes(given.SerializeToString())
    assert main(["inspect", str(path)]) == ModelError.exit_code
    assert "--max-tensor SIZE" in capsys.readouterr().err
    assert main(["inspect", str(path), "--max-tensor", "8G"]) == 0


# many nodes


def test_nodes_in_reverse_order_are_sorted() -> None:
    nodes = [node("Relu" if i % 2 else "Neg", [f"t{i}" if i else "x"], f"t{i + 1}") for i in range(300)]
    found = import_onnx(model(nodes[::-1], X, ["t300"]))
    assert [n.output[0] for n in found.graph.nodes] == [f"t{i + 1}" for i in range(300)]  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("turned", [False, True])
def test_twenty_thousand_nodes(turned: bool) -> None:
    nodes = [node("Relu" if i % 2 else "Neg", [f"t{i}" if i else "x"], f"t{i + 1}", name="") for i in range(20_000)]
    given = model(nodes[::-1] if turned else nodes, X, ["t20000"])
    assert len(propagate(import_onnx(given)).tesa) == 20_001


@pytest.mark.slow
def test_a_sum_of_three_thousand_parts() -> None:
    nodes = [node("Neg", ["x"], f"t{i}") for i in range(3000)]
    nodes.append(node("Concat", [f"t{i}" for i in range(3000)], "y", axis=0))
    found = propagate(import_onnx(model(nodes, X, ["y"])))
    assert found.imported.outputs[0].shape == (6000, 4)


def test_constants_of_a_large_model_are_folded() -> None:
    nodes = [node("Softmax", ["w"], "a", axis=1), node("Erf", ["a"], "b")]
    nodes += [node("Relu", [f"t{i}" if i else "x"], f"t{i + 1}") for i in range(600)]
    nodes.append(node("MatMul", ["t600", "b"], "y"))
    given = model(nodes, X, ["y"], W)
    (weight,) = [facts.weight for facts in propagate(import_onnx(given)).weights.values()]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(given.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.abs(floats(2, 4))
    np.testing.assert_allclose(x @ weight, session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("code", [2, 3])
def test_the_command_line_ends_with_the_code_of_a_user(code: int, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    made = node("Concat", ["x", ""], "y", axis=0) if code == 2 else node("Foo", ["x"], "y")
    path.write_bytes(model([made], X, ["y"]).SerializeToString())
    assert main(["propagate", str(path)]) == code


@pytest.mark.parametrize("operator", ["Add", "Concat"])
def test_a_long_vector_takes_no_memory_at_import(operator: str) -> None:
    """ONNX follows the numbers of vectors, with an object for each; this one would be 20 GB of them."""
    given = model(
        [helper.make_node(operator, ["x", "x"], ["y"], **({"axis": 0} if operator == "Concat" else {}))],
        [port("x", [1 << 27])], ["y"],
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert import_onnx(given).outputs[0].shape == (1 << (27 if operator == "Add" else 28),)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20
