"""Selects the rule of an operator: its own, else that of all element-wise operators, else scrambling."""

from collections.abc import Sequence
from dataclasses import dataclass

from tesa.base.loop_names import LOOP
from tesa.propagate.executor import CannotRunError
from tesa.propagate.network import Node
from tesa.propagate.registry import Rule, find
from tesa.propagate.rules.unary import elementwise_rule
from tesa.propagate.scramble.rule import scrambling


@dataclass(frozen=True)
class Choice:
    """The rule of an operator, None where nothing can be said of it. note: why it has no rule of its own, else ""."""

    rule: Rule | None
    note: str = ""


def select(node: Node, sharing: int = 1) -> Choice:
    """The rule of a node. What has no elements, or a shape that is known at run time only, never has one.

    sharing: how many nodes there are that share the time for scrambling.
    """
    return _simple(node) or _scrambled(node, sharing)


def select_all(nodes: Sequence[Node]) -> list[Choice]:
    """`select` for the nodes of a network: the more of them must be scrambled, the less time there is for each."""
    found = [_simple(node) for node in nodes]
    sharing = sum(choice is None for choice in found)
    return [choice or _scrambled(node, sharing) for node, choice in zip(nodes, found, strict=True)]


def _simple(node: Node) -> Choice | None:
    """The choice that takes no running of the operator."""
    if node.dynamic:
        return Choice(None, "left as it is: a shape of it is known at run time only")
    if any(0 in shape for shape in (*node.operator.inputs, *node.operator.outputs)):
        return Choice(None, "left as it is: a tensor of it has no elements")
    op = node.operator.op
    if op.startswith(f"call.{LOOP}"):
        return Choice(None, "what its steps do to each other is not followed")
    # of two functions of one name, for two shapes, TVM calls the second name1
    numbered = op.rstrip("0123456789") if op.startswith("call_tir.") else op
    rule = find(op) or find(numbered) or elementwise_rule(node)
    return None if rule is None else Choice(rule)


def _scrambled(node: Node, sharing: int) -> Choice:
    try:
        rule = scrambling(node, sharing)
    except CannotRunError as error:
        return Choice(None, f"no rule; could not be run: {error}")
    return Choice(rule, rule.summary)
