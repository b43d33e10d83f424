"""Taps: of depthwise filters, the same live taps for a group of channels, so that one vector skips what is gone."""

from tesa.attributes.patterns.registry import Imposition, Structure, pattern
from tesa.attributes.patterns.tiles import balanced_blocks
from tesa.attributes.zeros import Zeros


@pattern(
    "taps",
    counted=True,
    imposition=Imposition(
        "taps=G",
        lambda size, sparsity, sizes: balanced_blocks(size, sizes[0], 1, sparsity),
        "0.3:taps=4",
        check=lambda sizes: "" if sizes[0] >= 1 else "a group has at least one channel",
        balanced=lambda size, sparsity, sizes: balanced_blocks(size, sizes[0], 1, sparsity),
        unit=lambda m, k, sizes: (sizes[0], 1),
        grain=lambda sizes: (sizes[0], 1),
    ),
)
def taps(zeros: Zeros) -> Structure | None:
    """The same taps of a group of depthwise filters are live, as many in every group; recognised as block Gx1."""
    del zeros
    return None
