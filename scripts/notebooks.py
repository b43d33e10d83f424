"""Runs the notebooks from top to bottom and stores what they show, which GitHub and the site display. `make notebooks`.

    python scripts/notebooks.py [NAME ...]      # default: all of notebooks/

Each runs in an empty folder, with a cache and a log of its own. What it takes is told; more than two minutes are told
as too many.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
MOST_S = 120
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main(names: list[str]) -> int:
    """1 if a notebook takes too long; one that fails ends it with the error of its cell."""
    late = False
    for name in names or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        path = FOLDER / f"{Path(name).stem}.ipynb"
        began = time.monotonic()
        book = run(nbformat.read(path, as_version=4))
        seconds = time.monotonic() - began
        path.write_text(nbformat.writes(cleaned(book)) + "\n", encoding="utf-8")
        late |= seconds > MOST_S
        print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1e3:.0f} kB" + " TOO LONG" * (seconds > MOST_S))
    return int(late)


def run(book: Any) -> Any:
    """The notebook with the outputs of its cells."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = {"TESA_CACHE_DIR": str(folder / "cache"), "XDG_DATA_HOME": str(folder / "data"), "OMP_NUM_THREADS": "1"}
        os.environ.update(own)
        os.environ.pop("MPLBACKEND", None)  # pictures go into the notebook
        (folder / "work").mkdir()
        resources = {"metadata": {"path": str(folder / "work")}}
        NotebookClient(book, timeout=600, record_timing=False, resources=resources).execute()
    return book


def cleaned(book: Any) -> Any:
    """The notebook without what shows nothing: the places of bars that are gone, versions."""
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _shows(output)]
            cell.metadata = {}
    book.metadata = METADATA
    return book


def _shows(output: Any) -> bool:
    return output.output_type not in ("display_data", "execute_result") or any(output.data.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
