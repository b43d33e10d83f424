"""No verb lets TVM's remarks about a sound model through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tesa.cli import main
from tests.frontend.onnx_models import floats, model, node, port


def test_every_verb_is_silent_on_a_sound_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A gather of constant indices, powers, outputs that the file declares without a shape."""
    nodes = [
        node("Gather", ["x", "rows"], "g", axis=1),
        node("Pow", ["g", "cube"], "p"),
        node("MatMul", ["p", "w"], "h"),
        node("Pow", ["h", "fifth"], "y"),
        node("Gather", ["table", "ids"], "z"),
    ]
    weight = floats(3, 8) * (np.arange(24).reshape(3, 8) % 3 > 0)
    constants = {
        "rows": np.array([0, 3, 5]), "cube": np.float32(3), "fifth": np.float32(5), "w": weight, "table": floats(9, 4),
    }  # fmt: skip
    source, library = str(tmp_path / "m.onnx"), str(tmp_path / "m.so")
    onnx.save(model(nodes, [port("x", [2, 6]), port("ids", [3], "int64")], ["y", "z"], constants), source)
    for words in (
        ["inspect", source], ["propagate", source, "-o", str(tmp_path / "smaller.onnx")], ["explain", source],
        ["analyze", source, "-q"], ["tune", source, "--trials", "1", "--log", str(tmp_path / "log"), "-q"],
        ["compile", source, "-o", library, "-q"], ["verify", library, "--ref", source], ["explain", library],
        ["bench", library, "--repeat", "3", "--vs", "onnxruntime"],
    ):  # fmt: skip
        assert main(words) == 0, words
        assert capfd.readouterr().err == "", words
