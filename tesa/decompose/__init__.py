"""Decomposition: policies that split a weight into pieces, and the kernels that compute their sum.

Importing this package registers the policies that tesa has, each also as a kernel family of its name.
"""

from tesa.attributes.codes import Codes, in_codes
from tesa.decompose import cover, nm, order, precision, tiles  # noqa: F401  they register themselves
from tesa.decompose.composite import describe_pieces
from tesa.decompose.policy import forget, policy
from tesa.decompose.prices import Prices
from tesa.decompose.registry import Policy, find_policy, is_composite, pieces, policies
from tesa.schedules.pieces import Piece, PieceKernel

__all__ = [
    "Codes", "Piece", "PieceKernel", "Policy", "Prices", "describe_pieces", "find_policy", "forget", "in_codes",
    "is_composite", "pieces", "policies", "policy",
]  # fmt: skip
