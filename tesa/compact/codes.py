"""The price of removal in layers of codes: integer kernels multiply four features at once, and give codes back.

A weight that was pruned in groups of four features loses what its zeros are worth if a channel is taken from the middle
of a group: all groups behind it are cut elsewhere, and few of them are empty. So such groups go as a whole. And a
constant that has no place in a bias is worth less than in float32: it is added to numbers, so that the kernel cannot
store codes.
"""

from typing import Any

import numpy as np

from tesa.attributes.attribute import Values
from tesa.compact.analysis import Analysis, Contraction, Term
from tesa.compact.index import Bools

GROUP = 4
"""Features that an integer kernel multiplies at once."""

WORTH_A_MAP = 64
"""Multiplications of codes, of weights that are no zeros, that cost as much as numbers instead of codes."""

_FULL, _MOST = 0.75, 0.8
"""Share of non-zeros in the groups that have some, and of such groups, of a weight that was pruned in groups."""


def reads_codes(a: Analysis, contraction: Contraction) -> bool:
    """True for a sum of codes times a constant weight."""
    node = a.graph.nodes[contraction.node]
    makers = {maker.output[0]: maker for maker in a.graph.nodes if maker.op_type == "DequantizeLinear"}
    return node.input[0] in makers and len(node.input) > 1 and a.constant(node.input[1]) is not None


def multiplied(a: Analysis, contraction: Contraction, term: Term, some: Bools) -> float:
    """The weights other than 0 that an output of a layer of codes meets on average in some of a term's indices."""
    weight = _features_first(a, contraction, term)
    if weight is None:
        return float(np.sum(some))
    outputs = np.prod(weight.shape[1:]) / _window(a, contraction)
    return float(np.count_nonzero(weight[np.reshape(some, -1)]) / max(outputs, 1))


def in_groups(a: Analysis, contraction: Contraction, term: Term) -> bool:
    """True where the weight of a layer of codes was pruned in groups of features."""
    weight = _features_first(a, contraction, term)
    if weight is None or not reads_codes(a, contraction):
        return False
    whole = len(weight) // GROUP * GROUP
    groups = (weight[:whole] != 0).reshape(whole // GROUP, GROUP, -1)
    live, count = groups.any(axis=1), np.count_nonzero(groups)
    return bool(live.any() and live.mean() <= _MOST and count >= _FULL * GROUP * np.count_nonzero(live))


def split(goes: Bools) -> Bools:
    """Those of the features that go whose group does not go as a whole.

    >>> split(np.array([True, True, True, True, True, False, False, False, True]))
    array([False, False, False, False,  True, False, False, False, False])
    """
    padded = np.ones(-(-len(goes) // GROUP) * GROUP, bool)
    padded[: len(goes)] = goes
    groups = padded.reshape(-1, GROUP)
    return np.asarray((groups & ~groups.all(axis=1, keepdims=True)).reshape(-1)[: len(goes)])


def _features_first(a: Analysis, contraction: Contraction, term: Term) -> Values | None:
    """The constant weight with the term's indices along its first axis; None where they are no axis of it."""
    node: Any = a.graph.nodes[contraction.node]
    weight = a.constant(node.input[1]) if len(node.input) > 1 else None
    axes = (1,) if contraction.kind == "Conv" and term.owners is None else term.axes.get(1, ())
    if weight is None or len(axes) != 1 or term.ids.ndim != 1 or weight.shape[axes[0]] != len(term.ids):
        return None
    return np.moveaxis(weight, axes[0], 0)


def _window(a: Analysis, contraction: Contraction) -> int:
    """The taps of a convolution, 1 of anything else."""
    if contraction.kind != "Conv":
        return 1
    return int(np.prod(a.shape(a.graph.nodes[contraction.node].input[1])[2:]))
