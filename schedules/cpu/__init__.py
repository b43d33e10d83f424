"""Kernel families for CPUs. Importing this package registers them."""

from tesa.schedules.cpu import (
    block,
    decomposed,
    depthwise,
    indexed,
    lanes,
    permuted,
    rowlanes,
    sliced,
    unrolled,
    vector,
)

__all__ = [
    "block",
    "decomposed",
    "depthwise",
    "indexed",
    "lanes",
    "permuted",
    "rowlanes",
    "sliced",
    "unrolled",
    "vector",
]
