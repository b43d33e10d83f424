"""Convolutions of one, two and three axes, and transposed ones, as layers with the window of a 2-D convolution.

A 1-D convolution is one of height 1. Neighbouring axes along which a 3-D one has no taps are one axis; where three are
left, the taps along the depth are channels: of kernels that know the depth (Anchor.in_place) while X is read, and else
of a copy.

A transposed convolution with a stride of s is s convolutions along each axis, one for each phase of the output, which
run as one: element q s + r of the result sums x[q + (r + p - t d) / s] w[t] over the taps t for which that is a whole
number, where d is the dilation and p the padding. A tap that a phase lacks is a zero of the weight, and a group lacks
the inputs of the others: zeros cost nothing in a sparse kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.layers.anchor import Anchor, Piece, Stack, shares
from tesa.layers.expressions import constant_of, op_name, shape_of
from tesa.layers.layout import identity
from tesa.schedules.types import Depth, FloatArray, Window

_SPATIAL = {3: "W", 4: "HW", 5: "DHW"}


@dataclass(frozen=True)
class _Axis:
    """One spatial axis: size, taps, stride, padding and dilation, and how many elements come out."""

    size: int
    taps: int
    stride: int
    dilation: int
    before: int
    after: int
    out: int

    @property
    def trivial(self) -> bool:
        """True if there is one element and one tap."""
        return self.size == self.taps == self.out == 1

    @property
    def pointwise(self) -> bool:
        """True if output i reads input i and nothing else."""
        return self.taps == self.stride == 1 and self.before == self.after == 0


def find_convolution(call: Any, known: NDArray[Any] | None) -> tuple[Anchor, ...]:
    """The layer that a relax.nn.convNd or convNd_transpose is, if its weight is a float32 constant.

    known takes the place of the weight. Pieces of it where it is too large for one matrix.
    """
    own = constant_of(call.args[1])
    if own is None or own.dtype != np.float32:
        return ()
    weight = own if known is None else known
    spatial, attrs = _SPATIAL.get(weight.ndim, ""), call.attrs
    transposed = op_name(call).endswith("_transpose")
    layouts = ("NC" + spatial, ("IO" if transposed else "OI") + spatial)
    if not spatial or (str(attrs.data_layout), str(attrs.kernel_layout)) != layouts:
        return ()
    axes = _axes(call, weight.shape[2:])
    return _upsampling(call, weight, axes) if transposed else _convolution(call, weight, axes)


def _axes(call: Any, taps: Sequence[int]) -> list[_Axis]:
    attrs, rank = call.attrs, len(taps)
    sizes, outs = shape_of(call.args[0])[2:], shape_of(call)[2:]
    strides, dilations = (_several(values, rank) for values in (attrs.strides, attrs.dilation))
    pads = _several(attrs.padding, 2 * rank)
    before, after = pads[:rank], pads[rank:]
    return [_Axis(*values) for values in zip(sizes, taps, strides, dilations, before, after, outs, strict=True)]


def _several(values: Any, count: int) -> list[int]:
    found = [int(value) for value in values]
    return (found * (count // len(found)))[:count]


def _convolution(call: Any, weight: FloatArray, axes: list[_Axis]) -> tuple[Anchor, ...]:
    groups, channels = int(call.attrs.groups), shape_of(call.args[0])[1]
    out, ins = weight.shape[:2]
    if groups == channels == out and ins == 1 and _plane(_merged(axes)) is not None:
        return (_anchor(call, "depthwise", weight.reshape(out, -1), axes),)
    outs, taps = out // groups, weight.shape[2:]
    made = []
    for start, stop in shares(groups, lambda count: count * count * outs * ins * prod(taps), weight.size):
        full, part = weight, None
        if groups > 1:
            full = np.zeros(((stop - start) * outs, (stop - start) * ins, *taps), np.float32)
            for g in range(stop - start):
                own = slice((start + g) * outs, (start + g + 1) * outs)
                full[g * outs : (g + 1) * outs, g * ins : (g + 1) * ins] = weight[own]
        if stop - start < groups:
            rows = np.arange(start * outs, stop * outs)
            part = Piece(rows, (1, start * ins, stop * ins), (1, start * outs, stop * outs))
        made.append(_anchor(call, "conv2d", full, axes, piece=part))
    return tuple(made)


def _upsampling(call: Any, weight: FloatArray, axes: list[_Axis]) -> tuple[Anchor, ...]:
    """The phases of a transposed convolution as output channels of a plain one, the outermost ones.

    before: x (1, 32, 48, 48), w (32, 1, 9, 9), stride 3   after: x, w (9, 32, 3, 3), padding 1; y[q 3 + r] = z[r, q]
    """
    groups, channels, outputs = int(call.attrs.groups), shape_of(call.args[0])[1], shape_of(call)[1]
    # of one element each output has a tap of its own: as a stride it leaves no tap that reads padding
    axes = [replace(axis, stride=axis.out) if axis.size == 1 else axis for axis in axes]
    found = [_phases(axis) for axis in axes]
    plain = [axis for axis, _ in found]
    phases = tuple(axis.stride for axis in axes)
    taps = [axis.taps for axis in plain]
    ins, outs = channels // groups, outputs // groups
    made = []
    for start, stop in shares(groups, lambda n: prod(phases) * n * n * outs * ins * prod(taps), weight.size):
        count = stop - start
        full = np.zeros((*phases, count * outs, count * ins, *taps), np.float32)
        for tap in np.ndindex(weight.shape[2:]):
            places = [places[t] for (_, places), t in zip(found, tap, strict=True)]
            target = full[(*(phase for phase, _ in places), ..., *(to for _, to in places))]  # (outputs, channels)
            values = weight[(slice(start * ins, stop * ins), slice(None), *tap)]
            for g in range(count):
                columns = slice(g * ins, (g + 1) * ins)
                target[g * outs : (g + 1) * outs, columns] = values[columns].T
        part = None
        if count < groups:
            rows = np.arange(prod(phases) * outputs).reshape(-1, outputs)[:, start * outs : stop * outs]
            part = Piece(rows.reshape(-1), (1, start * ins, stop * ins), (1, start * outs, stop * outs))
        made.append(_anchor(call, "conv2d", full.reshape(-1, count * ins, *taps), plain, phases, part))
    return tuple(made)


def _phases(axis: _Axis) -> tuple[_Axis, list[tuple[int, int]]]:
    """A transposed axis as a plain one of stride 1, and for each tap its phase and its place among the new taps."""
    count = -(-axis.out // axis.stride)
    phases = [(tap * axis.dilation - axis.before) % axis.stride for tap in range(axis.taps)]
    reads = [(r + axis.before - t * axis.dilation) // axis.stride for t, r in enumerate(phases)]
    low, high = min(0, *reads), max(axis.size - count, *reads)  # no padding is negative
    plain = _Axis(axis.size, high - low + 1, 1, 1, -low, count - axis.size + high, count)
    return plain, [(phase, read - low) for phase, read in zip(phases, reads, strict=True)]


def _merged(axes: list[_Axis]) -> list[_Axis]:
    """Of three axes two neighbours along which nothing moves as one: of 3x1x1 taps the rows of all slices."""
    if len(axes) < 3:
        return axes
    made = axes[:1]
    for axis in axes[1:]:
        if axis.pointwise and made[-1].pointwise:
            size = made.pop().size * axis.size
            axis = replace(axis, size=size, out=size)
        made.append(axis)
    return made


def _plane(axes: list[_Axis]) -> tuple[_Axis, _Axis] | None:
    """The two axes of a window that says it all; None where there are three."""
    single = _Axis(1, 1, 1, 1, 0, 0, 1)
    wide = axes if len(axes) <= 2 else [axis for axis in axes if not axis.trivial]
    if len(wide) > 2:
        return None
    first, second = [single, single, *wide][-2:]
    return first, second


def _anchor(
    call: Any, op: str, weight: FloatArray, axes: list[_Axis], phases: tuple[int, ...] = (), piece: Piece | None = None
) -> Anchor:
    """The layer. weight: (m, channels, *taps), or (m, taps) of a depthwise one."""
    whole, rank, axes = shape_of(call), len(axes) + 2, _merged(axes)
    batch, perm, plane, stack, depth = whole[0], identity(rank), _plane(axes), None, None
    if plane is None:
        first, *rest = axes
        plane, batch, perm = (rest[0], rest[1]), batch * first.out, (0, 2, 1, 3, 4)
        weight = weight.swapaxes(1, 2)
        depth = Depth(first.size, first.taps, first.out, first.stride, first.before, first.dilation)
        if not first.pointwise:
            stack = Stack(first.taps, first.stride, first.dilation, first.before, first.out)
    matrix = np.ascontiguousarray(weight.reshape(weight.shape[0], -1))
    return Anchor(
        op, call, call.args[0], matrix, perm, perm, batch, plane[0].out * plane[1].out,
        (whole[0], weight.shape[0] // prod(phases), *whole[2:]), (1,), _window(*plane), stack, depth,
        phases if any(phase > 1 for phase in phases) else (), piece,
    )  # fmt: skip


def _window(down: _Axis, across: _Axis) -> Window:
    return Window(
        down.size, across.size, (down.taps, across.taps), (down.stride, across.stride),
        (down.before, across.before, down.after, across.after), (down.dilation, across.dilation),
    )  # fmt: skip
