"""The networks of the benchmarks: they run, they are what exporters write, and they import without losing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks import zoo
from tesa.base.onnxruntime import reference_outputs
from tesa.frontend import import_onnx

TINY: dict[str, Callable[[], Any]] = {
    "mlp": lambda: zoo.mlp((12, 8, 4)),
    "mobilenet_v1": lambda: zoo.mobilenet_v1(0.25, 32, classes=10, blocks=((64, 1), (128, 2))),
    "mobilenet_v1, folded": lambda: zoo.mobilenet_v1(0.25, 32, batch_norm=False, classes=10, blocks=((64, 1),)),
    "resnet50": lambda: zoo.resnet50(32, width=8, stages=(2, 1), classes=10),
    "bert_base": lambda: zoo.bert_base(1, 16, 2, 6, vocabulary=20),
}
OUTPUTS = {"mlp": (1, 4), "bert_base": (1, 16)}


@pytest.mark.parametrize("name", TINY)
def test_outputs_are_finite_and_vary(name: str) -> None:
    model = TINY[name]()
    onnx.checker.check_model(model, full_check=True)
    (output,) = reference_outputs(model, zoo.feeds(model)).values()
    assert output.shape == OUTPUTS.get(name, (1, 10))
    assert np.isfinite(output).all()
    assert 0.01 < output.std() < 100


@pytest.mark.parametrize("name", TINY)
def test_the_same_seed_gives_the_same_model(name: str) -> None:
    assert TINY[name]().SerializeToString() == TINY[name]().SerializeToString()


@pytest.mark.parametrize("name", TINY)
def test_every_weight_is_imported(name: str) -> None:
    model = TINY[name]()
    imported = import_onnx(model)
    layers = [n.input[1] for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    weights = {t.name for t in model.graph.initializer}
    assert set(imported.weights) == weights.intersection(layers)
    assert [tuple(p.shape) for p in imported.outputs] == [OUTPUTS.get(name, (1, 10))]


def test_full_size_counts() -> None:
    """The numbers of layers and parameters of the papers."""
    mobilenet = zoo.mobilenet_v1()
    assert Counter(n.op_type for n in mobilenet.graph.node)["Conv"] == 27
    assert elements(mobilenet, ".weight") - elements(mobilenet, ".bn.weight") == 4_209_088
    resnet = zoo.resnet50(batch_norm=False)
    assert Counter(n.op_type for n in resnet.graph.node)["Conv"] == 53
    assert elements(resnet, ".weight") == 25_502_912


def elements(model: Any, suffix: str) -> int:
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.name.endswith(suffix))
