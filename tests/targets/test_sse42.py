"""A CPU with SSE4.2 and nothing newer: 4 lanes, no FMA, no masks. A kernel, and a whole model, are right on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tesa
from tesa import models
from tesa.targets.target import parse_target, runs_here
from tests.support import rest_slow

TARGET = parse_target("x86:x86-64-v2")
pytestmark = pytest.mark.skipif(not runs_here(TARGET), reason="the code does not run here")


@pytest.mark.parametrize("n", rest_slow([50, 1]))
def test_a_kernel(n: int) -> None:
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((24, 40)) * (rng.random((24, 40)) < 0.3)).astype(np.float32)
    kernel = tesa.kernel(weight, n=n, epilogue="relu", target=TARGET)
    x = rng.standard_normal((40, n)).astype(np.float32)
    np.testing.assert_allclose(kernel(x), np.maximum(weight @ x, 0), atol=1e-5)
    text = kernel.show("asm")
    assert "ymm" not in text
    assert "vfmadd" not in text


@pytest.mark.slow
def test_a_whole_model(tmp_path: Path) -> None:
    import onnxruntime

    tesa.compile(models.digits_path(), output=tmp_path / "digits.so", target="llvm -mcpu=x86-64-v2", measure=False)
    images = models.digits_images()[:1]
    wanted = onnxruntime.InferenceSession(str(models.digits_path())).run(None, {"image": images})[0]
    (got,) = tesa.load(tmp_path / "digits.so")(images).values()
    np.testing.assert_allclose(got, wanted, atol=1e-4)
