"""The neutral program of a panel of int8: live groups of four weights of a row, each one dot product of bytes.

A column of W is a group of four neighbouring k here, an element of a packed tile of X the four bytes of one position
that they meet, and a sum an int32. The steps are those below. A writer (cpu/writers) spells them for one machine.

    >>> from tesa.schedules.panels import panels
    >>> frame = DotFrame(rows=1, groups=2, lanes=16, vectors=1, codes=Codes("uint8", None, 255.0))
    >>> weight = np.array([[1, 0, 0, -2, 0, 0, 3, 0]], np.int8).view(np.int32)
    >>> ((panel,),) = panels(weight, {"rows": 4, "kblock": 0}, 1, "p", 1000)
    >>> print(dot_program(frame, panel, None))
    p_p0_0: 1 rows x 1 vectors of 16 lanes
    a0 = 0
    x0 = X[0]
    w = (1, 0, 0, -2)
    a0 += dot(w, x0)
    x0 = X[16]
    w = (0, 0, 3, 0)
    a0 += dot(w, x0)
    s = scale[0], b = bias[0]
    a0 = real(a0) * s + b
    a0 = within(a0, None, 255.0)
    a0 = nearest(a0)
    Y[0] = bytes(a0)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.panels import Panel
from tesa.schedules.steps import TextStep

GROUP = 4
"""Weights of a dot product, and bytes of a lane."""


@dataclass(frozen=True, slots=True)
class Begin(TextStep):
    """a[sum] = value."""

    sum: int
    value: int
    text = "a{0.sum} = {0.value}"


@dataclass(frozen=True, slots=True)
class LoadSum(TextStep):
    """a[sum] = elements of the scratch from `at` on, counted from the tile's part of it."""

    sum: int
    at: int
    text = "a{0.sum} = scratch[{0.at}]"


@dataclass(frozen=True, slots=True)
class LoadX(TextStep):
    """x[vector] = elements of the packed tile from `at` on."""

    vector: int
    at: int
    text = "x{0.vector} = X[{0.at}]"


@dataclass(frozen=True, slots=True)
class Weights(TextStep):
    """w = four weights in all lanes."""

    values: tuple[int, ...]
    text = "w = {0.values}"

    @property
    def bits(self) -> int:
        """The weights as an int32, the first one in its lowest bits."""
        return int(np.array(self.values, np.int8).view("<i4")[0])


@dataclass(frozen=True, slots=True)
class Dot(TextStep):
    """a[sum] += w[0] x[vector][0] + ... + w[3] x[vector][3], in each lane."""

    sum: int
    vector: int
    text = "a{0.sum} += dot(w, x{0.vector})"


@dataclass(frozen=True, slots=True)
class Scale(TextStep):
    """s, b = scale[row], bias[row] in all lanes."""

    row: int
    text = "s = scale[{0.row}], b = bias[{0.row}]"


@dataclass(frozen=True, slots=True)
class Real(TextStep):
    """a[sum] = s times the integers of a[sum], + b, rounded once where the core can. row: that of s and b."""

    sum: int
    row: int
    text = "a{0.sum} = real(a{0.sum}) * s + b"


@dataclass(frozen=True, slots=True)
class Within(TextStep):
    """a[sum] limited to low ... high; low None for the least code, which StoreCodes sees to."""

    sum: int
    low: float | None
    high: float
    text = "a{0.sum} = within(a{0.sum}, {0.low}, {0.high})"


@dataclass(frozen=True, slots=True)
class Nearest(TextStep):
    """a[sum] = the nearest integers, ties to even; what lies below those of 32 bits gives the least of them."""

    sum: int
    text = "a{0.sum} = nearest(a{0.sum})"


@dataclass(frozen=True, slots=True)
class StoreCodes(TextStep):
    """Elements of Y from `at` on = the codes nearest to up to four sums, as bytes.

    Lane by lane, the first sum's in the lowest byte; or, where the frame's `together` says so, all of the first sum,
    all of the second and so on. The bytes of sums that are not there may be anything.
    """

    sums: tuple[int, ...]
    at: int

    def __str__(self) -> str:
        return f"Y[{self.at}] = bytes({', '.join(f'a{a}' for a in self.sums)})"


@dataclass(frozen=True, slots=True)
class StoreSum(TextStep):
    """The opposite of LoadSum."""

    sum: int
    at: int
    text = "scratch[{0.at}] = a{0.sum}"


DotStep = Begin | LoadSum | LoadX | Weights | Dot
ResultStep = Scale | Real | Within | Nearest | StoreCodes | StoreSum
STEPS = (*get_args(DotStep), *get_args(ResultStep))
"""The kinds of steps, each of which a writer has to spell."""


@dataclass(frozen=True)
class Codes:
    """The codes that panels store: dtype, and the least and the largest of them; low None for the dtype's least."""

    dtype: str
    low: float | None
    high: float


@dataclass(frozen=True)
class DotFrame:
    """The facts that all panels of a kernel share.

    rows: of W; groups: of four k, and elements of a position in a packed tile; codes: that panels store, None where
    they leave their sums; blocked: sums wait between blocks of columns; together: the codes of a row are neighbours.
    ahead: tiles of a call, in whose time the next panel is asked for; 0 where it need not be.
    """

    rows: int
    groups: int
    lanes: int
    vectors: int
    codes: Codes | None = None
    blocked: bool = False
    together: bool = False
    ahead: int = 0

    @property
    def width(self) -> int:
        """Positions of a tile, and elements of a row of all its arrays."""
        return self.vectors * self.lanes

    @property
    def packed(self) -> int:
        """Elements of X of a tile, (groups, width)."""
        return self.groups * self.width

    @property
    def scratch(self) -> int:
        """Elements of the sums of a tile, (rows, width); 0 where they never leave the registers."""
        return self.rows * self.width if self.blocked or self.codes is None else 0

    @property
    def out(self) -> int:
        """Elements of a tile of codes, (rows / 4, width); 0 without codes."""
        return -(-self.rows // GROUP) * self.width if self.codes else 0

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters of a panel's function: pointers to the first tile's part of each array, how many tiles."""
        codes = ("y", "scale", "bias") if self.codes else ()
        return ("x", *codes, *(("scratch",) if self.scratch else ()), "count")


@dataclass(frozen=True)
class DotProgram:
    """The work of a panel on a tile: `sums`, then `results` of them.

    rows: of the panel; sum r * vectors + v belongs to row r and vector v.
    """

    name: str
    frame: DotFrame = field(repr=False)
    rows: int
    sums: tuple[DotStep, ...]
    results: tuple[ResultStep, ...]

    def __str__(self) -> str:
        head = f"{self.name}: {self.rows} rows x {self.frame.vectors} vectors of {self.frame.lanes} lanes"
        return "\n".join([head, *map(str, self.sums), *map(str, self.results)])


def dot_program(frame: DotFrame, panel: Panel, begin: NDArray[np.int32] | None) -> DotProgram:
    """The program of one panel, whose weights are groups as int32. begin: (m,), what each row's sum begins with."""
    finishes = panel.ends and frame.codes is not None
    results = _codes(frame, panel) if finishes else _keep(frame, panel)
    return DotProgram(panel.name, frame, len(panel.weights), tuple(_sums(frame, panel, begin)), tuple(results))


def _sums(frame: DotFrame, panel: Panel, begin: Any) -> Iterator[DotStep]:
    vectors = frame.vectors
    for a in range(len(panel.weights) * vectors):
        if panel.begins:
            yield Begin(a, 0 if begin is None else int(begin[panel.first + a // vectors]))
        else:
            yield LoadSum(a, _waiting(frame, panel, a))
    for i, column in enumerate(panel.columns):
        yield from (LoadX(v, column * frame.width + v * frame.lanes) for v in range(vectors))
        weights = panel.weights[:, i]
        for r in np.flatnonzero(weights).tolist():
            yield Weights(tuple(np.array([weights[r]], "<i4").view(np.int8).tolist()))
            yield from (Dot(r * vectors + v, v) for v in range(vectors))


def _waiting(frame: DotFrame, panel: Panel, a: int) -> int:
    """The place of a sum of the panel in the tile's scratch."""
    return (panel.first * frame.vectors + a) * frame.lanes


def _keep(frame: DotFrame, panel: Panel) -> Iterator[ResultStep]:
    """Leave the sums to the next block of columns, or to whoever finishes them."""
    for a in range(len(panel.weights) * frame.vectors):
        yield StoreSum(a, _waiting(frame, panel, a))


def _codes(frame: DotFrame, panel: Panel) -> Iterator[ResultStep]:
    """Codes of four rows at a time: a panel begins at a multiple of four."""
    codes, vectors = frame.codes, frame.vectors
    assert codes is not None  # see dot_program
    for first in range(0, len(panel.weights), GROUP):
        rows = range(first, min(first + GROUP, len(panel.weights)))
        for r in rows:
            yield Scale(panel.first + r)
            for a in range(r * vectors, (r + 1) * vectors):
                yield Real(a, panel.first + r)
                yield Within(a, codes.low, codes.high)
                yield Nearest(a)
        for v in range(vectors):
            at = (panel.first + first) // GROUP * frame.width + v * frame.lanes
            yield StoreCodes(tuple(r * vectors + v for r in rows), at)
