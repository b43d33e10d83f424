"""What values look like in a notebook and where they are printed."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from rich.text import Text

import tesa
from tesa.base.progress import Event, automatic, telling
from tesa.measure.timing import Timing
from tesa.models import digits_path
from tesa.report.html import html_table, page_part
from tesa.report.table import FittedTable, table
from tests.support import require_system


def test_a_table_of_the_terminal_is_a_table_of_html() -> None:
    made = table(["layer", "ms"], [["<b>", "0.5"]], title="times", right=["ms"])
    html = page_part([Text("head", style="bold"), made])
    assert "<td style=text-align:left>&lt;b&gt;</td><td class=right>0.5</td>" in html
    assert "<caption>times</caption>" in html
    assert "<b>head</b>" in html


@pytest.mark.parametrize("count", [3, 24, 25, 80])
def test_long_tables_are_folded_and_lose_no_row(count: int) -> None:
    html = html_table(["n"], [[str(i)] for i in range(count)])
    assert html.count("<td ") == count
    assert ("more rows" in html) == (count > 24)


def test_values_print_as_tables_and_not_as_their_fields() -> None:
    weight = np.eye(16, dtype=np.float32)
    made = tesa.kernel(weight, n=16, family="dense", measure=False)
    inspected = tesa.inspect_model(digits_path())
    for value in (made.plan, Timing.of([1.0, 2.0]), inspected):
        text, html = str(value), value._repr_html_()
        assert max(map(len, text.splitlines())) <= 100
        assert "LayerPlan(" not in text
        assert "Timing(" not in text
        assert html.startswith('<div class="tesa">')
    assert "block1.pointwise" in str(inspected)


def test_progress_is_shown_where_someone_looks_and_none_is_silence(capsys: pytest.CaptureFixture[str]) -> None:
    for asked in (None, automatic):  # standard error is no terminal here
        with telling(asked) as show:
            show(Event("kernels", 1, 2))
    heard: list[Event] = []
    with telling(heard.append) as show:
        show(Event("kernels", 1, 2))
    assert heard == [Event("kernels", 1, 2)]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("styled", [True, False], ids=["trusted", "not trusted"])
def test_text_is_on_the_left_and_numbers_are_on_the_right_in_jupyterlab(tmp_path: Path, styled: bool) -> None:
    """Whose own rule for tables, below, aligns everything to the right, and which may leave the style out."""
    chromium = require_system("chromium", "chromium")
    rule = "".join(f":not(.x).jp-RenderedHTMLCommon {tag} {{ text-align: right; }}" for tag in ("td", "th", "tr"))
    parts = [FittedTable(["layer", "ms"], [["fc", "0.5"]], right=["ms"], optional=())]
    table = page_part(parts, style=styled)
    told = "[...document.querySelectorAll('th, td')].map((cell) => getComputedStyle(cell).textAlign).join(' ')"
    page = tmp_path / "page.html"
    page.write_text(
        f"<html><style>{rule}</style><div class=jp-RenderedHTMLCommon>{table}</div>"
        f"<script>document.title = {told}</script></html>"
    )
    words = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True).stdout
    assert "<title>left right left right</title>" in shown
