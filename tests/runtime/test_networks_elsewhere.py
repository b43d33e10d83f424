"""Whole networks with pruned weights on 64-bit ARM, emulated, and as WebAssembly in Node.js, against onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks import prune, zoo
from tesa import models
from tesa.compiler import compile_model
from tesa.runtime import load
from tests.node import require_node
from tests.support import require_system

SLOW = pytest.mark.slow
PLACES = [
    pytest.param("aarch64:cortex-a72", "o", id="aarch64"),
    pytest.param("wasm32:simd128", "wasm", id="wasm32"),
    pytest.param("wasm32:relaxed", "wasm", id="relaxed", marks=SLOW),
]


def pruned(proto: Any) -> Any:
    """The network with nine tenths of each weight 0."""
    return prune.masked(proto, prune.fine(proto, 0.9))


def agrees(folder: Path, proto: Any, feeds: Mapping[str, Any], target: str, form: str) -> None:
    """Compile a network without measuring, run it for the target, and hold its outputs against onnxruntime's."""
    if form == "wasm":
        require_node()
    else:
        require_system("qemu-aarch64", "qemu-user")
        require_system("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    onnx.save(proto, folder / "model.onnx")
    path = folder / f"net.{form}"
    result = compile_model(folder / "model.onnx", output=path, format=form, target=target, measure=False)
    sparse = [part for layer in result.plan.layers for part in layer.parts if part.family not in ("dense", "depthwise")]
    assert len(sparse) > 2, "its zeros are used"
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    model = load(path, emulated=form == "o")
    try:
        found = model(feeds)
        for name, wanted in zip(names, session.run(names, dict(feeds)), strict=True):
            assert np.ptp(wanted) > 0.1
            np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=2e-5 * np.abs(wanted).max(), err_msg=name)
    finally:
        model.engine.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("target", "form"), PLACES)
def test_a_residual_network(tmp_path: Path, target: str, form: str) -> None:
    proto = pruned(zoo.resnet50(resolution=32, width=8, stages=(1, 1), classes=20, batch_norm=False))
    agrees(tmp_path, proto, zoo.feeds(proto), target, form)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "form"), PLACES)
def test_digits(tmp_path: Path, target: str, form: str) -> None:
    feeds = {"image": models.digits_images()[7:8]}
    agrees(tmp_path, onnx.load(models.digits_path()), feeds, target, form)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("target", "form"), PLACES[:2])
def test_mobilenet(tmp_path: Path, target: str, form: str) -> None:
    proto = pruned(zoo.mobilenet_v1())
    agrees(tmp_path, proto, zoo.feeds(proto), target, form)
