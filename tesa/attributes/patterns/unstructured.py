"""Single elements: what every other weight is."""

import numpy as np

from tesa.attributes.patterns.registry import Imposition, Sizes, Structure, pattern
from tesa.attributes.patterns.tiles import balanced_blocks, best_blocks
from tesa.attributes.zeros import Zeros
from tesa.schedules.types import FloatArray


def _sample(rng: np.random.Generator, shape: tuple[int, int], sparsity: float, sizes: Sizes) -> FloatArray:
    del sizes
    weight = rng.standard_normal(shape, np.float32)
    weight[rng.random(shape) < sparsity] = 0
    return weight


@pattern(
    "unstructured",
    counted=True,
    imposition=Imposition(
        "unstructured",
        lambda size, sparsity, _: best_blocks(size, 1, 1, sparsity),
        "0.9:unstructured",
        balanced=lambda size, sparsity, _: balanced_blocks(size, 1, 1, sparsity),
        unit=lambda m, k, _: (1, 1),
    ),
    sample=_sample,
    last=True,
)
def unstructured(zeros: Zeros) -> Structure | None:
    """No structure: single elements are gone."""
    del zeros
    return {}
