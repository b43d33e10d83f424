"""Groups of bytes of a packed tile, put together by interleaving rows of X instead of shifting them into place.

Before, for each of V vectors of lanes:
    element = X[0][:] | X[1][:] << 8 | X[2][:] << 16 | X[3][:] << 24       widened, shifted and put together
After, for 16 columns:
    r0 ... r3 = the next 16 bytes of 4 rows of X
    a, b = r0 and r2 byte by byte;  c, d = r1 and r3 byte by byte
    a and c byte by byte are the groups of columns 0 ... 3 and 4 ... 7, b and d those of columns 8 ... 15
log2 of the group stages of perfect shuffles (Stone 1971), 2 instructions for a vector of elements in place of 20.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import named
from tesa.schedules.cpu.operand import Tiling

_WIDTHS = (16, 8)
"""Bytes of a row that are read as one vector."""


@dataclass(frozen=True)
class Chunk:
    """Columns that are interleaved together: those from `start` of the tile on, `width` of them.

    stored: (column in the chunk, element in a packed row) of each vector of `lanes` elements that is kept.
    """

    start: int
    width: int
    stored: tuple[tuple[int, int], ...]


def chunks(t: Tiling) -> tuple[Chunk, ...]:
    """The chunks of a tile, none where it is too narrow for them. Where columns are left over, the last chunk starts
    earlier.

    >>> [(c.start, c.width) for c in chunks(Tiling(4, 7, 1, 28))]
    [(0, 16), (12, 16)]
    """
    starts = [min(v * t.lanes, t.last_vector) for v in range(t.vectors)]
    end = starts[-1] + t.lanes
    width = next((w for w in _WIDTHS if w <= end and w >= t.lanes), 0)
    if not width:
        return ()
    found, left = [], list(enumerate(starts))
    while left:
        first = min(left[0][1], end - width)
        mine = [(v, at) for v, at in left if first <= at and at + t.lanes <= first + width]
        found.append(Chunk(first, width, tuple((at - first, v * t.lanes) for v, at in mine)))
        left = [one for one in left if one not in mine]
    return tuple(found)


def interleaved(rows: Sequence[Any], width: int, lanes: int, wanted: Sequence[int]) -> dict[int, Any]:
    """The groups of some columns: (lanes x group) bytes from each column of `wanted` on.

    rows: a vector of `width` uint8 each, as many as a group has.
    """
    group, vectors = len(rows), list(rows)
    step = 1
    while step < group:
        vectors = _stage(vectors, width)
        step *= 2
    # every vector now holds width / group columns
    each = width // group
    found = {}
    for column in wanted:
        size = lanes * group
        if lanes == each and column % each == 0:
            found[column] = vectors[column // each]
        else:
            first = column * group
            parts = vectors[first // width : -(-(first + size) // width)]
            found[column] = T.Shuffle(parts, [first % width + i for i in range(size)])
    return found


def _stage(vectors: Sequence[Any], width: int) -> list[Any]:
    """Vector i and the one half of them further, byte by byte, as two new vectors."""
    half, every = len(vectors) // 2, T.ramp(0, 1, width)
    made = named("pairs", T.alloc_buffer((len(vectors), width), "uint8", scope="local"))
    for i in range(half):
        for part in range(2):
            order = [lane // 2 + part * width // 2 + (lane % 2) * width for lane in range(width)]
            T.buffer_store(made, T.Shuffle([vectors[i], vectors[i + half]], order), [2 * i + part, every])
    return [made[i, every] for i in range(len(vectors))]


def elements(vector: Any, element: str, lanes: int) -> Any:
    """Bytes as so many elements of a type."""
    return tirx.reinterpret(element if lanes == 1 else f"{element}x{lanes}", vector)
