"""Blocks: aligned rectangles that are there or gone as a whole."""

import numpy as np

from tesa.attributes.patterns.registry import Imposition, Sizes, Structure, pattern
from tesa.attributes.patterns.tiles import balanced_blocks, best_blocks, random_blocks
from tesa.attributes.zeros import Zeros
from tesa.schedules.types import FloatArray

BLOCKS = sorted(
    [
        *((side, side) for side in (32, 16, 8, 4, 2)),
        *((16, 4), (4, 16)),
        *((height, 1) for height in (32, 16, 8, 4, 2)),
        *((1, width) for width in (32, 16, 8, 4, 2)),
    ],
    key=lambda block: -block[0] * block[1],
)
"""Rows x columns of the blocks that are looked for, the largest first."""


def _sample(rng: np.random.Generator, shape: tuple[int, int], sparsity: float, sizes: Sizes) -> FloatArray:
    live = random_blocks(rng, shape, 1 - sparsity, sizes)
    return np.where(live, rng.standard_normal(shape, np.float32), np.float32(0))


@pattern(
    "block",
    counted=True,
    describe=lambda found: "block {}x{}".format(*found.sizes),
    imposition=Imposition(
        "block=RxC",
        lambda size, sparsity, sizes: best_blocks(size, sizes[0], sizes[1], sparsity),
        "0.9:block=4x4",
        check=lambda sizes: "" if min(sizes) >= 1 else "a block has at least one row and one column",
        tiles=True,
        short="RxC",
        balanced=lambda size, sparsity, sizes: balanced_blocks(size, sizes[0], sizes[1], sparsity),
        unit=lambda m, k, sizes: (sizes[0], sizes[1]),
        grain=lambda sizes: (sizes[0], sizes[1]),
    ),
    sample=_sample,
)
def block(zeros: Zeros) -> Structure | None:
    """Aligned dense blocks of r x c, of the largest size that fits exactly; blocks at the edge may be cut off."""
    m, k = zeros.shape
    if all(zeros.covered(*pair) != zeros.nonzeros for pair in ((2, 1), (1, 2))):
        return None  # every larger block is made of these
    for height, width in BLOCKS:
        if height <= m and width <= k and zeros.covered(height, width) == zeros.nonzeros:
            return {"block": (height, width)}
    return None
