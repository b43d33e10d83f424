"""Threads that call kernels of several threads for others, which may be short-lived.

TVM gives every thread that calls such kernels workers of its own, and keeps them when that thread ends. An application
that starts a thread for each request would grow without end. So the main thread calls by itself, and any other thread
hands its call to one of a few that live on: as many as calls have ever run at once.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from tesa.runtime.library import set_threads


class _Caller:
    """A thread that waits for calls, one at a time."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[int, Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()
        self._results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        threading.Thread(target=self._serve, name="tesa-caller", daemon=True).start()

    def call(self, count: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """The result and the error of a call."""
        self._calls.put((count, function, arguments))
        return self._results.get()

    def _serve(self) -> None:
        while True:
            self._answer(*self._calls.get())  # nothing of a call is kept while this waits for the next

    def _answer(self, count: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            set_threads(count)
            self._results.put((function(*arguments), None))
        except BaseException as error:
            self._results.put((None, error))


_FREE: deque[_Caller] = deque()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_FREE.clear)  # threads do not come along


def call_with_threads(count: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """function(*arguments), with so many threads for the kernels that it calls; its errors are raised here."""
    if threading.current_thread() is threading.main_thread():
        set_threads(count)
        return function(*arguments)
    try:
        caller = _FREE.pop()
    except IndexError:
        caller = _Caller()
    result, error = caller.call(count, function, arguments)
    _FREE.append(caller)  # not where this thread was stopped while it waited: the next one would get its result
    if error is not None:
        raise error
    return result
