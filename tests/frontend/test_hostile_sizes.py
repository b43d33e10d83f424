"""Models of a few bytes that stand for giants: of what is stored, and of what operators are worked out with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tesa
from tesa.errors import ModelError, TesaError, UnsupportedError, UsageError
from tesa.frontend import import_onnx
from tesa.frontend.control import repeat
from tesa.frontend.expansions.signal import fourier, fourier_back
from tesa.propagate import propagate
from tests.frontend.onnx_models import floats, model, node, port
from tests.frontend.test_hostile import X, message, with_external

MS = "com.microsoft"


def of_one(made: Any, ports: list[Any], constants: dict[str, Any] | None = None, opset: int = 20) -> onnx.ModelProto:
    """A model of one node with the output y."""
    given = model([made], ports, ["y"], constants, opset)
    given.opset_import.append(helper.make_opsetid(MS, 1))
    given.ir_version = 10
    return given


def weight(given: onnx.ModelProto) -> Any:
    (facts,) = propagate(import_onnx(given)).weights.values()
    return facts.weight


# what is stored


def giant(name: str) -> Any:
    values, place = (numpy_helper.from_array(np.zeros(1, kind), name) for kind in (np.float32, np.int64))
    made = helper.make_sparse_tensor(values, place, [1])
    made.dims[:] = [1 << 28]
    return made


@pytest.mark.parametrize("kind", ["initializers", "constants", "in a function"])
def test_sparse_tensors_that_are_giants_together(kind: str) -> None:
    count = 20
    reads = [node("ReduceMax", [f"w{i}"], f"r{i}", keepdims=0) for i in range(count)]
    total = node("Sum", ["x", *(f"r{i}" for i in range(count))], "y")
    if kind == "initializers":
        given = model([*reads, total], X, ["y"])
        given.graph.sparse_initializer.extend(giant(f"w{i}") for i in range(count))
    elif kind == "constants":
        made = [helper.make_node("Constant", [], [f"w{i}"], sparse_value=giant("w")) for i in range(count)]
        given = model([*made, *reads, total], X, ["y"])
    else:
        given = calling([helper.make_node("Constant", [], ["c"], sparse_value=giant("c"))], count)
    assert "its sparse tensors would take up to 20 GiB with their zeros" in message(ModelError, given)


def calling(constant: list[Any], times: int) -> onnx.ModelProto:
    """A model that calls a function with a constant c so often."""
    body = [*constant, node("ReduceMax", ["c"], "m", keepdims=0), node("Add", ["a", "m"], "b")]
    own = helper.make_opsetid("own", 1)
    names = ["x", *(f"t{i}" for i in range(times - 1)), "y"]
    calls = [node("F", [names[i]], names[i + 1], domain="own") for i in range(times)]
    given = model(calls, X, ["y"])
    given.opset_import.append(own)
    given.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, list(given.opset_import[:1])))
    return given


def test_functions_whose_constants_are_written_out_often() -> None:
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(1 << 18, np.float32)))
    assert "its functions would take 300 MiB" in message(ModelError, calling([constant], 300))
    assert import_onnx(calling([constant], 20)).outputs[0].shape == (2, 4)


def test_data_beside_the_model_are_read_as_far_as_the_tensor_goes(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(np.arange(1, 13, dtype=np.float32).tobytes())
    os.truncate(tmp_path / "data", 1 << 42)  # with a hole: it takes nothing on the disk
    path = tmp_path / "model.onnx"
    path.write_bytes(with_external("initializer", "data").SerializeToString())
    assert sorted(weight(path).reshape(-1).tolist()) == list(range(1, 13))
    path.write_bytes(with_external("initializer", "data", length=1 << 41).SerializeToString())
    assert "their length there is said to be 2199023255552 bytes, and a tensor of shape [4, 3] has 48" in message(
        ModelError, path
    )


def test_data_beside_the_model_that_many_tensors_share(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(48))
    given = with_external("initializer", "data")
    for i in range(9):
        given.graph.initializer.append(given.graph.initializer[0])
        given.graph.initializer[-1].name = f"w{i}"
    path = tmp_path / "model.onnx"
    path.write_bytes(given.SerializeToString())
    assert len(import_onnx(path).unused) == 9
    with tesa.largest_tensor(1 << 10):
        assert "whose parts other tensors have as well" in message(ModelError, path)


# what operators are worked out with

ONE = np.ones(1, np.float32)
LONG = [port("q", [1, 1, 22000, 1])]
HEADS = {"num_heads": 1, "domain": MS}
GIANTS: dict[str, Any] = {
    "the order of an attention": (node("Attention", ["q", "q", "q"], "y", is_causal=1), LONG, {}, 23),
    "its mask": (
        node("Attention", ["q", "q", "q", "m"], "y"), [port("q", [1, 1, 22000, 1]), port("m", [22000, 2])], {}, 23,
    ),
    "that of onnxruntime": (
        node("MultiHeadAttention", ["q", "q", "q"], "y", unidirectional=1, **HEADS), [port("q", [1, 22000, 4])], {},
    ),
    "of groups": (
        node("GroupQueryAttention", ["q", "q", "q", "", "", "n", "t"], "y", kv_num_heads=1, **HEADS),
        [port("q", [1, 22000, 4])], {"n": np.array([21999], np.int32), "t": np.int32(22000)},
    ),
    "blocks of a picture": (
        node("Col2Im", ["x", "s", "b"], "y"), [port("x", [1, 90000, 4])],
        {"s": np.array([301, 301]), "b": np.array([300, 300])},
    ),
    "the places of maxima": (
        helper.make_node("MaxPool", ["x"], ["m", "y"], "y", kernel_shape=[90, 90], pads=[89] * 4),
        [port("x", [1, 1, 99, 99])], {},
    ),
    "a grid": (
        node("AffineGrid", ["x", "s"], "y"), [port("x", [1, 2, 3])], {"s": np.array([1, 1, 14000, 14000])},
    ),
    "samples": (
        node("RoiAlign", ["x", "r", "i"], "y", mode="max", output_height=4, sampling_ratio=1 << 30),
        [port("x", [1, 2, 6, 6])], {"r": np.ones((1, 4), np.float32), "i": np.array([0])},
    ),
    "a diagonal": (node("EyeLike", ["x"], "y"), [port("x", [20000, 20000])], {}),
    "groups": (
        node("GroupNorm", ["x", "g", "g"], "y", groups=1 << 40, activation=0, domain=MS), [port("x", [1, 6, 6, 4])],
        {"g": np.ones(4, np.float32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GIANTS)
def test_what_an_operator_would_be_worked_out_with(name: str) -> None:
    text = message(ModelError, of_one(*GIANTS[name]))
    assert "what it is worked out with would have the shape" in text
    assert "at most 2 GiB is allocated" in text


@pytest.mark.parametrize(
    ("made", "ports", "constants", "expected"),
    [
        (node("UnfoldTensor", ["x"], "y", size=1, step=1, domain=MS), [port("x", [1, 1 << 20])], {},
         "more than 20000 operators"),
        (node("UnfoldTensor", ["x"], "y", size=-3, step=1, domain=MS), [port("x", [1, 64])], {},
         "it cuts windows of -3 with steps of 1 from 64"),
        (node("DeformConv", ["x", "w", "o"], "y", group=1 << 40), [port("x", [1, 4, 6, 6]), port("o", [1, 18, 4, 4])],
         {"w": floats(4, 4, 3, 3)}, "it has 1099511627776 groups"),
        (node("MatMulBnb4", ["x", "w", "m"], "y", K=1 << 40, N=1, block_size=32, domain=MS), [port("x", [3, 64])],
         {"w": np.ones(320, np.uint8), "m": ONE}, "its weight has 640 codes"),
        (node("MatMulNBits", ["x", "w", "m"], "y", K=1 << 40, N=1, bits=4, block_size=1 << 40, domain=MS),
         [port("x", [3, 64])], {"w": np.ones((1, 1, 8), np.uint8), "m": ONE}, "its weight has 16 codes"),
    ],
)  # fmt: skip
def test_numbers_that_an_operator_cannot_have(made: Any, ports: list[Any], constants: Any, expected: str) -> None:
    assert expected in message(UnsupportedError, of_one(made, ports, constants))


def test_blocks_that_are_larger_than_the_weight() -> None:
    """The number of a block holds for all of it, however large the file says that blocks are."""
    packed = np.random.default_rng(0).integers(0, 255, 320).astype(np.uint8)
    found = [
        weight(of_one(
            node("MatMulBnb4", ["x", "w", "m"], "y", K=64, N=10, block_size=size, quant_type=1, domain=MS),
            [port("x", [3, 64])], {"w": packed, "m": ONE},
        ))
        for size in (640, 1 << 40)
    ]  # fmt: skip
    np.testing.assert_array_equal(*found)
    found = [
        weight(model(
            [node("DequantizeLinear", ["w", "s"], "d", axis=0, block_size=size), node("MatMul", ["x", "d"], "y")],
            [port("x", [2, 16])], ["y"], {"w": np.arange(128, dtype=np.int8).reshape(16, 8), "s": floats(1, 8)}, 21,
        ))
        for size in (16, 1 << 40)
    ]  # fmt: skip
    np.testing.assert_array_equal(*found)


def test_the_matrices_of_transforms_are_made_in_parts() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 2))
    spectrum = np.einsum("np,npkr->kr", x, fourier(600, parts=2))
    np.testing.assert_allclose(spectrum[:, 0] + 1j * spectrum[:, 1], np.fft.fft(x[:, 0] + 1j * x[:, 1]), atol=1e-9)
    half = rng.standard_normal((301, 2))
    half[[0, -1], 1] = 0
    back = np.einsum("kp,kpn->n", half, fourier_back(600))
    np.testing.assert_allclose(back, np.fft.irfft(half[:, 0] + 1j * half[:, 1], 600), atol=1e-12)


def test_an_operator_of_onnxruntime_without_an_input_that_it_needs() -> None:
    made = node("SkipLayerNormalization", ["x", "", "g"], "y", domain=MS)
    text = message(ModelError, of_one(made, [port("x", [2, 5, 8])], {"g": floats(8)}))
    assert "node 'y' (SkipLayerNormalization): an input that it needs, of its Add, is left out" in text
    made = node("QLinearConcat", ["s", "z"], "y", axis=0, domain=MS)
    with pytest.raises(TesaError, match="is left out"):
        import_onnx(of_one(made, X, {"s": np.float32(1), "z": np.uint8(0)}))


# what becomes many nodes


def growing(steps: int) -> Any:
    """A loop that cannot stay one: its state is longer after each step."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Concat", ["v", "row"], ["w"], axis=0)], "body",
        [port("i", [], "int64"), port("c", [], "bool"), port("v", None)], [port("d", [], "bool"), port("w", None)],
    )  # fmt: skip
    return node("Loop", ["n", "", "x"], f"y{steps}", body=body)


def test_loops_and_sequences_that_become_endless_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeat, "LONGEST", 1000)
    limit = {"n": np.array(200), "row": floats(1, 4)}
    many = [growing(i) for i in range(5)]
    given = model([*many, node("Concat", [one.output[0] for one in many], "y", axis=0)], X, ["y"], limit)
    assert "With others of its kind that would take" in message(UnsupportedError, given)
    cut = [node("SplitToSequence", ["x"], "q", axis=0), node("ConcatFromSequence", ["q"], "y", axis=0)]
    given = model(cut, [port("x", [1 << 20, 1])], ["y"])
    assert "more than 1000. Export the model without it" in message(UnsupportedError, given)
    given = model(cut, [port("x", [300, 1])], ["y"])
    assert import_onnx(given).outputs[0].shape == (300, 1)
    none = model([node("SplitToSequence", ["x", "n"], "q", axis=0), cut[1]], X, ["y"], {"n": np.array(0)})
    assert "it cuts parts of the length 0" in message(ModelError, none)


def test_a_loop_without_nodes_is_as_long_as_its_steps() -> None:
    body = helper.make_graph([], "body", [port("i", [], "int64"), port("c", [], "bool"), port("v", [2, 4])],
                             [port("c", [], "bool"), port("v", [2, 4])])  # fmt: skip
    given = model([node("Loop", ["n", "", "x"], "y", body=body)], X, ["y"], {"n": np.array(1 << 24)})
    assert import_onnx(given).outputs[0].shape == (2, 4)


def test_a_window_over_more_channels_than_there_are() -> None:
    ports = [port("x", [1, 5, 2, 2])]
    found = [
        import_onnx(of_one(node("LRN", ["x"], "y", size=size, alpha=1e-4 * size), ports)).mod.script()
        for size in (11, 1 << 40)
    ]
    assert found[0].count("R.strided_slice(") == found[1].count("R.strided_slice(") == 11
    wide = of_one(node("LRN", ["x"], "y", size=1 << 40), [port("x", [1, 1 << 20, 1, 1])])
    assert "it sums over 1099511627776 channels, at most 1024" in message(UnsupportedError, wide)


def transform(length: int, parts: int) -> onnx.ModelProto:
    return of_one(node("DFT", ["x", "n"], "y"), [port("x", [1, 8, parts])], {"n": np.array(length)})


@pytest.mark.parametrize(("length", "parts"), [(8192, 1), (4200, 2)])
def test_a_transform_whose_matrix_would_be_too_large(length: int, parts: int) -> None:
    assert f"a transform of {length} points is too long" in message(UnsupportedError, transform(length, parts))


def test_a_transform_whose_result_would_be_too_large() -> None:
    assert "node 'y' (DFT): tensor 'y' would have the shape" in message(ModelError, transform(1 << 40, 1))


# what is silently taken for something else


def test_a_tensor_with_a_size_below_0() -> None:
    """NumPy would take -1 for what is left."""
    given = model([node("MatMul", ["x", "w"], "y")], X, ["y"], {"w": floats(4, 3)})
    given.graph.initializer[0].dims[:] = [-1, 3]
    assert "tensor 'w' has the shape [-1, 3]; sizes are not below 0" in message(ModelError, given)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.ones((4, 3), complex), "elements of type complex128"),
        (np.full((4, 3), "0"), "elements of type <U1"),
        (np.full((4, 3), None), "elements of type object"),
        (np.zeros((4, 3), "M8[s]"), "elements of type datetime64"),
        ([[1], [1, 0]], "is no array"),
    ],
)
def test_a_mask_that_is_no_array_of_numbers(mask: Any, expected: str) -> None:
    given = model([node("MatMul", ["x", "w"], "y")], X, ["y"], {"w": floats(4, 3)})
    assert expected in message(UsageError, given, masks={"w": mask})
    assert import_onnx(given, masks={"w": [[1, 0, 1]] * 4}).masks["w"].sum() == 8


@pytest.mark.parametrize(("target", "expected"), [("out", "A link leads outside"), ("model/sub", "symbolic link")])
def test_data_beside_the_model_in_a_folder_that_is_a_link(target: str, expected: str, tmp_path: Path) -> None:
    for name in ("out", "model/sub"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "data").write_bytes(bytes(48))
    (tmp_path / "model" / "link").symlink_to(tmp_path / target)
    path = tmp_path / "model" / "model.onnx"
    path.write_bytes(with_external("initializer", "link/data").SerializeToString())
    assert expected in message(ModelError, path)


def test_a_model_in_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    assert "is a pipe or a device" in message(UsageError, tmp_path / "model.onnx")
