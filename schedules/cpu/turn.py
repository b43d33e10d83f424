"""A matrix of bytes with its columns side by side: 16 x 16 of them are turned in registers at a time."""

from collections.abc import Sequence
from typing import Any

from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import lanes, loop, parallel, serial

BLOCK = 16


def turn(source: Any, base: Any, target: Any, shape: tuple[int, int, int], threads: int = 1) -> None:
    """target[j * row + i] = source[base + i * columns + j], for i < rows and j < columns.

    shape: (rows, columns, row); what lies between rows and row is not written.
    """
    rows, columns, row = shape
    if rows < BLOCK or columns < BLOCK:
        _narrow(source, base, target, shape)
        return
    strips, blocks = -(-rows // BLOCK), -(-columns // BLOCK)
    with (parallel if threads > 1 and strips >= threads else serial)("strip", strips) as strip:
        i = T.min(strip * BLOCK, rows - BLOCK) if rows % BLOCK else strip * BLOCK
        with loop("part", blocks) as part:
            j = T.min(part * BLOCK, columns - BLOCK) if columns % BLOCK else part * BLOCK
            vectors = [source[T.ramp(base + (i + r) * columns + j, 1, BLOCK)] for r in range(BLOCK)]
            for c, vector in enumerate(turned(vectors)):
                T.buffer_store(target, vector, [T.ramp((j + c) * row + i, 1, BLOCK)])


def turned(vectors: Sequence[Any]) -> list[Any]:
    """The columns of 16 vectors of 16 elements, by log2 16 stages that exchange halves of ever smaller blocks.

    See Eklundh, A Fast Computer Method for Matrix Transposing, 1972.
    """
    rows, size = [T.Bind(vector) for vector in vectors], 1
    while size < len(rows):
        rows = _exchanged(rows, size)
        size *= 2
    return rows


def _exchanged(rows: list[Any], size: int) -> list[Any]:
    count = len(rows)
    made = list(rows)
    for i in range(count):
        if i & size:
            continue
        low = [lane if not lane & size else count + lane - size for lane in range(count)]
        high = [lane + size if not lane & size else count + lane for lane in range(count)]
        made[i], made[i + size] = (T.Bind(T.Shuffle([rows[i], rows[i + size]], pick)) for pick in (low, high))
    return made


def _narrow(source: Any, base: Any, target: Any, shape: tuple[int, int, int]) -> None:
    """A few columns, or rows: contiguous in the target, by elements in the source."""
    rows, columns, row = shape
    whole, left = divmod(rows, BLOCK)
    with loop("j", columns) as j:
        if whole:
            with serial("i", whole) as i, lanes(BLOCK) as lane:
                at = i * BLOCK + lane
                T.buffer_store(target, source[base + at * columns + j], [j * row + at])
        if left:
            with serial("i", left) as i:
                at = whole * BLOCK + i
                T.buffer_store(target, source[base + at * columns + j], [j * row + at])
