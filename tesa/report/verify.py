"""The result of a verification as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType

from tesa.report.numbers import error
from tesa.report.table import table, verdict

if TYPE_CHECKING:
    from tesa.runtime import VerifyResult

_NUMBERS = ("largest difference", "over largest value")


def verify_view(result: VerifyResult) -> Iterator[RenderableType]:
    """A row per output, then one per layer where they were compared, with what was left out."""
    for heading, items in (("output", result.outputs), ("layer", result.layers)):
        if not items:
            continue
        rows = [
            (item.name, error(item.max_abs), error(item.max_rel), verdict(item.ok) if item.compared else "-", item.note)
            for item in items
        ]
        width = 5 if any(item.note for item in items) else 4
        yield table((heading, *_NUMBERS, "", "note")[:width], [row[:width] for row in rows], right=_NUMBERS)
