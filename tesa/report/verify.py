"""The result of a verification as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from tesa.report.numbers import error
from tesa.report.table import table, verdict

if TYPE_CHECKING:
    from tesa.runtime import Comparison, VerifyResult

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
        yield from map(Text, _tolerances(items))


def _tolerances(items: Sequence[Comparison]) -> Iterator[str]:
    """A line for each tolerance, with the names of those that were compared with it, where there is more than one."""
    found: dict[str, list[str]] = {}
    for item in items:
        if item.compared and item.tolerance:
            found.setdefault(item.tolerance, []).append(item.name)
    for words, names in found.items():
        of = (
            ""
            if len(found) == 1
            else f" of {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if names[3:] else "")
        )
        yield f"tolerance{of}: {words}"
