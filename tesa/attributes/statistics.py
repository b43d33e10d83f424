"""Numbers that say how alike the patterns of two weights are, cheap enough for every weight of a model.

A weight (m, k) is packed to one bit an element. Blocks of r rows come from r to 2r by one OR of neighbouring rows, and
blocks of c columns are c neighbouring bits, so that the live blocks of all common shapes of a 4096 x 4096 weight are
counted in some tens of milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tesa.attributes.patterns import BLOCKS, GROUPS, N_OF_M, Pattern, patterns

SHAPES = (
    (1, 4), (1, 16), (1, 32), (4, 1), (8, 1), (16, 1), (32, 1), (4, 4), (8, 8), (16, 16), (32, 32), (32, 64),
)  # fmt: skip
"""Blocks, rows x columns, of which Statistics.fill tells how many are live."""

LIMIT = math.log(1.25)
"""Largest distance() of two weights that are taken to tell something of each other's times: a quarter more or less of
any one number. It lets sparsity 0.89 speak for 0.90 and 0.95 for 0.94, but not 0.85 for 0.90."""

_Packed = NDArray[np.uint8]
_Structure = dict[str, Any]
_BITS = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
_DIGITS = 5


@dataclass(frozen=True)
class Spread:
    """Non-zeros of a row (or of a column): mean, standard deviation and the most."""

    mean: float
    deviation: float
    most: int

    @staticmethod
    def of(counts: NDArray[np.integer[Any]]) -> Spread:
        """Of the counts of all rows; zeros if there is none."""
        if not counts.size:
            return Spread(0.0, 0.0, 0)
        return Spread(_short(counts.mean()), _short(counts.std()), int(counts.max()))

    @property
    def unevenness(self) -> float:
        """1 where all are the same, more where they differ: 1 + deviation / mean."""
        return 1.0 + (self.deviation / self.mean if self.mean else 0.0)


@dataclass(frozen=True)
class Statistics:
    """The pattern of a weight in numbers.

    kind: as tesa.attributes.patterns names it ("block 4x4"); sparsity: share of zeros; fill: by "ROWSxCOLUMNS", which
    share of such blocks, aligned, holds a non-zero (blocks cut off at the edge count); n_m: (2, 4) for 2:4.
    """

    kind: str
    sparsity: float
    nonzeros: int
    fill: Mapping[str, float]
    rows: Spread
    columns: Spread
    n_m: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        data = {**asdict(self), "fill": dict(self.fill)}
        return {**data, "n_m": None if self.n_m is None else list(self.n_m)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Statistics:
        """The inverse of to_json. KeyError, TypeError or ValueError if that is not what data is."""
        ratio = data.get("n_m")
        return Statistics(
            str(data["kind"]), float(data["sparsity"]), int(data["nonzeros"]),
            {str(name): float(share) for name, share in data["fill"].items()},
            Spread(**data["rows"]), Spread(**data["columns"]), None if ratio is None else (ratio[0], ratio[1]),
        )  # fmt: skip


def statistics_of(weight: ArrayLike) -> Statistics:
    """The statistics of a weight or mask (m, k), whose zeros are pruned.

    >>> found = statistics_of(np.kron([[1, 0], [0, 0]], np.ones((4, 4))))
    >>> found.kind, found.sparsity, found.fill["4x4"], found.rows.most
    ('channel 4/8 x 4/8', 0.75, 0.25, 4)
    """
    facts = _Facts(np.asarray(weight))
    kind = facts.pattern
    m, k = facts.mask.shape
    fill = {f"{r}x{c}": _short(facts.live(r, c) / (-(-m // r) * -(-k // c) or 1)) for r, c in SHAPES}
    return Statistics(
        str(kind), round(kind.sparsity, 6), kind.nonzeros, fill,
        Spread.of(facts.per_row), Spread.of(facts.per_column), kind.n_m,
    )  # fmt: skip


def distance(one: Statistics, other: Statistics) -> float:
    """How unlike two weights of one shape are: the largest difference of any of their numbers, as a logarithm of ratio.

    The numbers are those that the time of a kernel follows: the count of non-zeros, the share of live blocks of each
    shape, and how unevenly rows and columns are filled. 0 is alike in all; log(1.1) is 10 % more or less in one of
    them; infinity where one is empty or n:m and the other is not. See LIMIT.
    """
    if one.n_m != other.n_m or (one.nonzeros == 0) != (other.nonzeros == 0):
        return math.inf
    pairs: list[tuple[float, float]] = [(one.nonzeros, other.nonzeros)]
    pairs += [(share, other.fill[name]) for name, share in one.fill.items() if name in other.fill]
    pairs += [(a.unevenness, b.unevenness) for a, b in ((one.rows, other.rows), (one.columns, other.columns))]
    return max(math.log(max(pair) / min(pair)) for pair in pairs if min(pair) > 0) if one.nonzeros else 0.0


class _Facts:
    """What is counted of one mask, each thing once."""

    def __init__(self, weight: NDArray[Any]) -> None:
        shape = (1, weight.size) if weight.ndim < 2 else (weight.shape[0], math.prod(weight.shape[1:]))
        flat = weight.reshape(shape)
        self.mask: NDArray[np.bool_] = flat != 0
        self.per_row: NDArray[np.intp] = np.count_nonzero(self.mask, axis=1)
        self.per_column: NDArray[np.intp] = np.count_nonzero(self.mask, axis=0)
        self.nonzeros = int(self.per_row.sum())
        self._packed: dict[int, _Packed] = {1: _pack(self.mask)}

    @cached_property
    def pattern(self) -> Pattern:
        """The pattern as classify() has it, without its digest, and in a fraction of the time where that is slow."""
        spread = tuple(int(f(self.per_row)) for f in (np.min, np.median, np.max)) if self.per_row.size else (0, 0, 0)
        counts = (self.nonzeros, int(np.count_nonzero(self.per_row)), int(np.count_nonzero(self.per_column)))
        for kind in patterns():
            quick = _QUICK.get(kind.name)
            structure = kind.recognise(self.mask) if quick is None else quick(self)
            if structure is not None:
                m, k = self.mask.shape
                return Pattern(kind.name, (m, k), *counts, (spread[0], spread[1], spread[2]), "", **structure)
        raise AssertionError("the last pattern takes every mask")

    def live(self, height: int, width: int) -> int:
        """How many aligned blocks hold a non-zero. Both sizes are powers of 2; the width at most 64."""
        if not self.nonzeros:
            return 0
        rows = self._rows(height)
        return int(_BITS[_fold(rows, width)].sum()) if width < 8 else int(np.count_nonzero(_wide(rows, width)))

    def covered(self, height: int, width: int) -> int:
        """How many elements lie in live blocks."""
        rows, (m, k) = self._rows(height), self.mask.shape
        if width < 8:
            bits = _fold(rows, width)
            counts = _BITS[bits].sum(axis=1, dtype=np.int64)
            last = bits[:, (k - 1) // 8] >> (7 - (k - 1) % 8 // width * width) & 1
        else:
            blocks = _wide(rows, width) != 0
            counts = np.count_nonzero(blocks, axis=1).astype(np.int64)
            last = blocks[:, (k - 1) // width].astype(np.uint8)
        wide: NDArray[np.int64] = counts * width - last.astype(np.int64) * (-k % width)
        total: int = int(wide.sum()) * height - int(wide[-1]) * (-m % height)
        return total

    @cached_property
    def bytes(self) -> NDArray[np.intp]:
        """How often each value of 8 neighbouring bits along k occurs."""
        return np.bincount(self._packed[1].reshape(-1), minlength=256)

    def _rows(self, height: int) -> _Packed:
        """The packed mask with each height rows made one."""
        if height not in self._packed:
            half = self._rows(height // 2)
            even, odd = half[0::2], half[1::2]
            both = even.copy()
            both[: len(odd)] |= odd
            self._packed[height] = both
        return self._packed[height]


def _pack(mask: NDArray[np.bool_]) -> _Packed:
    """One bit an element, the first in the highest bit; each row is filled up to whole words of 64 bits."""
    rows, columns = mask.shape
    packed = np.packbits(mask, axis=1)
    if columns % 64 == 0:
        return packed
    whole = np.zeros((rows, -(-columns // 64) * 8), dtype=np.uint8)
    whole[:, : packed.shape[1]] = packed
    return whole


def _fold(rows: _Packed, width: int) -> _Packed:
    """One bit for each block of 1, 2 or 4 columns: its first column's; the others are 0."""
    if width == 1:
        return rows
    pairs: _Packed = (rows | rows << np.uint8(1)) & np.uint8(0b10101010)
    if width == 2:
        return pairs
    fours: _Packed = (pairs | pairs << np.uint8(2)) & np.uint8(0b10001000)
    return fours


def _wide(rows: _Packed, width: int) -> NDArray[np.unsignedinteger[Any]]:
    """One number for each block of 8, 16, 32 or 64 columns, 0 where it is dead."""
    return rows.view(f"u{width // 8}")


def _channel(facts: _Facts) -> _Structure | None:
    live = int(np.count_nonzero(facts.per_row)) * int(np.count_nonzero(facts.per_column))
    return {} if facts.nonzeros == live else None


def _group(facts: _Facts) -> _Structure | None:
    if all(facts.nonzeros * groups != facts.mask.size for groups in GROUPS):
        return None
    return next(kind.recognise(facts.mask) for kind in patterns() if kind.name == "group")


def _block(facts: _Facts) -> _Structure | None:
    m, k = facts.mask.shape
    if all(facts.covered(*pair) != facts.nonzeros for pair in ((2, 1), (1, 2))):
        return None  # every larger block is made of these
    for height, width in BLOCKS:
        if height <= m and width <= k and facts.covered(height, width) == facts.nonzeros:
            return {"block": (height, width)}
    return None


def _n_of_m(facts: _Facts) -> _Structure | None:
    live, k = int(np.count_nonzero(facts.per_row)), facts.mask.shape[1]
    for n, m in N_OF_M:
        if k % m:
            continue
        counts = _counts(m)  # of each byte: how many of its groups have how many
        totals = (counts * facts.bytes[:, None]).sum(axis=0)
        if totals[n] and not totals[n + 1 :].any() and totals[n] / (live * k // m) >= 0.95:
            return {"n_m": (n, m)}
    return None


def _counts(m: int) -> NDArray[np.intp]:
    """(256, m + 1): in how many groups of m bits a byte has 0, 1, ... ones."""
    table = np.zeros((256, m + 1), dtype=np.intp)
    for byte in range(256):
        for first in range(0, 8, m):
            table[byte, bin(byte >> first & (1 << m) - 1).count("1")] += 1
    return table


_QUICK: dict[str, Callable[[_Facts], _Structure | None]] = {
    "empty": lambda facts: None if facts.nonzeros else {},
    "dense": lambda facts: {} if facts.nonzeros == facts.mask.size else None,
    "channel": _channel,
    "group": _group,
    "block": _block,
    "n:m": _n_of_m,
}
"""The same answers as the recognisers of tesa.attributes.patterns, from the counts."""


def _short(value: float) -> float:
    """A few digits are enough, and keep a record readable."""
    return float(f"{value:.{_DIGITS}g}")
