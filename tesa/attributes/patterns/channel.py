"""Whole channels: a smaller dense weight, and smaller tensors around it."""

from tesa.attributes.patterns.registry import Imposition, Structure, pattern
from tesa.attributes.patterns.tiles import best_blocks
from tesa.attributes.zeros import Zeros


@pattern(
    "channel",
    counted=True,
    describe=lambda found: f"channel {found.rows}/{found.shape[0]} x {found.columns}/{found.shape[1]}",
    imposition=Imposition(
        "channel",
        lambda size, sparsity, _: best_blocks(size, 1, size.shape[1], sparsity),  # rows of the largest mean magnitude
        "0.5:channel",
        propagates=True,
        unit=lambda m, k, _: (1, k),
    ),
)
def channel(zeros: Zeros) -> Structure | None:
    """Whole rows (outputs) or whole columns (inputs) are gone and the rest is dense."""
    return {} if zeros.nonzeros == zeros.live_rows * zeros.live_columns else None
