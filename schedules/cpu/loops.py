"""Loops as context managers, for kernels written with TVM's TIR builder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from tvm.tirx.script import builder as T


@contextmanager
def lanes(count: int) -> Iterator[Any]:
    """A vectorized loop; for one lane just 0."""
    with T.vectorized(0, count) if count > 1 else nullcontext(0) as lane:
        yield lane


@contextmanager
def loop(extent: int) -> Iterator[Any]:
    """A serial loop; for one iteration just 0."""
    with T.serial(0, extent) if extent > 1 else nullcontext(0) as index:
        yield index


@contextmanager
def span(low: Any, high: Any) -> Iterator[Any]:
    """A serial loop over low ... high - 1, both may be expressions.

    The loop itself starts at 0: TVM 0.27's CanonicalizeLoop shifts loops that do not, and forgets the bounds of the
    loops inside, which then use the unshifted variable.
    """
    with T.serial(0, high - low) as index:
        yield index if isinstance(low, int) and low == 0 else low + index
