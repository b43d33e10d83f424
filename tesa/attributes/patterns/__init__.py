"""Names the structure of a sparse weight: dense, empty, channel, group, block(r,c), n:m, unstructured.

A pattern is asked of a matrix (outputs, k): `weight_matrix` gives it of a layer's weight. The recognisers are tried in
the order of registration, the most regular structure first; the last one takes everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]
Structure = dict[str, Any]
Recogniser = Callable[[Mask], Structure | None]

BLOCKS = sorted(
    [
        *((side, side) for side in (32, 16, 8, 4, 2)),
        *((16, 4), (4, 16)),
        *((height, 1) for height in (32, 16, 8, 4, 2)),
        *((1, width) for width in (32, 16, 8, 4, 2)),
    ],
    key=lambda block: -block[0] * block[1],
)
N_OF_M = [(1, 2), (1, 4), (2, 4), (1, 8), (2, 8), (4, 8)]
GROUPS = [2, 3, 4, 6, 8, 12, 16, 32, 64]


@dataclass(frozen=True)
class Pattern:
    """The structure of one weight. block: rows x columns; n_m: n non-zeros in each m along k; group: how many.

    rows, columns: how many of each have a non-zero. row_nnz: the least, the median and the most non-zeros of a row.
    digest identifies shape, values and places, 16 hexadecimal digits.
    """

    kind: str
    shape: tuple[int, int]
    nonzeros: int
    rows: int
    columns: int
    row_nnz: tuple[int, int, int]
    digest: str
    block: tuple[int, int] | None = None
    n_m: tuple[int, int] | None = None
    group: int | None = None

    @property
    def sparsity(self) -> float:
        """The share of zeros; 0 for a matrix without elements."""
        size = self.shape[0] * self.shape[1]
        return 1 - self.nonzeros / size if size else 0.0

    def __str__(self) -> str:
        if self.block is not None:
            return f"block {self.block[0]}x{self.block[1]}"
        if self.n_m is not None:
            return f"{self.n_m[0]}:{self.n_m[1]}"
        if self.group is not None:
            return f"group {self.group}"
        if self.kind == "channel":
            return f"channel {self.rows}/{self.shape[0]} x {self.columns}/{self.shape[1]}"
        return self.kind

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump, with `sparsity` and `text` added."""
        return {**asdict(self), "sparsity": self.sparsity, "text": str(self)}


@dataclass(frozen=True)
class PatternKind:
    """A structure that tesa knows. recognise(mask) gives what is special about it, or None where it does not apply."""

    name: str
    summary: str
    recognise: Recogniser


_KINDS: dict[str, PatternKind] = {}


def pattern(name: str) -> Callable[[Recogniser], Recogniser]:
    """Register the decorated recogniser; its docstring's first line is the summary."""

    def register(recognise: Recogniser) -> Recogniser:
        if name in _KINDS:
            raise ValueError(f"pattern {name!r} is registered twice")
        summary = (recognise.__doc__ or "").strip().splitlines()
        install(PatternKind(name, summary[0] if summary else "", recognise))
        return recognise

    return register


def install(kind: PatternKind) -> None:
    """Register a kind of pattern, in place of one that has its name."""
    _KINDS[kind.name] = kind
    if "unstructured" in _KINDS:  # which every mask is: asked last
        _KINDS["unstructured"] = _KINDS.pop("unstructured")


def forget(name: str) -> None:
    """Take a kind of pattern out again, for notebooks that define one over and over. KeyError if there is none.

    >>> @pattern("corner")
    ... def corner(mask):
    ...     '''One element, the first.'''
    ...     return {} if mask[0, 0] and mask.sum() == 1 else None
    >>> "corner" in [kind.name for kind in patterns()]
    True
    >>> forget("corner")
    """
    del _KINDS[name]


def patterns() -> tuple[PatternKind, ...]:
    """Every kind of pattern, in the order in which they are tried."""
    return tuple(_KINDS.values())


def weight_matrix(op: str, weight: ArrayLike) -> NDArray[Any]:
    """A layer's weight as (outputs, k).

    op "conv1d" to "conv3d": (out, in/groups, *taps) -> (out, in/groups * taps), a depthwise one included; transposed
    ones: (in, out/groups, *taps) -> (out/groups, in * taps), all groups side by side. op "linear" or "matmul": Relax
    keeps (k, out) -> (out, k). ValueError for another op.
    """
    array = np.asarray(weight)
    kind = op.removeprefix("relax.").removeprefix("nn.")
    if kind in ("conv1d", "conv2d", "conv3d", "depthwise"):
        return array.reshape(array.shape[0], -1)
    if kind in ("conv1d_transpose", "conv2d_transpose", "conv3d_transpose"):
        return array.swapaxes(0, 1).reshape(array.shape[1], -1)
    if kind in ("linear", "matmul"):
        return array.reshape(-1, array.shape[-1]).T
    raise ValueError(f"no weight matrix for op {op!r}; expected conv2d, depthwise, linear or matmul")


def digest(weight: ArrayLike) -> str:
    """16 hexadecimal digits that identify shape, type and content of an array.

    A zero is a zero: what is pruned as weight * mask holds negative ones too.

    >>> digest(np.float32([1.0, -0.0])) == digest(np.float32([1.0, 0.0]))
    True
    """
    array = np.ascontiguousarray(weight)
    if array.dtype.kind == "f":
        array = array + array.dtype.type(0)
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()[:16]


def classify(weight: ArrayLike) -> Pattern:
    """The pattern of a weight or mask: (outputs, k), or (outputs, ...) whose other axes are k. Zeros are pruned.

    >>> str(classify(np.kron([[1, 0], [1, 1]], np.ones((4, 1)))))
    'block 4x1'
    >>> str(classify([[1, 0, 2, 0], [0, 3, 0, 4]]))
    '1:2'
    """
    array = np.asarray(weight)
    matrix = array.reshape(1, -1) if array.ndim < 2 else array.reshape(array.shape[0], -1)
    mask = matrix != 0
    per_row = mask.sum(axis=1)
    spread = (int(per_row.min()), int(np.median(per_row)), int(per_row.max())) if per_row.size else (0, 0, 0)
    counts = (int(per_row.sum()), int((per_row > 0).sum()), int(mask.any(axis=0).sum()))
    for kind in _KINDS.values():
        structure = kind.recognise(mask)
        if structure is not None:
            rows, columns = matrix.shape
            return Pattern(kind.name, (rows, columns), *counts, spread, digest(matrix), **structure)
    raise AssertionError("the last pattern takes every mask")


@pattern("empty")
def _empty(mask: Mask) -> Structure | None:
    """No element is left."""
    return None if mask.any() else {}


@pattern("dense")
def _dense(mask: Mask) -> Structure | None:
    """Every element is there."""
    return {} if mask.all() else None


@pattern("channel")
def _channel(mask: Mask) -> Structure | None:
    """Whole rows (outputs) or whole columns (inputs) are gone and the rest is dense."""
    kept = mask[mask.any(axis=1)][:, mask.any(axis=0)]
    return {} if kept.all() else None


@pattern("group")
def _group(mask: Mask) -> Structure | None:
    """Block-diagonal, g dense blocks of equal size: a grouped layer written as one matrix."""
    rows, columns = mask.shape
    for groups in reversed(GROUPS):
        if rows % groups or columns % groups or mask.sum() * groups != mask.size:
            continue
        tiles = mask.reshape(groups, rows // groups, groups, columns // groups)
        if all(tiles[g, :, g].all() for g in range(groups)):
            return {"group": groups}
    return None


@pattern("block")
def _block(mask: Mask) -> Structure | None:
    """Aligned dense blocks of r x c, of the largest size that fits exactly; blocks at the edge may be cut off."""
    for height, width in BLOCKS:
        if height > mask.shape[0] or width > mask.shape[1]:
            continue
        if np.array_equal(_touched(mask, height, width), mask):
            return {"block": (height, width)}
    return None


def _touched(mask: Mask, height: int, width: int) -> Mask:
    """The mask rounded up to whole blocks."""
    rows, columns = mask.shape
    padded = np.pad(mask, ((0, -rows % height), (0, -columns % width)))
    tiles = padded.reshape(padded.shape[0] // height, height, padded.shape[1] // width, width)
    full = np.broadcast_to(tiles.any(axis=(1, 3), keepdims=True), tiles.shape)
    return full.reshape(padded.shape)[:rows, :columns]


@pattern("n:m")
def _n_of_m(mask: Mask) -> Structure | None:
    """n non-zeros in each m neighbours along k (the 2:4 of NVIDIA's tensor cores). 5 % of the groups may have fewer."""
    kept = mask[mask.any(axis=1)]
    for n, m in N_OF_M:
        if kept.shape[1] % m:
            continue
        counts = kept.reshape(len(kept), -1, m).sum(axis=2)
        if counts.max() == n and float((counts == n).mean()) >= 0.95:
            return {"n_m": (n, m)}
    return None


@pattern("unstructured")
def _unstructured(mask: Mask) -> Structure | None:
    """No structure: single elements are gone."""
    return {}
