"""The text that a terminal shows, as a string: for `print` of a value."""

from collections.abc import Iterable
from io import StringIO

from rich.console import Console, RenderableType

from tesa.report.table import FITTED


def written(parts: Iterable[RenderableType]) -> str:
    """Tables and lines as text of up to 100 columns, without colours.

    >>> written(["one", "two"])
    'one\\ntwo'
    """
    stream = StringIO()
    console = Console(file=stream, width=FITTED, highlight=False, color_system=None, force_jupyter=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()).rstrip("\n")
