"""The places of a layer's bytes of X in features_last: k is a few runs of neighbouring bytes from an output's place.

A linear layer: X is (batch n, k), and k is one run. A convolution: the taps of a row of the kernel are neighbours in
X (height, width, channels), so that k is (kernel height) runs of (kernel width x channels) bytes, a line of X apart;
where columns are dilated each tap is a run of its own. So nothing is rearranged (no im2col), and the place of a column
is just where its first byte lies:
    place(y, x) = (y stride_y width + x stride_x) channels
    k           = (row, byte of the run) at  place + row dilation_y width channels + byte
X is read as it is, but where a convolution pads it, where it has to be widened, or a run is shorter than a group:
then from a copy with x_zero around it.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.arithmetic import Arithmetic
from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.loops import lanes, named, parallel, serial
from tesa.schedules.cpu.staging import pieces
from tesa.schedules.types import FloatArray, Problem, Window

_PAGE = 4096

SLACK = 64
"""Bytes behind a copy that may be read."""


@dataclass(frozen=True)
class Places:
    """The runs of a problem's k, and where columns begin.

    items, columns: of Y, where columns of all items are one range if they lie so; width: of a row of columns; run:
    bytes of a run; rows, taps: runs below and beside each other; down, across: from one of them to the next; step_y,
    step_x: from a column to the next one; lines, line: of an item of the source, its lines and their bytes; padding:
    around it, (top, left, bottom, right) in lines and bytes; member: the type of a byte in the source; copied: the
    source is a copy of X.
    """

    items: int
    columns: int
    width: int
    run: int
    rows: int
    taps: int
    down: int
    across: int
    step_y: int
    step_x: int
    lines: int
    line: int
    padding: tuple[int, int, int, int]
    member: str
    copied: bool

    @property
    def item(self) -> int:
        """Elements of an item of the source."""
        return self.lines * self.line

    def place(self, p: Any) -> Any:
        """The begin of column p of an item."""
        if self.width == self.columns:
            return p * self.step_x
        return p // self.width * self.step_y + p % self.width * self.step_x

    def copy(self, names: Names, item: Any, copy: Any, sums: Arithmetic, zero: int, threads: int) -> None:
        """Write an item of X into the copy, each byte as the arithmetic takes it, with `zero` around it."""
        top, left, bottom, right = self.padding
        inner, height = self.line - left - right, self.lines - top - bottom
        pad = int(member(sums, np.array([zero]))[0])

        def fill(start: Any, count: int) -> None:
            def put(offset: Any, width: int) -> None:
                with lanes(width) as lane:
                    T.buffer_store(copy, tirx.IntImm(self.member, pad), [start + offset + lane])

            if count:
                pieces(count, put, SLACK)

        def move(y: Any) -> None:
            start, read = (y + top) * self.line, item * (height * inner) + y * inner

            def put(offset: Any, width: int) -> None:
                with lanes(width) as lane:
                    value = widened(sums, self.member, names.x[read + offset + lane])
                    T.buffer_store(copy, value, [start + left + offset + lane])

            fill(start, left)
            pieces(inner, put, SLACK)
            fill(start + left + inner, right)

        fill(0, top * self.line)
        fill((self.lines - bottom) * self.line, bottom * self.line + SLACK)
        if height == 1:
            move(0)
        elif threads > 1:
            with parallel("y", height) as y:
                move(y)
        else:
            with serial("y", height) as y:
                move(y)

    def source(self, names: Names) -> Any:
        """The buffer that columns are read from: X, or one for an item's copy."""
        if not self.copied:
            return names.x
        return named("copy", T.alloc_buffer((self.item + SLACK,), self.member, align=64))


def widened(sums: Arithmetic, kind: str, x: Any) -> Any:
    """A byte of X as a member of a group."""
    if sums.signed:
        return tirx.Cast(kind, x ^ tirx.IntImm("uint8", 128))
    return tirx.Cast(kind, x)


def member(sums: Arithmetic, codes: NDArray[Any]) -> NDArray[Any]:
    """The same of codes."""
    return (codes.astype(np.int64) - 128 if sums.signed else codes).astype(member_type(sums))


def member_type(sums: Arithmetic) -> str:
    """The type of a byte of X in a group."""
    return "int16" if sums.group < 4 else "int8" if sums.signed else "uint8"


def places(problem: Problem, sums: Arithmetic, least: int = 0, spread: bool = False) -> Places:
    """The runs of a linear layer's or a convolution's k.

    least: bytes of a run that are read together, a group's by default; spread: columns that lie a multiple of a page
    apart, and so share the sets of a cache, are copied apart.
    """
    least = max(least, sums.group)
    p, kind = problem, member_type(sums)
    if p.pointwise or p.window is None:
        columns = p.batch * p.n
        plain = Places(1, columns, columns, p.k, 1, 1, 0, 0, 0, p.k, 1, columns * p.k, (0, 0, 0, 0), kind, False)
        if spread and p.k % _PAGE == 0 and columns > 1:
            line = p.k + SLACK
            return replace(plain, step_x=line, lines=columns, line=line, padding=(0, 0, 0, SLACK), copied=True)
        return replace(plain, copied=kind != "uint8" or p.k < least)
    w, channels = p.window, p.channels
    top, left, bottom, right = w.padding
    line = (w.width + left + right) * channels
    dilated = w.dilation[1] > 1 and w.kernel[1] > 1
    run = channels if dilated else w.kernel[1] * channels
    return Places(
        items=p.batch,
        columns=p.n,
        width=w.out_width,
        run=run,
        rows=w.kernel[0],
        taps=w.kernel[1] if dilated else 1,
        down=w.dilation[0] * line,
        across=w.dilation[1] * channels,
        step_y=w.stride[0] * line,
        step_x=w.stride[1] * channels,
        lines=w.height + top + bottom,
        line=line,
        padding=(top, left * channels, bottom, right * channels),
        member=kind,
        copied=kind != "uint8" or run < least or any(w.padding),
    )


def in_runs(weight: FloatArray, window: Window | None, runs: int) -> FloatArray:
    """W (m, k) as (m, runs, run), in the order of X."""
    if window is None:
        return weight.reshape(len(weight), runs, -1)
    area = window.kernel[0] * window.kernel[1]
    return np.ascontiguousarray(weight.reshape(len(weight), -1, area).swapaxes(1, 2)).reshape(len(weight), runs, -1)


def grouped(weight: FloatArray, group: int, ends: bool) -> NDArray[np.int64]:
    """(m, runs, run) in groups: (m, runs, groups, group). ends: a group that is not whole ends with its run, and
    begins in the one before it, with zeros; else it begins behind that one, and zeros fill it up."""
    m, runs, run = weight.shape
    whole, rest = divmod(run, group)
    found = np.zeros((m, runs, whole + (rest > 0), group), np.int64)
    found[:, :, :whole] = weight[..., : whole * group].reshape(m, runs, whole, group)
    if rest:
        found[:, :, whole, -rest if ends else 0 : None if ends else rest] = weight[..., whole * group :]
    return found
