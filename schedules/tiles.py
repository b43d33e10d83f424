"""The positions of a straight-line kernel in tiles that are all alike.

A tile is V vectors of positions: of one row of outputs, or of several rows where a row is short. Its code is written
once, so all tiles have the same shape: where they do not fit evenly, the last one starts earlier and meets some
positions again.
"""

from dataclasses import dataclass
from typing import Any

from tvm import tirx


@dataclass(frozen=True)
class Tiles:
    """The positions of one batch item in tiles. Tile t stands at column t % across and row t // across.

    reads, writes: where the vectors of a tile start, from the tile's start, in S and in a row of Y. lanes: elements of
    a vector that are stored. step, last: tile column c starts at position min(c * step, last) of its row; the same for
    rows, `down` and `last_row`, of which one is `pitch` elements of S and `width` elements of Y.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    lanes: int
    count: int
    across: int = 1
    step: int = 0
    last: int = 0
    down: int = 0
    last_row: int = 0
    pitch: int = 0
    width: int = 0

    def start(self, t: Any) -> tuple[Any, Any]:
        """The first element of tile t in S and in a row of Y, as expressions of TVM."""
        column, row = tirx.truncmod(t, _i32(self.across)), tirx.truncdiv(t, _i32(self.across))
        if self.across == self.count:
            column, row = t, _i32(0)
        x = tirx.min(column * self.step, _i32(self.last))
        y = tirx.min(row * self.down, _i32(self.last_row))
        return y * self.pitch + x, y * self.width + x

    def starts(self) -> list[tuple[int, int]]:
        """start of every tile, as numbers.

        >>> Tiles((0,), (0,), 16, count=3, across=3, step=16, last=24).starts()
        [(0, 0), (16, 16), (24, 24)]
        """
        found = []
        for t in range(self.count):
            x = min(t % self.across * self.step, self.last)
            y = min(t // self.across * self.down, self.last_row)
            found.append((y * self.pitch + x, y * self.width + x))
        return found


def tiles(height: int, width: int, pitch: int, lanes: int, vectors: int) -> Tiles:
    """Tiles of at most so many vectors for height x width positions, whose rows lie pitch elements apart in S.

    Example:
        >>> tiles(1, 40, 40, 16, 4).reads
        (0, 16, 24)
    """
    of_row = -(-width // lanes)
    across = -(-of_row // vectors)
    in_row = -(-of_row // across)
    size = min(in_row * lanes, width)
    starts = [max(0, min(v * lanes, size - lanes)) for v in range(in_row)]
    rows = min(height, max(1, vectors // in_row)) if across == 1 else 1
    return Tiles(
        reads=tuple(r * pitch + s for r in range(rows) for s in starts),
        writes=tuple(r * width + s for r in range(rows) for s in starts),
        lanes=min(lanes, width),
        count=across * -(-height // rows),
        across=across,
        step=size,
        last=width - size,
        down=rows,
        last_row=height - rows,
        pitch=pitch,
        width=width,
    )


def _i32(value: int) -> Any:
    return tirx.IntImm("int32", value)
