"""Kernel families for CPUs. Importing this package registers them."""

from tesa.schedules.cpu import (
    bitmap,
    block,
    decomposed,
    depthwise,
    depthwise_codes,
    gathered,
    indexed,
    lanes,
    permuted,
    rowlanes,
    sliced,
    unrolled,
    vector,
)

__all__ = [
    "bitmap",
    "block",
    "decomposed",
    "depthwise",
    "depthwise_codes",
    "gathered",
    "indexed",
    "lanes",
    "permuted",
    "rowlanes",
    "sliced",
    "unrolled",
    "vector",
]
