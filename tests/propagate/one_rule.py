"""One rule held to the law on its own: what it claims, against NumPy on random numbers in all open places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tesa.attributes.attribute import TeSA, from_weight, unknown
from tesa.propagate.registry import Operator, find

Evaluate = Callable[..., Any]
FLOATS = (0.0, 0.0, 0.0, 1.0, -1.5, 0.25)


@dataclass(frozen=True)
class Case:
    """An operator, how NumPy computes it, and its operands: facts for activations, the content for weights."""

    op: Operator
    evaluate: Evaluate
    inputs: tuple[TeSA, ...]
    integer: bool = False

    def numbers(self, rng: Any) -> list[Any]:
        """Operands with random numbers where nothing is known."""
        result = []
        for facts, content in zip(self.inputs, self.op.constants, strict=True):
            if content is not None:
                result.append(content)
                continue
            drawn = self.draw(rng, facts.shape)
            result.append(np.where(facts.known, facts.value, drawn).astype(drawn.dtype))
        return result

    def draw(self, rng: Any, shape: tuple[int, ...]) -> Any:
        return rng.integers(1, 9, shape) if self.integer else rng.normal(scale=2, size=shape)


def case(
    name: str,
    evaluate: Evaluate,
    inputs: Sequence[Any],
    output: tuple[int, ...],
    dtype: str = "float32",
    attrs: Any = None,
    static: tuple[Any, ...] = (),
) -> Case:
    """inputs: a TeSA for an activation, an array for a constant, which is a weight if the rule says so."""
    entry = find(name)
    assert entry is not None, name
    constants = tuple(None if isinstance(x, TeSA) else np.asarray(x) for x in inputs)
    facts = tuple(
        x if isinstance(x, TeSA) else from_weight(x) if i in entry.weights else _constant(x)
        for i, x in enumerate(inputs)
    )
    shapes = tuple(t.shape for t in facts)
    op = Operator(name, "layer", shapes, (output,), constants, (dtype,), attrs or {}, static)
    return Case(op, evaluate, facts, not dtype.startswith("float"))


def _constant(x: Any) -> TeSA:
    return replace(unknown(x.shape), known=np.ones((1,) * x.ndim, bool), value=x)


def pattern(rng: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with some axes short, as facts are."""
    return tuple(1 if rng.random() < 0.4 else n for n in shape)


def some_facts(rng: Any, shape: tuple[int, ...], values: Sequence[Any] = FLOATS, share: float = 0.5) -> TeSA:
    """An activation of which a share is known, to be one of the values."""
    short = pattern(rng, shape)
    known = rng.random(short) < share
    return replace(unknown(shape), known=known, value=rng.choice(np.asarray(values), pattern(rng, shape)))


def some_weight(rng: Any, shape: tuple[int, ...], extra: Sequence[float] = ()) -> Any:
    """A pruned weight: by element, by row or by column."""
    weight = np.where(rng.random(pattern(rng, shape)) < 0.5, 0.0, rng.normal(size=shape))
    for value in extra:
        weight = np.where(rng.random(shape) < 0.1, value, weight)
    return weight


def some_live(rng: Any, shape: tuple[int, ...]) -> Any:
    return rng.random(pattern(rng, shape)) < 0.6


def forward(it: Case) -> TeSA:
    return find(it.op.op).forward(it.op, it.inputs)[0]


def backward(it: Case, live: Any) -> tuple[Any, ...]:
    out = replace(forward(it), live=np.broadcast_to(live, it.op.outputs[0]))
    return find(it.op.op).backward(it.op, it.inputs, (out,))


def run(it: Case, operands: list[Any]) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(it.evaluate(*operands))


def check_known(it: Case, rng: Any, trials: int = 3) -> TeSA:
    """What is claimed to be known is what NumPy computes, whatever the unknown elements are."""
    found = forward(it)
    assert found.shape == it.op.outputs[0]
    for _ in range(trials):
        result = run(it, it.numbers(rng))
        assert result.shape == found.shape
        known, value = (np.broadcast_to(a, found.shape) for a in (found.known, found.value))
        np.testing.assert_allclose(value[known].astype(float), result[known].astype(float), rtol=1e-6, atol=1e-9)
    return found


def check_dead(it: Case, rng: Any, live: Any, twins: tuple[int, ...] = ()) -> tuple[Any, ...]:
    """All dead elements replaced at once, in both ways that the law names. twins: operands that are one tensor."""
    needs = [np.broadcast_to(n, t.shape) for n, t in zip(backward(it, live), it.inputs, strict=True)]
    if twins:
        union = np.any([needs[i] for i in twins], axis=0)
        needs = [union if i in twins else need for i, need in enumerate(needs)]
    numbers = it.numbers(rng)
    for i in twins:
        numbers[i] = numbers[twins[0]]
    expected, where = run(it, numbers), np.broadcast_to(live, it.op.outputs[0])
    for materialise in (True, False):
        changed = [
            _change(it, i, number, need, rng, materialise)
            for i, (number, need) in enumerate(zip(numbers, needs, strict=True))
        ]
        for i in twins:
            changed[i] = changed[twins[0]]
        result = run(it, changed)
        np.testing.assert_allclose(result[where].astype(float), expected[where].astype(float), rtol=1e-6, atol=1e-9)
    return tuple(needs)


def _change(it: Case, i: int, number: Any, need: Any, rng: Any, materialise: bool) -> Any:
    """materialise: known elements are constants, dead unknown ones anything; else dead ones are anything, weights 0."""
    weight = it.op.constants[i] is not None
    other = it.draw(rng, number.shape).astype(number.dtype)
    if materialise:
        return np.where(need | np.broadcast_to(it.inputs[i].known, number.shape), number, other)
    return np.where(need, number, np.zeros_like(other) if weight else other)
