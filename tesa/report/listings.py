"""Listings of code as HTML, in colours where Pygments is installed."""

from html import escape

from tesa.base.listing import Listing

_LEXERS = {"tir": "python", "llvm": "llvm", "asm": "gas", "ptx": "ptx", "sass": "text", "amd": "gas", "opencl": "c"}
_WHOLE = 60
"""Lines up to which a listing is shown whole; a longer one scrolls."""


def listing_html(listing: Listing) -> str:
    """An HTML fragment of the code, which scrolls where it is long."""
    lines = listing.count("\n") + 1
    height = "max-height:40em;" if lines > _WHOLE else ""
    return f'<div style="{height}overflow:auto;font-size:12px">{_coloured(listing)}</div>'


def _coloured(listing: Listing) -> str:
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import get_lexer_by_name
    except ImportError:
        return f"<pre>{escape(str(listing))}</pre>"
    lexer = get_lexer_by_name(_LEXERS.get(listing.kind, "text"))
    made: str = highlight(str(listing), lexer, HtmlFormatter(noclasses=True, nobackground=True))
    return made
