"""The look that all tables share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

Cell = str | Text


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str = "", right: Collection[str] = ()
) -> Table:
    """A table. columns: the headings; right: the headings of the columns to align to the right.

    Cells are shown as they are: a layer called "[bold]" stays that. A long cell is folded, never cut.

    >>> table(["layer", "ms"], [["conv1", "0.5"], ["conv2", "0.7"]], right=["ms"]).row_count
    2
    """
    out = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title_justify="left")
    if title:
        out.title = Text(title, style="bold")
    for column in columns:
        out.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        out.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return out


def verdict(ok: bool | None, words: tuple[str, str, str] = ("ok", "FAILED", "-")) -> Text:
    """The first word in green, the second, a failure, in red; the third where it does not apply.

    >>> verdict(True).plain, verdict(None).plain
    ('ok', '-')
    """
    if ok is None:
        return Text(words[2], style="dim")
    return Text(words[0], style="green") if ok else Text(words[1], style="bold red")
