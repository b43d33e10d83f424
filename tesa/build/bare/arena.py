"""The places of a function's buffers in its arena: those that are in use at the same time do not overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tesa.build.bare.network import Calls, Function, Ref

ALIGNMENT = 64
"""Bytes to which each buffer, and the arena itself, is aligned."""


@dataclass(frozen=True)
class Plan:
    """A function with buffers for what its callees need, where each lies, and the bytes that it takes in all."""

    function: Function
    offsets: tuple[int, ...]
    bytes: int


def plans(calls: Calls, places: Mapping[str, Sequence[int]], threads: frozenset[str]) -> dict[str, Plan]:
    """The plan of each function, by name.

    places: bytes of each place that a kernel or operator needs, by symbol; threads: symbols of those that take the
    pointer to threads behind them, as functions do.
    """
    made: dict[str, Plan] = {}
    for function in calls.functions:  # each stands behind those that it calls
        buffers, lines = list(function.buffers), []
        for call in function.calls:
            own = made.get(call.symbol)
            sizes = places.get(call.symbol, ()) if own is None else (own.bytes,)
            scratch = tuple(Ref("buffer", len(buffers) + i) for i in range(len(sizes)))
            buffers += sizes
            lines.append(replace(call, scratch=scratch, threads=own is not None or call.symbol in threads))
        whole = replace(function, calls=tuple(lines), buffers=tuple(buffers))
        made[function.name] = Plan(whole, *plan(whole))
    return made


def plan(function: Function) -> tuple[tuple[int, ...], int]:
    """(the offset of each buffer, bytes of the arena). The largest buffers take their places first."""
    spans = _spans(function)
    sizes = [-(-max(size, 1) // ALIGNMENT) * ALIGNMENT for size in function.buffers]
    return place(sizes, spans)


def place(sizes: Sequence[int], spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], int]:
    """(an offset for each, the bytes that they take together): each as low as those that were placed before allow.

    spans: (first, last) call that uses each; two whose spans meet do not overlap.

    >>> place([64, 128, 64], [(0, 1), (1, 2), (2, 3)])
    ((128, 0, 128), 192)
    """
    count = len(sizes)
    offsets = np.zeros(count, np.int64)
    ends = np.zeros(count, np.int64)
    first, last = (np.array([span[i] for span in spans], np.int64) for i in (0, 1))
    done = np.zeros(count, bool)
    for index in sorted(range(count), key=lambda i: (-sizes[i], spans[i], i)):
        if first[index] > last[index]:
            continue
        near = np.flatnonzero(done & (first <= last[index]) & (last >= first[index]))
        near = near[np.argsort(offsets[near], kind="stable")]
        at = 0
        for other in near:
            if offsets[other] - at >= sizes[index]:
                break
            at = max(at, int(ends[other]))
        offsets[index], ends[index], done[index] = at, at + sizes[index], True
    return tuple(int(n) for n in offsets), int(ends.max(initial=0))


def _spans(function: Function) -> list[tuple[int, int]]:
    """The first and the last call that uses each buffer; (1, 0) for one that none does."""
    first = [len(function.calls)] * len(function.buffers)
    last = [-1] * len(function.buffers)
    for number, call in enumerate(function.calls):
        for ref in (*call.arguments, *call.scratch):
            if ref.kind == "buffer":
                first[ref.index] = min(first[ref.index], number)
                last[ref.index] = number
    return [(a, b) if b >= 0 else (1, 0) for a, b in zip(first, last, strict=True)]
