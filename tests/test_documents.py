"""Python in the documents runs as it stands: of those pages that have no test of their own."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import numpy as np
import pytest

import tesa
from tesa.models import digits_path
from tests.frontend.onnx_models import model, node, port

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs the sources")


def python_of(document: str, section: str) -> str:
    """The indented lines of a section."""
    text = (ROOT / document).read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    return "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.long
def test_the_readme(tmp_path: Path) -> None:
    shutil.copy(digits_path(), "model.onnx")
    exec(compile(python_of("README.md", "From Python"), "README.md", "exec"), names := {})
    assert names["logits"].shape == (1, 10)
    np.testing.assert_allclose(names["Y"], np.maximum(names["W"] @ names["X"], 0), atol=1e-3)
    assert {"model.so", "facts.png", "k.so", "k.json", "sweep.png"} <= {path.name for path in tmp_path.iterdir()}


def test_a_model_in_an_application() -> None:
    weight = np.eye(16, dtype=np.float32)
    proto = model([node("MatMul", ["x", "w"], "y")], [port("x", [1, 16])], ["y"], {"w": weight})
    tesa.compile(proto, output="model.so", measure=False, progress=None)
    exec(compile(python_of("docs/deploy.md", "Python, with tesa"), "deploy.md", "exec"), names := {})
    np.testing.assert_allclose(names["y"], np.ones((1, 16)))


def test_large_tensors() -> None:
    found = doctest.testfile(str(ROOT / "docs" / "models.md"), module_relative=False)
    assert (found.attempted, found.failed) == (2, 0)
