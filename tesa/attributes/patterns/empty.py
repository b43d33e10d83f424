"""A weight of zeros."""

from tesa.attributes.patterns.registry import Structure, pattern
from tesa.attributes.zeros import Zeros


@pattern("empty", counted=True)
def empty(zeros: Zeros) -> Structure | None:
    """No element is left."""
    return None if zeros.nonzeros else {}
