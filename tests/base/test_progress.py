"""Progress: a bar where somebody looks, lines in a log, nothing on request."""

from __future__ import annotations

from io import StringIO

from tesa.base.progress import Event, plain, shown


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
