"""Tables and lines as HTML in one style: for notebooks and reports, in light and dark themes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tesa.report.table import FittedTable
from tesa.report.written import written

_WHOLE = 24
"""Rows up to which a table is shown whole."""

_FIRST = 12
"""Rows of a longer table that are shown before it is unfolded."""

# JupyterLab aligns tables to the right, and the site spaces them out, by rules of two classes: three go before them.
STYLE = """<style>
.tesa { font-size: 13px; line-height: 1.45; color: var(--jp-ui-font-color1, inherit); }
.tesa table { border-collapse: collapse; margin: .4em 0; font-variant-numeric: tabular-nums; }
.tesa th { font-weight: 600; border-bottom: 1px solid rgba(128, 128, 128, .6); }
.tesa th, .tesa td { vertical-align: top; background: none; }
.tesa.tesa.tesa table th, .tesa.tesa.tesa table td { text-align: left; padding: .15em .8em .15em 0; min-width: 0; }
.tesa.tesa.tesa table tr .right { text-align: right; white-space: nowrap; }
.tesa tr.chosen td { font-weight: 600; }
.tesa caption { text-align: left; font-weight: 600; padding: .3em 0; }
.tesa details > summary { cursor: pointer; opacity: .75; }
.tesa .scroll { overflow-x: auto; }
.tesa img { max-width: 100%; }
</style>"""


def page_part(parts: Iterable[RenderableType], *, style: bool = True) -> str:
    """The text of a terminal as one HTML fragment: tables as tables, all else as lines. style: with its own colours.

    >>> page_part([Text("two & more")], style=False)
    '<div class="tesa"><div>two &amp; more</div></div>'
    """
    return f'<div class="tesa">{STYLE if style else ""}{"".join(_one(part) for part in parts)}</div>'


def html_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    right: Iterable[str] = (),
    chosen: int | None = None,
) -> str:
    """A table. right: headings of columns of numbers; chosen: the row to set off. All but the first rows of a long one
    are folded.

    >>> html_table(["layer", "ms"], [["fc", "0.5"]], right=["ms"]).count("right")
    2
    """
    numbers = [name in set(right) for name in columns]
    head = "".join(_cell("th", name, side) for name, side in zip(columns, numbers, strict=True))
    lines = []
    for place, row in enumerate(rows):
        cells = "".join(_cell("td", text, side) for text, side in zip(row, numbers, strict=True))
        lines.append(f"<tr{' class=chosen' if place == chosen else ''}>{cells}</tr>")
    caption = f"<caption>{escape(title)}</caption>" if title else ""

    def made(shown: Sequence[str], caption: str) -> str:
        heading = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
        table = f"<table>{caption}{heading}<tbody>{''.join(shown)}</tbody></table>"
        return f'<div class="scroll">{table}</div>'

    if len(lines) <= _WHOLE:
        return made(lines, caption)
    rest = f"<summary>{len(lines) - _FIRST} more rows</summary>{made(lines[_FIRST:], '')}"
    return f"{made(lines[:_FIRST], caption)}<details>{rest}</details>"


def _cell(tag: str, text: str, number: bool) -> str:
    """A cell. Text says its side itself: of a notebook that is not trusted, JupyterLab leaves the style out."""
    return f"<{tag} {'class=right' if number else 'style=text-align:left'}>{escape(text)}</{tag}>"


def _one(part: RenderableType) -> str:
    if isinstance(part, FittedTable):
        rows = [[_plain(cell) for cell in row] for row in part.rows]
        return html_table(part.columns, rows, title=part.title, right=part.right)
    if isinstance(part, Table):
        columns = [_plain(column.header) for column in part.columns]
        right = [_plain(column.header) for column in part.columns if column.justify == "right"]
        rows = [list(map(_plain, row)) for row in zip(*(column.cells for column in part.columns), strict=True)]
        return html_table(columns, rows, title=_plain(part.title or ""), right=right)
    if not isinstance(part, str | Text):  # nothing that a terminal can show is shown as the fields of its class
        return f"<pre>{escape(written([part]))}</pre>"
    text = _plain(part)
    indent = len(text) - len(text.lstrip(" "))
    style = f' style="padding-left:{indent / 2:g}em"' if indent else ""
    bold = isinstance(part, Text) and "bold" in str(part.style)
    shown = escape(text.strip())
    return f"<div{style}>{f'<b>{shown}</b>' if bold else shown}</div>"


def _plain(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
