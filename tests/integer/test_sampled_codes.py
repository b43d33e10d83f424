"""Pictures of codes that are resized, sampled or written into: numbers are made of codes before that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.base.onnxruntime import reference_outputs
from tests.frontend.onnx_models import model, node, port
from tests.runtime.models import build

GRID = np.random.default_rng(1).uniform(-1, 1, (1, 3, 3, 2)).astype(np.float32)
READERS = {
    "linear": node("Resize", ["d", "", "double"], "y", mode="linear"),
    "cubic": node("Resize", ["d", "", "double"], "y", mode="cubic"),
    "smaller": node("Resize", ["d", "", "half"], "y", mode="linear"),
    "grid": node("GridSample", ["d", "grid"], "y"),
    "scatter": node("ScatterElements", ["d", "places", "updates"], "y", axis=2),
}


@pytest.mark.parametrize("reader", READERS)
def test_codes_that_are_an_input(tmp_path: Path, reader: str) -> None:
    constants: dict[str, Any] = {
        "s": np.float32(0.03), "z": np.uint8(100), "grid": GRID, "updates": GRID.reshape(1, 3, 1, 6),
        "places": np.array([0, 7, 3, 2, 1, 0]).reshape(1, 1, 1, 6).repeat(3, axis=1),
        "double": np.array([1, 1, 2, 2], np.float32), "half": np.array([1, 1, 0.5, 0.5], np.float32),
    }  # fmt: skip
    read = {name for name in READERS[reader].input if name in constants} | {"s", "z"}
    nodes = [node("DequantizeLinear", ["x", "s", "z"], "d"), READERS[reader]]
    proto = model(nodes, [port("x", [1, 3, 8, 8], "uint8")], ["y"], {name: constants[name] for name in read})
    feeds = {"x": np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8)).astype(np.uint8)}
    found = build(tmp_path, proto)(feeds)["y"]
    np.testing.assert_allclose(found, reference_outputs(proto, feeds)["y"], rtol=1e-5, atol=1e-5)
