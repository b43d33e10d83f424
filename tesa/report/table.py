"""The look that all tables share."""

from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

Cell = str | Text

NARROW = 120
"""Terminals with fewer columns than this get a table without what can be spared."""

PIPE = 400
"""Columns of a pipe or a file that does not say how many: no line is broken there."""

FITTED = 100
"""Columns that tables of layers take in such a pipe or file, where that is possible without breaking words."""

_ENDLESS = 10_000


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


class FittedTable:
    """A table that leaves columns out, from the first of optional on, until every row fits on one line of the terminal.

    Only terminals narrower than NARROW are treated so; what was left out is told below. most: columns that it takes at
    most, however wide the terminal or pipe is. fitted: it takes FITTED columns where the console is a PIPE, and more
    only for what cannot be left out. The other arguments are those of table.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        *,
        optional: Sequence[str],
        title: str = "",
        right: Collection[str] = (),
        most: int | None = None,
        fitted: bool = False,
    ) -> None:
        self.columns, self.rows, self.optional, self.title, self.right = columns, list(rows), optional, title, right
        self.most, self.fitted = most, fitted

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table that rich prints, as narrow as it has to be."""
        if self.most is not None and options.max_width > self.most:
            options = options.update(max_width=self.most)
        gone: list[str] = []
        shown = self._without(gone)
        wide = options.update(max_width=_ENDLESS)
        pipe = self.fitted and options.max_width >= PIPE
        room = FITTED if pipe else options.max_width
        for name in self.optional if room < NARROW else ():
            if shown.__rich_measure__(console, wide).maximum <= room:
                break
            gone.append(name)
            shown = self._without(gone)
        yield shown if self.most is None else Constrain(shown, options.max_width)
        if gone:
            hint = f"; COLUMNS={PIPE - 1} shows all" if pipe else ""
            yield Text(f"left out to fit {room} columns: {', '.join(gone)}{hint}", style="dim")

    def _without(self, gone: Collection[str]) -> Table:
        kept = [index for index, name in enumerate(self.columns) if name not in gone]
        rows = ([row[index] for index in kept] for row in self.rows)
        return table([self.columns[index] for index in kept], rows, title=self.title, right=self.right)


def verdict(ok: bool | None, words: tuple[str, str, str] = ("ok", "FAILED", "-")) -> Text:
    """The first word in green, the second, a failure, in red; the third where it does not apply.

    >>> verdict(True).plain, verdict(None).plain
    ('ok', '-')
    """
    if ok is None:
        return Text(words[2], style="dim")
    return Text(words[0], style="green") if ok else Text(words[1], style="bold red")
