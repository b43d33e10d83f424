"""The law of every policy: disjoint pieces that add up to the weight; and what a policy that breaks it is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesa.attributes.codes import are_codes
from tesa.decompose import Piece, describe_pieces, find_policy, forget, is_composite, pieces, policies, policy
from tesa.errors import UsageError
from tesa.schedules.registry import families, find
from tesa.schedules.types import Config, FloatArray, Problem
from tesa.targets.target import parse_target
from tests.decompose.running import KINDS, TARGET, linear, problems, weight

kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(), kinds, st.integers(0, 99), st.data())
def test_pieces_are_disjoint_and_add_up(problem: Problem, kinds: list[str], seed: int, data: st.DataObject) -> None:
    values = weight(problem, kinds, seed)
    found = data.draw(st.sampled_from([p.name for p in policies()]))
    for config in find_policy(found).space(problem, values, TARGET.core):
        made = find_policy(found).split(problem, values, config)
        total = np.zeros(values.shape, np.float64)
        owners = np.zeros(values.shape, int)
        for piece in made:
            assert piece.weight.dtype == np.float32
            assert piece.weight.shape == values.shape
            assert piece.bits == 32 or are_codes(piece.weight).all()
            total += piece.weight
            owners += piece.weight != 0
        if made:
            assert owners.max(initial=0) <= 1
            np.testing.assert_array_equal(total, values)


def test_every_policy_applies_somewhere_and_answers_the_same_twice() -> None:
    cases: dict[str, tuple[Problem, list[str]]] = {
        "cover": (linear(64, 64, 64), ["blocks", "scattered"]),
        "precision": (linear(8, 16, 32, dtype="mixed"), ["dense"]),
        "widen": (linear(8, 16, 32, dtype="mixed"), ["dense"]),
        "groups": (linear(64, 64, 64), ["rows"]),
        "order": (linear(64, 64, 64), ["rows", "scattered"]),
        "nm": (linear(32, 512, 112), ["n:m"]),
        "tiles": (linear(256, 512, 512, arithmetic="float16"), ["blocks", "scattered"]),
    }
    assert {p.name for p in policies()} == set(cases)
    for name, (problem, kinds) in cases.items():
        values = weight(problem, kinds, 3)
        machine = TARGET.core if "cpu" in find_policy(name).kinds else parse_target("cuda:sm_80").gpu
        space = find_policy(name).space(problem, values, machine)
        assert space, name
        first, second = (find_policy(name).split(problem, values, space[0]) for _ in range(2))
        assert first
        assert [p.pattern for p in first] == [p.pattern for p in second]
        assert all(np.array_equal(a.weight, b.weight) for a, b in zip(first, second, strict=True))
        assert find_policy(name).summary.endswith(".")


def test_a_policy_is_a_kernel_family() -> None:
    for found in policies():
        assert is_composite(found.name)
        for kind in ("cpu", "gpu"):
            assert (found.name in [family.name for family in families(kind)]) == (kind in found.kinds)
        assert find(found.name, found.kinds[0]).summary == found.summary
    assert {found.name: found.kinds for found in policies()}["tiles"] == ("gpu",)
    assert not is_composite("dense")


@pytest.mark.parametrize("kinds", [["dense"], ["empty"], ["scattered"]])
def test_policies_leave_plain_weights_alone(kinds: list[str]) -> None:
    problem = linear(128, 128, 64)
    values = weight(problem, kinds, 1)
    assert {p.name: list(p.space(problem, values, TARGET.core)) for p in policies()} == {p.name: [] for p in policies()}


def test_depthwise_layers_are_left_alone() -> None:
    problem = Problem("depthwise", 16, 9, 64, (1, 16, 8, 8), (1, 16, 8, 8))
    values = weight(problem, ["scattered"], 1)
    assert not [p.name for p in policies() if p.space(problem, values, TARGET.core)]


@pytest.fixture
def broken() -> Iterator[Any]:
    """Registers a policy that answers with the given pieces."""
    names = []

    def register(name: str, made: Sequence[Piece]) -> None:
        @policy(name)
        def split(problem: Problem, weight: FloatArray, config: Config) -> Sequence[Piece]:
            """Whatever the test wants."""
            return made

        names.append(name)

    yield register
    for name in names:
        forget(name)


W = np.arange(8, dtype=np.float32).reshape(2, 4)
UPPER, LOWER = np.array([W[0], 0 * W[0]]), np.array([0 * W[0], W[1]])
MIXED = linear(2, 4, 8, dtype="mixed")


@pytest.mark.parametrize(
    ("made", "problem", "told"),
    [
        ([Piece(W), Piece(W)], None, r"7 elements are in more than one piece, the first at \[0, 1\]"),
        ([Piece(UPPER)], None, r"4 elements differ from the weight, the first at \[1, 0\]"),
        ([Piece(W[:1])], None, r"expected float32 of shape \(2, 4\) as the weight, got float32 of \(1, 4\)"),
        ([Piece(W.astype(np.float64))], None, "got float64"),
        ([Piece(W, bits=16)], None, "16 bits; expected one of 8, 32"),
        ([Piece(W, bits=8)], None, "8 bits, but X is float32"),
        ([Piece(UPPER), Piece(LOWER, order=np.array([0, 0]))], None, "order must name each of the 2 rows once"),
    ],
)
def test_a_broken_policy_is_told(broken: Any, made: list[Piece], problem: Problem | None, told: str) -> None:
    broken("test-broken", made)
    with pytest.raises(UsageError, match=f"policy 'test-broken'.*{told}"):
        pieces("test-broken", problem or linear(2, 4, 8), W, {})


def test_int8_pieces_hold_codes(broken: Any) -> None:
    broken("test-codes", [Piece(W + np.float32(0.5), bits=8)])
    with pytest.raises(UsageError, match="not whole numbers from -128 to 127"):
        pieces("test-codes", MIXED, W + np.float32(0.5), {})


def test_names_are_taken_once(broken: Any) -> None:
    broken("test-twice", ())
    with pytest.raises(ValueError, match="registered twice"):
        broken("test-twice", ())
    with pytest.raises(ValueError, match="registered twice"):
        broken("dense", ())
    assert "dense" not in [p.name for p in policies()]
    with pytest.raises(KeyError, match="no policy 'nothing'; there are cover"):
        find_policy("nothing")


def test_a_forgotten_policy_is_gone(broken: Any) -> None:
    @policy("test-gone")
    def split(problem: Problem, weight: FloatArray, config: Config) -> Sequence[Piece]:
        """Rows."""
        return (Piece(UPPER, block=(2, 1)), Piece(LOWER))

    assert find("test-gone").summary == "Rows."
    forget("test-gone")
    with pytest.raises(KeyError):
        find("test-gone")
    with pytest.raises(KeyError):
        find_policy("test-gone")


def test_one_part_for_each_piece() -> None:
    problem = linear(64, 64, 64)
    values = weight(problem, ["blocks", "scattered"], 3)
    space = find("cover").space(problem, values, TARGET.core)
    fused = next(config for config in space if "fused.rows" in config)
    chain = next(config for config in space if "fused.rows" not in config)
    for config in (fused, chain):
        made = describe_pieces(problem, values, "cover", config)
        assert len(made) >= 2
        assert sum(kernel.piece.nonzeros for kernel in made) == np.count_nonzero(values)
        for index, kernel in enumerate(made):
            name = "fused" if config is fused else kernel.family
            head = "fused." if config is fused else f"{index}.{name}."
            assert kernel.family == name
            assert {f"{head}{key}": value for key, value in kernel.config.items()}.items() <= dict(config).items()
    assert describe_pieces(problem, values, "dense", {"rows": 8}) == ()
