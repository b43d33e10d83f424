"""Bits, backward: how many bits of a tensor its consumers can tell apart.

A consumer that rounds its input to a grid needs no more of it than that grid. The need passes back through operators
that move elements or select among them. One sweep from the outputs to the inputs is enough: a tensor is looked at when
all its consumers have been, and the sweep changes neither values nor liveness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tesa.attribute import Origin, TeSA, merge
from tesa.propagate.network import Network
from tesa.propagate.registry import Rule


def narrow(net: Network, rules: Sequence[Rule | None], tesa: Mapping[str, TeSA]) -> dict[str, TeSA]:
    """The facts with the bits that suffice for the consumers of each tensor. rules: of each node."""
    result = dict(tesa)
    needs: dict[str, list[tuple[TeSA | None, int]]] = {name: [(None, -1)] for name in net.outputs}
    for i in reversed(range(len(net.nodes))):
        node, rule = net.nodes[i], rules[i]
        for name in node.outputs:
            _settle(result, name, needs.get(name, []), net)
        inputs, outputs = (tuple(result[n] for n in names) for names in (node.inputs, node.outputs))
        found = rule.precision(node.operator, inputs, outputs) if rule and rule.precision else (None,) * len(inputs)
        for name, need in zip(node.inputs, found, strict=True):
            needs.setdefault(name, []).append((need, i))
    for name in net.shapes:
        _settle(result, name, needs.get(name, []), net)
    return result


def _settle(tesa: dict[str, TeSA], name: str, needs: Sequence[tuple[TeSA | None, int]], net: Network) -> None:
    """Lower the bits of a tensor if all its consumers need the same grid."""
    first = needs[0][0] if needs else None
    if first is None or any(need != first for need, _ in needs):
        return
    operator = net.nodes[needs[0][1]].operator
    tesa[name] = merge(tesa[name], first).growth(tesa[name], Origin("", "rule", operator.op, operator.layer))
