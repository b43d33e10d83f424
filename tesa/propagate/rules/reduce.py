"""Sums, means and extremes along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tesa.attribute import Bools, TeSA
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.common import axes_of, facts

REDUCE: dict[str, Callable[..., Any]] = {
    "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod,
}  # fmt: skip


def _backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    live = outputs[0].live
    if not op.attrs.get("keepdims"):
        live = np.expand_dims(live, axes_of(op.attrs.get("axis"), len(op.inputs[0])))
    return (live,)


@rule(*(f"relax.{name}" for name in REDUCE), backward=_backward)
def reduction(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Known where all that is reduced is known."""
    x, keep = inputs[0], bool(op.attrs.get("keepdims"))
    axes = axes_of(op.attrs.get("axis"), len(x.shape))
    known = x.known.all(axis=axes, keepdims=keep)
    if not known.any():
        return (facts(op.outputs[0], np.asarray(known), np.zeros(np.shape(known))),)
    # only the reduced axes are spread out to their full length
    full = [n if i in axes else x.value.shape[i] for i, n in enumerate(x.shape)]
    value = REDUCE[op.op.removeprefix("relax.")](
        np.broadcast_to(x.value.astype(np.float64), full), axis=axes, keepdims=keep
    )
    return (facts(op.outputs[0], np.asarray(known), np.asarray(value)),)
