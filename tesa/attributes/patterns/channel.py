"""Whole channels: a smaller dense weight, and smaller tensors around it."""

from __future__ import annotations

from tesa.attributes.patterns.registry import Imposition, Pattern, Sizes, Structure, pattern
from tesa.attributes.patterns.tiles import best_blocks
from tesa.attributes.zeros import Mask, Zeros
from tesa.schedules.types import FloatArray


def _keep(size: FloatArray, sparsity: float, sizes: Sizes) -> Mask:
    """The rows of the largest mean magnitude."""
    del sizes
    return best_blocks(size, 1, size.shape[1], sparsity)


def _describe(found: Pattern) -> str:
    return f"channel {found.rows}/{found.shape[0]} x {found.columns}/{found.shape[1]}"


@pattern(
    "channel",
    counted=True,
    describe=_describe,
    imposition=Imposition("channel", _keep, "0.5:channel", propagates=True),
)
def channel(zeros: Zeros) -> Structure | None:
    """Whole rows (outputs) or whole columns (inputs) are gone and the rest is dense."""
    return {} if zeros.nonzeros == zeros.live_rows * zeros.live_columns else None
