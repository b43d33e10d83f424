"""Loops as context managers and named things, for kernels written with TVM's TIR builder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T


def named(name: str, thing: Any) -> Any:
    """The variable or buffer, with a name for whoever reads the code."""
    IRBuilder.name(name, thing)
    return thing


@contextmanager
def lanes(count: int) -> Iterator[Any]:
    """A vectorized loop; for one lane just 0."""
    with T.vectorized(0, count) if count > 1 else nullcontext(0) as lane:
        yield named("lane", lane) if count > 1 else lane


@contextmanager
def unrolled(name: str, extent: int) -> Iterator[Any]:
    """A loop that is written out when the code is lowered."""
    with T.unroll(0, extent) as index:
        yield named(name, index)


@contextmanager
def serial(name: str, extent: Any) -> Iterator[Any]:
    """A serial loop; extent may be an expression."""
    with T.serial(0, extent) as index:
        yield named(name, index)


@contextmanager
def parallel(name: str, extent: int) -> Iterator[Any]:
    """A loop whose iterations run on TVM's threads."""
    with T.parallel(0, extent) as index:
        yield named(name, index)


@contextmanager
def loop(name: str, extent: int) -> Iterator[Any]:
    """A serial loop; for one iteration just 0."""
    with T.serial(0, extent) if extent > 1 else nullcontext(0) as index:
        yield named(name, index) if extent > 1 else index


@contextmanager
def span(name: str, low: Any, high: Any) -> Iterator[Any]:
    """A serial loop over low ... high - 1, both may be expressions.

    The loop itself starts at 0: TVM 0.27's CanonicalizeLoop shifts loops that do not, and forgets the bounds of the
    loops inside, which then use the unshifted variable.
    """
    with T.serial(0, high - low) as index:
        named(name, index)
        yield index if isinstance(low, int) and low == 0 else low + index
