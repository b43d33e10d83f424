"""The decoder's loop: tesa and onnxruntime choose the same tokens, and the cache goes back in."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from benchmarks.decoder import model_of, onnxruntime_step, tesa_step, tokens_per_second
from benchmarks.networks.catalogue import feeds


@pytest.mark.slow
def test_both_choose_the_same_tokens(tmp_path: Path) -> None:
    path = tmp_path / "step.onnx"
    onnx.save(model_of(0.5, "int8", layers=1, hidden=32, heads=2, past=5, vocabulary=24), path)
    inputs = feeds(onnx.load(path))
    rate, mine = tokens_per_second(tesa_step(path, tmp_path, 1, measure=False), inputs, 12)
    _, theirs = tokens_per_second(onnxruntime_step(path, 1), inputs, 12)
    assert rate > 0
    assert mine == theirs
    assert len(set(mine)) > 1
