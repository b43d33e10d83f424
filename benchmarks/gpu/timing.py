"""Times on a device by torch: events around a graph of many calls, on buffers that take turns.

A layer's arrays may fit in the second-level cache, where a network would not find them: calls take turns on so many
sets of buffers that together they do not fit.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BEYOND = 256 << 20
"""Bytes of all sets of buffers together, at least."""

CALLS, ROUNDS = 20, 15


def sets_for(bytes_of_one: int) -> int:
    """The number of sets of buffers that take turns.

    >>> sets_for(64 << 20), sets_for(1)
    (4, 16)
    """
    return max(1, min(16, -(-BEYOND // max(bytes_of_one, 1))))


def copies_for(bytes_of_one: int) -> int:
    """The number of copies of a weight that take turns, so that none is in the second-level cache still.

    >>> copies_for(18 << 20), copies_for(1 << 30)
    (15, 1)
    """
    return max(1, min(32, -(-BEYOND // max(bytes_of_one, 1))))


class Library:
    """A kernel of a library by its function in C, on pointers."""

    def __init__(self, path: Path, name: str) -> None:
        self._library = ctypes.CDLL(str(path.resolve()))
        self._run = getattr(self._library, f"{name}_run")
        self._error = getattr(self._library, f"{name}_error")
        self._error.restype = ctypes.c_char_p

    def __call__(self, inputs: Sequence[Any], outputs: Sequence[Any], stream: int) -> None:
        """Start it on tensors of torch. RuntimeError with the library's words."""

        def pointers(tensors: Sequence[Any]) -> Any:
            return (ctypes.c_void_p * len(tensors))(*(one.data_ptr() for one in tensors))

        if self._run(pointers(inputs), pointers(outputs), ctypes.c_void_p(stream)):
            raise RuntimeError(self._error().decode(errors="replace"))


def microseconds(torch: Any, call: Callable[[int], Any], sets: int) -> dict[str, float]:
    """Medians of call(i) for i in turn, with a launch for each call and as nodes of one graph; "graph" is missing where
    the call cannot be captured."""
    for i in range(sets):
        call(i)
    torch.cuda.synchronize()
    found = {"launch": _median(torch, lambda: [call(i % sets) for i in range(CALLS)])}
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for i in range(CALLS):
                call(i % sets)
    except RuntimeError:
        torch.cuda.synchronize()
        return found
    found["graph"] = _median(torch, graph.replay)
    return found


def _median(torch: Any, work: Callable[[], Any]) -> float:
    times = []
    for _ in range(ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1000 / CALLS)
    return statistics.median(times)
