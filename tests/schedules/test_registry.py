"""The registry of families: kinds of machine, and the names of tesa 0.1."""

from __future__ import annotations

from typing import Any

import pytest

from tesa.schedules import registry, types
from tesa.schedules.registry import families, find, forget


def emit(problem: Any, weight: Any, core: Any, config: Any, symbol: str) -> Any:
    """Does nothing."""


FUNCTIONS: dict[str, Any] = {"space": lambda p, w, core: [], "estimate": lambda p, w, core, config: 0.0}


def test_one_name_for_two_kinds_of_machine() -> None:
    registry.family("both", kind="cpu", **FUNCTIONS)(emit)
    registry.family("both", kind="gpu", **FUNCTIONS)(emit)
    try:
        assert find("both").kind == "cpu"
        assert find("both", "gpu").kind == "gpu"
        assert [made.name for made in families("gpu")].count("both") == 1
        with pytest.raises(ValueError, match="'both' is registered twice"):
            registry.family("both", kind="gpu", **FUNCTIONS)(emit)
    finally:
        forget("both")
        forget("both", "gpu")
    with pytest.raises(KeyError, match="no kernel family 'both'"):
        find("both")


def test_names_of_the_first_version_work_and_name_the_new_ones() -> None:
    with pytest.warns(DeprecationWarning, match=r"schedule is now family\(name, kind=...\); arch is now kind"):
        schedule: Any = registry.schedule  # type: ignore[attr-defined]
    schedule("old", arch="x86", **FUNCTIONS)(emit)
    try:
        assert find("old", "cpu").summary == "Does nothing."
        with pytest.warns(DeprecationWarning, match="schedules is now families"):
            listed: Any = registry.schedules  # type: ignore[attr-defined]
        assert "old" in [made.name for made in listed("x86")]
    finally:
        forget("old")
    with pytest.warns(DeprecationWarning, match="Isa is now Core"):
        assert types.Isa is types.Core  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = registry.nonesuch  # type: ignore[attr-defined]
