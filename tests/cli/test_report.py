"""tesa report: one page of HTML about a compiled model."""

import json
import re
import subprocess
from pathlib import Path

import pytest

import tesa
from tesa.cli import main
from tesa.models import digits_path
from tests.support import require_system


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "digits.so"
    tesa.compile(str(digits_path()), output=path, measure=False, progress=None)
    return path


def test_it_is_one_file_with_everything_in_it(compiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(compiled)]) == 0
    text = compiled.with_suffix(".html").read_text()
    assert f"wrote {compiled.with_suffix('.html')}" in capsys.readouterr().out
    assert not re.search(r"""(src|href)=["']?(http|//|[a-z]+\.(js|css))""", text)
    head = ("At a glance", "image float32 1x1x64x64", "Why each layer got its kernel")
    for part in (*head, "block9.pointwise", "<svg", "tvm_ffi", "viewport"):
        assert part in text
    assert text.count("<details><summary>block") == 18


def test_the_versions_are_those_that_made_the_model(compiled: Path, tmp_path: Path) -> None:
    description = json.loads(compiled.with_suffix(".json").read_text())
    description["versions"]["tesa"] = "0.0.7"
    (tmp_path / "old.json").write_text(json.dumps(description))
    assert main(["report", str(tmp_path / "old.json")]) == 0
    assert ">tesa</td><td style=text-align:left>0.0.7</td>" in (tmp_path / "old.html").read_text()


def test_times_and_the_other_engine_are_on_it_where_asked(compiled: Path, tmp_path: Path) -> None:
    words = ["report", str(compiled), "--vs", "onnxruntime", "--model", str(digits_path()), "--repeat", "2"]
    assert main([*words, "-o", str(tmp_path / "page.html"), "--title", "for <you>"]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "<h1>for &lt;you&gt;</h1>" in text
    assert "onnxruntime" in text


@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_scrolling_sideways(compiled: Path, tmp_path: Path, width: int) -> None:
    chromium = require_system("chromium", "chromium")
    assert main(["report", str(compiled), "-o", str(tmp_path / "page.html")]) == 0
    page = tmp_path / "page.html"
    told = "<script>document.title = `${document.documentElement.scrollWidth} of ${window.innerWidth}`</script>"
    page.write_text(page.read_text().replace("</body>", f"{told}</body>"))
    words = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
    shown = subprocess.run([*words, page.as_uri()], capture_output=True, text=True, timeout=300, check=True).stdout
    found = re.search(r"<title>(\d+) of (\d+)</title>", shown)
    assert found is not None
    assert int(found[1]) <= int(found[2])


def test_wrong_names_are_told(compiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(compiled), "-o", "page.pdf"]) == 2
    assert "give a name that ends in .html" in capsys.readouterr().err
    assert main(["report", "missing.so"]) == 2


def test_nothing_is_folded_on_paper(compiled: Path, tmp_path: Path) -> None:
    chromium = require_system("chromium", "chromium")
    assert main(["report", str(compiled), "-o", str(tmp_path / "page.html")]) == 0
    page = tmp_path / "page.html"
    count = "document.querySelectorAll('details:not([open])').length"
    told = "".join(f"dispatchEvent(new Event('{name}')); told.push({count});" for name in ("beforeprint", "afterprint"))
    script = f"<script>const told = [{count}]; {told} document.title = told.join(' ')</script>"
    page.write_text(page.read_text().replace("</body>", f"{script}</body>"))
    words = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True).stdout
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", shown)
    assert found is not None
    before, printing, after = map(int, found.groups())
    assert (printing, after) == (0, before)
    assert before >= 18
