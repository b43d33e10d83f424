"""Whole models without a runtime, against onnxruntime."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.frontend.onnx_models import floats, model, node, port

from .calling import check

RNG = np.random.default_rng(0)


def sparse(*shape: int, seed: int = 0, keep: float = 0.3) -> np.ndarray:
    """Weights of which so many are not zero."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < keep, rng.normal(size=shape), 0).astype(np.float32)


def residual_network() -> object:
    """Two convolutions around which the input goes, then a classifier."""
    nodes = [
        node("Conv", ["x", "w0", "b0"], "c0", pads=[1, 1, 1, 1]),
        node("Relu", ["c0"], "r0"),
        node("Conv", ["r0", "w1", "b1"], "c1"),
        node("Add", ["c1", "x"], "sum"),
        node("Relu", ["sum"], "r1"),
        node("GlobalAveragePool", ["r1"], "pool"),
        node("Flatten", ["pool"], "flat"),
        node("Gemm", ["flat", "w2", "b2"], "y", transB=1),
        node("Softmax", ["y"], "p", axis=-1),
    ]
    constants = {
        "w0": sparse(16, 8, 3, 3), "b0": floats(16), "w1": sparse(8, 16, 1, 1, seed=1), "b1": floats(8),
        "w2": floats(5, 8), "b2": floats(5),
    }  # fmt: skip
    return model(nodes, [port("x", [1, 8, 12, 12])], ["y", "p"], constants)


def test_a_network_of_convolutions_with_a_residual_and_two_outputs(tmp_path: Path) -> None:
    library = check(tmp_path, residual_network(), {"x": floats(1, 8, 12, 12, seed=3)})
    told = subprocess.run(["nm", "-D", str(tmp_path / "net.so")], capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-2:] for line in told.splitlines()]
    undefined = {name.partition("@")[0] for kind, name in symbols if kind == "U"}
    assert undefined <= {"memset", "memcpy", "memmove"}
    assert all(name.startswith(f"{library.name}_") for kind, name in symbols if kind == "T")


def test_several_inputs_integers_bools_and_scalars(tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["table", "ids"], "rows", axis=0),
        node("MatMul", ["rows", "w"], "h"),
        node("Where", ["mask", "h", "scalar"], "y"),
        node("Add", ["count", "count"], "twice"),
        node("Identity", ["ids"], "same"),
    ]
    proto = model(
        nodes,
        [port("ids", [4], "int64"), port("mask", [4, 1], "bool"), port("scalar", []), port("count", [], "int32")],
        ["y", "twice", "same"],
        {"table": floats(10, 6), "w": sparse(6, 8)},
    )
    for output, kind in zip(proto.graph.output, (1, 6, 7), strict=True):
        output.type.tensor_type.elem_type = kind
    feeds = {
        "ids": np.array([3, 0, 9, 3]), "mask": np.array([[True], [False], [True], [False]]),
        "scalar": np.array(2.5, np.float32), "count": np.array(21, np.int32),
    }  # fmt: skip
    check(tmp_path, proto, feeds)


def test_the_gain_of_a_norm_is_an_input(tmp_path: Path) -> None:
    nodes = [node("LayerNormalization", ["x", "gain", "shift"], "y", axis=-1)]
    proto = model(nodes, [port("x", [3, 8]), port("gain", [8]), port("shift", [8])], ["y"])
    check(tmp_path, proto, {"x": floats(3, 8), "gain": floats(8, seed=1), "shift": floats(8, seed=2)})


@pytest.mark.parametrize("steps", [3, 40])
def test_a_recurrent_network(tmp_path: Path, steps: int) -> None:
    nodes = [
        node("LSTM", ["x", "w", "r", "b"], "y", hidden_size=8),
        node("Squeeze", ["y", "axis"], "s"),
        node("MatMul", ["s", "v"], "z"),
    ]
    constants = {
        "w": sparse(1, 32, 6), "r": sparse(1, 32, 8, seed=1), "b": floats(1, 64), "axis": np.array([1]),
        "v": sparse(8, 3, seed=2),
    }  # fmt: skip
    proto = model(nodes, [port("x", [steps, 1, 6])], ["z"], constants)
    check(tmp_path, proto, {"x": floats(steps, 1, 6, seed=4)})
