"""Code as a text that a notebook shows in colours."""

from __future__ import annotations


class Listing(str):
    """A text of code. kind: "tir", "llvm", "asm", ...: the language, for the colours.

    >>> Listing("ret", "asm").upper()
    'RET'
    """

    kind: str

    def __new__(cls, text: str, kind: str) -> Listing:
        made = super().__new__(cls, text)
        made.kind = kind
        return made

    def __reduce__(self) -> tuple[type[Listing], tuple[str, str]]:
        return Listing, (str(self), self.kind)

    def _repr_html_(self) -> str:
        from tesa.base import display

        return display.html(self)
