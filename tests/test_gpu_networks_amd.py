"""Whole networks for AMD's GPUs, compiled, loaded and run on a pretended driver, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tesa.build.gpu import images
from tesa.build.gpu.tir import lowered
from tesa.build.gpu.tools import llvm_program
from tesa.compiler import compile_model
from tesa.errors import CheckFailed
from tesa.runtime import load, verify
from tesa.schedules.gpus import GpuText, GpuTir
from tesa.schedules.registry import find
from tesa.targets.target import parse_target
from tests.gpu.driver import Driver, build
from tests.gpu.kernels import sparse
from tests.gpu.problems import linear
from tests.support import require_system
from tests.test_gpu_compiler import network, quantized, reductions


@pytest.fixture
def amd_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A pretended driver of AMD that knows what its images were assembled from."""
    require_system(llvm_program("ld.lld") or "ld.lld", "lld")
    made = Driver(build(tmp_path, hip=True))
    assembled = images._cached

    def noted(text: GpuText, *others: Any) -> bytes:
        content = assembled(text, *others)
        made.texts[content] = text.text
        return content

    monkeypatch.setattr(images, "_cached", noted)
    monkeypatch.setenv("TESA_GPU_DRIVER", str(made.path))
    return made.start()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "target"),
    [(quantized, "rocm:gfx90a"), (network, "rocm:gfx942"), (network, "rocm:gfx1030"), (reductions, "rocm:gfx1030")],
)
def test_networks_for_amd(make: Callable[[Path], Path], target: str, amd_driver: Driver, tmp_path: Path) -> None:
    source = make(tmp_path / "net.onnx")
    made = compile_model(source, output=tmp_path / "net.so", target=target, measure=False)
    assert made.made.startswith(f"code object for {target.partition(':')[2]}; ")
    with load(tmp_path / "net.so") as model:  # type: ignore[attr-defined]
        try:
            result = verify(model, source)
        except CheckFailed:
            assert amd_driver.faults == []
            raise
        assert amd_driver.faults == []
        assert result.ok, result


def test_barriers_wait_for_what_was_written() -> None:
    """Devices from gfx90a on pass a barrier while writes to shared memory are under way."""
    problem, target = linear(16, 64, 4), parse_target("rocm:gfx942")
    assert target.gpu is not None
    family = find("skinny", "gpu")
    weight = sparse(16, 64, 0.3)
    config = family.space(problem, weight, target.gpu)[0]
    (module,) = family.emit(problem, weight, target.gpu, config, "k").modules
    assert isinstance(module, GpuTir)
    lines = [line.strip() for line in lowered(module, target)[0].text.splitlines()]
    barriers = [at for at, line in enumerate(lines) if line == "s_barrier"]
    assert barriers
    assert all("lgkmcnt(0)" in lines[at - 1] for at in barriers)
