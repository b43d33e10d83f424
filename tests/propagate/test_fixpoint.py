"""Properties of the fixpoint on random models: order, repetition, more facts, and operators without a rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given

from tesa.attributes.attribute import TeSA
from tesa.propagate import rule
from tesa.propagate.engine import solve
from tesa.propagate.registry import find, remove_rule, rule_scope, rules
from tesa.propagate.rules.common import all_needed, nothing

from .test_law import SEEDS, check, few, solved, some, some_known


@given(SEEDS, SEEDS)
@some
def test_the_order_of_visits_does_not_matter(seed: int, order: int) -> None:
    """Not one fact differs."""
    model, again = solved(seed).model, solved(seed, seed=order).model
    assert not different(model.tesa, again.tesa)


@given(SEEDS)
@some
def test_a_second_run_adds_nothing(seed: int) -> None:
    """The facts of the first run, given to a second one, come out as they went in."""
    model = solved(seed).model
    first = {name: model.tesa[name] for name in model.network.shapes}
    assert not different(first, solve(model.network, first).tesa)


def different(first: Any, second: Any) -> list[str]:
    """The tensors about which two runs say different things."""
    return [f"{name}: {facts!r} or {second[name]!r}" for name, facts in first.items() if second[name] != facts]


@pytest.mark.slow
@given(SEEDS)
@few
def test_more_facts_find_no_less(seed: int) -> None:
    """Known stays known, an activation that was dead is dead or known, bits do not grow.

    A weight may come back to life: one whose output was dead and is now a known constant, which leans on nobody.
    """
    rng = np.random.default_rng(seed)
    plain = solved(seed)
    more = {name: some_known(rng, array) for name, array in plain.feeds.items()}
    less = {name: fewer(rng, fact) for name, fact in more.items()}
    steps = [plain.model.tesa, *(solved(seed, given=facts).model.tesa for facts in (less, more))]
    for before, after in pairwise(steps):
        for name, old in before.items():
            now = after[name]
            assert not (old.known & ~now.known).any(), name
            assert name in plain.net.constants or not (old.dead & ~now.dead & ~now.known).any(), name
            assert not ((old.bits < now.bits) & ~now.known).any(), name


def fewer(rng: np.random.Generator, facts: TeSA) -> TeSA:
    """A part of the known elements."""
    known = facts.known & (rng.random(facts.shape) < 0.5)
    return TeSA(facts.shape, known, np.where(known, facts.value, 0), facts.live, facts.bits, None, facts.origins)


@contextmanager
def without(operators: set[str], ignorant: bool = False) -> Iterator[None]:
    """The registry without the rules of some operators, or with one that knows nothing and needs everything."""
    with rule_scope():
        remove_rule(*operators)
        if ignorant:
            rule(*operators, backward=all_needed)(nothing)
        yield


def some_operators(seed: int, share: float = 0.3) -> set[str]:
    """A random part of the operators that have rules."""
    rng = np.random.default_rng(seed)
    return {name for name, _ in rules() if find(name) is not None and rng.random() < share}


@given(SEEDS)
@few
@pytest.mark.slow
def test_the_law_holds_where_rules_are_missing(seed: int) -> None:
    """Operators without a rule are scrambled: what is found so must be as true.

    Models with infinite constants are left out: without its rule an operator's result may be infinite and not known.
    """
    with without(some_operators(seed)):
        case = solved(seed)
    assume(all(np.isfinite(a).all() for a in case.net.constants.values()))
    check(case, seed)


@pytest.mark.slow
@given(SEEDS)
@few
def test_scrambling_finds_no_less_than_no_rule(seed: int) -> None:
    """Against rules that know nothing and need everything. A weight may come back to life, as above."""
    dropped = some_operators(seed)
    with without(dropped):
        case = solved(seed)
    scrambled = case.model.tesa
    with without(dropped, ignorant=True):
        ignorant = solved(seed).model.tesa
    for name, facts in ignorant.items():
        assert not (facts.known & ~scrambled[name].known).any(), name
        left = facts.dead & ~scrambled[name].dead & ~scrambled[name].known
        assert name in case.net.constants or not left.any(), name
