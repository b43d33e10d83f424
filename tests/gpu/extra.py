"""What tests need of the extra cuda: without it they are skipped, but in CI, which installs it, they fail."""

from __future__ import annotations

import os
import sys

import pytest

from tesa.build.gpu import ptx, tools


def require_assembler() -> None:
    """Something that assembles PTX."""
    _require(bool(ptx.assembler()), "nothing assembles PTX here")


def require_compiler() -> None:
    """NVRTC, which compiles CUDA C, and its headers."""
    _require(tools.library("nvrtc") is not None and bool(tools.includes()), "there is no NVRTC")


def require_disassembler() -> None:
    """An assembler, and nvdisasm, which writes what it makes as text."""
    require_assembler()
    _require(tools.program("nvdisasm") is not None, "there is no nvdisasm")


def _require(there: bool, reason: str) -> None:
    if there:
        return
    if os.environ.get("CI") and sys.platform == "linux":
        pytest.fail(f"{reason}: {tools.EXTRA}")
    pytest.skip(f"{reason}: {tools.EXTRA}")
