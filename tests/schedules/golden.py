"""Generated code as text, kept in golden/. TESA_UPDATE_GOLDEN=1 writes the files instead of comparing."""

from __future__ import annotations

import os
from pathlib import Path

from tesa.schedules.types import Code

FOLDER = Path(__file__).parent / "golden"


def compare(name: str, code: Code) -> None:
    """Compare a kernel's TIR and its constants with golden/<name>.txt."""
    lines = [code.main.script(show_meta=False).strip(), ""]
    lines += [f"C{i} = {array.tolist()}" for i, array in enumerate(code.constants)]
    compare_text(name, "\n".join(lines) + "\n")


def compare_text(name: str, text: str) -> None:
    """Compare any text with golden/<name>.txt."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("TESA_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing; run the test once with TESA_UPDATE_GOLDEN=1"
    assert text == path.read_text(), f"{path.name} differs; if that is wanted, run with TESA_UPDATE_GOLDEN=1 and review"
