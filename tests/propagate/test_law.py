"""The law of TeSA, on random models: known elements may be replaced by their constants, dead ones by anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesa.frontend import import_onnx
from tesa.propagate import TesaModel, propagate
from tesa.propagate.engine import solve

from .graphs import random_model
from .interpreter import run

SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=110, deadline=None, suppress_health_check=list(HealthCheck))
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def solved(seed: int) -> tuple[TesaModel, dict[str, Any]]:
    model = propagate(import_onnx(random_model(seed)))
    rng = np.random.default_rng(seed + 1)
    return model, {p.name: rng.normal(size=p.shape) for p in model.imported.inputs}


def outputs(model: TesaModel, values: dict[str, Any]) -> list[Any]:
    return [values[name] for name in model.network.outputs]


def check_same(model: TesaModel, expected: dict[str, Any], found: dict[str, Any]) -> None:
    for a, b in zip(outputs(model, expected), outputs(model, found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6)


@given(SEEDS)
@many
def test_known_values_are_what_the_model_computes(seed: int) -> None:
    model, inputs = solved(seed)
    for name, value in run(model.network, inputs).items():
        facts = model.tesa[name]
        known = np.broadcast_to(facts.known, value.shape)
        np.testing.assert_allclose(np.broadcast_to(facts.value, value.shape)[known], value[known], rtol=1e-5, atol=1e-5)


@given(SEEDS)
@many
def test_the_law(seed: int) -> None:
    """Every known element its constant, every dead and unknown one anything, everywhere at once."""
    model, inputs = solved(seed)
    rng = np.random.default_rng(seed)

    def change(name: str, value: Any) -> Any:
        facts = model.tesa[name]
        scrambled = np.where(facts.dead, rng.normal(scale=10, size=value.shape).astype(value.dtype), value)
        return np.where(facts.known, facts.value.astype(value.dtype), scrambled)

    check_same(model, run(model.network, inputs), run(model.network, inputs, change))


@given(SEEDS)
@many
def test_effective_weights_need_nothing_else(seed: int) -> None:
    """Dead weights 0, every dead activation anything even if it is known, nothing materialised."""
    model, inputs = solved(seed)
    rng = np.random.default_rng(seed)
    weights = {facts.tensor: facts.effective_weight for facts in model.weights.values()}

    def change(name: str, value: Any) -> Any:
        if name in weights:
            return weights[name].astype(float)
        dead = model.tesa[name].dead
        return np.where(dead, rng.normal(scale=10, size=value.shape).astype(value.dtype), value)

    check_same(model, run(model.network, inputs), run(model.network, inputs, change))


@given(SEEDS, SEEDS)
@few
def test_the_order_of_visits_does_not_matter(seed: int, order: int) -> None:
    model, _ = solved(seed)
    again = solve(model.network, seed=order)
    assert all(again.tesa[name] == facts for name, facts in model.tesa.items() if name in again.tesa)


@given(SEEDS)
@few
def test_a_second_run_adds_nothing(seed: int) -> None:
    model, _ = solved(seed)
    first = {name: model.tesa[name] for name in model.network.shapes}
    again = solve(model.network, first)
    assert all(again.tesa[name] == facts for name, facts in first.items())


@given(SEEDS)
@few
def test_folded_constants_change_nothing(seed: int) -> None:
    """A layer with its constant input channels moved to a shift computes the same."""
    model, inputs = solved(seed)
    values = run(model.network, inputs)
    for var, facts in model.weights.items():
        folded = model.folded(var)
        if folded is None:
            continue
        weight, shift = folded
        net, live = model.network, model.tesa[var].live
        layer = run(net, inputs, lambda n, v, t=facts.tensor, w=weight: w.astype(float) if n == t else v)[var]
        view = (1, -1, 1, 1) if facts.op == "relax.nn.conv2d" else (-1,)
        moved = layer + shift.reshape(view)
        mask = np.broadcast_to(live, moved.shape)
        np.testing.assert_allclose(moved[mask], values[var][mask], rtol=1e-4, atol=1e-4)


@given(SEEDS)
@many
def test_all_that_the_compiler_uses_at_once(seed: int) -> None:
    """Every weight effective or folded, the shifts added, and whatever is dead scrambled."""
    model, inputs = solved(seed)
    rng = np.random.default_rng(seed)
    weights, shifts = {}, {}
    for var, facts in model.weights.items():
        folded = model.folded(var)
        weights[facts.tensor] = facts.effective_weight if folded is None else folded[0]
        if folded is not None:
            shifts[var] = folded[1].reshape((1, -1, 1, 1) if facts.op == "relax.nn.conv2d" else (-1,))

    def change(name: str, value: Any) -> Any:
        if name in weights:
            return weights[name].astype(float)
        value = value + shifts[name] if name in shifts else value
        return np.where(model.tesa[name].dead, rng.normal(scale=10, size=value.shape).astype(value.dtype), value)

    expected, found = run(model.network, inputs), run(model.network, inputs, change)
    for a, b in zip(outputs(model, expected), outputs(model, found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)  # a shift has the precision of a weight, float32


def test_the_random_models_exercise_the_rules() -> None:
    """The laws above would hold of a propagation that finds nothing; it must find much."""
    found = [solved(seed)[0] for seed in range(60)]
    operators = {node.operator.op for model in found for node in model.network.nodes}
    assert {"relax.nn.conv2d", "relax.matmul", "relax.concat", "relax.split", "relax.multiply", "relax.nn.layer_norm",
            "relax.nn.softmax", "relax.nn.gelu", "relax.quantize", "relax.strided_slice"} <= operators  # fmt: skip
    more = [f for model in found for f in model.weights.values() if f.sparsity > f.given_sparsity + 0.01]
    assert len(more) > 30
    assert not any(model.unruled for model in found)
    folds = [model for model in found for var in model.weights if model.folded(var) is not None]
    assert len(folds) > 5


@pytest.mark.parametrize("seed", range(3))
def test_the_interpreter_agrees_with_onnxruntime(seed: int) -> None:
    """The reference of these tests is itself right."""
    import onnxruntime

    proto = random_model(seed)
    model, inputs = solved(seed)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {k: v.astype(np.float32) for k, v in inputs.items()})
    for a, b in zip(expected, outputs(model, run(model.network, inputs)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-3)
