"""A converter whose tensor is not what ONNX says is found out at import."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from tvm import relax

from tesa.errors import UnsupportedError
from tesa.frontend import import_onnx, registry

from .onnx_models import floats, model, node, port


def turned(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    return relax.op.permute_dims(inputs[0])


def short(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    return relax.op.astype(inputs[0], "float16")


def parts(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    return bb.normalize(relax.op.split(inputs[0], [1], 1))


@pytest.mark.parametrize(
    ("operator", "converter", "expected"),
    [
        ("Tanh", turned, r"tensor 'y' .*float32\[3, 2\].*infers float32\[2, 3\]"),
        ("Tanh", short, r"tensor 'y' .*float16\[2, 3\].*infers float32\[2, 3\]"),
        ("Identity", turned, r"tensor 'y' .*float32\[3, 2\].*infers float32\[2, 3\]"),
    ],
)
def test_a_wrong_shape_or_type_names_the_tensor(
    monkeypatch: pytest.MonkeyPatch, operator: str, converter: Any, expected: str
) -> None:
    monkeypatch.setitem(registry._OWN, operator, converter)
    given = model([node(operator, ["x"], "y", name="here")], [port("x", [2, 3])], ["y"])
    with pytest.raises(UnsupportedError, match=rf"node 'here' \({operator}\): {expected}"):
        import_onnx(given)


def test_every_output_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._OWN, "Split", parts)
    nodes = [helper.make_node("Split", ["x", "sizes"], ["a", "b"], "here", axis=1)]
    given = model(nodes, [port("x", [2, 3])], ["a", "b"], {"sizes": np.array([2, 1])})
    with pytest.raises(UnsupportedError, match=r"node 'here' \(Split\): tensor 'a'"):
        import_onnx(given)


def test_what_the_file_declares_of_its_outputs_does_not_count() -> None:
    given = model([node("MatMul", ["x", "w"], "y")], [port("x", ["n", 3])], ["y"], {"w": floats(3, 4)})
    given.graph.output[0].CopyFrom(port("y", [1, 4]))
    assert import_onnx(given, shapes={"x": (5, 3)}).outputs[0].shape == (5, 4)
