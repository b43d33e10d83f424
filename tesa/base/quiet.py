"""TVM's remarks kept off the screen: those it prints for every sound model or operator.

Streams and warnings belong to the whole process. So the first thread that asks for silence makes it, the last one ends
it, and what other threads print by Python in between goes through.
"""

import contextlib
import io
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

_LOCK = threading.RLock()
_MUTED: dict[int, int] = {}
"""How often each thread is inside of `quiet`."""


class _Shared:
    """A state of the process that is there while anybody wants it. make: a context manager that makes it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._users, self._stack = make, 0, ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with _LOCK:
            if not self._users:
                self._stack.enter_context(self._make())
            self._users += 1
        try:
            yield
        finally:
            with _LOCK:
                self._users -= 1
                if not self._users:
                    self._stack.close()


class _Filtered(io.TextIOBase):
    """A stream without what muted threads write."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write, or say that it was written."""
        return len(text) if threading.get_ident() in _MUTED else int(self.stream.write(text))

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(_Filtered(sys.stdout)):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Nothing that C++ code writes to file 2 is seen; Python's sys.stderr is on another file meanwhile."""
    sys.stderr.flush()
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    # a stream that somebody put in place of the process's own goes on as it is
    own = sys.stderr is sys.__stderr__
    stream = open(kept, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
    try:
        os.dup2(sink, 2)
        with contextlib.redirect_stderr(stream) if own else contextlib.nullcontext():
            yield
    finally:
        stream.close()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


_silence, _blindness = _Shared(_no_warnings), _Shared(_no_stderr)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what Python code inside warns of or prints to stdout."""
    me = threading.get_ident()
    with _silence():
        _MUTED[me] = _MUTED.get(me, 0) + 1
        try:
            yield
        finally:
            _MUTED[me] -= 1
            if not _MUTED[me]:
                del _MUTED[me]


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """`quiet`, and what C++ code inside writes to stderr past Python is dropped as well."""
    with _blindness(), quiet():
        yield
