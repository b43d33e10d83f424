"""The patterns of sparse weights: dense, empty, channel, group, block(r,c), n:m, unstructured; one file each.

A pattern is asked of a matrix (outputs, k): `weight_matrix` gives it of a layer's weight. The recognisers are tried in
the order of registration, the most regular structure first; the last one takes everything.
"""

# They register themselves, in the order in which they are tried.
from tesa.attributes.patterns import empty, dense, channel, group, block, n_of_m, rows, taps, unstructured  # noqa: F401, I001
from tesa.attributes.patterns.block import BLOCKS
from tesa.attributes.patterns.group import GROUPS
from tesa.attributes.patterns.matrix import weight_matrix
from tesa.attributes.patterns.n_of_m import N_OF_M
from tesa.attributes.patterns.registry import (
    Imposition,
    Pattern,
    PatternKind,
    any_pattern,
    classify,
    find_pattern,
    forget,
    install,
    pattern,
    patterns,
    recognise,
)
from tesa.attributes.zeros import Zeros, digest, frozen, zeros_of

__all__ = [
    "BLOCKS", "GROUPS", "N_OF_M", "Imposition", "Pattern", "PatternKind", "Zeros", "any_pattern", "classify", "digest",
    "find_pattern", "forget", "frozen", "install", "pattern", "patterns", "recognise", "weight_matrix", "zeros_of",
]  # fmt: skip
