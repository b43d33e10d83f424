"""The list of propagation rules: for each operator of Relax, what it does to the facts about its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tesa.attribute import Bools, Shape, TeSA, Values


@dataclass(frozen=True)
class Operator:
    """What a rule sees of an operator: no IR.

    inputs, outputs: shapes. constants: the content of an input that is a constant, else None. dtypes: of the outputs.
    attrs: the operator's attributes as Python values; static arguments (a new shape, the bounds of a clip) are in
    `static`, in their order.
    """

    op: str
    layer: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    constants: tuple[Values | None, ...]
    dtypes: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    static: tuple[Any, ...] = ()


Forward = Callable[[Operator, tuple[TeSA, ...]], tuple[TeSA, ...]]
Backward = Callable[[Operator, tuple[TeSA, ...], tuple[TeSA, ...]], tuple[Bools, ...]]
Precision = Callable[[Operator, tuple[TeSA, ...], tuple[TeSA, ...]], tuple[TeSA | None, ...]]


@dataclass(frozen=True)
class Rule:
    """How facts pass an operator.

    forward(operator, inputs): what is known of each output. backward(operator, inputs, outputs): for each input a mask
    that broadcasts to its shape, True where an element is needed so that the live elements of the outputs are right.
    weights: the positions of inputs that are weights where they are constants: only their zeros are facts, so that
    their other elements can be found dead. precision(operator, inputs, outputs): for each input the bits and the
    quantization that suffice so that the outputs are right to their own bits, as a TeSA that says nothing else; None
    for an input, or for the rule, where full precision is needed.
    """

    operators: tuple[str, ...]
    summary: str
    forward: Forward
    backward: Backward
    weights: tuple[int, ...] = ()
    precision: Precision | None = None


_RULES: dict[str, Rule] = {}


def rule(
    *operators: str, backward: Backward, weights: tuple[int, ...] = (), precision: Precision | None = None
) -> Callable[[Forward], Forward]:
    """Register the decorated function as forward rule of the operators; its docstring's first line is the summary."""

    def register(forward: Forward) -> Forward:
        summary = (forward.__doc__ or "").strip().splitlines()[0]
        new = Rule(operators, summary, forward, backward, weights, precision)
        for name in operators:
            if name in _RULES:
                raise ValueError(f"operator {name!r} has two rules")
            _RULES[name] = new
        return forward

    return register


def find(operator: str) -> Rule | None:
    """The rule of an operator, None if there is none: then everything about it is live and unknown."""
    return _RULES.get(operator)


def rules() -> tuple[tuple[str, Rule], ...]:
    """Every operator that has a rule, with the rule, by name."""
    return tuple(sorted(_RULES.items()))
