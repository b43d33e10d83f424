"""Results as tables in Markdown and as JSON lines."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tesa.base.hostinfo import read_cpu
from tesa.report.plain import plain


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its columns as wide as they must be."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join(f"| {line} |" for line in (lines[0], " | ".join("-" * width for width in widths), *lines[1:]))


def append(path: Path, records: Sequence[Mapping[str, Any]], program: str) -> None:
    """Add the records to a file, each on a line, with date, command (of the module `program`) and machine."""
    command = " ".join(["python -m", program, *sys.argv[1:]])
    common = {"date": datetime.date.today().isoformat(), "command": command, "machine": plain(read_cpu())}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        for record in records:
            stream.write(json.dumps({**common, **record}) + "\n")
