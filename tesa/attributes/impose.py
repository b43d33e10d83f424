"""What-if sparsity: a pattern that a dense weight does not have yet, imposed on a copy of it by magnitude."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.errors import UsageError
from tesa.schedules.types import FloatArray

KINDS = ("unstructured", "block", "n:m", "channel")

_FORMS = "0.9, 0.9:unstructured, 0.9:block=4x4, 0.5:2:4 or 0.5:channel, for one layer NAME=0.9:block=4x4"
_PATTERN = re.compile(r"(?P<unstructured>unstructured)|block=(?P<r>\d+)x(?P<c>\d+)|(?P<n>\d+):(?P<m>\d+)|channel")


@dataclass(frozen=True)
class Imposed:
    """A pattern and how much of it is zero. sparsity: share of zeros, 0 to 1; block: rows x columns; n_m: n of m live.

    >>> str(Imposed("block", 0.9, block=(4, 4)))
    '0.9:block=4x4'
    """

    kind: str
    sparsity: float
    block: tuple[int, int] = (1, 1)
    n_m: tuple[int, int] = (1, 1)

    def __str__(self) -> str:
        """As parse reads it."""
        tail = {"block": f"block={self.block[0]}x{self.block[1]}", "n:m": f"{self.n_m[0]}:{self.n_m[1]}"}
        return f"{self.sparsity:.6g}:{tail.get(self.kind, self.kind)}"

    @property
    def text(self) -> str:
        """The pattern without its share."""
        return str(self).partition(":")[2]

    @staticmethod
    def parse(text: str) -> Imposed:
        """Read "0.9", "0.9:unstructured", "0.9:block=4x4", "0.5:2:4" (also "2:4" alone) or "0.5:channel".

        Raises UsageError with the forms there are.

        >>> Imposed.parse("0.9:block=4x4").block, Imposed.parse("2:4").sparsity
        ((4, 4), 0.5)
        """
        whole = _PATTERN.fullmatch(text.strip())
        share, tail = (None, text.strip()) if whole and whole["n"] else text.strip().partition(":")[::2]
        match = _PATTERN.fullmatch(tail or "unstructured")
        if match is None:
            raise UsageError(f"cannot impose {text!r}: unknown pattern {tail!r}; expected {_FORMS}")
        if match["n"]:
            return _n_of_m(text, share, int(match["n"]), int(match["m"]))
        sparsity = _share(text, share or "")
        if match["r"]:
            block = int(match["r"]), int(match["c"])
            if min(block) < 1:
                raise UsageError(f"cannot impose {text!r}: a block has at least one row and one column")
            return Imposed("block", sparsity, block=block)
        return Imposed("unstructured" if match["unstructured"] else "channel", sparsity)


def _share(text: str, share: str) -> float:
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise UsageError(f"cannot impose {text!r}: {share!r} is no share of zeros from 0 to below 1; expected {_FORMS}")
    return value


def _n_of_m(text: str, share: str | None, n: int, m: int) -> Imposed:
    if not 0 < n <= m:
        raise UsageError(f"cannot impose {text!r}: {n}:{m} keeps {n} of {m} elements; n is from 1 to m")
    sparsity = 1 - n / m
    if share is not None and abs(_share(text, share) - sparsity) > 0.01:
        raise UsageError(f"cannot impose {text!r}: {n}:{m} leaves {sparsity:g} of the elements zero, not {share}")
    return Imposed("n:m", sparsity, n_m=(n, m))


def kept(weight: FloatArray, imposed: Imposed) -> NDArray[np.bool_]:
    """Which elements of a weight (m, k) stay: the largest by magnitude, as far as the pattern allows.

    Blocks and channels (rows) are ranked by their mean magnitude, those cut off at the edge too; the share of zeros is
    met as closely as whole blocks allow, and at least one of them stays.

    >>> kept(np.array([[3, 1, 2, 4]], np.float32), Imposed.parse("2:4"))
    array([[ True, False, False,  True]])
    """
    size = np.abs(weight)
    if imposed.kind == "n:m":
        return _best_n_of_m(size, *imposed.n_m)
    rows, columns = {"unstructured": (1, 1), "channel": (1, weight.shape[1])}.get(imposed.kind, imposed.block)
    return _best_blocks(size, rows, columns, imposed.sparsity)


def impose(weight: FloatArray, imposed: Imposed) -> FloatArray:
    """A copy of the weight (m, k) that has exactly that pattern: what is not kept is zero, what is kept is not.

    A zero that the pattern keeps becomes the least number of the weight that is none: the copy is the layer as if it
    had been pruned in this way, whatever zeros it has now.

    >>> impose(np.array([[3, 1, 0, 0]], np.float32), Imposed.parse("0.25"))
    array([[3., 1., 1., 0.]], dtype=float32)
    """
    size = np.abs(weight)
    least = np.float32(size[size > 0].min()) if size.any() else np.float32(1)
    live = np.where(weight == 0, least, weight)
    return np.where(kept(weight, imposed), live, np.float32(0)).astype(np.float32)


def _best_n_of_m(size: NDArray[np.float32], n: int, m: int) -> NDArray[np.bool_]:
    """The n largest of each m neighbours along k; a shorter rest at the end keeps its n largest."""
    rows, k = size.shape
    padded = np.full((rows, -(-k // m) * m), -1, np.float32)
    padded[:, :k] = size
    groups = padded.reshape(rows, -1, m)
    order = np.argsort(-groups, axis=2, kind="stable")
    keep = np.zeros(groups.shape, bool)
    np.put_along_axis(keep, order[:, :, :n], True, axis=2)
    return keep.reshape(rows, -1)[:, :k]


def _best_blocks(size: NDArray[np.float32], rows: int, columns: int, sparsity: float) -> NDArray[np.bool_]:
    m, k = size.shape
    if not size.size:
        return np.zeros(size.shape, bool)
    score: NDArray[np.float64] = size.ravel().astype(np.float64)
    if (rows, columns) != (1, 1):
        total = np.add.reduceat(np.add.reduceat(size, range(0, m, rows), axis=0), range(0, k, columns), axis=1)
        area = np.outer(_extents(m, rows), _extents(k, columns))
        score = (total / area).ravel()
    count = max(1, round((1 - sparsity) * score.size))
    keep = np.zeros(score.size, bool)
    keep[np.argpartition(-score, count - 1)[:count] if count < score.size else slice(None)] = True
    if (rows, columns) == (1, 1):
        return keep.reshape(size.shape)
    grid = keep.reshape(-(-m // rows), -(-k // columns))
    return grid.repeat(rows, axis=0)[:m].repeat(columns, axis=1)[:, :k]


def _extents(total: int, step: int) -> NDArray[np.int64]:
    """Lengths of the pieces of at most `step` that make up `total`."""
    return np.diff(np.append(np.arange(0, total, step), total))
