"""The page about extending tesa runs as it stands, section by section, and what it registers is used."""

from __future__ import annotations

import ctypes
import linecache
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.schedules import registry
from tesa.schedules.cpu.writers import registry as writers
from tesa.targets import architecture
from tesa.targets.target import list_targets
from tesa.targets.toolchain import NATIVE

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Run a section's code; the names that it leaves behind. What it registers goes afterwards."""
    monkeypatch.setattr(architecture, "_ARCHITECTURES", dict(architecture._ARCHITECTURES))
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    monkeypatch.setattr(writers, "_WRITERS", dict(writers._WRITERS))

    def section(title: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", SECTIONS[title], re.DOTALL)):
            file = f"<{title} {number}>"  # TVM reads the source of a script
            linecache.cache[file] = (len(block), None, block.splitlines(keepends=True), file)
            exec(compile(block, file, "exec"), names)
        return names

    return section


def test_a_cpu_core(run: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    names = run("A CPU core")
    assert capsys.readouterr().out == "True\n"
    assert names["target"].name == "riscv64:sifive-x280"
    assert {row.name: row.supported for row in list_targets()}["riscv64:sifive-x280"]


def test_a_kernel_family(run: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    names = run("A kernel family")
    assert capsys.readouterr().out == "[1. 2. 3.]\n"
    assert "diagonal" in str(names["kernel"])
    full = np.ones((64, 64), np.float32)
    assert registry.find("diagonal").space(names["kernel"].problem, full, names["kernel"].target.core) == ()


def test_a_writer(run: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What the page says is printed is printed; compiled, the text computes the layer."""
    names = run("A writer")
    (printed,) = re.findall(r"```\n(.*?)```", SECTIONS["A writer"].split("```python")[-1].split("```", 1)[1], re.DOTALL)
    assert capsys.readouterr().out.strip("\n") == printed.strip("\n")
    (tmp_path / "panel.c").write_text(names["text"])
    command = [NATIVE.compiler(), "-x", "c", "-O1", "-fPIC", "-shared", "panel.c", "-o", "panel.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    x = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
    y = np.full((2, 10), np.nan, np.float32)
    panel = ctypes.CDLL(str(tmp_path / "panel.so")).product_p0_0
    panel(x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), 0, 3)
    np.testing.assert_allclose(y, names["weight"] @ x, rtol=1e-5, atol=1e-6)
