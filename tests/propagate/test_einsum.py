"""Facts through Einstein sums and outer products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import from_constant, from_mask
from tesa.errors import UnsupportedError
from tesa.propagate.labels import parse_einsum

from .one_rule import FLOATS, backward, case, check_dead, check_known, forward, some_facts, some_live, some_weight

SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
SUMS: list[Any] = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ij,jk->", (2, 3), (3, 4)), ("ii->i", (3, 3)),
    ("ii", (3, 3)), ("ij->ji", (2, 3)), ("ji", (2, 3)), ("ij->i", (2, 3)), ("iij,j->i", (3, 3, 2), (2,)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)), ("...ij,...jk->...ik", (2, 2, 3), (3, 2)), ("i...,i...", (3, 2), (3, 2)),
    ("...ij,jk", (2, 2, 3), (3, 2)), ("i,j->ij", (2,), (3,)), ("i,i->", (4,), (4,)), ("i,i,i->i", (3,), (3,), (3,)),
    ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)), ("bshd,bthd->bhst", (1, 2, 2, 2), (1, 3, 2, 2)),
    ("ij,jk->ik", (2, 1), (3, 4)), ("a b , b -> a", (2, 3), (3,)), ("ij,ik,il->jkl", (2, 2), (2, 2), (2, 2)),
]  # fmt: skip


def einsum(subscripts: str, operands: list[Any]) -> Any:
    attrs = {"subscripts": subscripts}
    output = np.einsum(subscripts, *(np.zeros(x.shape) for x in operands)).shape
    return case("relax.einsum", lambda *xs: np.einsum(subscripts, *xs), operands, output, attrs=attrs)


def operand(rng: Any, shape: tuple[int, ...], infinite: bool) -> Any:
    if rng.random() < 0.4:
        return some_weight(rng, shape, (np.inf,) if infinite else ())
    return some_facts(rng, shape, (*FLOATS, np.inf) if infinite else FLOATS)


@given(SEEDS, st.sampled_from(SUMS), st.booleans())
@many
def test_claims_against_numpy(seed: int, form: Any, infinite: bool) -> None:
    rng = np.random.default_rng(seed)
    it = einsum(form[0], [operand(rng, shape, infinite) for shape in form[1:]])
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, it.op.outputs[0]))


@given(SEEDS, st.sampled_from(["ij,jk->ik", "ij,ij->ij", "ij,ji->i", "ii,ii->i"]))
@many
def test_a_tensor_with_itself(seed: int, subscripts: str) -> None:
    rng = np.random.default_rng(seed)
    x = some_facts(rng, (3, 3))
    it = einsum(subscripts, [x, x])
    check_dead(it, rng, some_live(rng, it.op.outputs[0]), twins=(0, 1))


@pytest.mark.parametrize("form", SUMS, ids=lambda form: form[0])
def test_the_axes_are_those_of_numpy(form: Any) -> None:
    product = parse_einsum(form[0], form[1:])
    expected = np.einsum(form[0], *map(np.zeros, form[1:])).shape
    assert tuple(product.sizes[name] for name in product.out) == expected


def test_only_the_diagonal_of_a_trace_is_needed() -> None:
    x = from_mask(np.ones((3, 3)))
    need = backward(einsum("ii->i", [x]), np.array([True, False, True]))[0]
    assert need.tolist() == np.diag([True, False, True]).tolist()


def test_three_factors_of_which_one_is_zero() -> None:
    zero, one = from_mask(np.array([True, False])), from_mask(np.ones(2))
    it = einsum("i,i,i->i", [zero, one, zero])
    assert forward(it).zero.tolist() == [False, True]
    needs = [np.broadcast_to(n, (2,)).tolist() for n in backward(it, np.array([True]))]
    assert needs == [[True, True], [True, False], [True, True]]  # of two zeros neither leans on the other


def test_a_sum_of_constants_is_a_constant() -> None:
    x, y = from_constant(np.array([1.0, 2.0])), from_constant(np.array([3.0, 4.0]))
    assert float(forward(einsum("i,i->", [x, y])).value) == 11.0
    assert forward(case("relax.outer", np.outer, [x, y], (2, 2))).value.tolist() == [[3, 4], [6, 8]]


@given(SEEDS)
@many
def test_outer_products_against_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    it = case("relax.outer", np.outer, [operand(rng, (3,), False), operand(rng, (4,), False)], (3, 4))
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, (3, 4)))


def test_subscripts_that_do_not_fit_name_the_layer() -> None:
    x = from_mask(np.ones((2, 2)))
    it = case("relax.einsum", np.einsum, [x], (2,), attrs={"subscripts": "ijk->i"})
    with pytest.raises(UnsupportedError, match=r"layer: relax\.einsum"):
        forward(it)
    with pytest.raises(ValueError, match="names 2 operands, not 1"):
        parse_einsum("i,j", ((2,),))
