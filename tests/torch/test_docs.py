"""docs/torch.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the packages of the extra torch")
pytest.importorskip("onnxscript", reason="the packages of the extra torch")

PAGE = Path(__file__).parents[2] / "docs" / "torch.md"


@pytest.mark.slow
def test_the_page_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    assert {"net.so", "net.json", "net.onnx"} <= {path.name for path in tmp_path.iterdir()}
    wanted = names["net"].eval()(names["image"]).detach().numpy()
    np.testing.assert_allclose(names["logits"].numpy(), wanted, rtol=1e-4, atol=1e-5)
    assert names["pruned"].sparsity == pytest.approx(0.9, abs=0.01)
    said = capsys.readouterr().out
    assert "Plan for x86" in said
    assert "zeros among the weights: 90 %" in said
