"""Whole networks for GPUs, compiled, loaded and run on a pretended driver, against onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import tesa.models
from tesa.compiler import compile_model
from tesa.errors import UnsupportedError, UsageError
from tesa.runtime import load, verify
from tests.gpu.driver import Driver, started
from tests.gpu.kernels import sparse


def network(path: Path) -> Path:
    """A convolution, a residual, a depthwise one, the largest of each 2 x 2, and a classifier."""
    weights = {
        "w1": sparse(8, 3 * 9, 0.4, 1).reshape(8, 3, 3, 3),
        "b1": np.linspace(-1, 1, 8).astype(np.float32),
        "w2": sparse(8, 8, 0.5, 2).reshape(8, 8, 1, 1),
        "w3": sparse(8, 9, 0.6, 3).reshape(8, 1, 3, 3),
        "w4": sparse(5, 8 * 4, 0.5, 4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2], name="first"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["p"], name="pointwise"),
        helper.make_node("Add", ["p", "r"], ["s"]),
        helper.make_node("Conv", ["s", "w3"], ["d"], pads=[1, 1, 1, 1], group=8, name="depthwise"),
        helper.make_node("MaxPool", ["d"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "w4"], ["l"], transB=1, name="classifier"),
        helper.make_node("Sigmoid", ["l"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 9, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return started(tmp_path, monkeypatch)


def reductions(path: Path) -> Path:
    """A convolution, the mean of each channel, and a softmax over more classes than a warp has lanes."""
    weights = {
        "w1": sparse(8, 3 * 9, 0.4, 1).reshape(8, 3, 3, 3),
        "w2": sparse(40, 8, 0.5, 2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1], name="first"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "w2"], ["l"], transB=1, name="classifier"),
        helper.make_node("Softmax", ["l"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 9, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 40])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize(
    "name", [pytest.param("reductions", marks=pytest.mark.slow), pytest.param("digits", marks=pytest.mark.long)]
)
def test_networks_with_means_and_softmax(name: str, driver: Driver, tmp_path: Path) -> None:
    """Their reductions shuffle what some lanes never set, and drop it."""
    shipped = Path(tesa.models.__file__).parent / "digits.onnx"
    source = reductions(tmp_path / "net.onnx") if name == "reductions" else shipped
    compile_model(source, output=tmp_path / "net.so", target="cuda:sm_80", measure=False)
    with load(tmp_path / "net.so") as model:  # type: ignore[attr-defined]
        result = verify(model, source)
        assert driver.faults == []
        assert result.ok, result


def quantized(path: Path) -> Path:
    """Codes whose zero is none through a border and through 1 x 1, a residual between them, and codes between any two
    operators: a layer is a convolution, codes, an activation or a residual, and codes again."""
    rng = np.random.default_rng(0)

    def codes(*shape: int) -> np.ndarray:
        return (rng.integers(-127, 128, shape) * (rng.random(shape) < 0.5)).astype(np.int8)

    values = {
        "w1": codes(16, 8, 3, 3), "w2": codes(16, 16, 1, 1), "w3": codes(16, 10), "b1": rng.integers(-500, 500, 16),
        "s": 0.02, "z1": np.uint8(120), "ws": 0.01, "wz": np.int8(0), "bs": 0.0002,
    }  # fmt: skip
    types = {"b1": np.int32, "s": np.float32, "ws": np.float32, "bs": np.float32}
    nodes: list[onnx.NodeProto] = []

    def node(op: str, inputs: list[str], output: str, **more: object) -> str:
        nodes.append(helper.make_node(op, inputs, [output], **({"name": output} | more)))
        return output

    def stored(name: str, zero: str) -> str:
        return node(
            "DequantizeLinear", [node("QuantizeLinear", [name, "s", zero], f"{name}_q"), "s", zero], f"{name}_d"
        )

    w1, w2, w3 = (node("DequantizeLinear", [name, "ws", "wz"], f"{name}_d") for name in ("w1", "w2", "w3"))
    b1 = node("DequantizeLinear", ["b1", "bs"], "b1_d")
    c = stored(node("Conv", [stored("x", "z1"), w1, b1], "first", pads=[1, 1, 1, 1]), "z1")
    r = stored(node("Relu", [c], "r"), "z1")
    p = stored(node("Add", [stored(node("Conv", [r, w2], "point"), "z1"), r], "p"), "z1")
    f = stored(node("Flatten", [node("GlobalAveragePool", [p], "m")], "f"), "z1")
    node("Softmax", [node("MatMul", [f, w3], "classifier")], "y")
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8, 6, 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(np.asarray(value, types.get(name)), name) for name, value in values.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.slow
def test_a_quantized_network_is_computed_on_integers(driver: Driver, tmp_path: Path) -> None:
    source = quantized(tmp_path / "net.onnx")
    made = compile_model(source, output=tmp_path / "net.so", target="cuda:sm_80", measure=False)
    bits = {row.layer: row.parts[0].bits for row in made.plan.layers if row.parts}
    assert bits == {"first": 8, "point": 8, "classifier": 8}
    tensors = [row.tensor for row in made.plan.layers if row.parts]
    assert tensors == ["r_q", "p_q", "classifier"], "what stands between codes is in the layers' kernels"
    with load(tmp_path / "net.so") as model:  # type: ignore[attr-defined]
        result = verify(model, source)
        assert driver.faults == []
        assert result.ok, result
    made = compile_model(source, output=tmp_path / "net.so", target="cuda:sm_80", measure=False, integer=False)
    assert {row.parts[0].bits for row in made.plan.layers if row.parts} == {32}


@pytest.mark.slow
def test_a_network_computes_what_its_source_computes(driver: Driver, tmp_path: Path) -> None:
    source = network(tmp_path / "net.onnx")
    made = compile_model(source, output=tmp_path / "net.so", target="cuda:sm_80", measure=False)
    assert made.made.startswith("PTX for sm_80 and newer, compiled at first load; ")
    assert made.skipped == ()
    kernels = {row.layer: row.kernel for row in made.plan.layers if row.parts}
    assert len(kernels) == 4
    assert all(kernels.values())
    with load(tmp_path / "net.so") as model:  # type: ignore[attr-defined]
        result = verify(model, source)
        assert driver.faults == []
        assert result.ok, result
    assert driver.graphs > 0
    described = json.loads((tmp_path / "net.json").read_text())
    assert described["library"]["format"] == "gpu"
    assert described["library"]["launches"] == len(set(driver.launched))


def test_what_a_library_for_a_gpu_is_not(tmp_path: Path) -> None:
    source = network(tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="target cuda:sm_80 has no format 'o'"):
        compile_model(source, output=tmp_path / "net.o", target="cuda:sm_80", format="o")
    with pytest.raises(UnsupportedError, match="no kernel family applies"):
        compile_model(source, output=tmp_path / "net.so", target="cuda:sm_80", families=["unrolled"])
    with pytest.raises(UnsupportedError, match=r"tesa.compile\(max_bytes=...\): knows CPUs alone, not cuda:sm_80"):
        compile_model(source, output=tmp_path / "net.so", target="cuda:sm_80", max_bytes=1000)


def perceptron(path: Path) -> Path:
    """Two products with a softmax behind them, of a batch whose size is open."""
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "w2"], ["l"], name="second"),
            helper.make_node("Softmax", ["l"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", kind, ["batch", 24])],
        [helper.make_tensor_value_info("y", kind, ["batch", 5])],
        [numpy_helper.from_array(sparse(24, 16, 0.4, 1), "w1"), numpy_helper.from_array(sparse(16, 5, 0.5, 2), "w2")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.slow
def test_several_sizes_in_one_library(driver: Driver, tmp_path: Path) -> None:
    """Each call takes the kernels for the shape of its input; shorter ones are filled up."""
    source = perceptron(tmp_path / "net.onnx")
    made = compile_model(
        source, output=tmp_path / "net.so", target="cuda:sm_80", measure=False, shapes={"batch": [1, 4]}, pad="batch"
    )
    assert [str(size) for size in made.sizes] == ["batch=1", "batch=4"]
    assert any("filled up with zeros along batch" in note for note in made.skipped)
    x = np.random.default_rng(0).standard_normal((4, 24)).astype(np.float32)
    session = onnxruntime.InferenceSession(source)
    with load(tmp_path / "net.so") as model:  # type: ignore[attr-defined]
        result = verify(model, source)
        assert result.ok, result
        for rows in (4, 1, 3, 4):
            (wanted,) = session.run(None, {"x": x[:rows]})
            found = model({"x": x[:rows]})["y"]
            assert found.shape == (rows, 5)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        with pytest.raises(UsageError, match=r"no size of the model takes inputs of the shapes x \[5, 24\]"):
            model({"x": np.zeros((5, 24), np.float32)})
    assert driver.faults == []
    assert driver.graphs > 0


def test_indices_beyond_a_table_are_refused_before_they_are_copied(driver: Driver, tmp_path: Path) -> None:
    """A kernel would read memory that is not the table's."""
    kind = onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["y"])], "net",
        [helper.make_tensor_value_info("ids", kind.INT64, [3])],
        [helper.make_tensor_value_info("y", kind.FLOAT, [3, 4])],
        [numpy_helper.from_array(np.arange(20, dtype=np.float32).reshape(5, 4), "table")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "net.onnx")
    compile_model(tmp_path / "net.onnx", output=tmp_path / "net.so", target="cuda:sm_80", measure=False)
    with load(tmp_path / "net.so") as model:  # type: ignore[attr-defined]
        found = model({"ids": np.array([4, 0, -1])})["y"]
        np.testing.assert_array_equal(found, np.arange(20).reshape(5, 4)[[4, 0, -1]])
        with pytest.raises(UsageError, match="ids"):
            model({"ids": np.array([0, 5, 1])})
    assert driver.faults == []
