"""A fresh install gets what the tests passed with: bounds in pyproject.toml, and a lock that `make venv` uses."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the sources")


@pytest.fixture(scope="module")
def lift() -> ModuleType:
    pytest.importorskip("tomllib")  # Python 3.11
    spec = importlib.util.spec_from_file_location("lift", ROOT / "scripts" / "lift.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def project(lift: ModuleType) -> dict[str, Any]:
    found: dict[str, Any] = lift.tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return found


def test_every_requirement_has_an_upper_bound(lift: ModuleType, project: dict[str, Any]) -> None:
    wanted = [*lift.requirements(project), *(text for group in project["dependency-groups"].values() for text in group)]
    assert len(wanted) > 20
    assert [text for text in wanted if not re.search(r"(==|<)\d", text)] == []


def test_the_lock_has_every_requirement_for_every_python(lift: ModuleType, project: dict[str, Any]) -> None:
    lines = lift.read(lift.LOCK.read_text(encoding="utf-8"))
    assert lift.written(lines) == lift.LOCK.read_text(encoding="utf-8")
    requirement = pytest.importorskip("packaging.requirements").Requirement
    for text in lift.requirements(project):
        wanted = requirement(text)
        for python in lift.PYTHONS:
            found = [
                version
                for (name, marker), version in lines.items()
                if name == lift.name_of(wanted.name) and holds(requirement, marker, python)
            ]
            assert len(found) == 1, f"{text} for Python {python}: {found}; run `make lift`"
            assert wanted.specifier.contains(found[0]), f"{text}: the lock has {found[0]}; run `make lift`"


def holds(requirement: Any, marker: str, python: str) -> bool:
    return not marker or bool(requirement(f"x ; {marker}").marker.evaluate({"python_version": python}))


def test_make_uses_the_lock(lift: ModuleType) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"LOCK := {lift.LOCK.relative_to(ROOT).as_posix()}" in text
    installs = [line for line in text.splitlines() if line.startswith("\t$(PIP)") and "--no-deps" not in line]
    assert installs
    assert all("--constraint $(LOCK)" in line for line in installs)


def test_pythons_share_a_line_where_they_can(lift: ModuleType) -> None:
    found = {"3.10": {"a": "1", "c": "3"}, "3.11": {"a": "2"}, "3.12": {"a": "2"}, "3.13": {"a": "3", "c": "3"}}
    lines = {
        ("a", 'python_version == "3.10"'): "1",
        ("a", 'python_version >= "3.11" and python_version <= "3.12"'): "2",
        ("a", 'python_version >= "3.13"'): "3",
        ("c", ""): "3",
    }
    assert lift.merged(found) == lines
    assert lift.read(lift.written(lines)) == lines
    assert list(lift.changes(lines, {**lines, ("c", ""): "4"})) == ["c: 3 -> 4"]
