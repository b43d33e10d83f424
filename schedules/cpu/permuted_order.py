"""The order of rows in the permuted family for features_last: sorted by their weights, and the way back for bytes.

Lanes of a slice wait for the one with the most weights, so that rows of like numbers belong together. A block of up to
256 rows is sorted, or each 64 rows of it, and its results lie in that order until all of it is there. Then each
register of 64 bytes of Y is put together:
    Y[q][64 c ... 64 c + 63] = bytes where[c] of T[q]        a permutation of each of T's registers, and selections
and of a residual that is codes the same is done before, the other way round.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import serial
from tesa.schedules.types import FloatArray, Problem

LINE = 64
"""Bytes of a register."""

BLOCK = 256
"""Rows that are sorted together at most: places among them are bytes."""


@dataclass(frozen=True)
class Blocks:
    """Rows of W in `count` blocks of `size` rows, whole slices, of which the last one may have fewer."""

    count: int
    size: int

    @property
    def registers(self) -> int:
        """Registers of a block's bytes."""
        return -(-self.size // LINE)


def blocks_of(m: int, width: int) -> Blocks:
    """Rows in blocks of at most BLOCK: whole registers of bytes where all rows are, and none with less than one.

    >>> blocks_of(320, 16), blocks_of(300, 16)
    (Blocks(count=2, size=256), Blocks(count=2, size=224))
    """
    unit = LINE if m % LINE == 0 else width
    sizes = range(BLOCK, 0, -unit)
    size = next(s for s in sizes if m <= s or m % s == 0 or m % s >= LINE or s <= unit)
    return Blocks(-(-m // size), size)


def sorts(problem: Problem, registers: bool = True) -> tuple[int, ...]:
    """Among how many rows they may be sorted: where results are bytes, and have at least a register of them.

    registers: rows come back to their order a register at a time, else one by one.
    """
    epilogue = problem.epilogue
    kinds = (problem.output, problem.residual) if epilogue.residual else (problem.output,)
    if problem.m < LINE or not epilogue.scale or not all(kind.quantized for kind in kinds):
        return (0,)
    return (LINE, BLOCK, 0) if problem.m % LINE == 0 and registers else (BLOCK, 0)


def order_of(problem: Problem, weight: FloatArray, width: int, sort: int) -> NDArray[np.int32]:
    """(slices width,): the row of each lane, -1 for none. sort: rows that are sorted together, 0 for none."""
    m = problem.m
    counts = np.count_nonzero(weight, axis=1)
    if not sort:
        rows = np.arange(-(-m // width) * width)
        if m >= width:
            rows[-width:] = np.arange(m - width, m)
        return np.where(rows < m, rows, -1).astype(np.int32)
    found = np.full(-(-m // width) * width, -1, np.int32)
    size = LINE if sort == LINE else blocks_of(m, width).size
    for first in range(0, m, size):
        order = np.argsort(-counts[first : first + size], kind="stable")
        found[first : first + len(order)] = first + order
    return found


def returning(problem: Problem, rows: NDArray[np.int32], width: int, sort: int) -> NDArray[np.uint8]:
    """(blocks, BLOCK / 64, 64): where each row of a chunk of 64 rows stands in its block, or in its register."""
    m, size = problem.m, blocks_of(problem.m, width).size
    found = np.zeros((-(-m // size), BLOCK // LINE, LINE), np.uint8)
    for number, first in enumerate(range(0, m, size)):
        count = min(size, m - first)
        place = np.argsort(rows[first : first + count])
        for chunk in range(-(-count // LINE)):
            start = min(chunk * LINE, count - LINE)
            found[number, chunk] = place[start : start + LINE] % (LINE if sort == LINE else BLOCK)
    return found


def going(problem: Problem, rows: NDArray[np.int32], width: int, sort: int) -> NDArray[np.uint8]:
    """(blocks, BLOCK / 64, 64): where the row of each place of a chunk stands in the registers of its block's rows, of
    which the last one ends with the last row."""
    m, size = problem.m, blocks_of(problem.m, width).size
    found = np.zeros((-(-m // size), BLOCK), np.uint8)
    for number, first in enumerate(range(0, m, size)):
        count = min(size, m - first)
        row = rows[first : first + count] - first
        start = np.minimum(row // LINE * LINE, count - LINE)
        place = row // LINE * LINE + row - start
        found[number, :count] = place % (LINE if sort == LINE else BLOCK)
    return found.reshape(-1, BLOCK // LINE, LINE)


def scattered(problem: Problem, rows: NDArray[np.int32], width: int, sort: int) -> NDArray[np.uint8]:
    """(blocks, BLOCK): the row of each place of a block, from the block's first one on."""
    m, size = problem.m, blocks_of(problem.m, width).size
    found = np.zeros((-(-m // size), BLOCK), np.uint8)
    for number, first in enumerate(range(0, m, size)):
        count = min(size, m - first)
        found[number, :count] = rows[first : first + count] - first
    return found


def reorder(
    permute: str,
    where: Callable[[Any], Any],
    extent: tuple[Any, int, int],
    read: Callable[[Any, Any], Any],
    write: Callable[[Any, Any, Any], None],
) -> None:
    """Put registers of bytes together from others, for all columns.

    permute: LLVM's name of the permutation of a register's bytes; where(chunk): a vector of places; extent: chunks,
    columns, and registers that a place may lie in, 1 for the chunk's own one; read(q, r): register r of a column;
    write(chunk, q, value).
    """
    chunks, columns, registers = extent
    with serial("chunk", chunks) as chunk:
        places = T.Bind(where(chunk))
        indices = tirx.reinterpret(f"int8x{LINE}", places)
        with serial("q", columns) as q:
            value = None
            for r in range(registers):
                seen = tirx.reinterpret(f"int8x{LINE}", read(q, chunk if registers == 1 else r))
                found = tirx.call_llvm_pure_intrin(f"int8x{LINE}", permute, seen, indices)
                least = tirx.Broadcast(tirx.IntImm("uint8", r * LINE), LINE)
                value = found if value is None else tirx.Select(places >= least, found, value)
            write(chunk, q, value)
