"""What a tuning job shows: lines in a log, a view on a terminal, a table at its end."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from tesa.base.progress import Event, bar, notices, plain, silent
from tesa.report.tune import lines, live_view, shown_status, status_line, tuned_view
from tesa.tune.status import Status, Tuned, TunedLayer, unseen

FC = TunedLayer("fc", 3, 12, 1, 90, default_ms=0.5, best=("indexed", {}), best_ms=0.4)
NEW = TunedLayer("[bold]", 1, 0, 0, 40)
STATUS = Status("search", 12, 64, 4, 1, 30.0, 130.0, "fc", (FC, NEW))
DONE = TunedLayer("fc", 3, 64, 2, 90, ("dense", {"rows": 4}), 0.5, ("indexed", {"rows": 2}), 0.4, 0.5, True)
NOTHING = TunedLayer("odd", 1, 5, 5, 5, None, None, None, None, None, True)
TUNED = Tuned("x86:haswell", 1, {"cpu": "haswell"}, (DONE, NOTHING), 70, 95.0, ("odd: a note",))


def text(*parts: object, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    for part in parts:
        console.print(part)
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_a_line_says_where_the_job_is() -> None:
    assert status_line(STATUS).startswith("tune 12/64, 1 failed, about 2 min left; fc: indexed 0.400 ms")
    assert status_line(replace(STATUS, layer="[bold]", left_s=None)) == "tune 12/64, 1 failed; [bold]"
    assert "last comparison" in status_line(replace(STATUS, phase="compare"))


def test_lines_come_now_and_then() -> None:
    stream, now = io.StringIO(), 0.0
    watch = lines(stream, clock=lambda: now)
    for second in range(12):
        now = float(second)
        watch(replace(STATUS, done=second))
    watch(replace(STATUS, done=64))
    watch(replace(STATUS, done=64))  # it stays there while the best are compared
    watch(replace(STATUS, phase="compare", done=63))
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "tune 0/64", "tune 5/64", "tune 10/64", "tune 64/64", "tune 63/64",
    ]  # fmt: skip


def test_the_view_of_a_terminal() -> None:
    shown = text(live_view(STATUS, 40))
    for piece in ("12/64", "4 of them in the log before", "1 failed", "2 min left", "fc (x3)", "[bold]", "1.25x"):
        assert piece in shown
    many = replace(STATUS, layers=tuple(replace(NEW, name=f"layer{i}") for i in range(50)), layer="layer30")
    small = text(live_view(many, 16))
    assert "layer30" in small
    assert "and 40 more layers" in small
    assert len(small.splitlines()) <= 16


def test_the_table_at_the_end() -> None:
    shown = text(*tuned_view(TUNED))
    for piece in ("Tuned for x86:haswell, 1 thread", "fc (x3)", "1.25x", "indexed", "rows=2", "64/90, 2 failed"):
        assert piece in shown
    assert "70 measurements in 2 min; gain 1.25x (geometric mean of 1 layer)" in shown
    assert "all layers together 1.50 ms -> 1.20 ms" in shown
    assert "odd: a note" in shown
    assert "~" not in shown
    single = text(*tuned_view(replace(TUNED, layers=(replace(DONE, final=False),))))
    assert "~0.400" in single
    assert "the last comparison with the default is missing" in single
    assert "no layer has a time yet" in text(*tuned_view(replace(TUNED, layers=(NOTHING,))))


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_status(sys.stderr, quiet=True) as (progress, watch):
        assert (progress, watch) == (silent, unseen)
        progress(Event("import", 0, 1))
        watch(STATUS)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_first_the_import_and_then_the_job(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with shown_status(stream) as (progress, watch):
        progress(Event("import", 0, 1, "model.onnx"))
        watch(STATUS)
    told = stream.getvalue()
    assert "12/64" in told
    assert stream.isatty() or told.startswith("import 0/1 model.onnx\n")


def test_a_job_that_had_nothing_to_measure_says_why() -> None:
    known = replace(TUNED, layers=(DONE,), measured=0)
    assert "nothing to measure: the log has what the budget allows, give more --trials" in text(*tuned_view(known))
    every = replace(known, layers=(replace(DONE, trials=90),))
    assert "nothing to measure: the log has all candidates; gain" in text(*tuned_view(every))
    assert "0 measurements" in text(*tuned_view(replace(known, stopped="the tracker is gone")))


def test_notices_are_told_at_once_and_kept() -> None:
    kept: dict[str, None] = {}
    stream = io.StringIO()
    tell = notices(plain(stream, clock=lambda: 0.0), kept)
    for text in ("a is gone", "b is gone", "a is gone"):
        tell(text)
    assert stream.getvalue().splitlines() == ["device a is gone", "device b is gone", "device a is gone"]
    assert list(kept) == ["a is gone", "b is gone"]
    drawn = io.StringIO()
    with bar(drawn) as show:
        notices(show)("c [1] is gone")
        show(Event("kernels", 1, 2))
    assert "device: c [1] is gone" in drawn.getvalue()
