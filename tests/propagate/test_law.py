"""The law of TeSA, on random models: known elements may be replaced by their constants, dead ones by anything."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import ContradictionError, Origin, TeSA, unknown
from tesa.frontend import import_onnx
from tesa.propagate import TesaModel, propagate, rule
from tesa.propagate.network import Network
from tesa.propagate.registry import Operator, rule_scope, rules
from tesa.propagate.rules import common
from tesa.propagate.rules.common import pad_axes, unbroadcast
from tests.support import drawn

from ..frontend.onnx_models import model as onnx_model
from ..frontend.onnx_models import node, port
from .execute import is_kernel
from .graphs import random_feeds, random_model
from .interpreter import covered, evaluator, run, widened
from .law import Evaluate, bare, check_law, check_tame

SEEDS = st.integers(0, 2**32 - 1)
many = drawn(200, suppress_health_check=list(HealthCheck))
some = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True, eq=False)
class Solved:
    """A random model with its facts, values for its inputs, and all that is needed to run it in float64."""

    model: TesaModel
    feeds: dict[str, Any]
    net: Network
    evaluate: Evaluate


def solved(number: int, **options: Any) -> Solved:
    """The model of a number. options: of propagate."""
    imported = import_onnx(random_model(number))
    model = propagate(imported, **options)
    feeds = random_feeds(imported.inputs, number + 1)
    return Solved(model, feeds, widened(model.network), evaluator(imported.mod))


def check(case: Solved, seed: int) -> None:
    """The whole law on one model; what is not known must be finite, or the law would say nothing."""
    values = check_law(case.net, case.model.tesa, case.feeds, case.evaluate, seed, places=True)
    check_tame(case.model.tesa, values)


@given(SEEDS)
@many
def test_the_law(seed: int) -> None:
    """Known values are right; every known element its constant and every dead and unknown one anything; the grids."""
    check(solved(seed), seed)


@pytest.mark.slow
@pytest.mark.long
def test_the_law_on_thousands_of_models() -> None:
    """TESA_LAW_GRAPHS: how many; TESA_LAW_SEED: the first seed. A failure names the seed."""
    first, count = int(os.environ.get("TESA_LAW_SEED", "0")), int(os.environ.get("TESA_LAW_GRAPHS", "2000"))
    failed: dict[int, str] = {}
    for seed in range(first, first + count):
        try:
            check(solved(seed), seed)
        except AssertionError as error:
            failed[seed] = str(error)[:300]
    assert not failed


@pytest.mark.slow
@given(SEEDS)
@some
def test_the_law_with_facts_about_the_inputs(seed: int) -> None:
    """Elements of the inputs are given as constants, and the inputs keep to that."""
    rng = np.random.default_rng(seed)
    plain = solved(seed)
    facts = {name: some_known(rng, array) for name, array in plain.feeds.items()}
    case = solved(seed, given=facts)
    for name, fact in facts.items():
        case.feeds[name] = np.where(fact.known, fact.value, case.feeds[name]).astype(case.feeds[name].dtype)
    check(case, seed)


def some_known(rng: np.random.Generator, array: Any, share: float = 0.4) -> TeSA:
    """Facts about an input: parts along an axis and single elements are known, floats mostly to be 0."""
    axis = int(rng.integers(array.ndim))
    view = [-1 if i == axis else 1 for i in range(array.ndim)]
    known = (rng.random(array.shape[axis]) < share).reshape(view) | (rng.random(array.shape) < 0.1)
    value = array if array.dtype.kind != "f" or rng.random() < 0.3 else np.zeros_like(array)
    top = unknown(array.shape)
    origin = frozenset({Origin("value", "user")})
    return TeSA(array.shape, known, np.where(known, value, 0), top.live, top.bits, None, origin)


@given(SEEDS)
@some
def test_effective_and_folded_weights_are_all_that_the_compiler_needs(seed: int) -> None:
    """Every weight effective or folded, the shifts added, and whatever is dead scrambled, nothing materialised."""
    case = solved(seed)
    rng = np.random.default_rng(seed)
    weights, shifts = {}, {}
    for var, facts in case.model.weights.items():
        folded = case.model.folded(var)
        weights[facts.tensor] = facts.effective_weight if folded is None else folded[0]
        if folded is not None:
            shifts[var] = folded[1].reshape((1, -1, 1, 1) if facts.op == "relax.nn.conv2d" else (-1,))

    scrambled = bare(case.net, case.model.tesa, rng, places=True)

    def change(name: str, value: Any) -> Any:
        if name in weights:
            return weights[name].astype(value.dtype)
        value = value + shifts[name] if name in shifts else value
        return scrambled(name, value)

    mod = case.model.imported.mod
    with np.errstate(all="ignore"):
        expected, found = run(case.net, case.feeds, mod=mod), run(case.net, case.feeds, change, mod)
    for name in case.net.outputs:  # a shift has the precision of a weight, float32
        largest = max(1.0, float(np.abs(expected[name]).max(initial=0.0)))
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4 * largest)


@given(SEEDS)
@few
def test_folded_constants_change_nothing(seed: int) -> None:
    """A layer with its constant input channels moved to a shift computes the same."""
    case = solved(seed)
    values = run(case.net, case.feeds, mod=case.model.imported.mod)
    for var, facts in case.model.weights.items():
        folded = case.model.folded(var)
        if folded is None:
            continue
        weight, shift = folded

        def change(name: str, value: Any, tensor: str = facts.tensor, weight: Any = weight) -> Any:
            return weight.astype(value.dtype) if name == tensor else value

        layer = run(case.net, case.feeds, change, case.model.imported.mod)[var]
        moved = layer + shift.reshape((1, -1, 1, 1) if facts.op == "relax.nn.conv2d" else (-1,))
        mask = np.broadcast_to(case.model.tesa[var].live, moved.shape)
        largest = max(1.0, float(np.abs(values[var]).max(initial=0.0)))
        np.testing.assert_allclose(moved[mask], values[var][mask], rtol=1e-4, atol=1e-4 * largest)


def _copied(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The zeros of the first input, as published systems pass them on."""
    return (common.facts(op.outputs[0], inputs[0].zero, np.zeros((1,) * len(op.outputs[0]))),)


def _both_lean(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Any, ...]:
    """0 * 0 removes both factors."""
    pairs = zip(inputs, inputs[::-1], strict=True)
    rank, live = len(op.outputs[0]), outputs[0].live
    return tuple(unbroadcast(live & ~pad_axes(b.zero, rank), op.outputs[0], a.shape) for a, b in pairs)


def _nothing_needed(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Any, ...]:
    """All inputs are dead."""
    return tuple(np.zeros((1,) * len(t.shape), bool) for t in inputs)


WRONG = {
    "relax.multiply": {"backward": _both_lean},
    "relax.nn.softmax": {"forward": _copied},
    "relax.nn.layer_norm": {"forward": _copied},
    "relax.add": {"forward": _copied},
    "relax.mean": {"backward": _nothing_needed},
}


def _check_many() -> None:
    for seed in range(150):
        check(solved(seed), seed)


@pytest.mark.parametrize("op", WRONG)
def test_the_law_catches_a_wrong_rule(op: str) -> None:
    """Within some of the first models."""
    bad = replace(dict(rules())[op], **WRONG[op])
    with rule_scope():
        rule(op, backward=bad.backward, weights=bad.weights, replace=True)(bad.forward)
        with pytest.raises((AssertionError, ContradictionError)):
            _check_many()


@pytest.mark.parametrize("low", [-np.inf, -3e38])
def test_a_row_that_is_masked_as_a_whole(low: float) -> None:
    """One element is masked in the file, the other at run time: then neither is surely 0, unless the mask is infinite.

    A mask is often the smallest finite number; a row of nothing else has equal weights.
    """
    constants = {"none": np.float32(0), "low": np.float32(low), "mask": np.full((1, 1), low, np.float32)}
    nodes = [node("Greater", ["x", "none"], "c"), node("Where", ["c", "x", "low"], "w"),
             node("Concat", ["w", "mask"], "z", axis=1), node("Softmax", ["z"], "y")]  # fmt: skip
    found = propagate(import_onnx(onnx_model(nodes, [port("x", [1, 1])], ["y"], constants)))
    for x in (1.0, -1.0) if np.isfinite(low) else (1.0,):
        check_law(widened(found.network), found.tesa, {"x": np.array([[x]])}, evaluator(found.imported.mod), 0)


@pytest.mark.slow
def test_the_random_models_exercise_the_rules() -> None:
    """The laws above would hold of a propagation that finds nothing; it must find much."""
    found = [solved(seed).model for seed in range(120)]
    operators = {node.operator.op.removeprefix("relax.") for model in found for node in model.network.nodes}
    wanted = {
        "nn.conv2d", "nn.conv1d", "nn.conv2d_transpose", "matmul", "concat", "split", "multiply", "divide", "minimum",
        "nn.layer_norm", "nn.rms_norm", "nn.group_norm", "nn.softmax", "nn.log_softmax", "nn.gelu", "quantize",
        "dequantize", "strided_slice", "take", "where", "greater", "clip", "sum", "mean", "max", "nn.max_pool2d",
        "nn.avg_pool2d", "astype", "permute_dims", "reshape", "broadcast_to", "sigmoid", "exp", "erf", "variance",
    }  # fmt: skip
    assert not wanted - operators
    more = [f for model in found for f in model.weights.values() if f.sparsity > f.given_sparsity + 0.01]
    assert len(more) > 40
    folds = [model for model in found for var in model.weights if model.folded(var) is not None]
    assert len(folds) > 5
    infinite = [f for model in found for f in model.tesa.values() if np.isinf(f.value).any()]
    assert len(infinite) > 5
    narrow = [f for model in found for f in model.tesa.values() if f.bits.min() < 32]
    assert len(narrow) > 20


@pytest.mark.slow
def test_the_interpreter_covers_what_the_models_use() -> None:
    """All but the kernels that TVM's importer writes itself."""
    nodes = [node for seed in range(60) for node in solved(seed).net.nodes]
    assert all(covered(node.operator.op) or is_kernel(node) for node in nodes)


@pytest.mark.parametrize("seed", [seed for seed in range(34) if random_model(seed).opset_import[0].version <= 21][:20])
def test_the_interpreter_agrees_with_onnxruntime(seed: int) -> None:
    """The reference of these tests is itself right."""
    import onnxruntime

    proto = random_model(seed)
    case = solved(seed)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    dtypes = {p.name: p.dtype for p in case.model.imported.inputs}
    expected = session.run(None, {k: v.astype(dtypes[k]) for k, v in case.feeds.items()})
    values = run(case.net, case.feeds, mod=case.model.imported.mod)
    for a, name in zip(expected, case.net.outputs, strict=True):
        largest = max(1.0, float(np.abs(a).max(initial=0.0)))
        np.testing.assert_allclose(values[name], a, rtol=1e-3, atol=1e-3 * largest)
