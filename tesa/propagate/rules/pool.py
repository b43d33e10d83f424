"""Pooling over a window of elements: each channel for itself, from position to position.

The windows are those of TVM: padding takes no part in a maximum; an average that counts it divides by the taps that lie
on an element or on padding, one that does not by those on an element; a ceiling in the output's size lets a window
reach past the padding, where nothing is counted.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tesa.attributes.attribute import FULL_BITS, Bools, TeSA, Values, unknown
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules import window
from tesa.propagate.rules.common import all_needed, as_channels, facts, nothing
from tesa.propagate.rules.window import Axis, letters, onto_elements, over_windows

RANKS = (1, 2, 3)
MAXIMA = tuple(f"relax.nn.max_pool{n}d" for n in RANKS)
AVERAGES = tuple(f"relax.nn.avg_pool{n}d" for n in RANKS)
ADAPTIVE = tuple(f"relax.nn.adaptive_avg_pool{n}d" for n in RANKS)
FIRST = 2  # the first spatial axis, with batch and channels in front


@dataclass(frozen=True, eq=False)
class _View:
    """A pooling over (n, channels, *spatial). order: of the axes, from the layout's. counts: (outputs,) by axis."""

    axes: tuple[Axis, ...]
    order: tuple[int, ...]
    counts: tuple[Values, ...]

    def front(self, array: Values) -> Values:
        """An array in the layer's layout as (n, channels, *spatial)."""
        return array.transpose(self.order)

    def back(self, array: Values) -> Values:
        """The reverse of `front`."""
        return array.transpose(np.argsort(self.order))


def _view(op: Operator) -> _View | None:
    """None for a layout that is not made of whole axes."""
    layout = str(op.attrs["layout"])
    order = letters(layout, op.inputs[0], "NC")
    if order is None or str(op.attrs.get("out_layout") or layout) != layout or 0 in op.inputs[0] + op.outputs[0]:
        return None
    sizes, outs = ([shape[i] for i in order[FIRST:]] for shape in (op.inputs[0], op.outputs[0]))
    if op.op in ADAPTIVE:
        axes = window.adaptive_axes(sizes, outs)
        return _View(axes, order, _elements(axes))
    taps = [int(n) for n in op.attrs["pool_size"]]
    axes = window.convolution_axes(op, sizes, taps * len(sizes) if len(taps) < len(sizes) else taps, outs)
    padded = bool(op.attrs.get("count_include_pad"))
    return _View(axes, order, _with_padding(op, axes) if padded else _elements(axes))


def _elements(axes: Sequence[Axis]) -> tuple[Values, ...]:
    return tuple((axis.reads >= 0).sum(axis=1) for axis in axes)


def _with_padding(op: Operator, axes: Sequence[Axis]) -> tuple[Values, ...]:
    counts = []
    for d, axis in enumerate(axes):
        stride, dilation, before, after = window.steps(op, d, len(axes))
        outs, taps = axis.reads.shape
        places = np.arange(outs)[:, None] * stride + np.arange(taps)[None, :] * dilation - before
        counts.append((places < axis.size + after).sum(axis=1))
    return tuple(counts)


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    view = _view(op)
    if view is None:
        return all_needed(op, inputs, outputs)
    return (view.back(onto_elements(view.front(outputs[0].live), view.axes, FIRST)),)


def _known(view: _View, x: TeSA) -> Bools:
    """Known where the whole window is; a window without any element is not."""
    known = over_windows(view.front(x.known), view.axes, FIRST, operator.and_, True)
    for d, count in enumerate(_elements(view.axes), start=FIRST):
        if (count == 0).any():
            known = known & as_channels(count > 0, known.ndim, d)
    return np.asarray(known)


def _uniform_bits(view: _View, t: TeSA) -> bool:
    """True if one grid serves all the elements of a channel."""
    arrays = [t.bits] if t.quantization is None else [t.bits, t.quantization.scale, t.quantization.zero_point]
    same = all(n == 1 for a in arrays if a.ndim == len(t.shape) for n in view.front(a).shape[FIRST:])
    return same and all(a.ndim == len(t.shape) or a.size == 1 for a in arrays)


def _precision(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    """Rounding is monotone, so the maximum of rounded elements is the rounded maximum."""
    view, y = _view(op), outputs[0]
    if view is None or y.quantization is None or int(y.bits.max(initial=0)) >= FULL_BITS or not _uniform_bits(view, y):
        return (None,)
    return (replace(unknown(op.inputs[0]), bits=y.bits, quantization=y.quantization),)


@rule(*MAXIMA, backward=_backward, precision=_precision)
def max_pool(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The largest of each window, known where all of the window is; it needs no more bits than its elements."""
    view, x = _view(op), inputs[0]
    if view is None:
        return nothing(op, inputs)
    known = _known(view, x)
    value: Values = np.zeros((1,) * known.ndim)
    if known.any():
        lowest = -np.inf if x.value.dtype.kind == "f" else int(np.iinfo(x.value.dtype).min)
        value = over_windows(view.front(x.value), view.axes, FIRST, np.maximum, lowest)
    grid = x if _uniform_bits(view, x) else None
    return (facts(op.outputs[0], view.back(known), view.back(np.where(known, value, 0)), grid),)


@rule(*AVERAGES, *ADAPTIVE, backward=_backward)
def average_pool(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """The mean of each window, known where all of the window is; padding that is counted dilutes it at the border."""
    view, x = _view(op), inputs[0]
    if view is None:
        return nothing(op, inputs)
    known = _known(view, x)
    value: Values = np.zeros((1,) * known.ndim)
    if known.any():
        with np.errstate(invalid="ignore", divide="ignore"):
            value = over_windows(view.front(x.value).astype(np.float64), view.axes, FIRST, operator.add, 0.0)
            for d, count in enumerate(view.counts, start=FIRST):
                value = value / as_channels(count, value.ndim, d)
    return (facts(op.outputs[0], view.back(known), view.back(np.where(known, value, 0.0))),)
