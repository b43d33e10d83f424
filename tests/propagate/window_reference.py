"""Convolutions and poolings by plain loops over positions, and what any rule for one operator must stand up to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tesa.attributes.attribute import Origin, TeSA, from_constant, from_weight, unknown
from tesa.propagate.registry import Operator, find

Evaluate = Callable[..., list[Any]]
RNG = np.random.default_rng


def operator(op: str, inputs: Sequence[Any], output: Any, constants: Sequence[Any] = (), **attrs: Any) -> Operator:
    """An operator of float32 with the given shapes."""
    shapes = tuple(tuple(int(n) for n in s) for s in inputs)
    content = tuple(constants) or (None,) * len(shapes)
    outputs = tuple(output) if isinstance(output, list) else (tuple(output),)
    return Operator(op, "layer", shapes, outputs, content, ("float32",) * len(outputs), attrs)


def _turn(array: Any, layout: str, target: str) -> Any:
    return array.transpose([layout.index(c) for c in target])


def _spatial(op: Operator) -> str:
    return "".join(c for c in "DHW" if c in op.attrs["data_layout"])


def convolution(op: Operator, x: Any, w: Any) -> list[Any]:
    """conv1d to conv3d by a window at each output position; transposed ones by a stamp at each input position."""
    names, transposed = _spatial(op), op.op.endswith("transpose")
    x = _turn(x, op.attrs["data_layout"], "NC" + names)
    w = _turn(w, op.attrs["kernel_layout"], ("IO" if transposed else "OI") + names)
    groups, parts = op.attrs["groups"], []
    for g in range(groups):
        c = x.shape[1] // groups
        m = w.shape[0] // groups
        parts.append((_stamps if transposed else _windows)(op, x[:, g * c : (g + 1) * c], w[g * m : (g + 1) * m]))
    y = np.concatenate(parts, axis=1)
    return [_turn(y, "NC" + names, op.attrs["data_layout"])]


def _windows(op: Operator, x: Any, w: Any) -> Any:
    rank, pads = x.ndim - 2, op.attrs["padding"]
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    strides, dilation = op.attrs["strides"], op.attrs["dilation"]
    outs = [
        (n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], w.shape[2:], strides, dilation, strict=True)
    ]
    y = np.zeros((x.shape[0], w.shape[0], *outs))
    for at in np.ndindex(*outs):
        window = tuple(
            slice(i * s, i * s + (k - 1) * d + 1, d)
            for i, s, k, d in zip(at, strides, w.shape[2:], dilation, strict=True)
        )
        y[(..., *at)] = np.tensordot(x[(slice(None), slice(None), *window)], w, (range(1, x.ndim), range(1, w.ndim)))
    return y


def _stamps(op: Operator, x: Any, w: Any) -> Any:
    rank, pads = x.ndim - 2, op.attrs["padding"]
    strides, dilation, extra = op.attrs["strides"], op.attrs["dilation"], op.attrs["output_padding"]
    full = [
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, s, k, d, e in zip(x.shape[2:], strides, w.shape[2:], dilation, extra, strict=True)
    ]
    y = np.zeros((x.shape[0], w.shape[1], *full))
    for at in np.ndindex(*x.shape[2:]):
        stamp = tuple(
            slice(i * s, i * s + (k - 1) * d + 1, d)
            for i, s, k, d in zip(at, strides, w.shape[2:], dilation, strict=True)
        )
        y[(slice(None), slice(None), *stamp)] += np.tensordot(x[(slice(None), slice(None), *at)], w, (1, 0))
    keep = tuple(slice(pads[d], full[d] - pads[rank + d]) for d in range(rank))
    return y[(slice(None), slice(None), *keep)]


def pool(op: Operator, x: Any) -> list[Any]:
    """Maximum and average by a list of element positions for each window."""
    layout = op.attrs["layout"]
    names = "".join(c for c in "DHW" if c in layout)
    x, shape = _turn(x, layout, "NC" + names), op.outputs[0]
    outs = [shape[layout.index(c)] for c in names]
    y = np.zeros((*x.shape[:2], *outs))
    for at in np.ndindex(*outs):
        spans = [_span(op, d, i, x.shape[2 + d], n) for d, (i, n) in enumerate(zip(at, outs, strict=True))]
        places = list(itertools.product(*(inside for inside, _ in spans)))
        values = np.stack([x[(slice(None), slice(None), *p)] for p in places], axis=-1)
        counted = int(np.prod([count for _, count in spans]))
        y[(..., *at)] = values.max(axis=-1) if "max" in op.op else values.sum(axis=-1) / counted
    return [_turn(y, "NC" + names, layout)]


def _span(op: Operator, d: int, i: int, size: int, outs: int) -> tuple[list[int], int]:
    """The elements of a window along one axis, and what an average divides by."""
    if "adaptive" in op.op:
        inside = list(range(i * size // outs, -(-(i + 1) * size // outs)))
        return inside, len(inside)
    rank = len(op.attrs["pool_size"])
    start = i * op.attrs["strides"][d] - op.attrs["padding"][d]
    taps = [start + t * op.attrs["dilation"][d] for t in range(op.attrs["pool_size"][d])]
    inside = [p for p in taps if 0 <= p < size]
    padded = [p for p in taps if p < size + op.attrs["padding"][rank + d]]
    return inside, len(padded if op.attrs.get("count_include_pad") else inside)


def some_facts(shape: Sequence[int], rng: Any, channel: int = 1, spatial: bool = False) -> TeSA:
    """Channels that are 0, one constant, or unknown; with `spatial` also constants that differ, and single elements."""
    view = [1] * len(shape)
    view[channel] = shape[channel]
    kind = rng.integers(0, 4, view)
    value = np.where(kind == 1, 0.0, rng.normal(size=shape if spatial else view))
    known = kind < 3
    if spatial:
        known = known & (rng.random(shape) < rng.choice([0.6, 1.0]))
    return replace(unknown(shape), known=known, value=value)


def weight_facts(weight: Any, constant: bool, rng: Any) -> TeSA:
    """A constant's zeros; or, where the weight is computed by the model, some known elements."""
    if constant:
        return from_weight(weight)
    known = (rng.random(weight.shape) < 0.4) | (weight == 0)
    return replace(from_constant(weight, Origin("value", "user")), known=known)


def pruned(rng: Any, shape: Sequence[int]) -> Any:
    """Random values of which rows, columns and single elements are 0."""
    values = rng.normal(size=shape)
    for axis in range(2):
        keep = rng.random(shape[axis]) < 0.7
        values = values * keep.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return values * (rng.random(shape) < rng.choice([1.0, 0.5]))


def draw(t: TeSA, rng: Any) -> Any:
    """A tensor that the facts are true of."""
    return np.where(t.known, t.value, rng.normal(size=t.shape))


def check(op: Operator, inputs: Sequence[TeSA], live: Any, evaluate: Evaluate, seed: int = 0) -> tuple[Any, ...]:
    """Hold the rule of an operator to the law. live: mask over the first output. (facts, needs) for further checks.

    What is known is what the operator computes. Dead elements replaced one by one and all at once, known ones
    included, change no live output. An activation may lean on a weight that is dead: that one is 0 then.
    """
    rng, rule = RNG(seed), find(op.op)
    assert rule is not None
    found = rule.forward(op, tuple(inputs))
    outputs = tuple(
        replace(t, live=live if i == 0 else np.zeros((1,) * len(t.shape), bool)) for i, t in enumerate(found)
    )
    needs = rule.backward(op, tuple(inputs), outputs)
    fixed = [None if c is None else np.asarray(c, float) for c in op.constants]
    for _ in range(3):
        args = [draw(t, rng) if c is None else c for t, c in zip(inputs, fixed, strict=True)]
        results = evaluate(op, *args)
        for t, result in zip(found, results, strict=True):
            assert result.shape == t.shape
            mask = np.broadcast_to(t.known, t.shape)
            np.testing.assert_allclose(np.broadcast_to(t.value, t.shape)[mask], result[mask], rtol=1e-6, atol=1e-9)
        where = np.broadcast_to(live, results[0].shape)
        weights = [i in rule.weights and c is not None for i, c in enumerate(fixed)]
        gone = [np.where(n, a, 0.0) if w else a for a, n, w in zip(args, needs, weights, strict=True)]
        for position, (arg, need) in enumerate(zip(args, needs, strict=True)):
            assert all(a in (1, b) for a, b in zip(need.shape, arg.shape, strict=True))
            _one_by_one(op, args if weights[position] else gone, position, need, where, results[0], evaluate)
        other = [
            a if w else np.where(n, a, rng.normal(scale=5, size=a.shape))
            for a, n, w in zip(gone, needs, weights, strict=True)
        ]
        np.testing.assert_allclose(evaluate(op, *other)[0][where], results[0][where], rtol=1e-9, atol=1e-9)
    return found, needs


def _one_by_one(op: Operator, args: Any, position: int, need: Any, where: Any, expected: Any, evaluate: Any) -> None:
    dead = np.argwhere(~np.broadcast_to(need, args[position].shape))
    for at in dead[:: max(1, len(dead) // 8)]:
        changed = list(args)
        changed[position] = args[position].copy()
        changed[position][tuple(at)] += 3.0
        np.testing.assert_allclose(evaluate(op, *changed)[0][where], expected[where], rtol=1e-9, atol=1e-9)


def varies(op: Operator, inputs: Sequence[TeSA], evaluate: Evaluate) -> Any:
    """Which elements of the first output differ between draws: all others ought to be found known."""
    rng = RNG(99)
    fixed = [None if c is None else np.asarray(c, float) for c in op.constants]
    draws = [
        evaluate(op, *(draw(t, rng) if c is None else c for t, c in zip(inputs, fixed, strict=True)))[0]
        for _ in range(4)
    ]
    return np.ptp(draws, axis=0) > 1e-9


def influence(op: Operator, inputs: Sequence[TeSA], live: Any, position: int, evaluate: Evaluate) -> Any:
    """Which elements of an input move a live output, for generic values: all others ought to be found dead."""
    rng = RNG(98)
    fixed = [None if c is None else np.asarray(c, float) for c in op.constants]
    args = [draw(t, rng) if c is None else c for t, c in zip(inputs, fixed, strict=True)]
    base = evaluate(op, *args)[0]
    where, result = np.broadcast_to(live, base.shape), np.zeros(args[position].shape, bool)
    for at in np.ndindex(*args[position].shape):
        changed = list(args)
        changed[position] = args[position].copy()
        changed[position][at] += 1.7
        result[at] = (np.abs(evaluate(op, *changed)[0] - base)[where] > 1e-9).any()
    return result
