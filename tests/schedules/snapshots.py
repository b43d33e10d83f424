"""Generated code as text, compared with a file. TESA_UPDATE_GOLDEN=1 writes the files anew; look at the difference."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tesa.schedules.types import Code

FOLDER = Path(__file__).parent / "golden"


def text(code: Code) -> str:
    """main and all panels, in order."""
    functions: list[Any] = [code.main, *(function for group in code.panels for function in group)]
    return "\n".join(f.script(show_meta=False) for f in functions) + "\n"


def check_golden(name: str, code: Code) -> None:
    """The code is what golden/<name>.tir says."""
    path, found = FOLDER / f"{name}.tir", text(code)
    if os.environ.get("TESA_UPDATE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")
