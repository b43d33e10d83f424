"""A weight layer as a kernel sees it, whatever operator of the model it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.layers.layout import Perm, identity
from tesa.schedules.types import Depth, FloatArray, Window

LARGEST = 1 << 24
"""Elements of a matrix that is written out with the zeros of its structure; of a larger one pieces are made."""


@dataclass(frozen=True)
class Stack:
    """The taps of a convolution's first spatial axis as channels.

    out[n, d, (t, c), ...] = x[n, c, d * stride + t * dilation - before, ...], 0 outside.
    """

    taps: int
    stride: int
    dilation: int
    before: int
    out: int


@dataclass(frozen=True)
class Piece:
    """Some groups, or batch entries of the weight, of a layer that would be too large for one matrix.

    rows: which of the whole layer's. read, made: (axis, start, stop) of the activation, None for all of it, and of the
    result.
    """

    rows: NDArray[np.int64]
    read: tuple[int, int, int] | None
    made: tuple[int, int, int]


@dataclass(frozen=True)
class Anchor:
    """A weight layer before its epilogue: op as in Problem, the (m, k) weight, the activation it reads.

    x_perm, y_perm: the layouts of its activation and of its result. A linear layer with the weight on the right, x W,
    has its features last; with the weight on the left, W x, they come before the columns, which is how the kernel wants
    them. batch, n: as in Problem. features: the logical axes of the result that the rows of the weight count, the last
    one being the layer's own output features. stack: what its activation goes through first. depth: of a convolution of
    three axes, whose kernel may then read the activation and store the result as they are, see in_place. phases: of an
    upsampling layer, by spatial axis, how many neighbouring elements of the result are computed as channels of their
    own, which come before the features: the result is as long as needed along each axis and is put together by
    rearrange.shuffle. shape: of the result. piece: None for the whole layer.
    """

    op: str
    call: Any
    source: Any
    weight: FloatArray
    x_perm: Perm
    y_perm: Perm
    batch: int
    n: int
    shape: tuple[int, ...]
    features: tuple[int, ...]
    window: Window | None = None
    stack: Stack | None = None
    depth: Depth | None = None
    phases: tuple[int, ...] = ()
    piece: Piece | None = None

    @property
    def axis(self) -> int:
        """The logical axis of its output features."""
        return self.features[-1]

    def in_place(self) -> "Anchor":
        """The layer with activation and result in row-major layout, where its kernel knows the depth."""
        if self.depth is None:
            return self
        perm = identity(len(self.shape))
        return replace(self, stack=None, x_perm=perm, y_perm=perm)

    def stacked(self) -> "Anchor":
        """The layer for a kernel that knows of no depth, only of batch entries."""
        return replace(self, depth=None)


def shares(count: int, size: Callable[[int], int], least: int) -> list[tuple[int, int]]:
    """Ranges of about one length that cover 0 ... count, as few as can be, with matrices of at most LARGEST elements.

    size: the elements for a number of groups. least: a matrix may have so many in any case. Empty if one is too large.

    >>> shares(5, lambda groups: groups * groups << 22, 0)
    [(0, 1), (1, 3), (3, 5)]
    """
    limit = max(LARGEST, least)
    most = next((n for n in range(count, 0, -1) if size(n) <= limit), 0)
    pieces = -(-count // most) if most else 0
    return [(i * count // pieces, (i + 1) * count // pieces) for i in range(pieces)]
