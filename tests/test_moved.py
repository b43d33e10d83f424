"""Modules by the names that they had before: the same module, with a hint."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings

import pytest

import tesa.decompose
from tesa._moved import MOVED


@pytest.mark.parametrize("name", sorted(MOVED))
def test_an_old_name_gives_the_module_of_now(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, name, raising=False)
    now = importlib.import_module(MOVED[name])
    with pytest.warns(DeprecationWarning, match=rf"{name} is called {MOVED[name]} now"):
        old = importlib.import_module(name)
    public = [word for word in vars(now) if not word.startswith("_")]
    assert public
    assert all(getattr(old, word) is getattr(now, word) for word in public)
    assert importlib.import_module(MOVED[name]) is now


def test_what_lies_within_is_found_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = importlib.import_module("tesa.transform.policy")
    assert callable(tesa.decompose.policy)
    assert module.policy is tesa.decompose.policy
    assert "tesa.decompose.policy" in sys.modules


def test_a_module_runs_by_its_old_name() -> None:
    done = subprocess.run([sys.executable, "-m", "tesa.demo", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--threads" in done.stdout


def test_what_never_was_is_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'tesa\.nothing'"):
        importlib.import_module("tesa.nothing")
