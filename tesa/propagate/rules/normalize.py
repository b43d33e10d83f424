"""Normalisations that mix a row: layer, RMS, group and instance norm. Batch norm at inference mixes nothing.

A zero in the row is no zero in the result, and one unknown element makes the whole row unknown, but for gamma = 0.
A row that is all known is computed, as long as float32 can tell the result: the variance of a row of large equal
constants is rounding noise, which dividing by sqrt(epsilon) blows up.
"""

import math
from dataclasses import dataclass

import numpy as np

from tesa.attributes.attribute import Bools, Shape, TeSA, Values, reduce_to
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import as_channels, axes_of, facts, nothing

UNIT = 2.0**-23  # the spacing of float32 at 1
TOLERANCE = 1e-5


@dataclass(frozen=True)
class _Rows:
    """The rows that an operator normalises, with the channels of a group norm split into (groups, channels of one).

    mixed: the axes of a row. placed: the axes along which gamma and beta lie. split: (axis, groups) or None.
    """

    mixed: tuple[int, ...]
    placed: tuple[int, ...]
    split: tuple[int, int] | None = None

    def apart(self, array: Values) -> Values:
        """An array over the data with the groups split off."""
        if self.split is None:
            return array
        axis, groups = self.split
        n = array.shape[axis]
        return array.reshape(
            *array.shape[:axis], *((1, 1) if n == 1 else (groups, n // groups)), *array.shape[axis + 1 :]
        )

    def joined(self, array: Values, shape: Shape) -> Values:
        """The reverse of `apart`."""
        if self.split is None:
            return array
        axis, groups = self.split
        before, pair, after = array.shape[:axis], array.shape[axis : axis + 2], array.shape[axis + 2 :]
        if pair == (1, 1):
            return array.reshape(*before, 1, *after)
        wide = np.broadcast_to(array, (*before, groups, shape[axis] // groups, *after))
        return wide.reshape(*before, shape[axis], *after)

    def laid(self, array: Values, rank: int) -> Values:
        """An array over gamma or beta, short or not, along the data's axes of `rank` with the groups split off."""
        if self.split is not None:
            array = array.reshape((1, 1) if array.size == 1 else (self.split[1], -1))
        view = [1] * rank
        for axis, length in zip(self.placed, array.shape, strict=True):
            view[axis] = length
        return array.reshape(view)

    def row(self, mask: Bools) -> Bools:
        """Any over each row."""
        return np.asarray(mask.any(axis=self.mixed, keepdims=True))


def _rows(op: Operator) -> _Rows:
    rank = len(op.inputs[0])
    axes = axes_of(op.attrs["axes"], rank)
    if op.op in ("relax.nn.layer_norm", "relax.nn.rms_norm"):
        return _Rows(axes, axes)
    channel = int(op.attrs["channel_axis"]) % rank
    if op.op == "relax.nn.instance_norm":
        return _Rows(axes, (channel,))
    later = tuple(a + (a > channel) for a in axes if a != channel)
    return _Rows(tuple(sorted((channel + 1, *later))), (channel, channel + 1), (channel, int(op.attrs["num_groups"])))


def _plain(op: Operator) -> bool:
    """True if gamma and beta count, or are 1 and 0 where the attributes say that they do not."""
    for name, position, neutral in (("scale", 1, 1), ("center", 2, 0)):
        if not op.attrs.get(name, True):
            content = op.constants[position]
            if content is None or (content != neutral).any():
                return False
    return True


def _poisoned(x: TeSA) -> Bools:
    return np.asarray(x.known & np.isinf(x.value))


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    rows, shape, x = _rows(op), op.inputs[0], inputs[0]
    live = rows.apart(outputs[0].live)
    scaled = live & ~rows.laid(inputs[1].zero, live.ndim) if _plain(op) else live
    # of an RMS norm, an element that is 0 stays 0 whatever its row is; it is needed itself
    need = scaled | rows.row(scaled & ~x.zero) if op.op == "relax.nn.rms_norm" else rows.row(scaled)
    poison = rows.apart(_poisoned(x))
    if poison.any():  # 0 * inf is no 0
        need = need | (rows.row(live) & rows.row(poison))
    others = tuple(_of_parameter(rows, live, size) for size in op.inputs[1:])
    return (rows.joined(need, shape), *others)


def _of_parameter(rows: _Rows, live: Bools, size: Shape) -> Bools:
    """A mask over the data as one over gamma or beta."""
    along: Bools = np.asarray(live.any(axis=tuple(i for i in range(live.ndim) if i not in rows.placed)))
    if rows.split is not None:
        groups = rows.split[1]
        along = along if along.shape == (1, 1) else np.broadcast_to(along, (groups, size[0] // groups))
        along = along.reshape(-1)
    return reduce_to(along, size)


@rule("relax.nn.layer_norm", "relax.nn.group_norm", "relax.nn.instance_norm", backward=_backward)
def normalisation(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Mixes its row; where gamma is 0 the result is beta; a row that is all known is computed."""
    if not _plain(op):
        return nothing(op, inputs)
    rows, x = _rows(op), inputs[0]
    known, value = rows.apart(x.known), rows.apart(x.value).astype(np.float64)
    (gamma_known, gamma), (beta_known, beta) = (
        (rows.laid(t.known, known.ndim), rows.laid(t.value, known.ndim).astype(np.float64)) for t in inputs[1:3]
    )
    poisoned = rows.row(rows.apart(_poisoned(x)))
    whole = known.all(axis=rows.mixed, keepdims=True) & ~poisoned
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        middle, trusted = _normal(np.where(whole, value, 0.0), rows, op, gamma, beta)
    empty = whole & (value == 0).all(axis=rows.mixed, keepdims=True) & ~(gamma_known & np.isinf(gamma))
    cut = (gamma_known & (gamma == 0)) | empty
    found = ((cut & ~poisoned) | (whole & trusted & gamma_known)) & beta_known
    result = np.where(cut, beta, middle)
    shape = op.outputs[0]
    return (facts(shape, rows.joined(found, shape), rows.joined(np.where(found, result, 0.0), shape)),)


def _normal(value: Values, rows: _Rows, op: Operator, gamma: Values, beta: Values) -> tuple[Values, Bools]:
    """The normalised rows, and where float32 computes them to TOLERANCE, even with E[x^2] - E[x]^2 for the variance."""
    count = _row_size(rows, op.inputs[0])
    mean = value.mean(axis=rows.mixed, keepdims=True)
    variance = ((value - mean) ** 2).mean(axis=rows.mixed, keepdims=True)
    spread = variance + float(op.attrs["epsilon"])
    normal = (value - mean) / np.sqrt(spread)
    result = normal * gamma + beta
    noise = UNIT * math.sqrt(count)
    largest = np.abs(value).max(axis=rows.mixed, keepdims=True)
    unsure = noise * largest**2 / spread  # of the variance, relative
    error = np.abs(gamma) * (noise * largest / np.sqrt(spread) + np.abs(normal) * unsure)
    return result, np.asarray((unsure < 0.5) & (error <= TOLERANCE * np.maximum(1.0, np.abs(result))))


def _row_size(rows: _Rows, shape: Shape) -> int:
    if rows.split is not None:
        axis, groups = rows.split
        shape = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    return math.prod(shape[i] for i in rows.mixed)


@rule("relax.nn.rms_norm", backward=_backward)
def rms_norm(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Scales its row: what is 0 stays 0, and so does what gamma = 0 multiplies; a row that is all known is computed."""
    rows, x = _rows(op), inputs[0]
    rank = len(x.shape)
    gamma_known, gamma = rows.laid(inputs[1].known, rank), rows.laid(inputs[1].value, rank).astype(np.float64)
    poisoned = rows.row(_poisoned(x))
    whole = x.known.all(axis=rows.mixed, keepdims=True)
    zero = (x.zero & ~(gamma_known & np.isinf(gamma))) | (gamma_known & (gamma == 0))
    value = np.where(whole & ~poisoned, x.value.astype(np.float64), 0.0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        square = (value**2).mean(axis=rows.mixed, keepdims=True) + float(op.attrs["epsilon"])
        result = value / np.sqrt(square) * gamma
    known = (zero | (whole & gamma_known)) & ~poisoned
    return (facts(op.outputs[0], known, np.where(known & ~zero, result, 0.0)),)


def _batch_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    x, gamma = inputs[:2]
    rank, axis = len(x.shape), int(op.attrs["axis"]) % len(x.shape)
    live = outputs[0].live
    others = tuple(i for i in range(rank) if i != axis)
    channels: Bools = np.asarray(live.any(axis=others))
    running = [t.live for t in outputs[1:3]]
    if op.attrs.get("training", False):  # statistics of the batch: every element of a channel matters
        data = as_channels(channels | running[0] | running[1], rank, axis)
        return (data, channels, channels, channels | running[0], channels | running[1])
    cut = gamma.zero if _plain(op) else np.zeros(1, bool)
    used = as_channels(~cut, rank, axis) | _poisoned(x)
    # the variance stays: of a negative one the root is no number, which gamma = 0 does not undo
    return (live & used, channels, channels, (channels & ~cut) | running[0], channels | running[1])


@rule("relax.nn.batch_norm", backward=_batch_backward)
def batch_norm(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """gamma * (x - mean) / sqrt(var + epsilon) + beta by channel: known where all of it is; beta where gamma is 0."""
    if op.attrs.get("training", False):
        return nothing(op, inputs)
    x = inputs[0]
    rank, axis = len(x.shape), int(op.attrs["axis"]) % len(x.shape)
    running = tuple(facts(t.shape, t.known, t.value) for t in inputs[3:5])
    if not _plain(op):
        return (nothing(op, inputs)[0], *running)
    known = [as_channels(t.known, rank, axis) for t in inputs[1:]]
    gamma, beta, mean, variance = (as_channels(t.value.astype(np.float64), rank, axis) for t in inputs[1:])
    cut = known[0] & (gamma == 0) & known[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        value = (x.value - mean) / np.sqrt(variance + float(op.attrs["epsilon"])) * gamma + beta
    computed = x.known & np.logical_and.reduce(np.broadcast_arrays(*known))
    found = (cut & ~_poisoned(x)) | computed
    result = np.where(cut, beta, value)
    return (facts(op.outputs[0], found, np.where(found, result, 0.0)), *running)
