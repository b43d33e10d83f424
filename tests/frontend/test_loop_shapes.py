"""Shapes behind a loop that stays: what asks for them gets numbers, as everywhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from .onnx_models import floats, model, node, port
from .test_import import compare

STEPS, HIDDEN = 40, 6


def codes(*shape: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)


def test_the_shape_behind_a_long_quantized_cell_is_known() -> None:
    """As OCR networks have it: sizes are taken from the result, multiplied, and given to a Reshape."""
    scale, zero = np.full(1, 0.01, np.float32), np.zeros(1, np.int8)
    constants: dict[str, Any] = {
        "W": codes(1, 3, 4 * HIDDEN, seed=1), "R": codes(1, HIDDEN, 4 * HIDDEN, seed=2), "scale": scale, "zero": zero,
        "none": np.array([-1]), "first": np.array([0]), "second": np.array([2]),
    }  # fmt: skip
    cell = ["x", "W", "R", "", "", "", "", "", "scale", "zero", "scale", "zero"]
    nodes = [
        node("DynamicQuantizeLSTM", cell, "h", domain="com.microsoft", hidden_size=HIDDEN),
        node("Shape", ["h"], "sizes"),
        node("Gather", ["sizes", "first"], "steps"),
        node("Gather", ["sizes", "second"], "batch"),
        node("Mul", ["steps", "batch"], "rows"),
        node("Concat", ["rows", "none"], "flat", axis=0),
        node("Reshape", ["h", "flat"], "y"),
    ]
    given = model(nodes, [port("x", [STEPS, 2, 3])], ["y"], constants)
    given.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    compare(given, {"x": floats(STEPS, 2, 3)}, tolerance=5e-3)  # a code more or less of a state
