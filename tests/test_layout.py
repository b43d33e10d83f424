"""Layouts: a reshape that claims to move no data really moves none."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.layers.layout import compose, features_outer, identity, reshape_perm, same_order, steps


@st.composite
def reshapes(draw):
    """A shape, a second shape with the same elements, and a layout of the first."""
    factors = draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=5))

    def grouped():
        shape, run = [], 1
        for factor in factors:
            run *= factor
            if draw(st.booleans()):
                shape.append(run)
                run = 1
        return (*shape, run)

    old, new = grouped(), grouped()
    return old, new, tuple(draw(st.permutations(range(len(old)))))


@settings(max_examples=300, deadline=None)
@given(reshapes())
def test_reshape_without_moving_data(case):
    old, new, perm = case
    got = reshape_perm(old, perm, new)
    if got is None:
        return
    logical = np.arange(np.prod(old)).reshape(old)
    stored = logical.transpose(perm)
    expected = logical.reshape(new).transpose(got)
    assert np.array_equal(stored.ravel(), expected.ravel())


def test_reshape_keeps_the_identity():
    assert reshape_perm((2, 6), identity(2), (2, 3, 2)) == (0, 1, 2)


def test_heads_are_split_in_place():
    assert reshape_perm((1, 128, 384), features_outer(3), (1, 128, 12, 32)) == (0, 2, 3, 1)


def test_interleaved_axes_cannot_merge():
    assert reshape_perm((2, 3, 4), (0, 2, 1), (6, 4)) is None


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(4)), st.permutations(range(4)))
def test_transposes_compose(perm, axes):
    logical = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    stored = logical.transpose(perm)
    assert np.array_equal(stored, logical.transpose(axes).transpose(compose(tuple(perm), tuple(axes))))
    back = stored.transpose(steps(tuple(perm), identity(4)))
    assert np.array_equal(back, logical)


def test_same_order_ignores_axes_of_one():
    assert same_order((1, 256), (1, 0), (0, 1))
    assert not same_order((2, 256), (1, 0), (0, 1))
