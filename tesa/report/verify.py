"""The result of a verification as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from tesa.report.numbers import error
from tesa.report.table import Cell, FittedTable, verdict

if TYPE_CHECKING:
    from tesa.runtime import Comparison, VerifyResult

_ENDLESS = 10_000
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
        columns = (heading, *_NUMBERS, "", "note")[:width]
        yield _Rows(columns, [row[:width] for row in rows], optional=(), right=_NUMBERS)
        yield from map(Text, _tolerances(items))


class _Rows(FittedTable):
    """The table; where names are too long for it, two lines for each of them, so that numbers stay in one piece."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The one or the other."""
        made = self._without(())
        if made.__rich_measure__(console, options.update(max_width=_ENDLESS)).maximum <= options.max_width:
            yield made
            return
        yield Text(f"{self.columns[0]}: {', '.join(_NUMBERS)}")
        for name, first, second, *rest in self.rows:
            yield Text(str(name))
            yield (
                Text("  ").append(f"{first}, {second}  ").append(Text("  ").join(_text(cell) for cell in rest if cell))
            )


def _text(cell: Cell) -> Text:
    return Text(cell) if isinstance(cell, str) else cell


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
