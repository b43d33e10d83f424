"""Helpers that tests of several rooms share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def require_system(tool: str, package: str) -> str:
    """The path of a program from a system package. Skips the test where it is missing; under CI that is a failure."""
    path = shutil.which(tool)
    if path is not None:
        return path
    reason = f"{tool} is not installed: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (scripts/setup_system.sh must bring it for CI)")
    pytest.skip(reason)


def with_tests() -> dict[str, str]:
    """The environment of a child that imports this package of tests, behind the tesa that is tested."""
    root = str(Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), root]))}
