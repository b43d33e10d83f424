"""The ordered list of rules. A rule schedules one kind of operator and answers None for all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tesa.schedules.types import Isa

Apply = Callable[[Any, Isa], Any]


@dataclass(frozen=True)
class Rule:
    """apply(func, isa): the function with its loops marked (see marks.py), or None where the rule does not apply."""

    name: str
    summary: str
    apply: Apply


_RULES: list[Rule] = []


def rule(name: str) -> Callable[[Apply], Apply]:
    """Add the decorated function to the end of the list; its docstring's first line is the summary."""

    def register(apply: Apply) -> Apply:
        summary = (apply.__doc__ or "").strip().splitlines()[0]
        _RULES.append(Rule(name, summary, apply))
        return apply

    return register


def rules() -> tuple[Rule, ...]:
    """Every rule in the order in which it is asked."""
    return tuple(_RULES)
