"""Reshapes, cuts, joins, copies and borders: the exact answer is known, and the rules must find it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.relax import op as R

from tesa.attributes.attribute import from_constant, from_mask, unknown
from tesa.propagate.registry import Operator, find

from .single import Case, agrees_with_tvm, check, check_bits, floats, rule_of

X = floats(2, 3, 4)


def _layout(x: Any) -> Any:
    return np.transpose(x.reshape(2, 2, 2, 4), (0, 3, 1, 2))


CASES: dict[str, Case] = {
    "reshape": Case(lambda x: R.reshape(x, (6, 4)), (X,), lambda x: x.reshape(6, 4), True),
    "flatten": Case(R.flatten, (X,), lambda x: x.reshape(-1), True),
    "squeeze": Case(lambda x: R.squeeze(x, [0]), (floats(1, 3, 2),), lambda x: x[0], True),
    "expand_dims": Case(lambda x: R.expand_dims(x, [0, 2]), (X,), lambda x: x.reshape(1, 2, 1, 3, 4), True),
    "batch_flatten": Case(R.nn.batch_flatten, (X,), lambda x: x.reshape(2, 12), True),
    "permute_dims": Case(lambda x: R.permute_dims(x, [2, 0, 1]), (X,), lambda x: x.transpose(2, 0, 1), True),
    "permute_dims without axes": Case(R.permute_dims, (X,), np.transpose, True),
    "broadcast_to": Case(
        lambda x: R.broadcast_to(x, (2, 5, 3, 4)), (floats(2, 1, 1, 4),), lambda x: np.broadcast_to(x, (2, 5, 3, 4)),
        True,
    ),
    "pixel_shuffle": Case(
        lambda x: R.nn.pixel_shuffle(x, 2), (floats(1, 8, 2, 3),),
        lambda x: x.reshape(1, 2, 2, 2, 2, 3).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 4, 6), True,
    ),
    "stop_lift_params": Case(R.builtin.stop_lift_params, (X,), lambda x: x, True),
    "layout_transform": Case(
        lambda x: R.layout_transform(x, lambda a, b, c: (a, c, b // 2, b % 2)), (floats(2, 4, 4),), _layout, True
    ),
    "layout_transform with padding": Case(
        lambda x: R.layout_transform(x, lambda a: (a // 2, a % 2), 0.0), (floats(5),),
        lambda x: np.pad(x, (0, 1)).reshape(3, 2), True,
    ),
    "meshgrid": Case(
        lambda x, y: R.meshgrid([x, y], "ij"), (floats(2), floats(3)), lambda x, y: np.meshgrid(x, y, indexing="ij")
    ),
    "concat": Case(
        lambda x, y: R.concat([x, y], 1), (X, floats(2, 1, 4)), lambda x, y: np.concatenate([x, y], axis=1)
    ),
    "stack": Case(lambda x, y: R.stack([x, y], 1), (X, X), lambda x, y: np.stack([x, y], axis=1)),
    "stack at the end": Case(lambda x, y: R.stack([x, y], -1), (X, X), lambda x, y: np.stack([x, y], axis=-1)),
    "split by places": Case(lambda x: R.split(x, [1], 1), (X,), lambda x: np.split(x, [1], axis=1), True),
    "split by number": Case(lambda x: R.split(x, 2, -1), (X,), lambda x: np.split(x, 2, axis=2), True),
    "strided_slice": Case(lambda x: R.strided_slice(x, [1, 2], [1, 0], [3, 4], [1, 2]), (X,), lambda x: x[:, 1:3, ::2],
                          True),
    "strided_slice backward": Case(
        lambda x: R.strided_slice(x, [1], [-1], [-10], [-1]), (X,), lambda x: x[:, ::-1], True
    ),
    "strided_slice backward, part": Case(
        lambda x: R.strided_slice(x, [2], [3], [0], [-2]), (X,), lambda x: x[:, :, 3:0:-2], True
    ),
    "strided_slice from the end": Case(
        lambda x: R.strided_slice(x, [2], [-3], [-1], [1]), (X,), lambda x: x[:, :, -3:-1], True
    ),
    "flip": Case(lambda x: R.flip(x, 1), (X,), lambda x: np.flip(x, 1), True),
    "tile": Case(lambda x: R.tile(x, (2, 1, 2)), (X,), lambda x: np.tile(x, (2, 1, 2)), True),
    "tile to more axes": Case(lambda x: R.tile(x, (2, 1, 1, 3)), (X,), lambda x: np.tile(x, (2, 1, 1, 3)), True),
    "repeat": Case(lambda x: R.repeat(x, 2, 1), (X,), lambda x: np.repeat(x, 2, 1), True),
    "repeat without axis": Case(lambda x: R.repeat(x, 2), (X,), lambda x: np.repeat(x, 2), True),
    "pad": Case(lambda x: R.nn.pad(x, [0, 0, 1, 2, 0, 0]), (X,), lambda x: np.pad(x, ((0, 0), (1, 2), (0, 0))), True),
    "pad with a number": Case(
        lambda x: R.nn.pad(x, [1, 0, 1, 2, 0, 0], "constant", 2.5), (X,),
        lambda x: np.pad(x, ((1, 0), (1, 2), (0, 0)), constant_values=2.5),
    ),
    "pad, reflected": Case(
        lambda x: R.nn.pad(x, [0, 0, 1, 2, 0, 3], "reflect"), (X,),
        lambda x: np.pad(x, ((0, 0), (1, 2), (0, 3)), mode="reflect"), True,
    ),
    "pad, repeated": Case(
        lambda x: R.nn.pad(x, [0, 0, 1, 2, 0, 3], "replicate"), (X,),
        lambda x: np.pad(x, ((0, 0), (1, 2), (0, 3)), mode="edge"), True,
    ),
    "pad, around": Case(
        lambda x: R.nn.pad(x, [0, 0, 1, 2, 0, 3], "circular"), (X,),
        lambda x: np.pad(x, ((0, 0), (1, 2), (0, 3)), mode="wrap"), True,
    ),
}  # fmt: skip
SEEDS = st.integers(0, 2**32 - 1)


NOT_LOWERED = {"pixel_shuffle", "stop_lift_params"}  # TVM 0.27 has no code for the one, and removes the other before


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_LOWERED])
def test_the_reference_is_what_tvm_computes(name: str) -> None:
    agrees_with_tvm(CASES[name])


@pytest.mark.parametrize("name", CASES)
@given(seed=SEEDS)
@settings(max_examples=12, deadline=None)
def test_the_rule(name: str, seed: int) -> None:
    check(CASES[name], seed, (0.0, 1.0, np.inf))


@pytest.mark.parametrize("name", CASES)
def test_bits_move_with_the_elements(name: str) -> None:
    assert sum(check_bits(CASES[name], seed) for seed in range(12)) > 12


def test_a_slice_whose_bounds_are_constant_tensors() -> None:
    bounds = (np.array([0, 3]), np.array([2, 0]), np.array([1, -2]))
    sizes = ((3, 4), (2,), (2,), (2,))
    slices = Operator("relax.dynamic_strided_slice", "cut", sizes, ((2, 2),), (None, *bounds), ("float32",))
    rule = find(slices.op) or pytest.fail("dynamic_strided_slice has a rule")
    facts = (from_mask(np.array([[1, 0, 1, 1]] * 3)), *(from_constant(b) for b in bounds))
    found = rule.forward(slices, facts)
    assert np.broadcast_to(found[0].zero, (2, 2)).tolist() == [[False, True], [False, True]]
    need = rule.backward(slices, facts, found)[0]
    assert np.broadcast_to(need, (3, 4)).astype(int).tolist() == [[0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]]
    unclear = replace(slices, constants=(None, None, None, None))
    assert not rule.forward(unclear, facts)[0].known.any()
    assert rule.backward(unclear, facts, found)[0].all()


def test_integers_stay_exact() -> None:
    large = np.array([2**60 + 1, 3], np.int64)
    for case in (
        Case(lambda x, y: R.concat([x, y], 0), (large, large), lambda x, y: x),
        Case(lambda x, y: R.stack([x, y], 0), (large, large), lambda x, y: x),
    ):
        node, _ = case.node()
        (found,) = rule_of(node).forward(node.operator, (from_constant(large), unknown((2,))))
        assert found.value.reshape(-1)[0] == 2**60 + 1


def test_facts_stay_short() -> None:
    facts = from_mask(np.array([1, 0, 1, 0, 1, 1, 1, 1], bool).reshape(1, 8, 1, 1))
    wide = replace(unknown((2, 8, 6, 6)), known=facts.known)
    for make, shape in (
        (lambda x: R.reshape(x, (2, 8, 36)), (1, 8, 1)),
        (lambda x: R.permute_dims(x, [0, 2, 3, 1]), (1, 1, 1, 8)),
        (lambda x: R.strided_slice(x, [2], [1], [4]), (1, 8, 1, 1)),
        (lambda x: R.tile(x, (1, 1, 2, 2)), (1, 8, 1, 1)),
        (lambda x: R.flip(x, 3), (1, 8, 1, 1)),
        (lambda x: R.reshape(x, (2, 2, 4, 6, 6)), (1, 2, 4, 1, 1)),
    ):
        node, _ = Case(make, (floats(2, 8, 6, 6),), lambda x: x).node()
        assert rule_of(node).forward(node.operator, (wide,))[0].known.shape == shape
