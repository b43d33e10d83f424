"""Picking and writing by index: constant, known and runtime indices, in range and out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.relax import op as R

from tesa.attributes.attribute import from_constant, unknown

from .single import Case, agrees_with_tvm, check, check_bits, const, floats, rule_of

X = floats(3, 4)
ALONG = np.array([[0, 2, 1, 1], [2, 0, 0, 1]])


def ints(*values: Any) -> Any:
    return np.array(values, np.int64)


def _reverse(x: Any, lengths: Any) -> Any:
    result = x.copy()
    for row, n in enumerate(lengths):
        result[row, :n] = x[row, :n][::-1]
    return result


def _write(x: Any, places: Any, updates: Any) -> Any:
    result = x.copy()
    result[places] = updates
    return result


def _put_along(x: Any, index: Any, updates: Any) -> Any:
    result = x.copy()
    np.put_along_axis(result, index, updates, axis=1)
    return result


def _add_along(x: Any, index: Any, updates: Any, function: Any = np.add) -> Any:
    result = x.copy()
    function.at(result, (np.arange(len(index))[:, None], index), updates)
    return result


TWICE = ints([1, 1], [0, 3], [2, 2])
ONCE = ints([1, 0], [0, 3], [2, 1])
CASES: dict[str, Case] = {
    "take": Case(lambda x, i: R.take(x, i, 1, "clip"), (X, ints(2, 0, 2)), lambda x, i: x[:, np.clip(i, 0, 3)], True),
    "take, two axes of indices": Case(
        lambda x, i: R.take(x, i, 0, "fast"), (X, ints([2, 0], [1, 2])), lambda x, i: x[i], True
    ),
    "take around": Case(lambda x, i: R.take(x, i, 1, "wrap"), (X, ints(5, -1, 2)), lambda x, i: x[:, i % 4], True),
    "take out of range, clipped": Case(
        lambda x, i: R.take(x, i, 1, "clip"), (X, ints(9, -1, 2)), lambda x, i: x[:, np.clip(i, 0, 3)], True
    ),
    "take of a constant table": Case(
        lambda i: R.take(const(X), i, 0, "clip"), (ints(2, 0),), lambda x, i: x[np.clip(i, 0, 2)]
    ),
    "take by constants": Case(lambda x: R.take(x, const(ints(2, 0)), 1), (X,), lambda x, i: x[:, i], True),
    "take without axis": Case(
        lambda x, i: R.take(x, i, None, "clip"), (floats(5), ints(2, 0)), lambda x, i: x[i], True
    ),
    "gather_elements": Case(
        lambda x, i: R.gather_elements(x, i, 1), (X, ints([0, 2], [1, 1], [3, 0])),
        lambda x, i: np.take_along_axis(x, i, 1), True,
    ),
    "gather_elements of a corner": Case(
        lambda x, i: R.gather_elements(x, i, 0), (X, ints([0, 2], [1, 1])),
        lambda x, i: np.take_along_axis(x[:, :2], i, 0), True,
    ),
    "gather_nd": Case(
        lambda x, i: R.gather_nd(x, i, 0), (X, ints([0, 2], [1, 1], [1, 1])), lambda x, i: x[i[:, 0], i[:, 1]], True
    ),
    "gather_nd of rows": Case(lambda x, i: R.gather_nd(x, i, 0), (X, ints([0], [2])), lambda x, i: x[i[:, 0]], True),
    "gather_nd in batches": Case(
        lambda x, i: R.gather_nd(x, i, 1), (floats(2, 3, 2), ints([[0], [2]], [[1], [1]])),
        lambda x, i: x[np.arange(2)[:, None], i[..., 0]], True,
    ),
    "index_tensor": Case(
        lambda x, i, j: R.index_tensor(x, [i, j]), (floats(3, 4, 2), ints([0], [2]), ints(2, 1, 1)),
        lambda x, i, j: x[np.clip(i, 0, 2), j], True,
    ),
    "reverse_sequence": Case(
        lambda x, n: R.reverse_sequence(x, n, 1, 0), (X, ints(2, 0, 4)), _reverse, True
    ),
    "scatter_elements": Case(
        lambda x, i, u: R.scatter_elements(x, i, u, 1, "update"),
        (X, ints([0, 2], [1, 3], [3, 0]), floats(3, 2, seed=1)), _put_along,
    ),
    "scatter_elements, added": Case(
        lambda x, i, u: R.scatter_elements(x, i, u, 1, "add"), (X, TWICE, floats(3, 2, seed=1)), _add_along
    ),
    "scatter_elements, multiplied": Case(
        lambda x, i, u: R.scatter_elements(x, i, u, 1, "mul"), (X, TWICE, floats(3, 2, seed=1)),
        lambda x, i, u: _add_along(x, i, u, np.multiply),
    ),
    "scatter_elements, smaller": Case(
        lambda x, i, u: R.scatter_elements(x, i, u, 1, "min"), (X, TWICE, floats(3, 2, seed=1)),
        lambda x, i, u: _add_along(x, i, u, np.minimum),
    ),
    "scatter_elements, larger": Case(
        lambda x, i, u: R.scatter_elements(x, i, u, 1, "max"), (X, TWICE, floats(3, 2, seed=1)),
        lambda x, i, u: _add_along(x, i, u, np.maximum),
    ),
    "scatter_nd": Case(
        lambda x, i, u: R.scatter_nd(x, i, u, "update"), (X, ints([0, 2], [1, 1]), floats(2, seed=1)),
        lambda x, i, u: _write(x, (i[:, 0], i[:, 1]), u),
    ),
    "scatter_nd of rows": Case(
        lambda x, i, u: R.scatter_nd(x, i, u, "update"), (X, ints([0], [2]), floats(2, 4, seed=1)),
        lambda x, i, u: _write(x, i[:, 0], u),
    ),
    "index_put": Case(
        lambda x, i, j, u: R.index_put(x, (i, j), u, False), (X, ints(0, 2), ints(1, 3), floats(2, seed=1)),
        lambda x, i, j, u: _write(x, (np.clip(i, 0, 2), j), u),
    ),
    "index_put, added": Case(
        lambda x, i, j, u: R.index_put(x, (i, j), u, True), (X, ints(2, 2), ints(1, 1), floats(2, seed=1)),
        lambda x, i, j, u: x + sum(_write(np.zeros_like(x), (i[k], j[k]), u[k]) for k in range(2)),
    ),
    "slice_scatter": Case(
        lambda x, u: R.slice_scatter(x, u, 0, 4, 2, 1), (X, floats(3, 2, seed=1)),
        lambda x, u: _write(x, (slice(None), slice(0, 4, 2)), u),
    ),
}  # fmt: skip
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_what_tvm_computes(name: str) -> None:
    agrees_with_tvm(CASES[name])


@pytest.mark.parametrize("name", CASES)
@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_the_rule(name: str, seed: int) -> None:
    check(CASES[name], seed)


@pytest.mark.parametrize(
    "name", [n for n in CASES if "add" not in n and "mul" not in n and "er" not in n.split(",")[-1:]]
)
def test_bits_move_with_the_elements(name: str) -> None:
    for seed in range(8):
        check_bits(CASES[name], seed)


def masks(case: Case, live: Any, indices_known: bool) -> list[Any]:
    """The needs of all inputs, for constant or runtime indices."""
    node, _ = case.node()
    rule = rule_of(node)
    facts = tuple(from_constant(a) if a.dtype.kind == "i" and indices_known else unknown(a.shape) for a in case.inputs)
    outputs = tuple(rule.forward(node.operator, facts))
    changed = type(outputs[0])(outputs[0].shape, outputs[0].known, outputs[0].value, live, outputs[0].bits)
    return [np.broadcast_to(n, a.shape) for n, a in zip(rule.backward(node.operator, facts, (changed,)), case.inputs,
                                                        strict=True)]  # fmt: skip


def test_what_is_overwritten_is_dead() -> None:
    data, _, updates = masks(CASES["scatter_nd of rows"], np.ones((1, 1), bool), True)
    assert data.any(axis=1).tolist() == [False, True, False]
    assert updates.all()
    data, _, _ = masks(CASES["scatter_nd of rows"], np.ones((1, 1), bool), False)
    assert data.all()
    data, _, _ = masks(CASES["scatter_elements, added"], np.ones((1, 1), bool), True)
    assert data.all()


def test_rows_of_a_table_that_constant_indices_never_reach_are_dead() -> None:
    table, _ = masks(CASES["take, two axes of indices"], np.ones((1, 1, 1), bool), True)
    assert table.all()
    table, _ = masks(CASES["gather_nd of rows"], np.ones((1, 1), bool), True)
    assert table.any(axis=1).tolist() == [True, False, True]
    table, _ = masks(CASES["gather_nd of rows"], np.array([[True, False, False, True]]), False)
    assert table.any(axis=0).tolist() == [True, False, False, True]


@pytest.mark.parametrize("mode", ["fast", "nan"])
def test_an_index_out_of_range_leaves_everything_live(mode: str) -> None:
    case = Case(lambda x, i: R.take(x, i, 0, mode), (X, ints(0, 7)), lambda x, i: x[i])
    table, index = masks(case, np.ones((1, 1), bool), True)
    assert table.all()
    assert index.all()


def test_two_updates_of_one_place_are_unknown_and_both_needed() -> None:
    case = Case(
        lambda x, i, u: R.scatter_nd(x, i, u, "update"), (X, ints([1], [1]), floats(2, 4)), lambda x, i, u: x
    )  # fmt: skip
    node, _ = case.node()
    facts = from_constant(X), from_constant(case.inputs[1]), from_constant(case.inputs[2])
    (found,) = rule_of(node).forward(node.operator, facts)
    assert np.broadcast_to(found.known, (3, 4)).all(axis=1).tolist() == [True, False, True]
    _, _, updates = masks(case, np.ones((1, 1), bool), True)
    assert updates.all()
