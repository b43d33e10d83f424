"""Every notebook runs from top to bottom."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


QUICK = "targets"
"""The notebook that `make test` runs; `make test-slow` has the others."""


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=() if p.stem == QUICK else pytest.mark.slow) for p in NOTEBOOKS]
)
def test_notebook_runs(path, tmp_path, monkeypatch):
    book = nbformat.read(path, as_version=4)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures go into the notebook
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads that spin take minutes where others work, too
    NotebookClient(book, timeout=1200, startup_timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    said = [str(output.get("data", output.get("text", ""))) for output in outputs]
    assert not [text for text in said if "Warning:" in text]
    assert all(output.get("name") != "stderr" for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_with_what_it_shows(path):
    """As `make notebooks` leaves it: run from top to bottom, a picture and a sentence at the end, no path."""
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)
    pictures = [cell for cell in code if any("image/png" in output.get("data", {}) for output in cell.outputs)]
    last = [cell for cell in code if cell.outputs][-1]
    assert last is pictures[-1]
    assert book.cells[-1].cell_type == "markdown"
    assert path.stat().st_size < 500_000
    shown = [str(output.get("data", {}).get("text/html", "")) + str(output.get("text", "")) for output in outputs]
    assert not re.findall(r"/(?:tmp|home|root|work|usr)/\S*", " ".join(shown))
