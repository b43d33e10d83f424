"""Which rule an operator of a network gets: its own, else the one of all element-wise operators, else scrambling."""

from __future__ import annotations

from dataclasses import dataclass

from tesa.propagate.executor import CannotRunError
from tesa.propagate.network import Node
from tesa.propagate.registry import Rule, find
from tesa.propagate.rules.unary import elementwise_rule
from tesa.propagate.scramble import scrambling


@dataclass(frozen=True)
class Choice:
    """rule: None where nothing is known of an operator. note: why it has no rule of its own; "" if it has one."""

    rule: Rule | None
    note: str = ""


def select(node: Node) -> Choice:
    """The rule of a node. What has no elements, or a shape that is known at run time only, never has one."""
    if node.dynamic:
        return Choice(None, "left as it is: a shape of it is known at run time only")
    if any(0 in shape for shape in (*node.operator.inputs, *node.operator.outputs)):
        return Choice(None, "left as it is: a tensor of it has no elements")
    own = find(node.operator.op)
    if own is not None:
        return Choice(own)
    try:
        rule = elementwise_rule(node)
        if rule is not None:
            return Choice(rule)
        rule = scrambling(node)
    except CannotRunError as error:
        return Choice(None, f"no rule; could not be run: {error}")
    return Choice(rule, rule.summary)
