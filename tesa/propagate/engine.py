"""The fixpoint: facts run forward to consumers and backward to producers until nothing changes.

Why the result is sound. Known values are facts about the original model: they depend on known values alone. Then, with
these fixed, liveness runs backward. Its claim is: let the dead elements of activations be anything finite and the dead
elements of weights be 0, compute everything else as it stands, and every live element is right. By induction over the
operators: a live output needs only live inputs, or inputs whose influence a known zero cuts off. That zero must itself
be right:
  - a zero in a weight is a constant of the program, or dead and thus set to 0, which cuts as well;
  - a weight may lean on a known-zero activation: being set to 0 itself, the product is 0 whatever the activation is;
  - of two activations only an element that is *not* known may lean on the zero of the other one. The zero leans on
    nothing there, so it is live as long as the product is, and right by induction. 0 * 0 cannot remove both.
The law of TeSA follows: known elements replaced by their constants are a special case for the dead ones and no change
for the live ones; and a dead weight that is not known, replaced by anything, meets an activation that is known to be 0.

Why the result does not depend on the order of visits, and a second run changes nothing: the forward facts are the
least fixpoint of monotone functions of known values only; the backward facts are one of monotone functions of liveness,
for the final known values. So forward work is done before any backward work, whatever was put into the list first. The
bits that suffice for the consumers come last, see precision.py.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tesa.attribute import Bools, Origin, TeSA, compact, from_constant, from_weight, merge, unknown
from tesa.propagate import rules as _rules  # noqa: F401  (importing it registers the rules)
from tesa.propagate.network import Network, Node
from tesa.propagate.precision import narrow
from tesa.propagate.registry import Rule, find


@dataclass(frozen=True)
class Fixpoint:
    """tesa: the facts about each tensor of the network. unruled: operators without a rule, by layer. steps: visits."""

    tesa: Mapping[str, TeSA]
    unruled: Mapping[str, str]
    steps: int


def solve(net: Network, given: Mapping[str, TeSA] | None = None, *, seed: int | None = None) -> Fixpoint:
    """Propagate until nothing changes.

    given: facts from outside by tensor (a user's mask, a quantized weight), merged with what the constants say. seed:
    visit in a random order, which must not matter. ContradictionError if two facts disagree.
    """
    return _Engine(net, given or {}, seed).run()


class _Engine:
    def __init__(self, net: Network, given: Mapping[str, TeSA], seed: int | None) -> None:
        self.net = net
        self.ranks = list(range(len(net.nodes)))
        if seed is not None:
            random.Random(seed).shuffle(self.ranks)
        self.producer = {name: i for i, node in enumerate(net.nodes) for name in node.outputs}
        self.consumers: dict[str, set[int]] = {}
        for i, node in enumerate(net.nodes):
            for name in node.inputs:
                self.consumers.setdefault(name, set()).add(i)
        self.rules: list[Rule | None] = [self._rule(node) for node in net.nodes]
        self.tesa = self._initial(given)
        self.needs: dict[tuple[int, int], Bools] = {}
        self.queues: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        self.waiting: tuple[set[int], set[int]] = (set(), set())

    def _rule(self, node: Node) -> Rule | None:
        return find(node.operator.op)

    def _initial(self, given: Mapping[str, TeSA]) -> dict[str, TeSA]:
        tesa = {name: unknown(shape) for name, shape in self.net.shapes.items()}
        for node, rule in zip(self.net.nodes, self.rules, strict=True):
            for position, name in enumerate(node.inputs):
                if name in self.net.constants:
                    tesa[name] = self._constant(name, rule is not None and position in rule.weights)
        for name, facts in given.items():
            tesa[name] = merge(tesa[name], facts)
        return tesa

    def _constant(self, name: str, weight: bool) -> TeSA:
        content = self.net.constants[name]
        return from_weight(content) if weight else from_constant(content, Origin("value", "weight"))

    def run(self) -> Fixpoint:
        for direction in (0, 1):
            for i in range(len(self.net.nodes)):
                self._push(direction, i)
        self._limit_unused()
        steps = 0
        while self.queues[0] or self.queues[1]:
            direction = 0 if self.queues[0] else 1
            _, i = heapq.heappop(self.queues[direction])
            self.waiting[direction].discard(i)
            (self._forward, self._backward)[direction](i)
            steps += 1
        tesa = narrow(self.net, self.rules, self.tesa)
        unruled = {
            node.operator.layer: node.operator.op
            for node, rule in zip(self.net.nodes, self.rules, strict=True)
            if rule is None
        }
        return Fixpoint(tesa, unruled, steps)

    def _push(self, direction: int, i: int) -> None:
        """Forward work in running order, backward work in reverse: then one visit is mostly enough."""
        if i not in self.waiting[direction]:
            self.waiting[direction].add(i)
            rank = self.ranks[i] if direction == 0 else -self.ranks[i]
            heapq.heappush(self.queues[direction], (rank, i))

    def _origin(self, i: int) -> Origin:
        operator = self.net.nodes[i].operator
        return Origin("", "rule", operator.op, operator.layer)

    def _forward(self, i: int) -> None:
        node, rule = self.net.nodes[i], self.rules[i]
        if rule is None:
            return
        inputs = tuple(self.tesa[name] for name in node.inputs)
        for name, found in zip(node.outputs, rule.forward(node.operator, inputs), strict=True):
            old = self.tesa[name]
            new = merge(old, found)
            if new != old:
                self.tesa[name] = new.growth(old, self._origin(i))
                for consumer in self.consumers.get(name, ()):
                    self._push(0, consumer)
                    self._push(1, consumer)
                self._push(1, i)

    def _backward(self, i: int) -> None:
        node, rule = self.net.nodes[i], self.rules[i]
        inputs = tuple(self.tesa[name] for name in node.inputs)
        outputs = tuple(self.tesa[name] for name in node.outputs)
        if rule is None:
            needs: tuple[Bools, ...] = tuple(np.ones((1,) * len(t.shape), bool) for t in inputs)
        else:
            needs = rule.backward(node.operator, inputs, outputs)
        for position, need in enumerate(needs):
            self.needs[i, position] = compact(np.asarray(need))
        for name in dict.fromkeys(node.inputs):
            self._update_live(name, i)

    def _update_live(self, name: str, cause: int) -> None:
        """An element is live if it is an output of the model or any of its consumers needs it."""
        old = self.tesa[name]
        live = old.live if name in self.net.outputs else self._needed(name) & old.live
        new = replace(old, live=live)
        if new.live.shape != old.live.shape or bool((new.live != old.live).any()):
            self.tesa[name] = new.growth(old, self._origin(cause))
            if name in self.producer:
                self._push(1, self.producer[name])

    def _needed(self, name: str) -> Bools:
        shape = self.net.shapes[name]
        total: Bools = np.zeros((1,) * len(shape), bool)
        for i in self.consumers.get(name, ()):
            for position, other in enumerate(self.net.nodes[i].inputs):
                if other == name:
                    total = total | self.needs.get((i, position), np.ones((1,) * len(shape), bool))
        return total

    def _limit_unused(self) -> None:
        """A tensor that nobody reads and that is no output is dead from the start."""
        for name, facts in self.tesa.items():
            if name not in self.net.outputs and name not in self.consumers:
                dead = np.zeros((1,) * len(facts.shape), bool)
                self.tesa[name] = replace(facts, live=dead)
