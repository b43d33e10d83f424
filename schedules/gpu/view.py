"""The places in X that a column of Y needs: a column for each output of each batch item, a thread for each column."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.types import Problem


@dataclass(frozen=True)
class Border:
    """A convolution's window where it may reach beyond the image: row and column of the image are then compared.

    height, width: of the image; out_width: columns of an image of outputs; stride, padding (top, left).
    rows, columns: for each row and column of the window how far it lies from the first one, and whether any output has
    it outside of the image.
    """

    height: int
    width: int
    out_width: int
    stride: tuple[int, int]
    padding: tuple[int, int]
    rows: tuple[tuple[int, bool], ...]
    columns: tuple[tuple[int, bool], ...]


@dataclass(frozen=True)
class View:
    """X as columns: element k of column j lies offsets[k] behind where the column begins.

    columns: batch * n of them. n: of one batch item. item: elements of X from one batch item to the next. border: None
    where a column begins at its own number, as in a linear layer. taps: for each k the row and the column of the
    window.
    """

    columns: int
    n: int
    item: int
    offsets: NDArray[np.int64]
    border: Border | None
    taps: tuple[tuple[int, int], ...] = ()

    def masked(self, k: int) -> tuple[int, int] | None:
        """The row and the column of the window where element k may lie beyond the border, None where it never does."""
        if self.border is None:
            return None
        row, column = self.taps[k]
        inside = not self.border.rows[row][1] and not self.border.columns[column][1]
        return None if inside else (row, column)

    @property
    def masks(self) -> tuple[tuple[int, int], ...]:
        """Every row and column of the window that may lie beyond the border."""
        found = (self.masked(k) for k in range(len(self.taps)))
        return tuple(sorted({tap for tap in found if tap is not None}))

    @property
    def shift(self) -> int:
        """Elements by which a column may begin before X."""
        return 0 if self.border is None else self.border.padding[0] * self.border.width + self.border.padding[1]


def view(problem: Problem) -> View:
    """The view of a linear layer or a convolution. ValueError for an operator that has none.

    >>> view(Problem("linear", 4, 3, 10, (2, 3, 10), (2, 4, 10), batch=2)).offsets.tolist()
    [0, 10, 20]
    """
    columns = problem.batch * problem.n
    if problem.pointwise:
        return View(columns, problem.n, problem.k * problem.n, np.arange(problem.k, dtype=np.int64) * problem.n, None)
    w = problem.window
    if w is None or problem.op != "conv2d":
        raise ValueError(f"no columns of {problem.op}")
    (top, left, _, _), (high, wide) = w.padding, w.kernel
    rows = tuple(_reach(i * w.dilation[0], w.stride[0], top, w.out_height, w.height) for i in range(high))
    across = tuple(_reach(i * w.dilation[1], w.stride[1], left, w.out_width, w.width) for i in range(wide))
    border = Border(w.height, w.width, w.out_width, w.stride, (top, left), rows, across)
    image = w.height * w.width
    taps = [(row, column) for _ in range(problem.channels) for row in range(high) for column in range(wide)]
    offsets = [
        channel * image + row * w.dilation[0] * w.width + column * w.dilation[1]
        for channel in range(problem.channels)
        for row in range(high)
        for column in range(wide)
    ]
    return View(columns, problem.n, problem.channels * image, np.array(offsets, np.int64), border, tuple(taps))


def _reach(far: int, stride: int, padding: int, count: int, size: int) -> tuple[int, bool]:
    """The distance of a tap from the first one, and whether it is outside of the image for any of the outputs."""
    first, last = far - padding, (count - 1) * stride - padding + far
    return far, first < 0 or last >= size
