"""Facts through fused attention, against NumPy; it finds what its parts find, and constant values besides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import TeSA, from_constant, from_mask, unknown
from tesa.frontend import import_onnx
from tesa.propagate import propagate
from tesa.propagate.registry import Operator, find

from ..frontend.onnx_models import model, node, port
from .interpreter import run as interpret
from .one_rule import FLOATS, backward, case, check_dead, check_known, forward, some_facts, some_live

SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
BATCH, QUERIES, KEYS, HEADS, FEATURES, VALUES = 2, 3, 4, 2, 3, 2
Q, K, V = (BATCH, QUERIES, HEADS, FEATURES), (BATCH, KEYS, HEADS, FEATURES), (BATCH, KEYS, HEADS, VALUES)
OUT, SCORES = (BATCH, QUERIES, HEADS, VALUES), (BATCH, HEADS, QUERIES, KEYS)


def reference(causal: str | None, scale: float | None) -> Any:
    def attend(q: Any, k: Any, v: Any, bias: Any = 0.0) -> Any:
        scores = np.einsum("bshd,bthd->bhst", q, k) * (scale if scale is not None else q.shape[3] ** -0.5) + bias
        if causal is not None:
            shift = 0 if causal == "TopLeft" else abs(q.shape[1] - k.shape[1])
            scores = np.where(np.tri(q.shape[1], k.shape[1], shift, dtype=bool), scores, -np.inf)
        power = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.einsum("bhst,bthe->bshe", power / power.sum(axis=-1, keepdims=True), v)

    return attend


def attention(inputs: list[Any], causal: str | None = None, scale: float | None = None, window: Any = None) -> Any:
    name = "relax.nn.attention" if len(inputs) == 3 else "relax.nn.attention_bias"
    attrs = {"scale": scale, "causal_mask": causal, "window_size": window}
    shape = (*inputs[0].shape[:3], inputs[2].shape[3])
    return case(name, reference(causal, scale), inputs, shape, attrs=attrs)


@given(SEEDS, st.sampled_from([None, "TopLeft", "BottomRight"]), st.sampled_from([None, 0.5]), st.booleans())
@many
def test_claims_against_numpy(seed: int, causal: str | None, scale: float | None, biased: bool) -> None:
    rng = np.random.default_rng(seed)
    inputs = [some_facts(rng, shape, FLOATS if rng.random() < 0.5 else (0.0, 2.0)) for shape in (Q, K, V)]
    if biased:
        shape = tuple(int(rng.choice([1, n])) for n in SCORES[:3]) + SCORES[3:]
        inputs.append(some_facts(rng, shape, (-np.inf, 0.0, 1.0), share=0.7))
    it = attention(inputs, causal, scale)
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, OUT))


@given(SEEDS)
@many
def test_one_tensor_as_queries_keys_and_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = some_facts(rng, Q)
    it = attention([x, x, x])
    check_dead(it, rng, some_live(rng, Q), twins=(0, 1, 2))


def head(index: int, shape: tuple[int, ...]) -> Any:
    mask = np.zeros((1, 1, shape[2], 1), bool)
    mask[:, :, index] = True
    return mask


def test_a_dead_head_needs_nothing() -> None:
    needs = backward(attention([unknown(Q), unknown(K), unknown(V)]), head(1, OUT))
    for need in needs:
        assert need.shape[2] == HEADS
        assert need[:, :, 1].all()
        assert not need[:, :, 0].any()


def test_a_head_without_values_needs_no_queries_and_keys() -> None:
    v = from_mask(head(1, V))
    v = TeSA(V, v.known, v.value, v.live, v.bits)
    it = attention([unknown(Q), unknown(K), v])
    assert forward(it).zero.reshape(-1).tolist() == [True, False]
    need_q, need_k, need_v = backward(it, np.ones((1, 1, 1, 1), bool))
    assert need_q.reshape(-1).tolist() == need_k.reshape(-1).tolist() == [False, True]
    assert need_v.all()


def test_a_constant_feature_of_the_values_is_that_constant() -> None:
    v = from_constant(np.full(V, 2.0))
    it = attention([unknown(Q), unknown(K), v], causal="TopLeft")
    found = forward(it)
    assert found.known.all()
    assert (found.value == 2).all()
    need_q, need_k, need_v = backward(it, np.ones((1, 1, 1, 1), bool))
    assert not need_q.any()
    assert not need_k.any()
    assert need_v.all()


def test_a_row_that_the_bias_takes_out_is_not_claimed() -> None:
    bias = from_constant(np.where(np.arange(QUERIES)[:, None] == 1, -np.inf, np.zeros((1, 1, QUERIES, KEYS))))
    found = forward(attention([unknown(Q), unknown(K), from_constant(np.ones(V)), bias]))
    assert found.known.reshape(-1).tolist() == [True, False, True]


def test_a_zero_feature_of_the_queries_kills_that_of_the_keys() -> None:
    q = from_mask(np.array([True, False, True]).reshape(1, 1, 1, 3))
    q = TeSA(Q, q.known, q.value, q.live, q.bits)
    for inputs, dead in (([q, unknown(K)], 1), ([unknown(Q), TeSA(K, q.known, q.value, q.live, q.bits)], 0)):
        needs = backward(attention([*inputs, unknown(V)]), np.ones((1, 1, 1, 1), bool))
        assert needs[dead].reshape(-1).tolist() == [True, False, True]
        assert needs[1 - dead].all()


def test_a_window_may_leave_out_any_key() -> None:
    bias = from_constant(np.where(np.arange(KEYS) == 0, 0.0, -np.inf).reshape(1, 1, 1, KEYS))
    it = attention([unknown(Q), unknown(K), unknown(V), bias], window=2)
    assert not forward(it).known.any()
    need_q, need_k, need_v, need_bias = backward(it, np.ones((1, 1, 1, 1), bool))
    assert need_k.reshape(-1).tolist() == [True, False, False, False]  # the bias takes the others out for sure
    assert all(need.all() for need in (need_q, need_v, need_bias))


@pytest.mark.parametrize("constant", [0.0, 2.0])
def test_sequences_of_different_lengths(constant: float) -> None:
    v = np.zeros((1, 1, HEADS, 1)) + constant
    value = TeSA((1, 6, HEADS, VALUES), np.array([True, False]).reshape(1, 1, 2, 1), v, *_rest(4))
    shapes = ((1, 6, HEADS, FEATURES), (1, 6, HEADS, FEATURES), value.shape, (3,), (3,), (1,), (1,))
    op = Operator("relax.nn.attention_var_len", "a", shapes, ((1, 6, HEADS, VALUES),), (None,) * 7, ("float32",))
    inputs = (unknown(shapes[0]), unknown(shapes[1]), value, *(unknown(s) for s in shapes[3:]))
    rule = find(op.op)
    found = rule.forward(op, inputs)
    assert found[0].zero.reshape(-1).tolist() == ([True, False] if constant == 0 else [False])
    needs = rule.backward(op, inputs, found)
    assert needs[0].reshape(-1).tolist() == ([False, True] if constant == 0 else [True])
    assert all(need.all() for need in needs[2:])


def _rest(rank: int) -> Any:
    top = unknown((1,) * rank)
    return top.live, top.bits


TOKENS, HIDDEN = 3, 8


def exported(seed: int, mask: float | None, pruned: int, bias: float) -> Any:
    """Two heads as an exporter writes them: four projections, transposes, scores / 2, a mask, a softmax."""
    rng = np.random.default_rng(seed)
    constants: dict[str, Any] = {"four": np.array([1, TOKENS, 2, 4]), "three": np.array([1, TOKENS, HIDDEN])}
    nodes, heads = [], {}
    for name in "qkv":
        weight = rng.normal(size=(HIDDEN, HIDDEN)) * (rng.random((HIDDEN, HIDDEN)) < 0.5)
        shift = rng.normal(size=HIDDEN)
        if name == "v":
            weight[:, pruned * 4 : pruned * 4 + 4], shift[pruned * 4 : pruned * 4 + 4] = 0, bias
        constants |= {f"{name}.w": weight.astype(np.float32), f"{name}.b": shift.astype(np.float32)}
        nodes += [node("MatMul", ["x", f"{name}.w"], f"{name}0"), node("Add", [f"{name}0", f"{name}.b"], f"{name}1"),
                  node("Reshape", [f"{name}1", "four"], f"{name}2")]  # fmt: skip
        heads[name] = node("Transpose", [f"{name}2"], f"{name}3", perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3])
        nodes.append(heads[name])
    constants |= {"two": np.float32(2), "o.w": rng.normal(size=(HIDDEN, HIDDEN)).astype(np.float32)}
    nodes += [node("MatMul", ["q3", "k3"], "s0"), node("Div", ["s0", "two"], "s1")]
    if mask is not None:
        constants["mask"] = np.where(np.tri(TOKENS, dtype=bool), 0, mask).astype(np.float32)[None, None]
        nodes.append(node("Add", ["s1", "mask"], "s2"))
    nodes += [node("Softmax", ["s2" if mask is not None else "s1"], "p", axis=-1), node("MatMul", ["p", "v3"], "c0"),
              node("Transpose", ["c0"], "c1", perm=[0, 2, 1, 3]), node("Reshape", ["c1", "three"], "c2"),
              node("MatMul", ["c2", "o.w"], "y")]  # fmt: skip
    return propagate(import_onnx(model(nodes, [port("x", [1, TOKENS, HIDDEN])], ["y"], constants)))


@pytest.mark.parametrize("mask", [None, -np.inf, float(np.finfo(np.float32).min)])
def test_a_pruned_head_of_an_export_needs_no_queries_and_keys(mask: float | None) -> None:
    found = exported(0, mask, pruned=1, bias=0.0)
    for name in ("q0", "k0"):
        weight = found.weights[name].effective_weight
        assert not weight[:, 4:].any(), name
        assert weight[:, :4].any(), name
    assert not found.weights["y"].effective_weight[4:].any()


@given(SEEDS, st.sampled_from([None, -np.inf, float(np.finfo(np.float32).min)]), st.sampled_from([0.0, 0.5]))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_law_on_an_export(seed: int, mask: float | None, bias: float) -> None:
    found = exported(seed, mask, pruned=seed % 2, bias=bias)
    rng = np.random.default_rng(seed)
    inputs = {"x": rng.normal(size=(1, TOKENS, HIDDEN))}
    weights = {facts.tensor: facts.effective_weight for facts in found.weights.values()}
    expected = interpret(found.network, inputs)

    def replaced(name: str, value: Any) -> Any:
        facts = found.tesa[name]
        other = np.where(facts.dead, rng.normal(scale=10, size=value.shape).astype(value.dtype), value)
        return np.where(facts.known, facts.value.astype(value.dtype), other)

    def removed(name: str, value: Any) -> Any:
        if name in weights:
            return weights[name].astype(float)
        dead = found.tesa[name].dead & ~np.isinf(value)
        return np.where(dead, rng.normal(scale=10, size=value.shape).astype(value.dtype), value)

    for change in (replaced, removed):
        result = interpret(found.network, inputs, change)
        np.testing.assert_allclose(result["y"], expected["y"], rtol=1e-6, atol=1e-6)
