"""An extension of Griffe: examples in docstrings become blocks of code, where they stand in the text."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Puts fences around doctests."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with each paragraph that begins with >>> between fences.

    >>> print(fenced("Adds.\\n\\n>>> 1 + 1\\n2"))
    Adds.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        lines = paragraph.splitlines()
        start = next((place for place, line in enumerate(lines) if line.lstrip().startswith(">>>")), None)
        if start is None:
            found.append(paragraph)
            continue
        if start:
            found.append("\n".join(lines[:start]))
        found.append("\n".join(["```pycon", *(line.strip() for line in lines[start:]), "```"]))
    return "\n\n".join(found)
