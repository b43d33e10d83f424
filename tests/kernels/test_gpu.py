"""tesa.kernel for GPUs, from the weight to the call, on a pretended driver."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import numpy as np
import pytest

import tesa
from tesa.errors import UnsupportedError, UsageError
from tesa.schedules.gpus import GpuText
from tests.gpu.driver import Driver, build
from tests.gpu.extra import require_disassembler
from tests.gpu.kernels import sparse

WEIGHT = sparse(24, 40, 0.15)
BIAS = np.linspace(-1, 1, 24).astype(np.float32)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver(build(tmp_path))
    monkeypatch.setenv("TESA_GPU_DRIVER", str(made.path))
    return made.start()


def test_a_kernel_is_made_called_and_saved(driver: Driver, tmp_path: Path) -> None:
    k = tesa.kernel(
        WEIGHT, n=70, target="cuda:sm_80", family="unrolled", epilogue="bias+relu+residual", bias=BIAS, measure=False
    )
    product, code = k._chosen.product, k._chosen.code
    for images, text in zip(product.modules, code.modules, strict=True):
        assert isinstance(text, GpuText)
        driver.know(images, text.text)
    rng = np.random.default_rng(1)
    x, residual = rng.standard_normal((40, 70), np.float32), rng.standard_normal((24, 70), np.float32)
    expected = np.maximum(WEIGHT @ x + BIAS[:, None] + residual, 0)
    np.testing.assert_allclose(k(x, residual), expected, rtol=1e-5, atol=1e-5)
    assert k.check() == ""
    assert k.time(budget_ms=1).median_ms > 0
    assert driver.faults == []
    path = k.save(tmp_path / "my-kernel.so")
    described = json.loads(path.with_suffix(".json").read_text())
    assert described["name"] == "my_kernel"
    assert [port["shape"] for port in described["inputs"]] == [[40, 70], [24, 70]]
    assert hasattr(ctypes.CDLL(str(path)), "my_kernel_run")


def test_what_is_said_of_a_kernel() -> None:
    k = tesa.kernel(WEIGHT, n=70, target="cuda:sm_90", family="unrolled")
    assert repr(k) == "Kernel(linear 24x40x70, unstructured, 84% zeros, cuda:sm_90, unrolled)"
    assert k.facts.us > 0
    assert k.facts.bound in k.facts.parts
    assert k.facts.fmas_per_load > 1
    assert "PTX" in k.facts.images
    (part,) = k.plan.parts
    assert part.reason.startswith("by the static model: unrolled")
    assert all(row.measured_ms is None for row in part.candidates)
    assert k.show("ptx").count("fma.rn.f32") == np.count_nonzero(WEIGHT)
    with pytest.raises(UsageError, match="it has 'ptx' and 'tir'"):
        k.show("amd")
    with pytest.raises(UsageError, match="did you mean 'ptx'"):
        k.show("ptxx")


def test_sass_has_the_weights_in_its_instructions() -> None:
    require_disassembler()
    k = tesa.kernel(WEIGHT, n=70, target="cuda:sm_80", family="unrolled")
    lines = [line for line in k.show("sass").splitlines() if "FFMA" in line]
    assert len(lines) == np.count_nonzero(WEIGHT)
    assert all("." in line.split("FFMA")[1].split(",")[2] or "1" in line.split(",")[2] for line in lines)
    assert k.facts.spills == 0
    assert 0 < k.facts.registers <= 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "unroled"}, "did you mean unrolled"),
        ({"family": "unrolled", "config": {"rows": 7}}, "config of unrolled"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tesa.kernel(WEIGHT, n=70, target="cuda", **options)


def test_a_budget_of_code() -> None:
    with pytest.raises(UnsupportedError, match=r"unrolled: its 360,000 non-zeros are more than the 300,000"):
        tesa.kernel(np.ones((600, 600), np.float32), n=8, target="cuda", family="unrolled")
