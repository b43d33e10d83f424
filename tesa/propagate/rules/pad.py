"""Padding: a border of one value, or of mirrored, repeated or wrapped-around elements."""

from typing import Any

import numpy as np

from tesa.propagate.registry import Operator
from tesa.propagate.rules.movement import NOWHERE, Chain, Index, Pick
from tesa.propagate.rules.mover import mover

MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "edge": "edge", "circular": "wrap"}


def _fill(op: Operator) -> Any:
    return np.asarray(op.attrs.get("pad_value", 0.0)).astype(op.dtypes[0]) if _mode(op) == "constant" else None


def _mode(op: Operator) -> str | None:
    return MODES.get(str(op.attrs.get("pad_mode", "constant")))


def _source(size: int, before: int, after: int, mode: str) -> Index | None:
    """The index each place of a padded axis comes from. A negative width cuts; None where the mode cannot reach."""
    kept = np.arange(max(-before, 0), size - max(-after, 0))
    width = (max(before, 0), max(after, 0))
    if mode == "constant":
        return np.pad(kept, width, constant_values=NOWHERE)
    furthest = {"reflect": len(kept) - 1, "wrap": len(kept), "edge": max(width)}[mode]
    return np.pad(kept, width, mode=mode) if len(kept) and max(width) <= furthest else None  # type: ignore[call-overload]


@mover("relax.nn.pad", fill=_fill)
def pad(op: Operator) -> Chain | None:
    """Inside what the input is; the border is the pad value, or copies of elements that are needed where they are."""
    mode, width = _mode(op), op.attrs.get("pad_width")
    if mode is None or width is None:
        return None
    flat, chain = [int(n) for n in width], []
    for axis, (before, after) in enumerate(zip(flat[::2], flat[1::2], strict=True)):
        size = op.inputs[0][axis]
        index = _source(size, before, after, mode)
        if index is None or len(index) != op.outputs[0][axis]:
            return None
        if before or after:
            chain.append(Pick(axis, size, index))
    return tuple(chain)
