"""The padded copy of a convolution's input, and the way back from positions to outputs; see operand.py and nest.py."""

from typing import Any

from tvm.tirx.script import builder as T

from tesa.schedules.cpu.cut import Cut
from tesa.schedules.cpu.epilogue import Names, final
from tesa.schedules.cpu.loops import lanes, parallel, serial
from tesa.schedules.cpu.operand import SLACK, Operand, Plane
from tesa.schedules.types import Problem, Window

LANES = 16
"""Copies go in pieces of at most so many elements; the code generator splits them for a narrower machine."""


def stage(
    problem: Problem, view: Operand, x: Any, item: Any, staged: Any, channels: Any, threads: int | None = None
) -> None:
    """Fill the planes of one batch item. channels: the table of live channels, None if it is all of them.

    threads: how many share the work, by default all of the problem's.
    """
    window = problem.window
    if window is None:
        raise ValueError("only a convolution is staged")
    threads = problem.threads if threads is None else threads
    count, area = len(view.channels), window.height * window.width
    threaded = threads > 1 and count >= 2 * threads
    with (parallel if threaded else serial)("c", count) as c:
        channel = c if channels is None else channels[c]
        source = item * (problem.channels * area) + channel * area
        for i, plane in enumerate(view.planes):
            target = (c * len(view.planes) + i) * view.plane
            _fill(staged, target, view.plane)
            _copy_plane(window, plane, x, source, staged, target, view.row)
    _fill(staged, view.staged - SLACK, SLACK)


def _fill(buffer: Any, start: Any, count: int) -> None:
    """Zeros; count is a multiple of LANES."""
    with serial("i", count // LANES) as i, lanes(LANES) as lane:
        T.buffer_store(buffer, T.float32(0), [start + i * LANES + lane])


def _copy_plane(window: Window, plane: Plane, x: Any, source: Any, staged: Any, target: Any, row: int) -> None:
    (top, bottom), (left, right) = plane.rows, plane.columns
    if top == bottom or left == right:
        return
    down, step = window.stride
    with serial("row", bottom - top) as i:
        read = source + ((i + top) * down + plane.row) * window.width + left * step + plane.column
        write = target + (i + top) * row + left

        def copy(start: Any, width: int) -> None:
            if step == 2 and width > 1:
                T.buffer_store(staged, _every_second(x, read + start * 2, width), [T.ramp(write + start, 1, width)])
                return
            with lanes(width) as lane:
                T.buffer_store(staged, x[read + (start + lane) * step], [write + start + lane])

        pieces(right - left, copy)


def _every_second(x: Any, start: Any, width: int) -> Any:
    """x[start], x[start + 2], ...: picked out of two vectors of which the second ends with the last of them."""
    halves = [x[T.ramp(start, 1, width)], x[T.ramp(start + width - 1, 1, width)]]
    return T.Shuffle(halves, [i if i < width else i + 1 for i in range(0, 2 * width, 2)])


def pieces(count: int, body: Any, widest: int = LANES) -> None:
    """body(start, width) for all elements 0 ... count - 1, in whole vectors; the last one overlaps where it must.

    body must store the same value when it meets an element twice.
    """
    width = min(widest, 1 << (count.bit_length() - 1))
    whole = count // width

    if whole > 4:
        with serial("piece", whole) as i:
            body(i * width, width)
    else:
        for i in range(whole):
            body(i * width, width)
    if count % width:
        body(count - width, width)


def compact(problem: Problem, cut: Cut, names: Names, scratch: Any, item: Any, row: Any, rows: tuple[Any, Any]) -> None:
    """Y = epilogue(scratch) without its garbage columns, for rows[0] <= m < rows[1].

    row: where the band of output rows starts.
    """
    p, view = problem, cut.operand
    low, high = rows
    # one loop over both: LLVM would unroll an inner loop of known length in full, at seconds of compile time
    with serial("both", (high - low) * cut.band) as both:
        m, i = low + both // cut.band, both % cut.band
        read = m * cut.stride + i * view.row
        write = item * (p.m * p.n) + m * p.n + (row + i) * view.width

        def store(start: Any, width: int) -> None:
            with lanes(width) as lane:
                at = write + start + lane
                T.buffer_store(names.y, final(p, names, scratch[read + start + lane], m, at), [at])

        pieces(view.width, store)
