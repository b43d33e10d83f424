"""Loops as context managers and named things, for kernels written with TVM's TIR builder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import prod
from typing import Any

import numpy as np
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T


def named(name: str, thing: Any) -> Any:
    """The variable or buffer, with a name for whoever reads the code."""
    IRBuilder.name(name, thing)
    return thing


@contextmanager
def function(symbol: str) -> Iterator[Any]:
    """A function of that name, made of what is written inside; its builder gives it afterwards."""
    with IRBuilder() as builder, T.prim_func():
        T.func_name(symbol)
        T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
        yield builder


def parameter(name: str, shape: Sequence[int], dtype: str = "float32") -> Any:
    """An array that the caller passes: NumPy memory, aligned to its elements, no more."""
    return T.arg(name, T.buffer(tuple(shape) or (1,), dtype, align=np.dtype(dtype).itemsize))


def flat(buffer: Any) -> Any:
    """A view of a buffer with one dimension."""
    elements, dtype = prod(int(size) for size in buffer.shape), str(buffer.dtype)
    return T.decl_buffer((elements,), dtype, data=buffer.data, align=np.dtype(dtype).itemsize)


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


def turns(name: str, count: Any, steps: int, body: Callable[[Any], None]) -> None:
    """A serial loop of body(i) for i < count, which may be an expression, with so many steps written out in a turn."""
    if steps == 1:
        with serial(name, count) as i:
            body(i)
        return
    # of 64 bits, so that LLVM counts with pointers
    count = T.int64(count) if isinstance(count, int) else T.Cast("int64", count)
    whole = T.truncdiv(count, T.int64(steps))
    with serial(name, whole) as i:
        for step in range(steps):
            body(i * steps + step)
    with serial(name, count - whole * steps) as i:
        body(whole * steps + i)


@contextmanager
def span(name: str, low: Any, high: Any) -> Iterator[Any]:
    """A serial loop over low ... high - 1, both may be expressions.

    The loop itself starts at 0: TVM 0.27's CanonicalizeLoop shifts loops that do not, and forgets the bounds of the
    loops inside, which then use the unshifted variable.
    """
    with T.serial(0, high - low) as index:
        named(name, index)
        yield index if isinstance(low, int) and low == 0 else low + index
