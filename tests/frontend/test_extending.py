"""The sections of docs/extending.md on operators run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.attributes.attribute import from_mask
from tesa.frontend import converter_scope
from tesa.propagate import Operator, rule_scope, rules

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def run(title: str) -> tuple[dict[str, Any], str]:
    """(the names that the code of a section leaves behind, the output that the section shows)."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    code, *shown = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, f"<{title}>", "exec"), names)
    return names, "".join(shown)


def test_a_propagation_rule() -> None:
    with rule_scope():
        run("A propagation rule")
        found = dict(rules())["call_tir.half_wave"]
    assert found.summary == "half_wave(0) = 0."
    op = Operator("call_tir.half_wave", "layer", ((1, 3),), ((1, 3),), (None,), ("float32",))
    (y,) = found.forward(op, (from_mask(np.array([[1, 0, 1]])),))
    assert y.zero.tolist() == [[False, True, False]]


def test_an_onnx_operator(capsys: pytest.CaptureFixture[str]) -> None:
    with converter_scope():
        _, shown = run("An ONNX operator")
    assert capsys.readouterr().out == shown
