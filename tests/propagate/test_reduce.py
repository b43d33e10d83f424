"""Reductions, running ones, sorting: known values, values that decide alone, exact integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.relax import op as R

from tesa.attributes.attribute import TeSA, from_constant, unknown

from .single import Case, agrees_with_tvm, check, check_bits, const, floats, rule_of

X = floats(2, 3, 4)
WHOLE = np.random.default_rng(0).integers(-5, 5, (2, 3, 4)).astype(np.int32)
BOOLS = WHOLE > 0


def _median(x: Any) -> Any:
    order = np.argsort(x, axis=1, kind="stable")
    return [np.take_along_axis(a, order, 1)[:, (x.shape[1] - 1) // 2] for a in (x, np.broadcast_to(
        np.arange(x.shape[1])[None, :, None], x.shape))]  # fmt: skip


def _top(x: Any, k: int = 2) -> Any:
    order = np.argsort(-x, axis=1, kind="stable")[:, :k]
    return [np.take_along_axis(x, order, 1), order]


REDUCTIONS = {
    "sum": (R.sum, np.sum), "mean": (R.mean, np.mean), "max": (R.max, np.max), "min": (R.min, np.min),
    "prod": (R.prod, np.prod), "variance": (R.variance, np.var), "std": (R.std, np.std),
}  # fmt: skip
CASES: dict[str, Case] = {
    **{f"{name}": Case(lambda x, o=ours: o(x, [1], False), (X,), lambda x, f=f: f(x, axis=1))
       for name, (ours, f) in REDUCTIONS.items()},
    **{f"{name}, two axes kept": Case(lambda x, o=ours: o(x, [0, -1], True), (X,),
                                      lambda x, f=f: f(x, axis=(0, 2), keepdims=True))
       for name, (ours, f) in REDUCTIONS.items()},
    **{f"{name} of all": Case(lambda x, o=ours: o(x), (X,), lambda x, f=f: f(x))
       for name, (ours, f) in REDUCTIONS.items()},
    **{f"{name} of integers": Case(lambda x, o=REDUCTIONS[name][0]: o(x, [1]), (WHOLE,),
                                   lambda x, f=REDUCTIONS[name][1]: f(x, axis=1))
       for name in ("sum", "max", "min", "prod")},
    "argmax": Case(lambda x: R.argmax(x, 1, True), (X,), lambda x: np.argmax(x, axis=1, keepdims=True)),
    "argmin": Case(lambda x: R.argmin(x, 2), (X,), lambda x: np.argmin(x, axis=2)),
    "argmax of all": Case(lambda x: R.argmax(x), (X,), np.argmax),
    "median": Case(lambda x: R.median(x, [1]), (X,), _median),
    "collapse_sum_to": Case(lambda x: R.collapse_sum_to(x, (3, 1)), (X,), lambda x: x.sum(axis=(0, 2))[:, None]),
    "collapse_sum_like": Case(
        lambda x, y: R.collapse_sum_like(x, y), (X, floats(3, 1)), lambda x, y: x.sum(axis=(0, 2))[:, None]
    ),
    "cumsum": Case(lambda x: R.cumsum(x, 1), (X,), lambda x: np.cumsum(x, axis=1)),
    "cumsum without the element": Case(
        lambda x: R.cumsum(x, 1, exclusive=True), (X,),
        lambda x: np.concatenate([0 * x[:, :1], np.cumsum(x, axis=1)[:, :-1]], axis=1),
    ),
    "cumsum of all": Case(lambda x: R.cumsum(x), (X,), lambda x: np.cumsum(x)),
    "cumprod": Case(lambda x: R.cumprod(x, -1), (X,), lambda x: np.cumprod(x, axis=-1)),
    "cumprod without the element": Case(
        lambda x: R.cumprod(x, 1, exclusive=True), (X,),
        lambda x: np.concatenate([np.ones_like(x[:, :1]), np.cumprod(x, axis=1)[:, :-1]], axis=1),
    ),
    "sort": Case(lambda x: R.sort(x, 1), (X,), lambda x: np.sort(x, axis=1)),
    "sort, falling": Case(lambda x: R.sort(x, 2, True), (X,), lambda x: -np.sort(-x, axis=2)),
    "argsort": Case(lambda x: R.argsort(x, 1, False, "int64"), (X,), lambda x: np.argsort(x, axis=1, kind="stable")),
    "topk": Case(lambda x: R.topk(x, 2, 1, "both", True, "int64"), (X,), _top),
    "topk, values": Case(lambda x: R.topk(x, 2, 1, "values", True, "int64"), (X,), lambda x: _top(x)[0]),
    "topk, places": Case(lambda x: R.topk(x, 2, 1, "indices", True, "int64"), (X,), lambda x: _top(x)[1]),
    "bucketize": Case(
        lambda x: R.bucketize(x, const(np.array([-1, 0, 2], np.float32)), False, False), (X,),
        lambda x, b: np.searchsorted(b, x, side="left"),
    ),
}  # fmt: skip
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_what_tvm_computes(name: str) -> None:
    agrees_with_tvm(CASES[name])


def special(name: str) -> tuple[float, ...]:
    """Values that decide: 0 in products, the infinities among extremes."""
    return (0.0, 1.0, np.inf, -np.inf) if name.startswith(("max", "min", "arg", "sort", "topk")) else (0.0, 1.0)


@pytest.mark.parametrize("name", CASES)
@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_rule(name: str, seed: int) -> None:
    check(CASES[name], seed, special(name))


@pytest.mark.parametrize("name", ["max", "min", "max, two axes kept", "min of all", "sum", "argmax", "sort"])
def test_bits_of_an_extreme_are_those_of_the_elements(name: str) -> None:
    found = sum(check_bits(CASES[name], seed) for seed in range(12))
    assert (found > 3) == name.startswith(("max", "min"))


def line(*values: Any) -> TeSA:
    """Facts about one row; None is not known."""
    known = np.array([v is not None for v in values])
    return replace(unknown((len(values),)), known=known, value=np.array([0.0 if v is None else v for v in values]))


@pytest.mark.parametrize(
    ("make", "row", "value", "needed"),
    [
        (R.prod, (0, None, 5), 0, [True, False, True]),
        (R.prod, (0, 0, None), 0, [True, True, False]),
        (R.prod, (0, None, np.inf), None, [True, True, True]),
        (R.max, (np.inf, None, 1), np.inf, [True, False, True]),
        (R.max, (-np.inf, None, 1), None, [True, True, True]),
        (R.min, (None, -np.inf), -np.inf, [False, True]),
        (R.argmax, (None, np.inf, np.inf), 1, [False, True, True]),
        (R.argmin, (None, np.inf), None, [True, True]),
        (R.sum, (0, None), None, [True, True]),
        (R.sum, (1, 2, 3), 6, [True, True, True]),
    ],
)
def test_one_element_may_decide(make: Any, row: Any, value: Any, needed: list[bool]) -> None:
    case = Case(lambda x: make(x), (floats(len(row)),), np.sum)
    node, _ = case.node()
    rule, facts = rule_of(node), (line(*row),)
    (found,) = rule.forward(node.operator, facts)
    assert bool(found.known.all()) == (value is not None)
    if value is not None:
        assert float(found.value) == value
    (need,) = rule.backward(node.operator, facts, (found,))
    assert np.broadcast_to(need, (len(row),)).tolist() == needed


def test_integers_stay_exact() -> None:
    large = np.array([2**60 + 1, 3, 2**53 + 1], np.int64)
    node, _ = Case(lambda x: R.sum(x), (large,), np.sum).node()
    (found,) = rule_of(node).forward(node.operator, (from_constant(large),))
    assert int(found.value) == 2**60 + 2**53 + 5
    node, _ = Case(lambda x: R.cumsum(x), (large,), np.sum).node()
    (found,) = rule_of(node).forward(node.operator, (from_constant(large),))
    assert found.value.tolist() == np.cumsum(large).tolist()


def test_a_sum_that_float32_cannot_hold_on_its_way_is_not_known() -> None:
    row = np.array([3e38, 3e38, -3e38], np.float32)
    node, _ = Case(lambda x: R.sum(x), (row,), np.sum).node()
    assert not rule_of(node).forward(node.operator, (from_constant(row),))[0].known.any()


def test_any_and_all_are_extremes_of_booleans() -> None:
    for make, decides in ((R.max, True), (R.min, False)):
        node, _ = Case(lambda x, m=make: m(x), (BOOLS,), np.max).node()
        for value in (True, False):
            known = np.zeros(BOOLS.shape, bool)
            known[0, 0, 0] = True
            facts = replace(unknown(BOOLS.shape), known=known, value=np.full(BOOLS.shape, value))
            (found,) = rule_of(node).forward(node.operator, (facts,))
            assert bool(found.known.all()) == (value == decides)


def test_what_stands_behind_a_factor_of_zero_is_dead() -> None:
    node, _ = Case(lambda x: R.cumprod(x, 0), (floats(4),), np.cumprod).node()
    facts = (line(None, 0, None, 3),)
    (found,) = rule_of(node).forward(node.operator, facts)
    assert found.known.tolist() == [False, True, True, True]
    (need,) = rule_of(node).backward(node.operator, facts, (found,))
    assert np.broadcast_to(need, (4,)).tolist() == [True, True, False, True]
