"""Patterns as masks show them: slow, and plain enough to be believed. What tesa counts is held against it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.patterns import BLOCKS, GROUPS, N_OF_M

Mask = NDArray[np.bool_]


def recognised(mask: Mask) -> tuple[str, dict[str, Any]]:
    """The name of the first pattern that applies to a mask (m, k), and what is special about it."""
    for name, ask in KINDS.items():
        found = ask(mask)
        if found is not None:
            return name, found
    raise AssertionError("the last pattern takes every mask")


def empty(mask: Mask) -> dict[str, Any] | None:
    """No element is left."""
    return None if mask.any() else {}


def dense(mask: Mask) -> dict[str, Any] | None:
    """Every element is there."""
    return {} if mask.all() else None


def channel(mask: Mask) -> dict[str, Any] | None:
    """Whole rows (outputs) or whole columns (inputs) are gone and the rest is dense."""
    kept = mask[mask.any(axis=1)][:, mask.any(axis=0)]
    return {} if kept.all() else None


def group(mask: Mask) -> dict[str, Any] | None:
    """Block-diagonal, g dense blocks of equal size: a grouped layer written as one matrix."""
    rows, columns = mask.shape
    for groups in reversed(GROUPS):
        if rows % groups or columns % groups or mask.sum() * groups != mask.size:
            continue
        tiles = mask.reshape(groups, rows // groups, groups, columns // groups)
        if all(tiles[g, :, g].all() for g in range(groups)):
            return {"group": groups}
    return None


def block(mask: Mask) -> dict[str, Any] | None:
    """Aligned dense blocks of r x c, of the largest size that fits exactly; blocks at the edge may be cut off."""
    for height, width in BLOCKS:
        if height > mask.shape[0] or width > mask.shape[1]:
            continue
        if np.array_equal(touched(mask, height, width), mask):
            return {"block": (height, width)}
    return None


def touched(mask: Mask, height: int, width: int) -> Mask:
    """The mask rounded up to whole blocks."""
    rows, columns = mask.shape
    padded = np.pad(mask, ((0, -rows % height), (0, -columns % width)))
    tiles = padded.reshape(padded.shape[0] // height, height, padded.shape[1] // width, width)
    full = np.broadcast_to(tiles.any(axis=(1, 3), keepdims=True), tiles.shape)
    return full.reshape(padded.shape)[:rows, :columns]


def n_of_m(mask: Mask) -> dict[str, Any] | None:
    """n non-zeros in each m neighbours along k (the 2:4 of NVIDIA's tensor cores). 5 % of the groups may have fewer."""
    kept = mask[mask.any(axis=1)]
    for n, m in N_OF_M:
        if kept.shape[1] % m:
            continue
        counts = kept.reshape(len(kept), -1, m).sum(axis=2)
        if counts.max() == n and float((counts == n).mean()) >= 0.95:
            return {"n_m": (n, m)}
    return None


def unstructured(mask: Mask) -> dict[str, Any] | None:
    """No structure: single elements are gone."""
    return {}


KINDS = {
    "empty": empty, "dense": dense, "channel": channel, "group": group, "block": block, "n:m": n_of_m,
    "unstructured": unstructured,
}  # fmt: skip
