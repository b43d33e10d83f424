"""Finds the configuration for a goal: the least error for a time, or the least time for an error that is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable

from tesa.base.progress import Event
from tesa.errors import UsageError
from tesa.explore.choices import DENSE, Config
from tesa.explore.result import Point
from tesa.explore.search import Search

Noted = Callable[[Point], None]
"""Called with each point that is the best so far."""

HALVINGS = 8
ROUNDS = 4
"""In which the evaluations are spent, each for a shorter time than what was found."""
STEP = 0.06
"""Of the time, how much shorter the first round is to be."""


def for_time(search: Search, budget_ms: float, method: str, evaluations: int, noted: Noted) -> None:
    """The configuration of the least error that keeps a budget. UsageError where none does.

    Half of the evaluations learn what the errors of layers count, the others anneal from there; method "anneal" spends
    all on annealing from one level for all layers, "program" none.
    """
    if budget_ms < search.least_ms():
        raise search.impossible(budget_ms)
    if method == "anneal":
        start = search.uniform(budget_ms) or search.fastest()
        spend = search.latencies.total(start, "flops") if search.by == "flops" else budget_ms / search.scale
    else:
        start, spend = search.programmed(budget_ms)
    noted(search.point(start, "programme"))
    if method == "both":
        start = search.learned(start, spend, evaluations // 2, budget_ms)
        noted(search.point(start, "programme"))
        evaluations -= evaluations // 2
    if method != "program":
        start = search.annealed(start, spend, evaluations, budget_ms=budget_ms)
    noted(search.point(start, "annealing"))


def for_error(search: Search, kept: Callable[[Point], bool], method: str, evaluations: int, noted: Noted) -> Point:
    """The fastest configuration that is good enough: budgets are halved with the programme, then searched below."""
    best = search.point(dict.fromkeys(search.latencies.names, DENSE), "dense")
    noted(best)
    low, high = search.least_ms(), best.ms
    for number in range(HALVINGS):
        search.progress(Event("budgets", number, HALVINGS))
        middle = (low + high) / 2
        good = kept(search.point(search.programmed(middle)[0], "programme"))
        low, high = (low, middle) if good else (middle, high)
        best = _fastest(search, kept, best)
        noted(best)
    step, left, share = STEP, evaluations if method != "program" else 0, max(1, evaluations // ROUNDS)
    while left > 0 and step > STEP / 2**ROUNDS:
        goal = (1 - step) * best.ms
        if goal < search.least_ms():
            step /= 2
            continue
        try:
            start, spend = search.programmed(goal)
        except UsageError:  # nothing keeps it, once the whole model is lowered
            break
        if not kept(search.point(start, "programme")):
            _search_below(search, start, spend, min(share, left), goal, kept)
            left -= share
        now = _fastest(search, kept, best)
        step = step if now.ms <= goal * (1 + 1e-9) else step / 2
        best = now
        noted(best)
    return best


def _search_below(
    search: Search, start: Config, spend: float, evaluations: int, goal: float, kept: Callable[[Point], bool]
) -> None:
    """Look for a point within a time that is good enough, from the programme's choice on."""
    first = math.ceil(2 * evaluations / 3)
    start = search.learned(start, spend, first, goal, enough=kept)
    if not kept(search.point(start, "programme")):
        search.annealed(start, spend, evaluations - first, budget_ms=goal)


def _fastest(search: Search, kept: Callable[[Point], bool], default: Point) -> Point:
    return min((point for point in search.points.values() if kept(point)), key=lambda p: p.ms, default=default)
