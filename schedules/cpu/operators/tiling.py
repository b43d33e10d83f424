"""The tile of a matrix product that a register file holds."""

import math

from tesa.schedules.types import Core

_LATENCY = 8
"""Independent accumulators that keep two FMA units busy, four cycles each."""


def register_tile(core: Core, rows: int, columns: int) -> tuple[int, int]:
    """(rows, vectors) of the tile of accumulators that does a rows x columns product in the fewest cycles.

    A step over k takes one load for each row (a broadcast) and each vector, two a cycle, and one FMA for each pair,
    two a cycle. Registers: rows * vectors accumulators, the vectors, two broadcasts.
    """
    best = (math.inf, 1, 1)
    for vectors in (1, 2, 3, 4):
        if vectors > 1 and (vectors - 1) * core.lanes >= columns:
            break
        for height in range(1, min(rows, 24) + 1):
            if height * vectors + vectors + 2 > core.registers or not core.holds(height * vectors, height + vectors):
                break
            cost = _cycles(core, rows, columns, height, vectors)
            if cost < best[0]:
                best = (cost, height, vectors)
    return best[1], best[2]


def _cycles(core: Core, rows: int, columns: int, height: int, vectors: int) -> float:
    total_vectors = -(-columns // core.lanes)
    across = [vectors] * (total_vectors // vectors) + [1] * (total_vectors % vectors)
    down = [height] * (rows // height) + ([rows % height] if rows % height else [])
    return sum(max(h * v, h + v, _LATENCY) for h in down for v in across)
