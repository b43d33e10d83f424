"""Networks of codes for GPUs whose convolutions are transposed or have a depth, on a pretended driver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tesa.compiler import compile_model
from tesa.runtime import load, verify
from tests.gpu.driver import started


def between_codes(path: Path, op: str, weight: tuple[int, ...], shape: list[int], **attributes: object) -> Path:
    """One convolution with a bias between quantizers whose zero is none, and a ReLU behind it."""
    rng = np.random.default_rng(0)
    codes = (rng.integers(-127, 128, weight) * (rng.random(weight) < 0.5)).astype(np.int8)
    features = weight[1] if op == "ConvTranspose" else weight[0]
    values = {
        "w": codes, "b": rng.integers(-500, 500, features).astype(np.int32), "s": np.float32(0.02),
        "z": np.uint8(120), "ws": np.float32(0.01), "wz": np.int8(0), "bs": np.float32(0.0002),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("DequantizeLinear", ["b", "bs"], ["bd"]),
        helper.make_node(op, ["xd", "wd", "bd"], ["c"], name="layer", **attributes),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["y"]),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("op", "weight", "shape", "attributes"),
    [
        ("ConvTranspose", (8, 6, 3, 3), [2, 8, 5, 4], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("ConvTranspose", (8, 6, 3, 2), [1, 8, 4, 5], {"strides": [1, 2], "pads": [1, 0, 0, 0]}),
        ("Conv", (6, 4, 3, 3, 3), [2, 4, 4, 5, 4], {"pads": [1, 1, 1, 1, 1, 1]}),
        ("Conv", (6, 4, 2, 3, 3), [1, 4, 5, 5, 6], {"strides": [2, 1, 2], "pads": [0, 1, 0, 1, 1, 1]}),
    ],
    ids=["transposed", "one axis", "depth", "strides"],
)
def test_they_are_computed_on_integers(
    op: str, weight: tuple[int, ...], shape: list[int], attributes: dict[str, list[int]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    driver = started(tmp_path, monkeypatch)
    # small as they are, real numbers would be taken by their time alone
    monkeypatch.setattr("tesa.choose.integer.IntegerContest.decide", lambda self, ways: True)
    source = between_codes(tmp_path / "net.onnx", op, weight, shape, **attributes)
    made = compile_model(source, output=tmp_path / "net.so", target="cuda:sm_80", measure=False)
    (row,) = (row for row in made.plan.layers if row.parts)
    assert row.parts[0].bits == 8
    with load(tmp_path / "net.so") as model:  # type: ignore[attr-defined]
        result = verify(model, source)
        assert driver.faults == []
        assert result.ok, result
