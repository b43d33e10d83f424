"""What a user sees of a bad file or a bad call: one message that names file, place and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tesa.errors import ModelError, TesaError, UnsupportedError, UsageError
from tesa.frontend import import_onnx, load_masks

from .onnx_models import conv_model, floats, model, node, port

WEIGHT = floats(4, 3, 1, 1)


def message(error: type[TesaError], given: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        import_onnx(given, **options)
    return str(caught.value)


def test_no_such_file_names_the_nearest(tmp_path: Path) -> None:
    onnx.save(conv_model(WEIGHT), tmp_path / "digits.onnx")
    text = message(UsageError, tmp_path / "digit.onnx")
    assert "digit.onnx: there is no such file. Did you mean 'digits.onnx'?" in text


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in message(UsageError, tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04 this is a zip archive, not a model", "not an ONNX file"),
        (b"hello, world\n", "not an ONNX file"),
        (conv_model(WEIGHT).SerializeToString()[:-40], "not an ONNX file, or a truncated one"),
    ],
)
def test_not_an_onnx_file(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    text = message(ModelError, path)
    assert expected in text
    assert str(path) in text


def test_every_truncation_is_one_of_our_errors(tmp_path: Path) -> None:
    content = conv_model(WEIGHT, np.zeros(4)).SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        message(TesaError, path)


def test_no_nodes() -> None:
    assert "has no nodes" in message(ModelError, model([], [port("x", [1])], ["x"]))


def test_missing_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(conv_model(floats(64, 64, 1, 1)), path, save_as_external_data=True, location="model.data")
    (tmp_path / "model.data").unlink()
    text = message(ModelError, path)
    assert "'layer.weight'" in text
    assert "'model.data'" in text
    assert "Put that file beside the model" in text


def test_external_data_missing_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(conv_model(floats(64, 64, 1, 1)), "model.onnx", save_as_external_data=True, location="model.data")
    (tmp_path / "model.data").unlink()
    text = message(ModelError, "model.onnx")
    assert f"cannot be read from the folder {tmp_path}. Put that file beside" in text


def test_truncated_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(conv_model(floats(64, 64, 1, 1)), path, save_as_external_data=True, location="model.data")
    (tmp_path / "model.data").write_bytes(b"\0" * 100)
    assert "'layer.weight'" in message(ModelError, path)


def test_operators_without_import_are_all_listed() -> None:
    nodes = [node("Bar", ["x"], "a"), node("Foo", ["a"], "b"), node("Foo", ["b"], "c", domain="my.ops")]
    text = message(UnsupportedError, model(nodes, [port("x", [1])], ["c"]))
    assert "Foo (1x, first at node 'b')" in text
    assert "Bar (1x, first at node 'a')" in text
    assert "my.ops::Foo" in text
    assert "opset 17" in text


def test_a_branch_without_outputs() -> None:
    body = helper.make_graph([], "body", [], [])
    choice = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    text = message(ModelError, model([choice], [port("x", [1])], ["y"]))
    assert "node 'y' (If): its then_branch gives 0 outputs, expected 1" in text


def test_an_operator_that_tvm_cannot_convert_names_the_layer(capfd: pytest.CaptureFixture[str]) -> None:
    nodes = [node("MatMul", ["x", "w"], "y", name="wrong")]
    text = message(UnsupportedError, model(nodes, [port("x", [2, 3])], ["y"], {"w": floats(4, 5)}))
    assert "node 'wrong' (MatMul): this form of the operator cannot be imported" in text
    assert "float32[2, 3], float32[4, 5]" in text
    out, err = capfd.readouterr()
    assert out + err == ""


def test_open_dimension() -> None:
    dynamic = model([node("Relu", ["image"], "y")], [port("image", ["batch", 3, 8, 8])], ["y"])
    text = message(UsageError, dynamic)
    assert "input 'image'" in text
    assert "dimension 0 ('batch')" in text
    assert "--shape image=1,3,8,8" in text
    assert import_onnx(dynamic, shapes={"image": (2, 3, 8, 8)}).inputs[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize("shapes", [{}, {"x": (2, 0)}])
def test_a_size_of_zero(shapes: dict[str, tuple[int, ...]]) -> None:
    text = message(UsageError, model([node("Relu", ["x"], "y")], [port("x", [2, 0])], ["y"]), shapes=shapes)
    assert "input 'x' has size 0 in dimension 1" in text
    assert "tensors without elements are not supported" in text
    assert "--shape x=2,1" in text


def test_a_size_of_zero_in_the_file_may_mean_an_open_one() -> None:
    given = model([node("Relu", ["x"], "y")], [port("x", [2, 0])], ["y"])
    assert import_onnx(given, shapes={"x": (2, 3)}).inputs[0].shape == (2, 3)


def test_unknown_rank() -> None:
    assert "number of dimensions" in message(UsageError, model([node("Relu", ["x"], "y")], [port("x", None)], ["y"]))


@pytest.mark.parametrize("shape", [(1, 3, 9, 8), (1, 3, 8), (1, 3, 8, 0)])
def test_a_shape_that_contradicts_the_file(shape: tuple[int, ...]) -> None:
    given = model([node("Relu", ["x"], "y")], [port("x", [1, 3, 8, "width"])], ["y"])
    text = message(UsageError, given, shapes={"x": shape})
    assert str(list(shape)) in text
    assert "the model declares [1, 3, 8, 'width']" in text


def test_a_shape_for_an_input_that_does_not_exist() -> None:
    text = message(UsageError, conv_model(WEIGHT), shapes={"X1": (1, 3, 6, 6), "x": (1, 3, 6, 6)})
    assert "no such input. Its inputs: x." in text


@pytest.mark.parametrize(("value", "expected"), [(np.nan, "1 NaN and 0 infinite"), (np.inf, "0 NaN and 1 infinite")])
def test_weights_that_are_not_finite(value: float, expected: str) -> None:
    weight = WEIGHT.copy()
    weight[0, 0] = value
    text = message(ModelError, conv_model(weight))
    assert "tensor 'layer.weight'" in text
    assert f"{expected} of 12 values" in text


def test_infinity_as_a_bound_is_fine() -> None:
    nodes = [node("Clip", ["x", "low", "high"], "y")]
    import_onnx(model(nodes, [port("x", [4])], ["y"], {"low": np.float32(0), "high": np.float32(np.inf)}))


def test_a_cycle() -> None:
    nodes = [node("Add", ["x", "b"], "a"), node("Relu", ["a"], "b")]
    text = message(ModelError, model(nodes, [port("x", [4])], ["b"]))
    assert "a cycle through the nodes 'a', 'b'" in text


def test_a_tensor_from_nowhere() -> None:
    text = message(ModelError, model([node("Add", ["x", "ghost"], "y")], [port("x", [4])], ["y"]))
    assert "node 'y' (Add) reads tensor 'ghost'" in text


def test_an_output_from_nowhere() -> None:
    assert "'z'" in message(ModelError, model([node("Relu", ["x"], "y")], [port("x", [4])], ["z"]))


def test_a_tensor_written_twice() -> None:
    nodes = [node("Relu", ["x"], "y"), node("Tanh", ["x"], "y")]
    assert "'y' is written more than once" in message(ModelError, model(nodes, [port("x", [4])], ["y"]))


def test_a_sparse_weight_whose_indices_are_out_of_range() -> None:
    given = conv_model(WEIGHT)
    given.graph.initializer.pop()
    values = numpy_helper.from_array(np.ones(1, np.float32), "layer.weight")
    indices = numpy_helper.from_array(np.array([99]), "indices")
    given.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 3, 1, 1]))
    assert "sparse tensor 'layer.weight'" in message(ModelError, given)


def test_unknown_mask() -> None:
    text = message(UsageError, conv_model(WEIGHT), masks={"layer.wieght": np.ones((4, 3, 1, 1))})
    assert "mask 'layer.wieght' matches no weight" in text
    assert "Did you mean 'layer.weight'" in text


def test_mask_of_another_shape() -> None:
    text = message(UsageError, conv_model(WEIGHT), masks={"layer.weight": np.ones((3, 4))})
    assert "has shape [3, 4], its weight 'layer.weight' has [4, 3, 1, 1]" in text


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    path = tmp_path / "masks.npz"
    with pytest.raises(UsageError, match="no such file of masks"):
        load_masks(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(UsageError, match=r"not an \.npz file"):
        load_masks(path)
    np.savez(path, layer=np.array(["a"]))
    with pytest.raises(UsageError, match="mask 'layer' has elements of type"):
        load_masks(path)
    np.save(tmp_path / "mask.npy", np.ones(3))
    with pytest.raises(UsageError, match="one array without a name"):
        load_masks(tmp_path / "mask.npy")


def test_a_model_object_is_left_as_it_was() -> None:
    given = model([node("Relu", ["x"], "y")], [port("x", ["n", 4])], ["y"])
    before = given.SerializeToString()
    import_onnx(given, shapes={"x": (2, 4)})
    assert given.SerializeToString() == before


def test_a_mask_with_nan() -> None:
    from tesa.frontend import import_onnx

    nodes = [node("MatMul", ["x", "w"], "y")]
    with pytest.raises(UsageError, match="mask 'w' has NaN"):
        import_onnx(model(nodes, [port("x", [1, 2])], ["y"], {"w": floats(2, 2)}), masks={"w": np.full((2, 2), np.nan)})
