"""The site of the documentation has every page, and shows examples as code."""

import re
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


def pages(folder: str, suffix: str) -> set[str]:
    """The pages of the site that the files of a folder become."""
    return {f"{folder}/{path.stem}.md" for path in (ROOT / folder).glob(f"*.{suffix}")}


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    text = (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8")
    named = {name for name in _named(yaml.safe_load(text)["nav"]) if name.startswith(("docs/", "notebooks/"))}
    assert named == pages("docs", "md") | pages("notebooks", "ipynb")


def test_the_page_on_the_design_has_the_rooms_in_their_order() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    with (ROOT / "pyproject.toml").open("rb") as file:
        contract = tomllib.load(file)["tool"]["importlinter"]["contracts"][0]["layers"]
    rooms = [room.strip("()").removeprefix("tesa.") for room in reversed(contract)]
    section = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").split("## Rooms")[1].split("##")[0]
    listed = " ".join(line.strip() for line in section.splitlines() if line.startswith("    "))
    assert listed.split(", ") == rooms


def test_the_page_on_the_design_names_files_that_are_there() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = [path for path in re.findall(r"`([^` ]+)`", text) if path.startswith(("tesa/", "schedules/", "tests/"))]
    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_examples_get_fences(monkeypatch: pytest.MonkeyPatch) -> None:
    griffe = ModuleType("griffe")
    griffe.Extension, griffe.Object = object, object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "griffe", griffe)
    fenced = runpy.run_path(str(ROOT / "scripts" / "doctests.py"))["fenced"]
    assert fenced("One.\n\n    >>> f(1)\n    [2]\n\nTwo.") == "One.\n\n```pycon\n>>> f(1)\n[2]\n```\n\nTwo."
    assert fenced("Adds:\n>>> 1\n1") == "Adds:\n\n```pycon\n>>> 1\n1\n```"
