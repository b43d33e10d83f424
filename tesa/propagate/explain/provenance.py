"""Provenance: the facts that a fact was deduced from, those without which its rule would claim less.

A rule sees several tensors at once, and most of what is known of them often has no part in its result: a pruned filter
makes its output 0 whatever the input is. So each possible cause is taken away in turn and the rule asked again; what
makes no difference is no cause. Where each of several causes would do alone, and where an operator was scrambled, all
of them are named.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tesa.attributes.attribute import FULL_BITS, Bools, TeSA
from tesa.propagate.model import TesaModel
from tesa.propagate.network import Node
from tesa.propagate.registry import Operator, Rule
from tesa.propagate.select import select

Key = tuple[str, str]
"""A fact: the tensor, and "value", "live" or "bits"."""


def region(tesa: TeSA, kind: str) -> Bools:
    """The elements for which a fact of that kind is worth telling: one that is known need not be dead as well.

    >>> from tesa.attributes.attribute import from_mask
    >>> region(from_mask([True, False]), "value")
    array([False,  True])
    """
    if kind == "value":
        return tesa.known
    return tesa.dead & ~tesa.known if kind == "live" else tesa.bits < FULL_BITS


class Provenance:
    """The provenance of the facts of one model; each is worked out once."""

    def __init__(self, model: TesaModel) -> None:
        self.model = model
        self.producer = {name: node for node in model.network.nodes for name in node.outputs}
        self.consumers: dict[str, list[Node]] = {}
        for node in model.network.nodes:
            for name in dict.fromkeys(node.inputs):
                self.consumers.setdefault(name, []).append(node)
        self.plain = set(model.network.constants) - {facts.tensor for facts in model.weights.values()}
        self.known: dict[Key, list[Key]] = {}

    def told(self, key: Key) -> bool:
        """True if there is such a fact and it says something: that a bias is known goes without saying."""
        tesa = self.model.tesa[key[0]]
        plain = key[1] == "value" and key[0] in self.plain and bool(tesa.known.all())
        return not plain and bool(region(tesa, key[1]).any())

    def of(self, key: Key) -> list[Key]:
        """The facts that a fact was deduced from, those of its operators' inputs first."""
        if key not in self.known:
            found = {"value": self._value, "live": self._live, "bits": self._bits}[key[1]](key[0])
            self.known[key] = [cause for cause in dict.fromkeys(found) if self.told(cause)]
        return self.known[key]

    def _value(self, tensor: str) -> list[Key]:
        node = self.producer.get(tensor)
        if node is None:
            return []
        position, rule = node.outputs.index(tensor), self._rule(node)
        possible = [(name, "value") for name in dict.fromkeys(node.inputs)]
        if rule is None:
            return possible
        inputs, _ = self._around(node)
        before = int(self._full(rule.forward(node.operator, inputs)[position].known, tensor).sum())

        def less(cause: Key) -> bool:
            operator, weaker = _without_value(node, inputs, cause[0])
            return int(self._full(rule.forward(operator, weaker)[position].known, tensor).sum()) < before

        return _needed(possible, less, self.told)

    def _live(self, tensor: str) -> list[Key]:
        wanted = region(self.model.tesa[tensor], "live")
        return [cause for node in self.consumers.get(tensor, []) for cause in self._backward(node, tensor, wanted)]

    def _backward(self, node: Node, tensor: str, wanted: Bools) -> list[Key]:
        """The facts by which one reader of a tensor does without these elements of it."""
        values = [(name, "value") for name in dict.fromkeys(node.inputs) if name != tensor]
        possible, rule = [*values, *((name, "live") for name in node.outputs)], self._rule(node)
        if rule is None:
            return possible
        inputs, outputs = self._around(node)
        positions = [i for i, name in enumerate(node.inputs) if name == tensor]

        def needed(operator: Operator, ins: tuple[TeSA, ...], outs: tuple[TeSA, ...]) -> int:
            needs = rule.backward(operator, ins, outs)
            return sum(int(self._full(np.asarray(needs[i]) & wanted, tensor).sum()) for i in positions)

        before = needed(node.operator, inputs, outputs)

        def less(cause: Key) -> bool:
            if cause[1] == "live":
                pairs = zip(node.outputs, outputs, strict=True)
                alive = tuple(replace(t, live=np.ones_like(t.live)) if n == cause[0] else t for n, t in pairs)
                return needed(node.operator, inputs, alive) > before
            return needed(*_without_value(node, inputs, cause[0]), outputs) > before

        return _needed(possible, less, self.told)

    def _bits(self, tensor: str) -> list[Key]:
        found: list[Key] = []
        origins = {(o.rule, o.operator) for o in self.model.tesa[tensor].origins if o.fact == "bits"}
        around = [self.producer[tensor]] if tensor in self.producer else []
        for node in (*around, *self.consumers.get(tensor, [])):
            if (node.operator.op, node.operator.layer) in origins:
                found += [(name, "bits") for name in (node.inputs if tensor in node.outputs else node.outputs)]
        return found

    def _rule(self, node: Node) -> Rule | None:
        """The rule that an operator has of its own; scrambling is too slow to be asked again and again."""
        layer = node.operator.layer
        return None if layer in self.model.unruled or layer in self.model.scrambled else select(node).rule

    def _around(self, node: Node) -> tuple[tuple[TeSA, ...], tuple[TeSA, ...]]:
        inputs, outputs = (tuple(self.model.tesa[n] for n in names) for names in (node.inputs, node.outputs))
        return inputs, outputs

    def _full(self, mask: Any, tensor: str) -> Bools:
        return np.broadcast_to(mask, self.model.network.shapes[tensor])


def _needed(possible: list[Key], less: Callable[[Key], bool], told: Callable[[Key], bool]) -> list[Key]:
    """The causes that make a difference alone; all of them, if none does."""
    there = [cause for cause in possible if told(cause)]
    return [cause for cause in there if less(cause)] or there


def _without_value(node: Node, inputs: tuple[TeSA, ...], name: str) -> tuple[Operator, tuple[TeSA, ...]]:
    """The operator and its inputs as if nothing were known of one of them; a weight gets ones for its zeros."""
    operator, weaker, constants = node.operator, list(inputs), list(node.operator.constants)
    for position, other in enumerate(node.inputs):
        if other != name:
            continue
        t, constant = inputs[position], constants[position]
        weaker[position] = replace(t, known=np.zeros_like(t.known), value=np.zeros_like(t.value))
        if constant is not None:
            constants[position] = np.where(constant == 0, np.ones((), constant.dtype), constant)
    return replace(operator, constants=tuple(constants)), tuple(weaker)
