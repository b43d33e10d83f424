"""Normalisations: every rule against NumPy, what is found against what there is to find, large constants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import TeSA, from_constant, unknown
from tesa.frontend import import_onnx
from tesa.propagate import propagate
from tesa.propagate.registry import Operator, Rule, find

from ..frontend.onnx_models import floats, model, node, port
from .window_reference import check, influence, operator, some_facts, varies

EPSILON = 1e-3
ROWS = settings(max_examples=120, deadline=None)


def found_rule(op: Operator) -> Rule:
    rule = find(op.op)
    assert rule is not None
    return rule


def normalise(op: Operator, x: Any, gamma: Any, *rest: Any) -> list[Any]:
    """The five normalisations in float64."""
    if op.op == "relax.nn.batch_norm":
        beta, mean, variance = rest
        view = [1] * x.ndim
        view[op.attrs["axis"]] = -1
        gamma, beta, centre, spread = (np.asarray(p).reshape(view) for p in (gamma, beta, mean, variance))
        with np.errstate(invalid="ignore"):  # a dead variance may be negative here
            return [(x - centre) / np.sqrt(spread + EPSILON) * gamma + beta, mean, variance]
    axes = tuple(op.attrs["axes"])
    if op.op == "relax.nn.group_norm":
        groups = x.reshape(x.shape[0], op.attrs["num_groups"], -1)
        middle = groups - groups.mean(axis=2, keepdims=True)
        y = (middle / np.sqrt(middle.var(axis=2, keepdims=True) + EPSILON)).reshape(x.shape)
        view = [1, -1] + [1] * (x.ndim - 2)
        return [y * gamma.reshape(view) + rest[0].reshape(view)]
    if op.op == "relax.nn.rms_norm":
        return [x / np.sqrt((x**2).mean(axis=axes, keepdims=True) + EPSILON) * gamma]
    y = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + EPSILON)
    view = [-1 if i == 1 else 1 for i in range(x.ndim)] if "instance" in op.op else list(gamma.shape)
    return [y * gamma.reshape(view) + rest[0].reshape(view)]


@st.composite
def norms(draw: Any) -> tuple[Operator, Any, int]:
    """(operator, the facts about gamma, ..., seed)."""
    seed, kind = draw(st.integers(0, 10**6)), draw(st.sampled_from(["layer", "rms", "group", "instance", "batch"]))
    rng = np.random.default_rng(seed)
    shape = (2, 4, 3, 2) if draw(st.booleans()) else (2, 4, 3)
    attrs: dict[str, Any] = {"epsilon": EPSILON}
    size: tuple[int, ...] = (4,)
    if kind in ("layer", "rms"):
        first = draw(st.integers(1, len(shape) - 1))
        size, attrs["axes"] = shape[first:], tuple(range(first, len(shape)))
    elif kind == "batch":
        attrs |= {"axis": 1, "training": False}
    else:
        attrs |= {"axes": tuple(range(2, len(shape))), "channel_axis": 1}
        attrs |= {"num_groups": draw(st.sampled_from([1, 2, 4]))} if kind == "group" else {}
    count = {"rms": 1, "batch": 4}.get(kind, 2)
    arrays = [rng.normal(size=size) * (rng.random(size) < 0.6) for _ in range(count)]
    arrays = arrays if kind != "batch" else [*arrays[:3], np.abs(arrays[3])]
    constant = draw(st.booleans())
    parameters = [from_constant(a) for a in arrays]
    if not constant and kind != "batch":
        parameters = [replace(p, known=rng.random(size) < 0.6) for p in parameters]
    outputs: Any = [shape, (4,), (4,)] if kind == "batch" else shape
    constants = (None, *(arrays if constant or kind == "batch" else [None] * count))
    op = operator(f"relax.nn.{kind}_norm", [shape, *[size] * count], outputs, constants, **attrs)
    return op, parameters, seed


def rows_of_facts(op: Operator, rng: Any) -> TeSA:
    """Sometimes whole rows are known, or everything."""
    shape = op.inputs[0]
    x = some_facts(shape, rng, channel=int(rng.integers(0, len(shape))), spatial=bool(rng.integers(0, 2)))
    if rng.random() < 0.5:
        whole = rng.random((shape[0], *(1 for _ in shape[1:]))) < 0.7
        x = replace(x, known=x.known | whole, value=np.where(x.known, x.value, rng.normal(size=shape)))
    return x


@given(norms())
@ROWS
def test_the_law_of_one_normalisation(made: Any) -> None:
    op, parameters, seed = made
    rng = np.random.default_rng((seed, 1))
    x = rows_of_facts(op, rng)
    live = rng.random(op.outputs[0] if rng.random() < 0.5 else (1, *op.outputs[0][1:])) < 0.4
    check(op, (x, *parameters), live, normalise, seed)


@given(norms())
@ROWS
def test_what_there_is_to_find_is_found(made: Any) -> None:
    op, parameters, seed = made
    rng = np.random.default_rng((seed, 1))
    inputs = (rows_of_facts(op, rng), *parameters)
    with patch("tesa.propagate.rules.normalize.TOLERANCE", 1.0):  # float32 is another test's matter
        known = np.broadcast_to(found_rule(op).forward(op, inputs)[0].known, op.outputs[0])
    still = ~varies(op, inputs, normalise)
    assert not (known & ~still).any()
    if all(p.known.all() for p in parameters):  # else a row of equal numbers is beta in theory, noise * gamma in fact
        np.testing.assert_array_equal(known, still)
    live = rng.random(op.outputs[0]) < 0.4
    outputs = (
        replace(unknown(op.outputs[0]), live=live),
        *(replace(unknown((4,)), live=np.zeros(1, bool)) for _ in op.outputs[1:]),
    )
    needs = found_rule(op).backward(op, inputs, outputs)
    wanted = influence(op, inputs, live, 0, normalise)
    need = np.broadcast_to(needs[0], wanted.shape)
    assert (need | ~wanted).all()
    if not inputs[0].known.any():  # by chance a known row may be one where the influence vanishes
        np.testing.assert_array_equal(need, wanted)


def test_a_row_is_needed_as_a_whole() -> None:
    gamma = np.array([1.0, 0.0, 0.0, 2.0])
    op = operator("relax.nn.layer_norm", [(3, 4), (4,), (4,)], (3, 4), (None, gamma, gamma), axes=(1,), epsilon=EPSILON)
    live = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]) > 0
    inputs = (unknown((3, 4)), from_constant(gamma), from_constant(gamma))
    found, needs = check(op, inputs, live, normalise)
    assert found[0].known.reshape(-1).tolist() == [False, True, True, False]
    np.testing.assert_array_equal(np.broadcast_to(needs[0], (3, 4)), np.array([[1], [0], [0]]) > np.zeros(4))


@pytest.mark.parametrize("name", ["layer", "instance", "group"])
@pytest.mark.parametrize(("value", "known"), [(0.0, True), (1e-3, True), (1e3, False), (1e8, False), (np.inf, False)])
def test_rows_of_large_equal_constants_are_noise(name: str, value: float, known: bool) -> None:
    """In float32 the mean of 1000s is not quite 1000, and 1 / sqrt(epsilon) makes much of the difference."""
    parameters = [np.ones(4), np.full(4, 0.25)]
    attrs = {"epsilon": 1e-5, "axes": (1,) if name == "layer" else (2,)}
    attrs |= {} if name == "layer" else {"channel_axis": 1}
    attrs |= {"num_groups": 2} if name == "group" else {}
    shape = (2, 4) if name == "layer" else (2, 4, 5)
    op = operator(f"relax.nn.{name}_norm", [shape, (4,), (4,)], shape, (None, *parameters), **attrs)
    x = replace(unknown(shape), known=np.ones((1,) * len(shape), bool), value=np.full((1,) * len(shape), value))
    (found,) = found_rule(op).forward(op, (x, *(from_constant(p) for p in parameters)))
    assert found.known.all() == known
    assert not known or (found.value == 0.25).all()


def test_infinity_spoils_its_row_only() -> None:
    gamma = np.array([1.0, 0.0])
    for kind in ("layer", "rms"):
        rest = () if kind == "rms" else (gamma,)
        op = operator(f"relax.nn.{kind}_norm", [(2, 2), (2,), *[(2,) for _ in rest]], (2, 2), (None, gamma, *rest),
                      axes=(1,), epsilon=EPSILON)  # fmt: skip
        x = replace(
            unknown((2, 2)), known=np.array([[True, False], [False, False]]), value=np.array([[np.inf, 0], [0, 0]])
        )
        inputs = (x, from_constant(gamma), *(from_constant(r) for r in rest))
        (found,) = found_rule(op).forward(op, inputs)
        np.testing.assert_array_equal(found.known, [[False, False], [False, True]])
        live = replace(unknown((2, 2)), live=np.array([[False, True]]))
        needs = found_rule(op).backward(op, inputs, (live,))
        assert np.broadcast_to(needs[0], (2, 2))[0].all()


def test_rms_norm_keeps_zeros() -> None:
    gamma = np.ones(3)
    op = operator("relax.nn.rms_norm", [(2, 3), (3,)], (2, 3), (None, gamma), axes=(-1,), epsilon=EPSILON)
    x = replace(unknown((2, 3)), known=np.array([[True, False, False]]))
    live = np.array([[True, False, False]])
    found, needs = check(
        op,
        (x, from_constant(gamma)),
        live,
        lambda o, a, g: normalise(replace(o, attrs={**o.attrs, "axes": (1,)}), a, g),
    )
    assert found[0].zero.reshape(-1).tolist() == [True, False, False]
    assert needs[0].reshape(-1).tolist() == [True, False, False]  # 0 whatever its row is


def batch(training: bool, **attrs: Any) -> tuple[Operator, tuple[TeSA, ...]]:
    arrays = [np.array(v, float) for v in ([1, 0, 2], [5, 6, 7], [1, 1, 1], [4, 4, 4])]
    op = operator("relax.nn.batch_norm", [(2, 3, 4), *[(3,)] * 4], [(2, 3, 4), (3,), (3,)], (None, *arrays), axis=1,
                  epsilon=0.0, training=training, **attrs)  # fmt: skip
    x = replace(
        unknown((2, 3, 4)), known=np.array([True, False, False]).reshape(1, 3, 1), value=np.full((1, 1, 1), 3.0)
    )
    return op, (x, *(from_constant(a) for a in arrays))


def test_batch_norm_of_inference_and_of_training() -> None:
    op, inputs = batch(False)
    y, mean, variance = found_rule(op).forward(op, inputs)
    assert y.known.reshape(-1).tolist() == [True, True, False]
    assert y.value.reshape(-1).tolist() == [6.0, 6.0, 0.0]
    assert mean.known.all()
    assert variance.value.reshape(-1).tolist() == [4.0]
    op, inputs = batch(True)
    assert all(t.trivial for t in found_rule(op).forward(op, inputs))
    dead = np.zeros(1, bool)
    running = (replace(unknown((3,)), live=np.array([False, True, False])), replace(unknown((3,)), live=dead))
    needs = found_rule(op).backward(op, inputs, (replace(unknown((2, 3, 4)), live=dead.reshape(1, 1, 1)), *running))
    assert np.broadcast_to(needs[0], (1, 3, 1)).reshape(-1).tolist() == [False, True, False]


def test_gamma_that_does_not_count_is_not_believed() -> None:
    for attrs in ({"scale": False}, {"center": False}):
        op, inputs = batch(False, **attrs)
        assert found_rule(op).forward(op, inputs)[0].trivial
        needs = found_rule(op).backward(op, inputs, tuple(unknown(s) for s in op.outputs))
        assert all(need.all() for need in needs)


@pytest.mark.parametrize(
    "kind", ["GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"]
)
def test_norms_in_a_model(kind: str) -> None:
    """A pruned filter does not stay 0, and what follows keeps all it needs; onnxruntime has the last word."""
    import onnxruntime

    first = floats(4, 3, 1, 1)
    first[:] = 0
    size = {"GroupNormalization": 4, "InstanceNormalization": 4}.get(kind, 6)
    constants = {"a": first, "g": floats(size), "b": floats(size, seed=3), "w": floats(2, 4, 1, 1)}
    attrs = {"num_groups": 2} if kind.startswith("Group") else {}
    inputs = ["h", "g"] + ([] if kind.startswith("RMS") else ["b"])
    nodes = [node("Conv", ["x", "a"], "h"), node(kind, inputs, "n", **attrs), node("Conv", ["n", "w"], "y", name="y")]
    opset = 23 if kind.startswith("RMS") else 21
    proto = model(nodes, [port("x", [1, 3, 5, 6])], ["y"], constants, opset=opset)
    found = propagate(import_onnx(proto))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": floats(1, 3, 5, 6)})[0]
    facts = found.tesa["y"]
    if not found.unruled:
        assert facts.known.all()
    known = np.broadcast_to(facts.known, expected.shape)
    np.testing.assert_allclose(
        np.broadcast_to(facts.value, expected.shape)[known], expected[known], rtol=1e-4, atol=1e-5
    )
