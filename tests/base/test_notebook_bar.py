"""The bar of a notebook: what it displays, how often, and that it goes."""

from __future__ import annotations

from typing import Any

import pytest

from tesa.base.notebook_bar import NotebookBar


class Page:
    """Stands for a notebook: keeps what is displayed, and what it becomes."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def __call__(self, data: dict[str, str], *, raw: bool, display_id: bool = False) -> Page:
        assert raw
        self.shown.append(data)
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        self(data, raw=raw)


def test_phases_stand_below_one_another_and_go() -> None:
    page = Page()
    with NotebookBar(page, clock=lambda: 0.0) as bar:
        bar.step("build", 1, 2, "conv<1>")
        bar.step("measure", 0, 0, "")
    assert "build" in page.shown[-2]["text/html"]
    assert "measure" in page.shown[-2]["text/html"]
    assert "conv&lt;1&gt;" in page.shown[-2]["text/html"]
    assert page.shown[-1] == {"text/plain": "", "text/html": ""}


def test_it_is_not_drawn_too_often() -> None:
    page, now = Page(), 0.0
    with NotebookBar(page, clock=lambda: now) as bar:
        for done in range(1000):
            now = done / 1000
            bar.step("build", done, 1001, "")
    assert 4 <= len(page.shown) <= 8


def test_a_job_that_fails_leaves_no_bar() -> None:
    page = Page()

    def fail() -> None:
        with NotebookBar(page) as bar:
            bar.step("build", 0, 1, "")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert page.shown[-1]["text/html"] == ""


def test_a_notice_stays() -> None:
    page = Page()
    with NotebookBar(page) as bar:
        bar.notice("device <1> is gone")
    shown: Any = page.shown
    assert [one["text/html"] for one in shown] == ["<div>device &lt;1&gt; is gone</div>"]
