"""docs/kernels.md runs as it stands."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "kernels.md"


@pytest.mark.slow
def test_the_page_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line[4:] for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    names: dict[str, object] = {}
    exec(compile("\n".join(lines), str(DOCS), "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} >= {"forms.png", "sweep.png", "pair.png", "roof.png", "mask.png"}
