"""Prints results on standard output, as a view or as JSON, and keeps everything else on standard error."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType
from typing import IO, Any, cast

from tesa.cli.streams import Clean, printable
from tesa.cli.verb import Outcome


def emit(outcome: Outcome, *, as_json: bool) -> None:
    """Print the outcome on standard output: one JSON document, or its view."""
    if as_json:
        print(json.dumps(outcome.data, indent=1, allow_nan=False))
    else:
        from rich.console import Console

        out = cast(IO[str], Clean(sys.stdout))
        console = Console(width=_width(), highlight=False, file=out, force_jupyter=False)
        for part in outcome.view():
            console.print(part)
    sys.stdout.flush()


def _width() -> int | None:
    """The columns to fill: what COLUMNS says; else those of the terminal, which is None, or as many as it takes."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told) > 0:
        return int(told)
    from tesa.report.table import PIPE

    return None if sys.stdout.isatty() else PIPE


def say(text: str) -> None:
    """Print a message on standard error, if anybody reads that: of a terminal that is gone there is nothing to say."""
    try:
        print(printable(text), file=Clean(sys.stderr), flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        return


@contextmanager
def guarded_stdout(active: bool) -> Iterator[None]:
    """While active, send what libraries print on standard output, C++ included, to standard error."""
    if not active:
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@contextmanager
def stop_on_signals() -> Iterator[list[BaseException]]:
    """Let SIGTERM and SIGHUP raise Terminated, which unwinds the stack like Ctrl-C: files written aside are removed.

    A signal that is ignored, as nohup has SIGHUP, stays ignored.

    The list is of what was raised for a signal so far, Ctrl-C included: where the signal comes while C++ calls Python,
    as for each kernel of a profile, the C++ turns what was raised into an error of its own.
    """
    raised: list[BaseException] = []
    if threading.current_thread() is not threading.main_thread():
        yield raised
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raised.append(KeyboardInterrupt() if number == signal.SIGINT else Terminated(number))
        raise raised[-1]

    ending = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    before: dict[signal.Signals, Any] = {number: signal.signal(number, stop) for number in ending}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else Ctrl-C is ignored, or the caller's
        before[signal.SIGINT] = signal.signal(signal.SIGINT, stop)
    try:
        yield raised
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Terminated(BaseException):
    """SIGTERM or SIGHUP came."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.name, self.code = signal.Signals(number).name, 128 + number
