"""TeSA: what it stores, how facts merge, how it prints."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tesa.attributes.attribute import (
    ContradictionError,
    Origin,
    Quantization,
    TeSA,
    compact,
    from_constant,
    from_mask,
    from_quantization,
    from_weight,
    merge,
    reduce_to,
    unknown,
)

USER = Origin("value", "user")


def tesa(known: Any, value: Any, live: Any) -> TeSA:
    known = np.asarray(known)
    return TeSA(known.shape, known, np.asarray(value), np.asarray(live), np.full((1,) * known.ndim, 32, np.int8))


TESAS = st.builds(
    tesa,
    arrays(bool, (3, 4)),
    st.just(np.arange(12.0).reshape(3, 4) % 3),
    arrays(bool, (3, 4)),
)


def test_unknown_costs_one_element_of_each() -> None:
    t = unknown((8, 512, 56, 56))
    assert [a.size for a in (t.known, t.value, t.live, t.bits)] == [1, 1, 1, 1]
    assert t.trivial
    assert t.sparsity == 0
    assert str(t) == "nothing known"


def test_a_channel_mask_costs_its_channels() -> None:
    mask = np.ones((2, 6, 7, 7), bool)
    mask[:, 2] = False
    t = from_mask(mask)
    assert t.known.shape == (1, 6, 1, 1)
    assert t.sparsity == pytest.approx(1 / 6)
    assert str(t) == "16.7% known to be 0 (the user's mask)"


def test_a_weight_knows_its_zeros_only() -> None:
    t = from_weight(np.array([[0.0, 1.0], [2.0, -0.0]]))
    np.testing.assert_array_equal(t.known, [[True, False], [False, True]])
    assert t.value.size == 1
    assert t.facts() == ("50.0% known to be 0 (the weights of the model)",)


def test_a_constant_is_known_but_where_it_is_no_number() -> None:
    t = from_constant(np.array([1.0, np.inf, np.nan, 0.0]))
    np.testing.assert_array_equal(t.known, [True, True, False, True])
    np.testing.assert_array_equal(t.value, [1, np.inf, 0, 0])


def test_what_is_not_known_has_the_value_zero() -> None:
    assert tesa([True, False], [5.0, 7.0], [True, True]) == tesa([True, False], [5.0, 1.0], [True, True])


def test_dead_and_known_elements_are_left_out() -> None:
    t = tesa([True, False, False], [0.0, 0.0, 0.0], [True, False, True])
    assert t.sparsity == pytest.approx(2 / 3)


def test_a_shape_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"known of shape \(2,\) does not broadcast"):
        TeSA((3,), np.ones(2, bool), np.zeros(1), np.ones(1, bool), np.ones(1, np.int8))


@given(TESAS, TESAS)
def test_merging_unites_what_is_known_and_intersects_what_is_live(a: TeSA, b: TeSA) -> None:
    m = merge(a, b)
    for mine, theirs in ((m.known, a.known | b.known), (m.live, a.live & b.live)):
        np.testing.assert_array_equal(np.broadcast_to(mine, (3, 4)), np.broadcast_to(theirs, (3, 4)))


@given(TESAS, TESAS, TESAS)
def test_merging_is_a_meet(a: TeSA, b: TeSA, c: TeSA) -> None:
    assert merge(a, a) == a
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, unknown((3, 4))) == a


def test_the_lower_precision_wins() -> None:
    eight = Quantization(8, True, np.ones((1, 1)), np.zeros((1, 1), int))
    t = merge(unknown((2, 3)), from_quantization((2, 3), eight))
    assert t.quantization == eight
    assert str(t) == "8 bits (int8, 1 scale) (the quantization)"
    assert merge(t, unknown((2, 3))) == t


def test_a_contradiction_names_both_origins() -> None:
    a = from_constant(np.array([1.0, 2.0]), Origin("value", "rule", "relax.add", "layer7"))
    b = from_constant(np.array([1.0, 3.0]), USER)
    with pytest.raises(ContradictionError, match=r"2 \(rule relax.add of layer7\) and 3 \(the user's mask\) at \(1,\)"):
        merge(a, b)


def test_merging_needs_equal_shapes() -> None:
    with pytest.raises(ValueError, match="shapes"):
        merge(unknown((2,)), unknown((3,)))


def test_growth_notes_where_a_fact_comes_from() -> None:
    old, new = unknown((2,)), from_mask([True, False])
    origins = new.growth(old, Origin("", "rule", "relax.nn.relu", "act")).origins
    assert Origin("value", "rule", "relax.nn.relu", "act") in origins
    assert not any(origin.fact == "live" for origin in origins)


@given(arrays(np.int8, st.tuples(st.integers(1, 3), st.integers(1, 4)), elements=st.integers(0, 1)))
def test_compact_broadcasts_back(array: Any) -> None:
    short = compact(array)
    np.testing.assert_array_equal(np.broadcast_to(short, array.shape), array)
    for axis, length in enumerate(short.shape):
        assert length == 1 or (short != short.take([0], axis=axis)).any()


def test_reduce_to_is_the_reverse_of_broadcasting() -> None:
    mask = np.array([[[True, False], [False, False]]])
    np.testing.assert_array_equal(reduce_to(mask, (1, 2)), [[True, False]])
    np.testing.assert_array_equal(reduce_to(mask, (2, 1)), [[True], [False]])


def test_scalars_and_empty_tensors() -> None:
    assert from_constant(0.0).sparsity == 1.0
    assert from_weight(np.zeros((0, 3))).sparsity == 0.0


def test_it_prints_and_pickles() -> None:
    t = from_weight(np.array([0.0, 1.0]))
    assert repr(t) == "TeSA(2: 50.0% known to be 0 (the weights of the model))"
    assert "<li>50.0% known to be 0" in t._repr_html_()
    assert pickle.loads(pickle.dumps(t)) == t


def grid(bits: int, signed: bool, scale: float, zero: int) -> Quantization:
    return Quantization(bits, signed, np.full((1, 1), scale), np.full((1, 1), zero))


def test_rounding_saturates_and_ties_go_to_the_even_code() -> None:
    t = from_quantization((1, 5), grid(3, True, 0.5, 0))
    np.testing.assert_array_equal(t.rounded([[0.25, 0.75, -9.0, np.inf, 0.6]]), [[0.0, 1.0, -2.0, 1.5, 0.5]])
    odd = from_quantization((1, 2), grid(3, False, 1.0, 3))
    np.testing.assert_array_equal(odd.rounded(np.array([[0.5, 1.5]])), [[0.0, 2.0]])
    assert t.rounded(np.float32([[0, 1, 1, 1, 1]])).dtype == np.float32


def test_rounding_integers_gives_integers_of_their_type() -> None:
    uneven = from_quantization((1, 4), grid(2, True, 8.4, 0))
    np.testing.assert_array_equal(uneven.rounded(np.array([[-128, -9, 5, 100]], np.int8)), [[-17, -8, 8, 8]])
    outside = from_quantization((1, 2), grid(2, True, 100.0, 0))
    np.testing.assert_array_equal(outside.rounded(np.array([[-128, 127]], np.int8)), [[-100, 100]])
    assert outside.rounded(np.array([[-128, 127]], np.int8)).dtype == np.int8


def test_full_precision_is_not_rounded() -> None:
    mixed = replace(from_quantization((1, 2), grid(4, True, 1.0, 0)), bits=np.array([[4, 32]], np.int8))
    np.testing.assert_array_equal(mixed.rounded(np.array([[0.3, 0.3]])), [[0.0, 0.3]])
    np.testing.assert_array_equal(unknown((2,)).rounded([0.3, 1e9]), [0.3, 1e9])


def test_merged_bits_keep_the_grid_of_each_element() -> None:
    """Element by element the lower precision, also where one grid counts from 0 and the other one does not."""
    signed, unsigned = grid(8, True, 0.5, 0), grid(4, False, 2.0, 3)
    a = replace(from_quantization((1, 3), signed), bits=np.array([[8, 8, 3]], np.int8))
    b = from_quantization((1, 3), unsigned)
    for m in (merge(a, b), merge(b, a)):
        np.testing.assert_array_equal(m.bits, [[4, 4, 3]])
        x = np.array([[-3.2, 100.0, -3.2]])
        np.testing.assert_array_equal(m.rounded(x), [[-4.0, 24.0, -2.0]])
    first = from_quantization((1, 3), grid(4, True, 1.0, 0))
    assert merge(first, b).quantization == first.quantization, "the first where both have as many bits"


def test_equal_grids_are_equal_however_they_are_written() -> None:
    long = Quantization(8, True, np.full((1, 3), 0.5), np.zeros(3, int))
    assert from_quantization((2, 3), long) == from_quantization((2, 3), grid(8, True, 0.5, 0))
