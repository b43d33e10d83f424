"""The weights of a permuted kernel for features_last as steps, from the runs in which X has what they meet.

Usually each lane takes its next four weights from a window of its own (windows.py). Where the rows of a slice have
their weights in the same columns, as blocks of 16 x 1 do, the bytes of X are gathered once for all of them, into a
buffer without gaps, and a step is the next four columns (permuted_shared.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.cpu.gathering import LINE, Gathering
from tesa.schedules.cpu.places import Places, in_runs
from tesa.schedules.cpu.windows import GROUP, Steps, pack
from tesa.schedules.types import FloatArray, Problem

_STORES = (16, 32, 64)
"""Bytes of a window that are stored at once: short stores seldom lie in two cache lines."""


@dataclass(frozen=True)
class SharedSteps:
    """The steps of slices whose rows share their columns.

    codes: (steps, lanes, GROUP); starts: (slices + 1,), the steps of each slice; places: (windows, LINE), which bytes
    of a window go to its first places; bases: (windows,), where a window begins, from a column's place in X; targets:
    (windows,), where its bytes go in the buffer of a column; windows: (slices + 1,), those of each slice; stored: bytes
    of a window that are stored; longest: bytes of a column that are written.
    """

    codes: NDArray[np.int8]
    starts: NDArray[np.int32]
    places: NDArray[np.uint8]
    bases: NDArray[np.int32]
    targets: NDArray[np.int32]
    windows: NDArray[np.int32]
    stored: int
    longest: int


def steps_of(
    problem: Problem, weight: FloatArray, view: Places, rows: NDArray[np.int32], way: Gathering, align: int
) -> Steps:
    """The steps of slices of these rows, with the bases in bytes from a column's place."""
    wide, last, pitch = _laid(problem, weight, view, way)
    made = pack(wide, way.width, way.window, align, rows, last, way.limited)
    return Steps(made.values, made.places, _in_x(made.bases, view, pitch), made.starts, made.rows)


def shared_steps(
    problem: Problem, weight: FloatArray, view: Places, rows: NDArray[np.int32], way: Gathering, align: int
) -> SharedSteps:
    """The same of slices whose rows share their columns: each reads what any of its rows needs."""
    wide, last, pitch = _laid(problem, weight, view, way)
    of_slices = np.where(rows[:, None] >= 0, wide[rows], 0).reshape(-1, way.width, wide.shape[1])
    columns = [np.flatnonzero(rows_.any(axis=0)) for rows_ in of_slices]
    cuts = {most: [_windows(live, last, align, most) for live in columns] for most in _STORES}
    counts = {most: sum(map(len, cut)) for most, cut in cuts.items()}
    stored = next(most for most in _STORES if counts[most] <= 1.1 * counts[LINE])
    codes, places, bases, targets = [], [], [], []
    for rows_, live, cut in zip(of_slices, columns, cuts[stored], strict=True):
        padded = np.zeros((way.width, -(-len(live) // GROUP) * GROUP), np.int8)
        padded[:, : len(live)] = rows_[:, live]
        codes.append(padded.reshape(way.width, padded.shape[1] // GROUP, GROUP).swapaxes(0, 1))
        for base, first, end in cut:
            place = np.zeros(LINE, np.uint8)
            place[: end - first] = live[first:end] - base
            places.append(place)
            bases.append(base)
            targets.append(first)
    ends = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in (list(map(len, codes)), list(map(len, cuts[stored])))]
    return SharedSteps(
        codes=np.concatenate(codes),
        starts=ends[0].astype(np.int32),
        places=np.array(places, np.uint8).reshape(-1, LINE),
        bases=_in_x(np.array(bases, np.int64), view, pitch),
        targets=np.array(targets, np.int32),
        windows=ends[1].astype(np.int32),
        stored=stored,
        longest=max(map(len, columns)) + stored,
    )


def _windows(live: NDArray[np.int64], last: NDArray[np.int64], align: int, most: int) -> list[tuple[int, int, int]]:
    """(begin, first, end): windows of LINE bytes that take the columns live[first:end], at most so many each."""
    found, first = [], 0
    while first < len(live):
        base = min(int(live[first]) // align * align, int(last[live[first]]))
        end = min(int(np.searchsorted(live, base + LINE)), first + most)
        found.append((base, first, end))
        first = end
    return found


def _laid(
    problem: Problem, weight: FloatArray, view: Places, way: Gathering
) -> tuple[FloatArray, NDArray[np.int64], int]:
    """W with each run so long that a window ends before the next one begins; where a window for a column begins at
    most; elements of a run."""
    runs = view.rows * view.taps
    pitch = -(-view.run // LINE) * LINE + LINE
    wide = np.zeros((problem.m, runs, pitch), np.float32)
    wide[..., : view.run] = in_runs(weight, problem.window, runs)
    last = np.full(runs * pitch, np.iinfo(np.int32).max, np.int64)
    if not view.copied:
        last = np.repeat(np.arange(runs) * pitch + view.run - way.window, pitch)
    return wide.reshape(problem.m, -1), last, pitch


def _in_x(bases: NDArray[np.int64] | NDArray[np.int32], view: Places, pitch: int) -> NDArray[np.int32]:
    """Where windows begin, in bytes from a column's place in X."""
    run, byte = np.divmod(bases, pitch)
    return np.asarray(run // view.taps * view.down + run % view.taps * view.across + byte, np.int32)
