"""The padded copy of a convolution's input, and the way back from positions to outputs; see operand.py and nest.py."""

from contextlib import nullcontext
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.cut import Cut
from tesa.schedules.cpu.epilogue import Names, final
from tesa.schedules.cpu.loops import lanes, parallel, serial, span
from tesa.schedules.cpu.operand import SLACK, Operand, Plane, channels_of
from tesa.schedules.types import Depth, Problem, Window

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
    if problem.depth is not None:
        _stage_slices(problem, problem.depth, view, x, item, staged, channels, threads)
        return
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


def first_of_copy(problem: Problem, view: Operand, item: Any) -> Any:
    """Where the first slice of a batch item begins in the padded copy."""
    depth = problem.depth
    return 0 if depth is None else item % depth.out * (depth.stride * view.slice)


def first_of_y(problem: Problem, item: Any) -> Any:
    """Where a batch item begins in Y. Its rows lie problem.pitch elements apart."""
    p = problem
    if p.depth is None:
        return item * (p.m * p.n)
    return item // p.depth.out * (p.m * p.pitch) + item % p.depth.out * p.n


def _stage_slices(
    problem: Problem, depth: Depth, view: Operand, x: Any, item: Any, staged: Any, channels: Any, threads: int
) -> None:
    """Fill the planes of the slices that an item reads and none before it has read."""
    assert problem.window is not None  # see stage
    count, every, area = len(view.channels), len(view.planes), problem.window.height * problem.window.width
    own = channels_of(problem)
    number: Any = T.int32(0) if isinstance(item, int) else T.Bind(item % depth.out)
    end = T.Bind(number * depth.stride + depth.reach)
    start = T.Bind(tirx.Select(number > 0, end - view.fresh, T.int32(0)))
    beyond = depth.before > 0 or depth.slices > depth.before + depth.size
    threaded = threads > 1 and count >= 2 * threads
    with (parallel if threaded else serial)("c", count) as c, span("slice", start, end) as s:
        channel, at = c if channels is None else channels[c], s - depth.before
        source = ((item // depth.out * own + channel) * depth.size + at) * area
        for i, plane in enumerate(view.planes):
            target = s * view.slice + (c * every + i) * view.plane
            _fill(staged, target, view.plane)
            inside = T.If(tirx.all(at >= 0, at < depth.size)) if beyond else nullcontext()
            with inside, T.Then() if beyond else nullcontext():
                _copy_plane(problem.window, plane, x, source, staged, target, view.row)
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
        write = first_of_y(p, item) + m * p.pitch + (row + i) * view.width

        def store(start: Any, width: int) -> None:
            with lanes(width) as lane:
                at = write + start + lane
                T.buffer_store(names.y, final(p, names, scratch[read + start + lane], m, at), [at])

        pieces(view.width, store)
