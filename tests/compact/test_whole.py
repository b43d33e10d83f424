"""Whole models: random ones, well-known ones, and the check with onnxruntime itself."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import prune, zoo
from tesa.base.onnxruntime import reference_outputs
from tesa.compact import Compacted, compact, handled, verify_with_onnxruntime
from tesa.compact.check import difference
from tesa.errors import ModelError, UsageError
from tesa.frontend import import_onnx
from tesa.frontend.model import ImportedModel
from tesa.propagate import propagate

from ..propagate.graphs import random_feeds, random_model
from .shrink import dense, model, node, port, shapes, shrink, without

SEEDS = st.integers(0, 2**32 - 1)
CALM = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
BLOCKS = ((64, 1), (128, 2), (128, 1))


def check_random(seed: int) -> Compacted | None:
    """A random model computes the same after compact, and a second time finds nothing. None: not a valid model."""
    proto = random_model(seed)
    imported = import_onnx(proto)
    feeds = {k: np.asarray(v) for k, v in random_feeds(imported.inputs, seed).items()}
    feeds = {p.name: feeds[p.name].astype(p.dtype) for p in imported.inputs}
    try:
        expected = reference_outputs(proto, feeds)
    except (ModelError, UsageError):
        return None
    found = compact(propagate(imported))
    onnx.checker.check_model(found.proto, full_check=True)
    for name, array in reference_outputs(found.proto, feeds).items():
        assert difference(array, expected[name]) < 1e-3, name
    assert compact(propagate(import_onnx(found.proto))).removed == ()
    assert found.macs_after <= found.macs_before
    return found


@given(SEEDS)
@settings(max_examples=60, deadline=None, suppress_health_check=CALM)
def test_random_models(seed: int) -> None:
    check_random(seed)


@pytest.mark.slow
@pytest.mark.long
@given(SEEDS)
@settings(max_examples=1000, deadline=None, suppress_health_check=CALM)
def test_many_random_models(seed: int) -> None:
    check_random(seed)


def test_the_random_models_shrink() -> None:
    """The tests above would hold of a compact that removes nothing."""
    found = [compact(propagate(import_onnx(random_model(seed)))) for seed in range(25)]
    assert sum(len(f.removed) for f in found) >= 10
    assert sum(bool(f.kept) for f in found) >= 5


def tiny() -> dict[str, Any]:
    return {
        "mlp": zoo.mlp((16, 24, 24, 4)),
        "mobilenet": zoo.mobilenet_v1(0.5, 32, classes=10, blocks=BLOCKS),
        "resnet": zoo.resnet50(32, width=8, stages=(1, 2), classes=10),
        "bert": zoo.bert_base(2, 32, 4, 8, vocabulary=50),
    }


@pytest.mark.parametrize("name", list(tiny()))
def test_nothing_is_removed_from_an_unpruned_model(name: str) -> None:
    proto = tiny()[name]
    found = shrink(proto)
    assert (found.removed, found.kept) == ((), ())
    assert found.parameters_after <= found.parameters_before  # norms are folded where that is smaller
    assert found.macs_after == found.macs_before
    before, after = import_onnx(proto), import_onnx(found.proto)
    assert after.weights == before.weights
    assert set(after.names.values()) == set(before.names.values())


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("name", list(tiny()))
def test_pruned_models_shrink(name: str, biases: bool) -> None:
    """biases: pruned with their filters. Without, each pruned filter gives a constant."""
    proto = tiny()[name]
    imported = import_onnx(proto, masks=prune.coarse(proto, 0.6, biases=biases))
    found = compact(propagate(imported))
    onnx.checker.check_model(found.proto, full_check=True)
    assert verify_with_onnxruntime(imported, found.proto) < 1e-4
    assert compact(propagate(import_onnx(found.proto))).removed == ()
    assert found.macs_after < 0.75 * found.macs_before


def test_mobilenet_with_60_percent_of_its_filters_masked() -> None:
    """Every width is 0.4 of what it was, so that the layers between have 0.16 of their weights."""
    proto = zoo.mobilenet_v1(1.0, 32, classes=10, blocks=BLOCKS)
    imported = import_onnx(proto, masks=prune.coarse(proto, 0.6))
    found = compact(propagate(imported))
    left = [round(0.4 * n) for n in (32, 64, 128, 128)]
    made = shapes(found)
    assert made["stem.weight"] == (left[0], 3, 3, 3)
    for i, (before, after) in enumerate(itertools.pairwise(left)):
        assert made[f"block{i}.depthwise.weight"] == (before, 1, 3, 3)
        assert made[f"block{i}.pointwise.weight"] == (after, before, 1, 1)
    assert made["classifier.weight"] == (10, left[-1])
    counted = sum(array.size for array in map(np.zeros, made.values()))
    assert abs(found.parameters_after - counted) <= 8  # the shape of a reshape counts there
    work = 256 * left[0] * 27 + left[-1] * 10
    for pixels, (before, after) in zip((256, 64, 64), itertools.pairwise(left), strict=True):
        work += pixels * before * (9 + after)
    assert found.macs_after == work
    assert found.kept == ()


def test_the_check_sees_a_difference() -> None:
    nodes = [node("MatMul", ["x", "a.weight"], "t"), node("MatMul", ["t", "b.weight"], "y")]
    proto = model(
        nodes, [port("x", [1, 5, 8])], ["y"], {"a.weight": without(dense(8, 6), 0, axis=1), "b.weight": dense(6, 3)}
    )
    found = compact(propagate(import_onnx(proto)))
    assert verify_with_onnxruntime(proto, found.proto, trials=3) < 1e-6
    weight = next(t for t in found.proto.graph.initializer if t.name == "b.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.1), "b.weight"))
    assert verify_with_onnxruntime(proto, found.proto) == pytest.approx(0.1, rel=0.01)


def test_a_module_that_is_not_from_onnx_is_refused() -> None:
    imported = import_onnx(zoo.mlp((4, 3, 2)))
    bare = ImportedModel(imported.mod, imported.inputs, imported.outputs, imported.names, imported.weights)
    with pytest.raises(UsageError, match=r"import_onnx"):
        compact(propagate(bare))


def test_the_operators_can_be_listed() -> None:
    assert {"Conv", "MatMul", "Add", "Concat", "Reshape"} <= set(handled())
