"""Small compiled models for the tests of the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tesa.compiler import compile_model
from tesa.runtime import Model, load
from tests.frontend.onnx_models import floats, model, node, port


def build(folder: Path, proto: Any, name: str = "model", **options: Any) -> Model:
    """Save a ModelProto as NAME.onnx, compile it to NAME.so beside it, load that. options: of compile_model."""
    onnx.save(proto, folder / f"{name}.onnx")
    compile_model(folder / f"{name}.onnx", output=folder / f"{name}.so", measure=False, **options)
    return load(folder / f"{name}.so")


def mlp(rows: int = 4, scale: float = 1.0) -> Any:
    """y = relu(x W0 + b) W1. Of W1 the rows 3 and 5 are zero, so of the 8 hidden channels these two are dead."""
    second = floats(8, 3, seed=1) * np.float32(scale)
    second[[3, 5]] = 0
    nodes = [
        node("MatMul", ["x", "w0"], "h", name="hidden"),
        node("Add", ["h", "b"], "a"),
        node("Relu", ["a"], "r"),
        node("MatMul", ["r", "w1"], "y", name="out"),
    ]
    bias = np.full(8, 2.0, np.float32)
    return model(nodes, [port("x", [rows, 6])], ["y"], {"w0": floats(6, 8), "b": bias, "w1": second})


def convolutions() -> Any:
    """Two convolutions; the second reads no channel but 0 and 2 of the four that the first makes."""
    second = floats(3, 4, 1, 1, seed=1)
    second[:, [1, 3]] = 0
    nodes = [
        node("Conv", ["x", "w0", "b"], "c", name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], "r"),
        node("Conv", ["r", "w1"], "y", name="second"),
    ]
    constants = {"w0": floats(4, 2, 3, 3), "b": np.full(4, 2.0, np.float32), "w1": second}
    return model(nodes, [port("x", [1, 2, 5, 5])], ["y"], constants)


def first_row() -> Any:
    """Of a layer's result the first row alone is used: every channel is dead in part."""
    nodes = [
        node("MatMul", ["x", "w0"], "h", name="hidden"),
        node("Slice", ["h", "zero", "one", "zero"], "s"),
        node("Relu", ["s"], "y"),
    ]
    constants = {"w0": floats(6, 8), "zero": np.array([0]), "one": np.array([1])}
    return model(nodes, [port("x", [4, 6])], ["y"], constants)


def weight_on_the_left() -> Any:
    """W1 relu(W0 x): the features of W0 x come before its columns, and 1 and 4 of the 6 are dead."""
    second = floats(3, 6, seed=1)
    second[:, [1, 4]] = 0
    nodes = [
        node("MatMul", ["w0", "x"], "h", name="hidden"),
        node("Relu", ["h"], "r"),
        node("MatMul", ["w1", "r"], "y", name="out"),
    ]
    return model(nodes, [port("x", [4, 7])], ["y"], {"w0": floats(6, 4), "w1": second})


def identity(dtype: str = "float32", shape: tuple[int, ...] = (2, 3)) -> Any:
    """y = relu(x) for floats."""
    return model([node("Relu", ["x"], "y")], [port("x", list(shape), dtype)], ["y"])
