"""A rule schedules one kind of operator and answers None for all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tesa.schedules.types import Core

Apply = Callable[[Any, Core], Any]


@dataclass(frozen=True)
class Rule:
    """apply(func, core): the function with its loops marked (see marks.py), or None where the rule does not apply."""

    name: str
    summary: str
    apply: Apply


def make_rule(name: str, apply: Apply) -> Rule:
    """A rule whose summary is the first line of its function's docstring."""
    return Rule(name, (apply.__doc__ or "").strip().splitlines()[0], apply)
