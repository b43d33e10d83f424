"""A weight layer as a kernel sees it, whatever operator of the model it is."""

from dataclasses import dataclass
from typing import Any

from tesa.layers.layout import Perm
from tesa.schedules.types import FloatArray, Window

LARGEST = 1 << 26
"""Elements of a weight that was written out with the zeros of its structure; a larger one becomes no kernel."""


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
class Anchor:
    """A weight layer before its epilogue: op as in Problem, the (m, k) weight, the activation it reads.

    x_perm, y_perm: the layouts of its activation and of its result. A linear layer with the weight on the right, x W,
    has its features last; with the weight on the left, W x, they come before the columns, which is how the kernel wants
    them. batch, n: as in Problem. features: the logical axes of the result that the rows of the weight count, the last
    one being the layer's own output features. stack: what its activation goes through first. phases: of an upsampling
    layer, by spatial axis, how many neighbouring elements of the result are computed as channels of their own, which
    come before the features: the result is as long as needed along each axis and is put together by rearrange.shuffle.
    """

    op: str
    call: Any
    source: Any
    weight: FloatArray
    x_perm: Perm
    y_perm: Perm
    batch: int
    n: int
    features: tuple[int, ...]
    window: Window | None = None
    stack: Stack | None = None
    phases: tuple[int, ...] = ()

    @property
    def axis(self) -> int:
        """The logical axis of its output features."""
        return self.features[-1]
