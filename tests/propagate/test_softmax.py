"""Facts through softmax and log-softmax: rows with a mask, rows that are known, the only logit that is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import from_constant, from_mask, unknown
from tesa.propagate.engine import solve
from tesa.propagate.network import Network, Node
from tesa.propagate.registry import Operator

from .one_rule import backward, case, check_dead, check_known, forward, some_facts, some_live

SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
LOWEST = float(np.finfo(np.float32).min)
MASKS = (
    (-np.inf,),
    (LOWEST,),
    (-np.inf, 0.0, 1.0),
    (-np.inf, np.inf, 0.0),
    (LOWEST, -np.inf, -2000.0, 0.0),
    (0.0, 2.0),
)


def reference(x: Any, axis: int) -> Any:
    power = np.exp(x - x.max(axis=axis, keepdims=True))
    return power / power.sum(axis=axis, keepdims=True)


def log_reference(x: Any, axis: int) -> Any:
    top = x.max(axis=axis, keepdims=True)
    return x - (top + np.log(np.exp(x - top).sum(axis=axis, keepdims=True)))


def softmax(x: Any, axis: int = -1, log: bool = False, dtype: str = "float32") -> Any:
    function, name = (log_reference, "relax.nn.log_softmax") if log else (reference, "relax.nn.softmax")
    return case(name, lambda v: function(v, axis), [x], x.shape, dtype, {"axis": axis})


@given(
    SEEDS,
    st.sampled_from([((2, 4), -1), ((3, 2), 0), ((2, 1), 1), ((2, 3, 2), 1)]),
    st.booleans(),
    st.sampled_from(MASKS),
)
@many
def test_claims_against_numpy(seed: int, form: Any, log: bool, values: Any) -> None:
    rng = np.random.default_rng(seed)
    x = some_facts(rng, form[0], values, share=float(rng.choice([0.3, 0.8])))
    it = softmax(x, form[1], log)
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, form[0]))


def test_a_masked_logit_gives_zero_and_needs_no_other() -> None:
    mask = np.array([[0.0, -np.inf, -np.inf], [0.0, 0.0, -np.inf]])
    x = from_mask(np.isfinite(mask))
    x = type(x)(x.shape, x.known, np.where(x.known, mask, 0.0), x.live, x.bits)
    found = forward(softmax(x))
    assert found.known.tolist() == [[True, True, True], [False, False, True]]
    assert found.value[0].tolist() == [1.0, 0.0, 0.0]
    need = backward(softmax(x), np.ones((2, 3), bool))[0]
    assert need.tolist() == [[False, True, True], [True, True, True]]  # the only logit left may be anything
    only_masked = backward(softmax(x), np.array([[False, False, True]]))[0]
    assert only_masked.tolist() == [[False, True, True], [False, False, True]]


def test_a_row_of_minus_infinity_is_not_claimed() -> None:
    x = from_constant(np.full((1, 3), -np.inf))
    assert not forward(softmax(x)).known.any()
    assert not forward(softmax(from_constant(np.array([[np.inf, 0.0]])))).known.any()


def test_a_row_of_one_constant_is_uniform() -> None:
    found = forward(softmax(from_constant(np.full((1, 4), 7.0))))
    np.testing.assert_allclose(found.value, 0.25)
    assert found.value.shape == (1, 1)


def test_without_masks_all_of_a_row_is_needed_if_any_of_it_is() -> None:
    x = from_mask(np.array([[True, False, True], [True, True, True]]))
    it = softmax(x)
    assert not forward(it).known.any()
    assert backward(it, np.array([[False, True, False], [False, False, False]]))[0].tolist() == [[True], [False]]


@pytest.mark.parametrize("other", [None, 0.0, -1e30])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_lowest_number_masks_where_a_known_logit_is_above(dtype: str, other: float | None) -> None:
    """An unknown logit may be the lowest number too, put there by a mask at run time."""
    lowest = float(np.finfo(dtype).min)
    other = None if other is None else max(other, lowest / 2)
    x = unknown((1, 3))
    known = np.array([[False, other is not None, True]])
    x = type(x)(x.shape, known, np.array([[0.0, other or 0.0, lowest]]), x.live, x.bits)
    found = np.broadcast_to(forward(softmax(x, dtype=dtype)).known, (1, 3))
    assert found.tolist() == [[False, False, other is not None]]


def test_minus_infinity_stays_in_a_log_softmax() -> None:
    x = unknown((1, 3))
    x = type(x)(x.shape, np.array([[False, False, True]]), np.array([[0.0, 0.0, -np.inf]]), x.live, x.bits)
    assert forward(softmax(x, log=True)).value.tolist() == [[0.0, 0.0, -np.inf]]


def _chain(mask: Any) -> Network:
    """x + mask -> softmax -> times v."""
    shape = mask.shape

    def node(op: str, layer: str, inputs: tuple[str, ...], attrs: Any = None) -> Node:
        constants = tuple(mask if name == "mask" else None for name in inputs)
        operator = Operator(op, layer, (shape,) * len(inputs), (shape,), constants, ("float32",), attrs or {})
        return Node(operator, layer, inputs, (layer,))

    nodes = [node("relax.add", "l", ("x", "mask")), node("relax.nn.softmax", "p", ("l",), {"axis": -1}),
             node("relax.matmul", "y", ("p", "v"))]  # fmt: skip
    return Network(nodes, dict.fromkeys(("x", "mask", "l", "p", "v", "y"), shape), {"mask": mask}, ("y",))


def test_a_causal_mask_kills_the_scores_above_the_diagonal() -> None:
    mask = np.where(np.tri(4, dtype=bool), 0.0, -np.inf).astype(np.float32)
    facts = solve(_chain(mask)).tesa
    upper = ~np.tri(4, dtype=bool)
    assert (facts["p"].zero == upper).all()
    dead = upper.copy()
    dead[0, 0] = True  # the only key of the first query has the weight 1
    assert (facts["x"].dead == dead).all()
    assert facts["mask"].live[upper].all()
    assert facts["v"].live.all()


def test_a_key_that_nobody_may_see_has_a_dead_value() -> None:
    mask = np.zeros((4, 4), np.float32)
    mask[:, 2] = -np.inf
    facts = solve(_chain(mask)).tesa
    assert facts["v"].dead.reshape(-1).tolist() == [False, False, True, False]
    assert facts["p"].live.all()


@pytest.mark.parametrize("seed", [None, 1])
def test_values_that_are_all_zero_kill_the_scores(seed: int | None) -> None:
    facts = solve(_chain(np.zeros((3, 3), np.float32)), {"v": from_mask(np.zeros((3, 3)))}, seed=seed).tesa
    assert facts["y"].zero.all()
    assert facts["p"].dead.all()
    assert facts["x"].dead.all()
    assert facts["v"].live.all()
