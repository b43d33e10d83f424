"""A release says one number everywhere, and its papers are whole."""

from __future__ import annotations

import importlib.util
import re
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tesa.base.version import __version__

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the sources")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


@pytest.fixture(scope="module")
def dist() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dist", ROOT / "scripts" / "dist.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_number(project: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[\w.]+)?", __version__)
    changes = re.findall(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited is not None
    assert (project["version"], cited[1], changes[0]) == (__version__, __version__, __version__)


def test_every_python_of_the_classifiers_is_in_the_readme(project: dict[str, Any]) -> None:
    told = [text.rpartition(" ")[2] for text in project["classifiers"] if "Python :: 3." in text]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"Python {told[0]} to {told[-1]}" in readme
    assert project["requires-python"] == f">={told[0]}"


def test_what_is_missing_or_strange_in_an_archive_is_found(dist: ModuleType, tmp_path: Path) -> None:
    sdist, wheel = tmp_path / "tesa-0.tar.gz", tmp_path / "tesa-0-py3-none-any.whl"
    skipped, odd = "tesa/cli/__init__.py", "tesa/left.pyc"
    source = tmp_path / "empty"
    source.touch()
    with tarfile.open(sdist, "w:gz") as packed, zipfile.ZipFile(wheel, "w") as wheeled:
        for name in [*dist.PAPERS, *(path for path, _ in dist.sources())]:
            packed.add(source, f"tesa-0/{name}")
        for _, name in dist.sources():
            if name != skipped:
                wheeled.writestr(name, "")
        wheeled.writestr(odd, "")
        wheeled.writestr("tests/test_x.py", "")
    assert dist.missing(sdist, wheel) == [f"{wheel.name} lacks {skipped}"]
    assert dist.strange(sdist, wheel) == [f"{wheel.name} has tests/test_x.py", f"{wheel.name} has {odd}"]
