"""Models that hand on what they are given: each output is right, and has memory of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.runtime import Model
from tests.frontend.onnx_models import model, node, port
from tests.runtime.models import build

SHAPE = [1, 4, 6]
INTS = {"axis": np.array([0]), "flat": np.array([24]), "back": np.array([4, 6]), "one": np.array([1])}
NODES = {
    "flatten": [node("Flatten", ["x"], "y")],
    "identity": [node("Identity", ["x"], "y")],
    "reshapes": [node("Reshape", ["x", "flat"], "h"), node("Reshape", ["h", "back"], "y")],
    "squeeze": [node("Squeeze", ["x", "axis"], "h"), node("Unsqueeze", ["h", "axis"], "y")],
    "transpose": [node("Transpose", ["x"], "y", perm=[1, 0, 2])],
    "whole slice": [node("Slice", ["x", "axis", "one"], "y")],
    "dropout": [node("Dropout", ["x"], "y")],
}
WANTED = {
    "flatten": (1, 24), "identity": (1, 4, 6), "reshapes": (4, 6), "squeeze": (1, 4, 6), "transpose": (4, 1, 6),
    "whole slice": (1, 4, 6), "dropout": (1, 4, 6),
}  # fmt: skip


def _misaligned(shape: list[int]) -> np.ndarray:
    """Numbers that begin 4 bytes behind the start of what NumPy allocated, as a part of an application's buffer may."""
    memory = np.zeros(int(np.prod(shape)) + 1, np.float32)
    memory[1:] = np.random.default_rng(0).standard_normal(memory.size - 1)
    return memory[1:].reshape(shape)


def _run(compiled: Model, x: np.ndarray) -> list[np.ndarray]:
    """The outputs, each apart from the input, from the others and from those of the call before."""
    prepared = compiled.prepare(x)
    results = [compiled.execute(prepared) for _ in range(2)]
    arrays = [np.from_dlpack(t) for r in results for t in ([r] if hasattr(r, "shape") else list(r))]
    for place, array in enumerate(arrays):
        assert not np.shares_memory(array, x)
        assert not any(np.shares_memory(array, other) for other in arrays[:place])
    return arrays[: len(arrays) // 2]


@pytest.mark.parametrize("name", list(NODES))
def test_a_model_that_only_reshapes_its_input(tmp_path: Path, name: str) -> None:
    x = _misaligned(SHAPE)
    compiled = build(tmp_path, model(NODES[name], [port("x", SHAPE)], ["y"], INTS))
    (y,) = _run(compiled, x)
    np.testing.assert_array_equal(y, x.reshape(WANTED[name]))


def test_an_input_a_constant_and_the_same_tensor_twice_as_outputs(tmp_path: Path) -> None:
    nodes: list[Any] = [
        node("Identity", ["x"], "same"),
        node("Flatten", ["x"], "flat"),
        node("Relu", ["x"], "relu"),
        node("Identity", ["relu"], "again"),
        node("Reshape", ["relu", "back"], "view"),
        node("Neg", ["relu"], "later"),
        node("Identity", ["c"], "constant"),
    ]
    outputs = ["same", "flat", "relu", "again", "view", "later", "constant", "x"]
    c = np.arange(6, dtype=np.float32).reshape(2, 3)
    x = _misaligned(SHAPE)
    proto = model(nodes, [port("x", SHAPE)], outputs, {"back": INTS["back"], "c": c})
    compiled = build(tmp_path, proto)
    relu = np.maximum(x, 0)
    wanted = [x, x.reshape(1, 24), relu, relu, relu.reshape(4, 6), -relu, c, x]
    got = _run(compiled, x)
    for name, array, expected in zip(outputs, got, wanted, strict=True):
        np.testing.assert_array_equal(array, expected, err_msg=name)
    got[6][...] = 9  # a constant of the library stays what it is, whatever is written into an output
    np.testing.assert_array_equal(_run(compiled, x)[6], c)


def test_an_output_that_is_a_view_of_what_a_layer_computes(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], "h"),
        node("Flatten", ["h"], "flat"),
        node("Reshape", ["h", "back"], "rows"),
        node("MatMul", ["h", "w"], "y"),
        node("Relu", ["y"], "last"),
    ]
    w = np.random.default_rng(1).standard_normal((6, 6)).astype(np.float32)
    proto = model(nodes, [port("x", SHAPE)], ["flat", "rows", "last"], {"w": w, "back": INTS["back"]})
    x = _misaligned(SHAPE)
    h = x @ w
    wanted = [h.reshape(1, 24), h.reshape(4, 6), np.maximum(h @ w, 0)]
    for got, expected in zip(_run(build(tmp_path, proto), x), wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
