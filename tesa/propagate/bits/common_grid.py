"""The one grid that serves two readers of a tensor."""

import numpy as np

from tesa.attributes.attribute import FULL_BITS, Bits, TeSA, Values
from tesa.attributes.quantization import Quantization, code_range
from tesa.propagate.bits.grids import lead


def common_grid(a: TeSA, b: TeSA) -> TeSA | None:
    """The grid that suffices for two readers: that of more range, if they are otherwise the same; else None."""
    p, q = a.quantization, b.quantization
    if p is None or q is None or (a.bits >= FULL_BITS).any() or (b.bits >= FULL_BITS).any():
        return None
    if a == b:
        return a
    rank = len(a.shape)
    zeros = [lead(g.zero_point, rank) for g in (p, q)]
    shift = zeros[0] - zeros[1]
    if not ((lead(p.scale, rank) == lead(q.scale, rank)).all() and (shift == np.rint(shift)).all()):
        return None
    (low, high), (first, last) = (_ends(t.bits, g, rank) for t, g in ((a, p), (b, q)))
    if ((low <= first) & (high >= last)).all():
        return a
    return b if ((first <= low) & (last >= high)).all() else None


def _ends(bits: Bits, q: Quantization, rank: int) -> tuple[Values, Values]:
    """The first and last code of each element, counted from the zero point."""
    first, last = code_range(np.minimum(bits, q.bits), q.signed)
    return first - lead(q.zero_point, rank), last - lead(q.zero_point, rank)


def nested_grid(a: TeSA, b: TeSA, numbers: Values | None) -> TeSA | None:
    """The finer of two grids, if rounding each of the numbers to it first changes nothing about the coarser one."""
    p, q = a.quantization, b.quantization
    if p is None or q is None or numbers is None or (a.bits >= FULL_BITS).any() or (b.bits >= FULL_BITS).any():
        return None
    for fine, coarse, bits, fewer, result in ((p, q, a.bits, b.bits, a), (q, p, b.bits, a.bits, b)):
        several = [numbers.astype(kind) for kind in (np.float64, np.float32)]
        pairs = [(x, fine.points(fine.codes(x, bits), False).astype(x.dtype)) for x in several]
        if all((coarse.codes(rounded, fewer) == coarse.codes(x, fewer)).all() for x, rounded in pairs):
            return result
    return None
