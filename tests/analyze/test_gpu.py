"""Questions about a model for a GPU, answered without one by the static model of time."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from tesa.analyze.analysis import analyze_model
from tesa.errors import UnsupportedError
from tesa.explore import explore
from tesa.report.analyze import analysis_view
from tesa.tune.calibrate import calibrate

DIGITS = str(files("tesa.models") / "digits.onnx")


def test_a_model_is_analyzed_by_the_static_model() -> None:
    found = analyze_model(DIGITS, target="cuda:sm_80", threads=8, impose=["stem=0.9"])
    assert (found.threads, found.table, found.gpu) == (1, "", True)
    assert all(0 < row.dense.ms < 1 for row in found.layers)
    layer = found.layer("stem")
    assert layer.sparse is not None
    assert layer.sparse.ms <= layer.dense.ms
    said = [str(line) for line in analysis_view(found)]
    assert any("static model of time" in line and "tesa tune" in line for line in said)
    assert not any("tesa calibrate" in line for line in said)


def test_what_only_knows_cpus_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"tesa calibrate: knows CPUs alone, not cuda:sm_80; `tesa compile"):
        calibrate("cuda:sm_80")
    with pytest.raises(UnsupportedError, match=r"tesa explore: knows CPUs alone.*`tesa analyze --target rocm:gfx942`"):
        explore(DIGITS, data=tmp_path / "none.npz", latency_ms=1, target="rocm:gfx942")
