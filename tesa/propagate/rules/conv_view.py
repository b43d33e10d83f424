"""A convolution of any rank, layout, direction and number of groups in one form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, Values
from tesa.propagate.registry import Operator
from tesa.propagate.rules.common import as_channels
from tesa.propagate.rules.window import Axis, convolution_axes, letters, spread, tap_indices


@dataclass(frozen=True, eq=False)
class ConvView:
    """Data as (n, group, in, *spatial), weight as (group, out, in, *taps), result as (n, group, out, *spatial).

    ins, outs: channels of one group. axes: what the taps read. orders: of the axes of data, weight and result.
    """

    groups: int
    ins: int
    outs: int
    axes: tuple[Axis, ...]
    orders: tuple[tuple[int, ...], ...]
    transposed: bool

    def data(self, array: Values) -> Values:
        """An array over the layer's input, in the view's form; short axes stay short."""
        return self._apart(array.transpose(self.orders[0]), self.ins)

    def result(self, array: Values) -> Values:
        """An array over the layer's output, in the view's form."""
        return self._apart(array.transpose(self.orders[2]), self.outs)

    def weight(self, array: Values) -> Values:
        """An array over the weight, of its full shape, in the view's form."""
        turned = array.transpose(self.orders[1])
        if self.transposed:  # (in, out / groups, ..)
            return turned.reshape(self.groups, self.ins, self.outs, *turned.shape[2:]).swapaxes(1, 2)
        return turned.reshape(self.groups, self.outs, self.ins, *turned.shape[2:])

    def as_data(self, array: Values) -> Values:
        """Back to the layout of the layer's input."""
        return self._joined(array, self.ins).transpose(np.argsort(self.orders[0]))

    def as_result(self, array: Values) -> Values:
        """Back to the layout of the layer's output."""
        return self._joined(array, self.outs).transpose(np.argsort(self.orders[2]))

    def as_weight(self, array: Values) -> Values:
        """Back to the layout of the weight."""
        if self.transposed:
            array = array.swapaxes(1, 2)
        joined = array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
        return joined.transpose(np.argsort(self.orders[1]))

    def _apart(self, array: Values, each: int) -> Values:
        split = (1, 1) if array.shape[1] == 1 else (self.groups, each)
        return array.reshape(array.shape[0], *split, *array.shape[2:])

    def _joined(self, array: Values, each: int) -> Values:
        if array.shape[1:3] != (1, 1):
            array = np.broadcast_to(array, (array.shape[0], self.groups, each, *array.shape[3:]))
        return array.reshape(array.shape[0], -1, *array.shape[3:])


def conv_view(op: Operator) -> ConvView | None:
    """The view of a convolution; None for a layout that is not made of whole axes, such as NCHW16c."""
    if len(op.inputs) != 2:
        return None
    transposed = op.op.endswith("_transpose")
    layout = str(op.attrs["data_layout"])
    orders = (
        letters(layout, op.inputs[0], "NC"),
        letters(str(op.attrs["kernel_layout"]), op.inputs[1], "IO" if transposed else "OI"),
        letters(str(op.attrs.get("out_layout") or layout), op.outputs[0], "NC"),
    )
    x, w, y = ([s[i] for i in o or ()] for s, o in zip((*op.inputs, op.outputs[0]), orders, strict=True))
    if any(order is None for order in orders) or min((*op.inputs[0], *op.inputs[1], *op.outputs[0])) == 0:
        return None
    axes = convolution_axes(op, x[2:], w[2:], y[2:], transposed)
    groups = int(op.attrs["groups"])
    return ConvView(groups, x[1] // groups, y[1] // groups, axes, tuple(o for o in orders if o), transposed)


def meets(view: ConvView, data: Bools, weight: Bools) -> Bools:
    """(n, group, out, *positions): whether any term of the sum has True for both its factors.

    By position where an axis is pointwise; over all positions of the others, whose results have length 1 there.
    """
    total: Any = False
    for taps, part in _parts(view, data):
        used = weight[taps] if weight[taps].ndim == 3 else weight[taps].any(axis=-1)
        hit = np.matmul(used.astype(np.float32), _columns(part)) > 0
        total = total | hit.reshape(part.shape[0], view.groups, view.outs, *part.shape[3:])
    shape = (data.shape[0], view.groups, view.outs, *(1 for _ in view.axes))
    return np.asarray(total) if np.ndim(total) else np.zeros(shape, bool)


def pairs(view: ConvView, live: Bools, data: Bools) -> Bools:
    """(group, out, in, *taps): whether a weight has an element of `data` that it carries to an output in `live`."""
    shape = (view.groups, view.outs, view.ins, *(axis.reads.shape[1] for axis in view.axes))
    result = np.zeros(shape, bool)
    live = _by_place(view, live)
    for taps, part in _parts(view, data):
        common = np.broadcast_shapes((live.shape[0], *live.shape[3:]), (part.shape[0], *part.shape[3:]))
        a, b = (
            _columns(np.broadcast_to(m, (common[0], view.groups, each, *common[1:])))
            for m, each in ((live, view.outs), (part, view.ins))
        )
        hit = np.matmul(a, b.swapaxes(-1, -2)).sum(axis=0) > 0
        result[taps] = hit.reshape(hit.shape + (1,) * (result[taps].ndim - 3))
    return result


def carried(view: ConvView, live: Bools, weight: Bools) -> Bools:
    """(n, group, in, *positions): whether an element goes through a weight in `weight` to an output in `live`.

    weight: (group, out, in, *taps), False for taps that read nothing.
    """
    used: Bools = np.asarray(weight.any(axis=tuple(range(3, weight.ndim))))
    live = _by_place(view, live)
    hit = np.matmul(used.swapaxes(1, 2).astype(np.float32), _columns(live)) > 0
    need: Bools = hit.reshape(live.shape[0], view.groups, view.ins, *live.shape[3:])
    for d, axis in enumerate(view.axes, start=3):
        if axis.skipped is not None:
            need = need & as_channels(axis.skipped, need.ndim, d)
    return need


def inside(view: ConvView) -> Bools:
    """(*taps): which taps ever read an element."""
    result = np.ones((), bool)
    for axis in view.axes:
        result = np.logical_and.outer(result, axis.inside)
    return np.asarray(result)


def convolve(view: ConvView, data: Values, weight: Values) -> Values:
    """The convolution of data that may be short with a weight of full shape, in the view's forms, as short as it is.

    Where the data are the same at all positions of an axis, only the kinds of output are computed: those that read
    the same taps.
    """
    axes, kinds = [], []
    for d, axis in enumerate(view.axes, start=3):
        few, kind = axis.distinct() if data.shape[d] == 1 else (axis, None)
        axes.append(few)
        kinds.append(kind)
    shape = tuple(axis.reads.shape[0] for axis in axes)
    total = np.zeros((data.shape[0], weight.shape[0], weight.shape[1], *shape))
    data = np.broadcast_to(data, (data.shape[0], weight.shape[0], weight.shape[2], *data.shape[3:]))
    for tap in tap_indices(axes):
        taps = weight[(slice(None),) * 3 + tap]
        if taps.any():
            part = data
            for d, axis in enumerate(axes):
                part = axis.read(part, 3 + d, tap[d])
            part = np.broadcast_to(part, (*part.shape[:3], *shape))
            total += np.matmul(taps, _columns(part, np.float64)).reshape(total.shape)
    for d, kind in enumerate(kinds, start=3):
        total = total if kind is None else spread(total, d, kind)
    return total


def _parts(view: ConvView, data: Bools) -> Sequence[tuple[Any, Bools]]:
    """(taps, what they read) such that the taps read alike: one part if the data are the same everywhere."""
    data = np.broadcast_to(data, (data.shape[0], view.groups, view.ins, *data.shape[3:]))
    ranks = range(3, data.ndim)
    if all(data.shape[d] == 1 or view.axes[d - 3].pointwise for d in ranks):
        found = np.nonzero(inside(view))
        return [((slice(None),) * 3 + found, data)] if found[0].size else []
    parts = []
    for tap in tap_indices(view.axes):
        part: Bools | None = data
        for d, axis in enumerate(view.axes):
            part = None if part is None else axis.seen(part, 3 + d, tap[d])
        if part is not None:
            parts.append(((slice(None),) * 3 + tap, part))
    return parts


def _by_place(view: ConvView, live: Bools) -> Bools:
    """Any over the axes that are not pointwise, with the channels at their full number."""
    for d, axis in enumerate(view.axes, start=3):
        live = live if axis.pointwise else np.asarray(live.any(axis=d, keepdims=True))
    return np.broadcast_to(live, (live.shape[0], view.groups, view.outs, *live.shape[3:]))


def _columns(array: Values, dtype: Any = np.float32) -> Values:
    """(n, group, channels, all positions), as numbers."""
    return array.reshape(*array.shape[:3], -1).astype(dtype)
