"""Whole random models against onnxruntime without its optimizations. TESA_RANDOM_MODELS=300 tries so many."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import tesa
from tesa.runtime import load
from tests.random_models import Array, random_feeds, random_model
from tests.support import rest_slow

_SEEDS = range(int(os.environ.get("TESA_RANDOM_MODELS", "25")))


def reference(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """What onnxruntime computes node by node."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in model.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("seed", rest_slow(_SEEDS, 5))
def test_a_random_model_computes_what_onnxruntime_does(seed: int, tmp_path: Path) -> None:
    model = random_model(seed)
    feeds = random_feeds(model, seed)
    onnx.save(model, tmp_path / "model.onnx")
    tesa.compile(
        tmp_path / "model.onnx",
        output=tmp_path / "model.so",
        log=tmp_path / "log",
        threads=1 + seed % 2,
        measure=False,
        jobs=1,
    )
    expected = reference(model, feeds)
    got = load(tmp_path / "model.so")(feeds)
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert got[name].shape == array.shape
        scale = max(1.0, float(np.abs(array).max()))
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=5e-5 * scale, err_msg=name)
