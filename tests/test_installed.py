"""What ships is what is tested."""

from __future__ import annotations

import doctest
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tesa
import tesa.schedules


def modules() -> Iterator[str]:
    """Every module of the package, found by its files, so that none needs to be imported to be listed."""
    for package in (tesa, tesa.schedules):
        root = Path(str(package.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            name = ".".join((package.__name__, *parts))
            if package is not tesa or not name.startswith("tesa.schedules"):
                yield name


def test_the_modules_are_listed() -> None:
    names = list(modules())
    assert len(names) == len(set(names))
    assert {"tesa", "tesa.cli", "tesa.cli.run", "tesa.schedules", "tesa.schedules.registry"} <= set(names)


@pytest.mark.skipif("TESA_TEST_INSTALLED" not in os.environ, reason="only `make test` installs the package apart")
def test_the_installed_package_is_tested() -> None:
    installed = Path(os.environ["TESA_TEST_INSTALLED"]).resolve()
    assert Path(str(tesa.__file__)).resolve().is_relative_to(installed)
    assert Path(str(tesa.schedules.__file__)).resolve() == installed / "tesa" / "schedules" / "__init__.py"
    assert (installed / "tesa" / "py.typed").is_file()


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.startswith(("tesa.torch", "tesa.apps.gpu")):
        pytest.importorskip("torch", reason="the packages of the extra torch")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
