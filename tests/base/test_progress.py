"""Progress: a bar where somebody looks, lines in a log, nothing on request."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from io import StringIO

import pytest

import tesa
from tesa.base.progress import Event, Progress, automatic, plain, shown, shows_progress
from tesa.compress import prune, quantize
from tesa.explore import explore
from tesa.tune.calibrate import calibrate


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def events() -> list[Event]:
    return [Event("import", 0, 0, "model.onnx"), *(Event("measure", done, 3, f"layer{done}") for done in range(4))]


def test_plain_lines_are_not_too_many() -> None:
    now = 0.0
    stream = StringIO()
    show = plain(stream, every_s=10, clock=lambda: now)
    for done in range(101):
        now = float(done)
        show(Event("measure", done, 100))
    lines = stream.getvalue().splitlines()
    assert lines == [f"measure {done}/100" for done in range(0, 101, 10)]


def test_a_log_gets_lines() -> None:
    stream = StringIO()
    with shown(stream) as show:
        for event in events():
            show(event)
    assert stream.getvalue().splitlines() == ["import model.onnx", "measure 0/3 layer0", "measure 3/3 layer3"]


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    with shown(stream) as show:
        for event in events():
            show(event)
    assert "measure" in stream.getvalue()
    assert "3/3" in stream.getvalue()


def test_quiet_is_silent() -> None:
    stream = Terminal()
    with shown(stream, quiet=True) as show:
        for event in events():
            show(event)
    assert stream.getvalue() == ""


@shows_progress
def inner(*, progress: Progress | None = automatic) -> None:
    """A job of one step."""
    assert progress is not None
    progress(Event("inner", 1, 1))


@shows_progress
def outer(*, progress: Progress | None = automatic) -> None:
    """A job that begins another one."""
    assert progress is not None
    inner()
    progress(Event("outer", 1, 1))


def test_a_job_within_a_job_draws_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    inner()
    assert "inner" in stream.getvalue()
    stream.truncate(0)
    outer()
    assert "outer" in stream.getvalue()
    assert "inner" not in stream.getvalue()


def test_none_silences_what_is_within_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    outer(progress=None)
    with shown(StringIO()):
        inner()
    assert stream.getvalue() == ""


def test_a_job_that_is_piped_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    outer()
    assert stream.getvalue() == ""


JOBS = (tesa.compile, tesa.kernel, tesa.forms, tesa.sweep, tesa.tune_model, calibrate, prune, quantize, explore)


@pytest.mark.parametrize("job", JOBS)
def test_long_jobs_draw_a_bar_by_themselves(job: Callable[..., object]) -> None:
    assert inspect.signature(job).parameters["progress"].default is automatic


def test_a_notice_says_its_phase_once() -> None:
    stream = StringIO()
    show = plain(stream, clock=lambda: 0.0)
    show(Event("device", 0, 0, "device 10.0.0.3:9090 (b) is gone", notice=True))
    show(Event("device", 0, 0, "pi5 is gone", notice=True))
    assert stream.getvalue() == "device 10.0.0.3:9090 (b) is gone\ndevice pi5 is gone\n"
