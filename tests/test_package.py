"""What ships: every folder of code is listed, and tests look at the installed package where they are told to."""

import os
from pathlib import Path

import pytest

import tesa

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the sources")
def test_every_package_is_listed():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"tesa.tuning_logs"}
    for folder, name in ((ROOT / "tesa", "tesa"), (ROOT / "schedules", "tesa.schedules")):
        for init in folder.rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(folder).parts]))
    assert listed == found


@pytest.mark.skipif("TESA_TEST_INSTALLED" not in os.environ, reason="runs on the checkout")
def test_the_installed_package_is_tested():
    assert Path(tesa.__file__).is_relative_to(os.environ["TESA_TEST_INSTALLED"])
    assert (Path(tesa.__file__).parent / "py.typed").exists()


def test_logs_and_models_ship():
    from tesa.models import digits_path
    from tesa.tune.places import shipped

    assert digits_path().stat().st_size > 1_000_000
    assert list(shipped().glob("*.jsonl"))
