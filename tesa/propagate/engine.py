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

What is assumed of the model: what is not known is finite, and no divisor is 0, so that 0 / x is 0.

Why the result does not depend on the order of visits, and a second run changes nothing: the forward facts are the
least fixpoint of monotone functions of known values only; the backward facts are one of monotone functions of liveness,
for the final known values. So forward work is done before any backward work, whatever was put into the list first. The
bits that suffice for the consumers come last, see bits/precision.py.
"""

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, Origin, TeSA, compact, from_constant, from_weight, unknown
from tesa.propagate import rules as _rules  # noqa: F401  (importing it registers the rules)
from tesa.propagate.bits.precision import narrow
from tesa.propagate.executor import CannotRunError
from tesa.propagate.network import Network
from tesa.propagate.registry import Rule
from tesa.propagate.select import Choice, select_all
from tesa.propagate.user_facts import merge_named


@dataclass(frozen=True)
class Fixpoint:
    """The result of propagation. tesa: the facts about each tensor of the network. steps: visits.

    unruled: layer -> operator, of those about which nothing is found out: all around them is live and unknown.
    scrambled: layer -> operator, of those without a rule that were scrambled instead. notes: for the layers in one of
    the two, what was done or why nothing could be done.
    """

    tesa: Mapping[str, TeSA]
    unruled: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0
    scrambled: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def solve(net: Network, given: Mapping[str, TeSA] | None = None, *, seed: int | None = None) -> Fixpoint:
    """Propagate until nothing changes.

    given: facts from outside by tensor (a user's mask, a quantized weight), merged with what the constants say. seed:
    visit in a random order, which must not matter. ContradictionError if two facts disagree.
    """
    return _Engine(net, given or {}, seed).run()


def start(net: Network, given: Mapping[str, TeSA] | None = None) -> Fixpoint:
    """The facts before anything is propagated: what constants and `given` say."""
    return Fixpoint(_Engine(net, given or {}, None).tesa)


class _Engine:
    def __init__(self, net: Network, given: Mapping[str, TeSA], seed: int | None) -> None:
        self.net = net
        self.ranks = list(range(len(net.nodes)))
        if seed is not None:
            random.Random(seed).shuffle(self.ranks)
        self.producer = {name: i for i, node in enumerate(net.nodes) for name in node.outputs}
        self.consumers: dict[str, set[int]] = {}
        self.uses: dict[str, list[tuple[int, int]]] = {}  # (node, position) of each place that reads a tensor
        for i, node in enumerate(net.nodes):
            for position, name in enumerate(node.inputs):
                self.consumers.setdefault(name, set()).add(i)
                self.uses.setdefault(name, []).append((i, position))
        self.choices = select_all(net.nodes)
        self.rules: list[Rule | None] = [choice.rule for choice in self.choices]
        self.tesa = self._initial(given)
        self.needs: dict[tuple[int, int], Bools] = {}
        self.queues: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        self.waiting: tuple[set[int], set[int]] = (set(), set())

    def _initial(self, given: Mapping[str, TeSA]) -> dict[str, TeSA]:
        tesa = {name: unknown(shape) for name, shape in self.net.shapes.items()}
        for node, rule in zip(self.net.nodes, self.rules, strict=True):
            for position, name in enumerate(node.inputs):
                if name in self.net.constants:
                    weight = rule is not None and position in rule.weights
                    array = self.net.constants[name]
                    tesa[name] = from_weight(array) if weight else from_constant(array, Origin("value", "weight"))
        for name, facts in given.items():
            tesa[name] = merge_named(self.net, name, tesa[name], facts)
        return tesa

    def run(self) -> Fixpoint:
        for direction in (0, 1):
            for i in range(len(self.net.nodes)):
                self._push(direction, i)
        for name, facts in self.tesa.items():  # a tensor that nobody reads and that is no output is dead
            if name not in self.net.outputs and name not in self.consumers:
                self.tesa[name] = replace(facts, live=np.zeros((1,) * len(facts.shape), bool))
        steps = 0
        while self.queues[0] or self.queues[1]:
            direction = 0 if self.queues[0] else 1
            _, i = heapq.heappop(self.queues[direction])
            self.waiting[direction].discard(i)
            (self._forward, self._backward)[direction](i)
            steps += 1
        tesa = narrow(self.net, self.rules, self.tesa)
        return Fixpoint(tesa, steps=steps, **self._without_rule())

    def _without_rule(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {"unruled": {}, "scrambled": {}, "notes": {}}
        for node, choice, rule in zip(self.net.nodes, self.choices, self.rules, strict=True):
            if choice.note:
                name = node.var if node.operator.layer in found["notes"] else node.operator.layer
                found["unruled" if rule is None else "scrambled"][name] = node.operator.op
                found["notes"][name] = choice.note
        return found

    def _push(self, direction: int, i: int) -> None:
        """Queue a node: forward in running order, backward in reverse, so that one visit is mostly enough."""
        if i not in self.waiting[direction]:
            self.waiting[direction].add(i)
            rank = self.ranks[i] if direction == 0 else -self.ranks[i]
            heapq.heappush(self.queues[direction], (rank, i))

    def _origin(self, i: int) -> Origin:
        operator = self.net.nodes[i].operator
        return Origin("", "rule", operator.op, operator.layer)

    def _ask(self, i: int, backward: bool) -> tuple[Any, ...]:
        """The answer of a node's rule; without one nothing is known and everything is needed."""
        node, rule = self.net.nodes[i], self.rules[i]
        inputs, outputs = (tuple(self.tesa[name] for name in names) for names in (node.inputs, node.outputs))
        try:
            if rule is not None:
                operator = node.operator
                return rule.backward(operator, inputs, outputs) if backward else rule.forward(operator, inputs)
        except CannotRunError as error:  # it was scrambled and then failed on some numbers: nothing more is said of it
            self.rules[i] = None
            self.choices[i] = Choice(None, f"no rule; could not be run: {error}")
        if backward:
            return tuple(np.ones((1,) * len(t.shape), bool) for t in inputs)
        return tuple(unknown(shape) for shape in node.operator.outputs)

    def _forward(self, i: int) -> None:
        node = self.net.nodes[i]
        for name, found in zip(node.outputs, self._ask(i, backward=False), strict=True):
            old = self.tesa[name]
            new = merge_named(self.net, name, old, found, self._origin(i))
            if new != old:
                self.tesa[name] = new.growth(old, self._origin(i))
                for consumer in self.consumers.get(name, ()):
                    self._push(0, consumer)
                    self._push(1, consumer)
                self._push(1, i)

    def _backward(self, i: int) -> None:
        for position, need in enumerate(self._ask(i, backward=True)):
            self.needs[i, position] = compact(np.asarray(need))
        for name in dict.fromkeys(self.net.nodes[i].inputs):
            self._update_live(name, i)

    def _update_live(self, name: str, cause: int) -> None:
        """An element is live if it is an output of the model or any of its consumers needs it."""
        old = self.tesa[name]
        live = old.live if name in self.net.outputs else self._needed(name) & old.live
        new = replace(old, live=live)
        if not np.array_equal(new.live, old.live):
            self.tesa[name] = new.growth(old, self._origin(cause))
            if name in self.producer:
                self._push(1, self.producer[name])

    def _needed(self, name: str) -> Bools:
        """The elements that a consumer needs: all of them as long as there is one that has not been asked."""
        everything = np.ones((1,) * len(self.net.shapes[name]), bool)
        total: Bools = ~everything
        for use in self.uses.get(name, ()):
            need = self.needs.get(use)
            if need is None or (need.size == 1 and need.all()):
                return everything
            total = total | need
        return total
