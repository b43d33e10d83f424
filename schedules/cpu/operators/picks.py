"""Weighted sums of a few elements of a row, at places that are known when it is compiled: Resize along the last axis.

before:  for r, i: y[r, i] = sum over t of share[t, i] * x[r, place[t, i]]
after:   for r: for i in steps of 16: a = x[r, s : s + 16]; b = x[r, s + 16 : s + 32]
                                      y[r, i : i + 16] = sum over t of share[t] * (elements of a and b by a permutation)
The places are in the function's attribute PICKS, so that each permutation is one of constants. Steps that only move on
are a loop. Rows that are shorter than a vector are taken several at a time; the last step ends with the row and may lie
over the one before it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import tirx

from tesa.schedules.cpu.operators.emit import Views, loop
from tesa.schedules.cpu.operators.schedule import Operator
from tesa.schedules.cpu.operators.tree import index, run, sequence, shuffle
from tesa.schedules.types import Core

PICKS = "tesa.picks"

SAMPLES = "tesa.samples"
"""The attribute of functions that read single elements at places that they look up: they read numbers, as they are."""
"""Attribute of a function (x, ..., y): JSON of [[place of each output] of each tap, [share of each] of each tap]."""

_MOST_LOADS = 4
_MOST_STEPS = 512


@dataclass(frozen=True)
class _Step:
    """One vector of outputs: where it is stored, where its loads begin, and what each tap takes from them."""

    at: int
    reads: tuple[int, ...]
    picks: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float, ...], ...]

    def same(self, other: "_Step") -> bool:
        """True where only the places of its loads and of its store differ."""
        ways = [tuple(read - step.reads[0] for read in step.reads) for step in (self, other)]
        return ways[0] == ways[1] and (self.picks, self.shares) == (other.picks, other.shares)


def note_of(places: NDArray[np.int64], shares: NDArray[np.float32] | None) -> str:
    """The attribute PICKS. places, shares: (taps, outputs); no shares where each output is one element.

    >>> note_of(np.array([[0, 0, 1]]), None)
    '[[[0, 0, 1]], []]'
    """
    return json.dumps([places.tolist(), [] if shares is None else shares.astype(np.float64).tolist()])


def picks(operator: Operator, core: Core) -> Any:
    """Sums of a few elements at known places of each row: whole vectors, permuted by constants."""
    note = operator.func.attrs.get(PICKS)
    if note is None:
        return None
    places, shares = map(np.array, json.loads(str(note)))
    x, y = operator.func.params[0], operator.func.params[-1]
    width = int(x.shape[-1])
    rows = prod(map(int, x.shape)) // width
    lanes = core.lanes * 32 // int(tvm.DataType(str(y.dtype)).bits)
    while lanes > 1 and rows * min(width, places.shape[1]) < lanes:
        lanes //= 2
    if lanes < 2:
        return None
    together = -(-lanes // min(width, places.shape[1]))  # rows
    steps = _steps(_repeated(places, together, width), _repeated(shares, together, 0), together * width, lanes)
    if steps is None or len(steps) > _MOST_STEPS:
        return None
    views = Views()
    source, target = views.of(x), views.of(y)

    def group(number: Any) -> Any:
        row = number * index(together)
        row = tirx.min(row, index(rows - together)) if rows % together else row
        read, write = row * index(width), row * index(places.shape[1])
        return sequence([_run(source, target, (read, write), found, lanes) for found in _runs(steps)])

    body = loop("row", -(-rows // together), group, spatial=True)
    return operator.func.with_body(views.declare(body))


def _repeated(table: NDArray[Any], times: int, step: int) -> NDArray[Any]:
    """(taps, times * outputs): the table of so many rows as one row, with `step` added for each."""
    return np.concatenate([table + row * step for row in range(times)], axis=1) if table.size else table


def _steps(places: NDArray[Any], shares: NDArray[Any], width: int, lanes: int) -> list[_Step] | None:
    """Vectors that cover all outputs, the last one ending with them; None where one would need too many loads."""
    made, found = places.shape[1], []
    for at in [*range(0, made - lanes, lanes), made - lanes]:
        own = places[:, at : at + lanes]
        first = min(int(own.min()), width - lanes)
        count = (int(own.max()) - first) // lanes + 1
        if count > _MOST_LOADS:
            return None
        reads = tuple(min(first + i * lanes, width - lanes) for i in range(count))
        which = np.minimum((own - first) // lanes, count - 1)
        lane = which * lanes + own - np.array(reads)[which]
        parts = shares[:, at : at + lanes] if shares.size else shares
        found.append(_Step(at, reads, tuple(map(tuple, lane.tolist())), tuple(map(tuple, parts.tolist()))))
    return found


def _runs(steps: Sequence[_Step]) -> list[list[_Step]]:
    """The steps in runs of which each is the one before it, moved on by as much as that was."""
    runs: list[list[_Step]] = []
    for step in steps:
        run_ = runs[-1] if runs else []
        fits = bool(run_) and step.same(run_[0])
        if fits and len(run_) > 1:
            moved, before = ((b.at - a.at, b.reads[0] - a.reads[0]) for a, b in ((run_[-1], step), (run_[0], run_[1])))
            fits = moved == before
        if fits:
            run_.append(step)
        else:
            runs.append([step])
    return runs


def _run(source: Any, target: Any, start: tuple[Any, Any], steps: Sequence[_Step], lanes: int) -> Any:
    """The steps of a run as one loop. start: where the rows begin in source and target."""
    first, *rest = steps
    read, write = (rest[0].reads[0] - first.reads[0], rest[0].at - first.at) if rest else (0, 0)

    def step(number: Any) -> Any:
        loads = [
            tirx.BufferLoad(source, [run(start[0] + number * index(read) + index(at), lanes)]) for at in first.reads
        ]
        names = [tirx.Var(f"v{i}", value.ty.dtype) for i, value in enumerate(loads)]
        value: Any = None
        for tap, places in enumerate(first.picks):
            part = shuffle(names, places)
            if first.shares:
                part = part * _vector(first.shares[tap])
            value = part if value is None else value + part
        at = run(start[1] + number * index(write) + index(first.at), lanes)
        binds = [tirx.Bind(name, value) for name, value in zip(names, loads, strict=True)]
        return sequence([*binds, tirx.BufferStore(target, value, [at])])

    return loop("step", len(steps), step)


def _vector(numbers: tuple[float, ...]) -> Any:
    """A vector of constants."""
    if len(set(numbers)) == 1:
        return tirx.Broadcast(tirx.FloatImm("float32", numbers[0]), len(numbers))
    return shuffle([tirx.FloatImm("float32", number) for number in numbers], range(len(numbers)))
