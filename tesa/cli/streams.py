"""The standard streams, whatever state a program is started with: closed, a pipe that breaks, of a narrow encoding."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
from typing import Any, TextIO

_OBEYED = re.compile(r"(\x1b\[[0-9;]*m)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys, and colours, which may pass."""


def printable(text: str) -> str:
    """The text without what a terminal would obey: names in a file may hold such. Colours pass.

    >>> printable("a\\x1b]0;title\\x07b")
    'a?]0;title?b'
    """
    return _OBEYED.sub(lambda found: found[1] or "?", text)


class Clean:
    """A text stream that writes printable() text only, and what its encoding has no letter for as \\N."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_closed_streams() -> None:
    """Put the null device in the place of standard streams that are closed.

    Otherwise the next file that is opened takes the place, and what is printed goes into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115  (of the process)


def reader_gone() -> bool:
    """True where nobody reads the output, or the messages, any more."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def flush() -> None:
    """Write what is left in both output streams now: at the end of the process nobody could catch an error.

    Raises BrokenPipeError where the reader went away.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError):  # closed
            try:
                stream.flush()
            except BrokenPipeError:
                raise
            except OSError:
                _to_null(stream)


def abandon_streams() -> None:
    """Let nothing more be written to a pipe that broke: Python flushes at its end, and would complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _to_null(stream)


def _to_null(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
