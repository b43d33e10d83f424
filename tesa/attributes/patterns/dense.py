"""A weight without zeros."""

import numpy as np

from tesa.attributes.patterns.registry import Structure, pattern
from tesa.attributes.zeros import Zeros


@pattern("dense", counted=True, sample=lambda rng, shape, *_: rng.standard_normal(shape, np.float32))
def dense(zeros: Zeros) -> Structure | None:
    """Every element is there."""
    return {} if zeros.nonzeros == zeros.size else None
