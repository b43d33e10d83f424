"""Finds where the conditions inside a loop change, so that it can be cut into pieces free of them."""

from itertools import pairwise
from typing import Any

from tvm import tirx

from tesa.schedules.cpu.operators.tree import collect, const_int, linear, mentions, simplify

_COMPARE = (tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.EQ, tirx.NE, tirx.Min, tirx.Max)
_MOST = 8


def segments(body: Any, var: Any, extent: int) -> list[tuple[int, int]]:
    """Ranges [low, high) of var that cover 0..extent, each without a change of a condition.

    A padded row of 16 with one element of padding on either side, if 1 <= v and v < 15, gives
    [(0, 1), (1, 15), (15, 16)]. More than eight pieces are not worth their code: then the whole range comes back.
    """
    cuts = {0, extent}
    for node in collect(body, _COMPARE):
        cuts.update(cut for cut in _cuts(node, var) if 0 < cut < extent)
    edges = sorted(cuts)
    if len(edges) > _MOST + 1:
        return [(0, extent)]
    return list(pairwise(edges))


def _cuts(node: Any, var: Any) -> tuple[int, ...]:
    left, right = node.a, node.b
    if "int" not in str(left.ty.dtype) or not mentions(node, var):
        return ()
    if isinstance(node, (tirx.GT, tirx.GE)):
        left, right = right, left
    difference = simplify(left - right)
    coefficient = linear(difference, [var])
    if coefficient is None or coefficient[0] == 0:
        return ()
    c = coefficient[0]
    rest = const_int(simplify(difference - var * tirx.const(c, var.ty.dtype)))
    if rest is None:
        return ()
    if isinstance(node, (tirx.EQ, tirx.NE)):
        return (-rest // c, -rest // c + 1) if rest % c == 0 else ()
    inclusive = isinstance(node, (tirx.LE, tirx.GE))
    # the first v at which c * v + rest < 0 (or <= 0) turns from true to false, or from false to true
    if c > 0:
        return ((-rest) // c + 1,) if inclusive else (-(rest // c),)
    return (-(-rest // -c),) if inclusive else (rest // -c + 1,)
