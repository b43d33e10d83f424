"""The page about policies runs as it stands, and what it registers is used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tesa.attributes.patterns.registry
from tesa.decompose import find_policy, forget

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names that the page's code leaves behind."""
    known = tesa.attributes.patterns.registry
    monkeypatch.setattr(known, "_KINDS", dict(known._KINDS))
    names: dict[str, Any] = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
            exec(compile(block, str(PAGE), "exec"), names)
        yield names
    finally:
        forget("columns")


def test_the_page_runs(page: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    kernel, weight = page["kernel"], page["weight"]
    assert find_policy("columns").summary.startswith("Columns that nearly every output uses")
    assert str(tesa.attributes.patterns.classify(weight)) == "columns"
    assert tesa.attributes.patterns.classify(page["pruned"]).kind == "columns"
    assert "columns" in [kind.name for kind in tesa.attributes.patterns.patterns()]
    found = kernel.plan.parts[0]
    assert {candidate.family for candidate in found.candidates} == {"columns"}
    assert any("fused.rows" in candidate.config for candidate in found.candidates)
    assert all(candidate.config["columns.percent"] in (90, 50) for candidate in found.candidates)
    x = np.random.default_rng(1).standard_normal((256, 96)).astype(np.float32)
    np.testing.assert_allclose(kernel(x), np.maximum(weight @ x, 0), atol=1e-3)
    assert "columns" in page["both"].plan.parts[0].reason
