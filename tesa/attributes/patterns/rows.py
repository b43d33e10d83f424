"""Whole rows, columns and filters by the names that pruners have for them: other words for parts of "channel"."""

from tesa.attributes.patterns.registry import Imposition, Structure, pattern
from tesa.attributes.patterns.tiles import best_blocks
from tesa.attributes.zeros import Zeros

_ROWS = Imposition(
    "row",
    lambda size, sparsity, _: best_blocks(size, 1, size.shape[1], sparsity),
    "0.5:row",
    propagates=True,
    unit=lambda m, k, _: (1, k),
    short="filter",
)
_COLUMNS = Imposition(
    "column",
    lambda size, sparsity, _: best_blocks(size, size.shape[0], 1, sparsity),
    "0.5:column",
    propagates=True,
    unit=lambda m, k, _: (m, 1),
)


@pattern("row", counted=True, imposition=_ROWS)
def row(zeros: Zeros) -> Structure | None:
    """Whole rows of the weight (outputs, filters) are gone; recognised as channel."""
    del zeros
    return None


@pattern("column", counted=True, imposition=_COLUMNS)
def column(zeros: Zeros) -> Structure | None:
    """Whole columns of the weight (an input, at one tap of a window) are gone; recognised as channel."""
    del zeros
    return None
