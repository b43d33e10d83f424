"""A weight without zeros."""

from __future__ import annotations

import numpy as np

from tesa.attributes.patterns.registry import Sizes, Structure, pattern
from tesa.attributes.zeros import Zeros
from tesa.schedules.types import FloatArray


def _sample(rng: np.random.Generator, shape: tuple[int, int], sparsity: float, sizes: Sizes) -> FloatArray:
    del sparsity, sizes
    return rng.standard_normal(shape, np.float32)


@pattern("dense", counted=True, sample=_sample)
def dense(zeros: Zeros) -> Structure | None:
    """Every element is there."""
    return {} if zeros.nonzeros == zeros.size else None
