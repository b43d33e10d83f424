"""Tensor scrambling: a rule for an operator that has none, found by running it on random numbers.

Forward. All that is unknown is drawn anew again and again, all that is known stays at its constant. An output element
that never changes (integers: at all; floats: by more than 16 units in the last place) and is no NaN is a constant.

Backward, by adaptive group testing. All elements that might be dead are drawn anew together. If a live output moves,
by as little as one bit, those that move it are found by bisection: part of the elements has its new number, the rest
the old one, and the output must move somewhere between none and all of them. They are struck off and the test repeats,
until the rest as a whole has moved nothing in TRIALS trials. Three rounds, so that no two facts lean on each other
(see engine.py): constants of the program, while everything else is random; known activations, while only constants
stay; unknown activations, while all known elements stay. At the end what was found is tested once more, all together.

How sure that is. One trial draws every pair of distributions of samples.py. If a trial shows a dependence with
probability p, scrambling misses it, and says something false, with probability at most (1 - p)^32:
  - through a relu, a maximum of any number of elements, a saturation, a gate that is random in sign: p >= 1/2, 2e-10;
  - x == 7.3, x > 7.3, for a number in the operator's code or among its known inputs: p >= 1/4, 1e-4 and less;
  - a code word of 12 bits that is computed from the input: p = 1/4096 for each pair, not found: write a rule.
Where places to read or write at come out of a tensor (a gather), a single element would be met too seldom: then tensors
are taken as a whole, and nothing is said about parts of them.

Large operators. An element costs a run or two, so beyond a budget of work only slices along one axis, or blocks of
them, are told apart, and beyond that nothing is said; `Rule.summary` says which. The random numbers are seeded by the
operator alone, not by what is known of it or when it is visited. The idea of scrambling is SparTA's
(Zheng et al., OSDI 2022); that of testing pools is Dorfman's (1943).
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, TeSA, Values, unknown
from tesa.propagate.network import Node
from tesa.propagate.registry import Operator, Rule
from tesa.propagate.scramble.experiment import TRIALS, Experiment
from tesa.propagate.scramble.invariant import Invariant
from tesa.propagate.scramble.samples import Pair
from tesa.propagate.scramble.search import Search, TooMuchWork


def scrambling(node: Node, sharing: int = 1) -> Rule:
    """A rule for one node that has none. CannotRunError, with the reason, if it cannot be run.

    sharing: how many nodes share the budget of work. Both directions may be asked again and again; results are kept for
    the life of the process.

    >>> from tvm.relax import BlockBuilder, TensorType, Var, op
    >>> from tesa.attributes.attribute import from_mask
    >>> from tesa.propagate.network import build_network
    >>> builder, x = BlockBuilder(), Var("x", TensorType([1, 3], "float32"))
    >>> with builder.function("main", [x]):
    ...     y = builder.emit_func_output(builder.emit(op.cumsum(x, 1)))
    >>> node = build_network(builder.get()["main"]).nodes[0]
    >>> print(scrambling(node).forward(node.operator, (from_mask(np.array([[0, 0, 1]])),))[0])
    66.7% known to be 0
    """
    experiment = Experiment(node, sharing)
    found = _Scrambler(experiment)
    summary = f"no rule; scrambled with {TRIALS} trials"
    return Rule((node.operator.op,), summary + experiment.limits(), found.forward, found.backward)


_FORWARD: dict[Any, tuple[TeSA, ...]] = {}
_BACKWARD: dict[Any, tuple[Bools, ...]] = {}


class _Scrambler:
    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def forward(self, op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
        """The output elements that never change."""
        key = (self.experiment.program, self.experiment.allowed, *_digest(inputs))
        if key not in _FORWARD:
            _FORWARD[key] = self._forward(op, inputs)
        return _FORWARD[key]

    def backward(self, op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
        """The input elements that move a live output."""
        constants = tuple(c is not None for c in op.constants)
        facts = (*_digest(inputs), *(_bytes(t.live) for t in outputs))
        key = (self.experiment.program, self.experiment.allowed, constants, *facts)
        if key not in _BACKWARD:
            _BACKWARD[key] = self._backward(op, inputs, outputs)
        return _BACKWARD[key]

    def _forward(self, op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
        s = self.experiment
        state = s.state(inputs)
        wholes = s.as_wholes(state)
        state = wholes or state
        invariant = Invariant()
        if all(mask.all() for mask in state.fixed):
            invariant.see(s.program(s.sample(state, (0,), Pair("unit", "unit"), probe=False)))
            return invariant.facts(op, wholes is not None)
        for trial, pairs in enumerate(s.pairs(state)):
            for i, pair in enumerate(pairs):
                for probe in (False, True):
                    invariant.see(s.program(s.sample(state, (2, trial, i), pair, probe)))
                    if invariant.empty:
                        return tuple(unknown(shape) for shape in op.outputs)
        return invariant.facts(op, wholes is not None)

    def _backward(self, op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
        live = [np.broadcast_to(t.live, t.shape) for t in outputs]
        if not any(mask.any() for mask in live):
            return tuple(np.zeros((1,) * len(shape), bool) for shape in op.inputs)
        everything = tuple(np.ones((1,) * len(shape), bool) for shape in op.inputs)
        if self.experiment.forward_only:
            return everything
        try:
            dead = self._rounds(op, inputs, Search(self.experiment, live, self.experiment.state(inputs)))
        except TooMuchWork:
            return everything
        return tuple(~mask for mask in dead)

    def _rounds(self, op: Operator, inputs: tuple[TeSA, ...], search: Search) -> list[Bools]:
        known = [np.broadcast_to(t.known, t.shape) for t in inputs]
        constant = [np.full(t.shape, c is not None) for t, c in zip(inputs, op.constants, strict=True)]
        nothing = [np.zeros(t.shape, bool) for t in inputs]
        given = [c & k for c, k in zip(constant, known, strict=True)]
        found_out = [k & ~c for c, k in zip(constant, known, strict=True)]
        dead, rounds = nothing, 0
        for number, (stays, wanted) in enumerate(((nothing, given), (given, found_out), (known, [~k for k in known]))):
            candidates = [w & (i not in self.experiment.frozen) for i, w in enumerate(wanted)]
            if any(c.any() for c in candidates):
                found = search.dead(self.experiment.state(inputs, stays), candidates, 10 * number + 3)
                dead = [d | f for d, f in zip(dead, found, strict=True)]
                rounds += any(bool(f.any()) for f in found)
        if rounds < 2 and search.exact:
            return dead  # they were tested together
        stays = [k & ~d for k, d in zip(known, dead, strict=True)]
        return search.confirmed(self.experiment.state(inputs, stays), dead)


def _bytes(array: Values) -> Any:
    return array.shape, array.dtype.str, hashlib.blake2b(array.tobytes()).digest()


def _digest(inputs: Sequence[TeSA]) -> tuple[Any, ...]:
    """A key of the facts about the inputs: equal layers are scrambled once."""
    return tuple((_bytes(t.known), _bytes(t.value)) for t in inputs)
