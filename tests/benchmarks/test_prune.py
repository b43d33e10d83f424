"""Masks: the right share, the right shape, and consistent where channels meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from benchmarks import prune, zoo
from tesa.frontend import import_onnx
from tesa.propagate import propagate

MOBILENET = zoo.mobilenet_v1(0.5, 32, classes=10, blocks=((64, 1), (128, 2)))
RESNET = zoo.resnet50(32, width=8, stages=(2, 1), classes=10)
BERT = zoo.bert_base(1, 16, 2, 6, vocabulary=20)


@pytest.mark.parametrize("kind", prune.PRUNERS)
@pytest.mark.parametrize("model", [MOBILENET, RESNET, BERT], ids=["mobilenet", "resnet", "bert"])
def test_masks_fit_the_model(kind: str, model: Any) -> None:
    masks = prune.PRUNERS[kind](model, 0.5)
    assert masks
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    assert all(mask.dtype == bool and mask.shape == shapes[name] for name, mask in masks.items())
    weights = [mask for name, mask in masks.items() if mask.ndim > 1]
    assert np.mean([mask.mean() for mask in weights]) == pytest.approx(0.5, abs=0.1)
    imported = import_onnx(model, masks=masks)
    assert set(imported.masks) == set(masks)


def test_coarse_takes_the_smallest_filters_whole() -> None:
    masks = prune.coarse(MOBILENET, 0.25)
    weight = array(MOBILENET, "stem.weight")
    kept = masks["stem.weight"].all(axis=(1, 2, 3))
    assert (masks["stem.weight"].any(axis=(1, 2, 3)) == kept).all()
    sizes = np.abs(weight).sum(axis=(1, 2, 3))
    assert kept.sum() == 12
    assert sizes[~kept].max() <= sizes[kept].min()
    assert (masks["stem.bn.weight"] == kept).all()
    assert (masks["stem.bn.bias"] == kept).all()
    assert "block0.depthwise.weight" not in masks
    assert "classifier.weight" not in masks
    assert "stem.bn.bias" not in prune.coarse(MOBILENET, 0.25, biases=False)


def test_what_meets_in_a_sum_loses_the_same() -> None:
    masks = prune.coarse(RESNET, 0.5)
    joined = ["layer1.0.downsample", "layer1.0.conv3", "layer1.1.conv3"]
    kept = [masks[f"{name}.weight"][:, 0, 0, 0] for name in joined]
    assert all((k == kept[0]).all() for k in kept)
    assert not (masks["layer1.0.conv1.weight"][:, 0, 0, 0] == masks["layer1.1.conv1.weight"][:, 0, 0, 0]).all()


def test_bert_keeps_what_a_norm_reads() -> None:
    masks = prune.coarse(BERT, 0.5)
    name = "encoder.layer.0.attention"
    assert {n.removeprefix(f"{name}.") for n in masks if n.startswith(name)} == {
        f"{part}.{end}" for part in ("query", "key", "value") for end in ("weight", "bias")
    }
    assert (masks[f"{name}.query.bias"] == masks[f"{name}.key.bias"]).all()
    assert "encoder.layer.0.output.weight" not in masks
    assert "encoder.layer.0.output.weight" in prune.coarse_inputs(BERT, 0.5)


def test_blocks_are_whole() -> None:
    mask = prune.block(RESNET, 0.5, (4, 2))["layer1.0.conv1.weight"].reshape(8, 8)
    cells = mask.reshape(2, 4, 4, 2)
    assert (cells.all(axis=(1, 3)) == cells.any(axis=(1, 3))).all()


def test_coarse_pruning_gains_forward_and_backward() -> None:
    """Depthwise weights die with the channels that reach them, and those in front with the ones that nobody reads."""
    forward = propagate(import_onnx(MOBILENET, masks=prune.coarse(MOBILENET, 0.5)))
    backward = propagate(import_onnx(MOBILENET, masks=prune.coarse_inputs(MOBILENET, 0.5)))
    for model in (forward, backward):
        layers = {f.layer: f for f in model.weights.values()}
        assert layers["block1.depthwise"].given_sparsity == 0
        assert layers["block1.depthwise"].sparsity == 0.5
    stem = next(f for f in backward.weights.values() if f.layer == "stem")
    assert (stem.given_sparsity, stem.sparsity) == (0, 0.5)
    last = next(f for f in forward.weights.values() if f.layer == "classifier")
    assert (last.given_sparsity, last.sparsity) == (0, 0.5)


def test_masked_writes_zeros() -> None:
    masks = prune.fine(MOBILENET, 0.5)
    zeroed = array(prune.masked(MOBILENET, masks), "stem.weight")
    assert ((zeroed == 0) == ~masks["stem.weight"]).all()
    assert (zeroed == np.where(masks["stem.weight"], array(MOBILENET, "stem.weight"), 0)).all()


def array(model: Any, name: str) -> Any:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))
