"""The site of the documentation has every page, and shows examples as code."""

import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def _named(entry: object) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    values = entry.values() if isinstance(entry, dict) else entry
    return [name for value in values for name in _named(value)]  # type: ignore[attr-defined]


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    text = (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8")
    named = {name for name in _named(yaml.safe_load(text)["nav"]) if name.startswith("docs/")}
    assert named == {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}


def test_examples_get_fences(monkeypatch: pytest.MonkeyPatch) -> None:
    griffe = ModuleType("griffe")
    griffe.Extension, griffe.Object = object, object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "griffe", griffe)
    fenced = runpy.run_path(str(ROOT / "scripts" / "doctests.py"))["fenced"]
    assert fenced("One.\n\n    >>> f(1)\n    [2]\n\nTwo.") == "One.\n\n```pycon\n>>> f(1)\n[2]\n```\n\nTwo."
    assert fenced("Adds:\n>>> 1\n1") == "Adds:\n\n```pycon\n>>> 1\n1\n```"
