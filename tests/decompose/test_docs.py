"""The pages about patterns and policies run as they stand, and what they register is used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.attributes.patterns import classify, patterns, registry
from tesa.decompose import find_policy, forget

DOCS = Path(__file__).parents[2] / "docs"


@contextmanager
def run(text: str, policy: str) -> Iterator[dict[str, Any]]:
    """The names that the code of a page leaves behind; the policy that it registers is gone afterwards."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_KINDS", dict(registry._KINDS))
        try:
            for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
                exec(compile(block, policy, "exec"), names)
            yield names
        finally:
            forget(policy)


@pytest.mark.slow
def test_the_page_about_policies_runs() -> None:
    with run((DOCS / "policies.md").read_text(encoding="utf-8"), "columns") as page:
        kernel, weight = page["kernel"], page["weight"]
        assert find_policy("columns").summary.startswith("Columns that nearly every output uses")
        assert str(classify(weight)) == "columns"
        assert classify(page["pruned"]).kind == "columns"
        assert "columns" in [kind.name for kind in patterns()]
        found = kernel.plan.parts[0]
        assert {candidate.family for candidate in found.candidates} == {"columns"}
        assert any("fused.rows" in candidate.config for candidate in found.candidates)
        assert all(candidate.config["columns.percent"] in (90, 50) for candidate in found.candidates)
        x = np.random.default_rng(1).standard_normal((256, 96)).astype(np.float32)
        np.testing.assert_allclose(kernel(x), np.maximum(weight @ x, 0), atol=1e-3)
        assert "columns" in page["both"].plan.parts[0].reason


def test_the_section_about_patterns_and_policies_runs() -> None:
    page = (DOCS / "extending.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## A pattern, and a policy\n")
    with run(section.partition("\n## ")[0], "halves") as names:
        assert classify(names["weight"]).kind == classify(names["pruned"]).kind == "halves"
        assert names["kernel"].plan.kernel.startswith("halves")
