"""The order of loads and multiply-adds: nothing is used before it is read, or after something else took its place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tesa.schedules.order import (
    WEIGHT_REGISTERS,
    Add,
    Column,
    Means,
    Ordered,
    PackX,
    ReadWeights,
    ReadX,
    columns,
    order,
)
from tesa.schedules.program import Program
from tesa.schedules.types import Config, Core, FloatArray, Problem
from tests.schedules.programs import programs_of

NEON = Core("neon", 4, 32, writer="aarch64")
SLOTS = st.integers(1, 8)


def layer(m: int, k: int, density: float, seed: int) -> tuple[Problem, FloatArray]:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((m, k)) * (rng.random((m, k)) < density)).astype(np.float32)
    return Problem("linear", m, k, 24, (1, k, 24), (1, m, 24)), weight


def one_program(m: int, k: int, density: float, seed: int, vectors: int, pack: int) -> Program:
    """The last panel of two, or, for pack 2, the first one, which packs."""
    config: Config = {"rows": m, "vectors": vectors, "kblock": 0, "chunk": 2, "pack": min(pack, 1)}
    made = programs_of(*layer(2 * m, k, density, seed), NEON, config)
    return made[0 if pack == 2 else -1]


def replay(made: Sequence[Ordered], values: Sequence[float], found: Sequence[Column]) -> None:
    """Run the steps on slots and registers, and see that each sum gets its products in the order of columns."""
    by_places = {column.places: number for number, column in enumerate(found)}
    assert len(by_places) == len(found)
    slots: dict[int, int] = {}
    registers: dict[int, int] = {}
    met: dict[int, list[tuple[int, float]]] = {}
    packed: list[int] = []
    for step in made:
        match step:
            case ReadX(read):
                slots |= {slot: by_places[places] for slot, places in read}
            case PackX(stored):
                for slot, places in stored:
                    assert places == found[slots[slot]].packed
                    packed.append(slots[slot])
            case ReadWeights(first, count):
                for number in range(first, first + 4 * count):
                    registers[number // 4 % WEIGHT_REGISTERS * 4 + number % 4] = number
            case Add(row, slot, number):
                assert registers[number // 4 % WEIGHT_REGISTERS * 4 + number % 4] == number
                met.setdefault(row, []).append((slots[slot], values[number]))
    wanted: dict[int, list[tuple[int, float]]] = {}
    for number, column in enumerate(found):
        for row, weight in column.weights:
            wanted.setdefault(row, []).append((number, weight))
    assert met == wanted
    assert packed == [number for number, column in enumerate(found) if column.packed]


@given(
    st.integers(1, 26), st.integers(1, 40), st.sampled_from([0.0, 0.1, 0.4, 1.0]), st.integers(0, 99),
    st.integers(1, 3), st.integers(0, 2), SLOTS, st.booleans(), st.sampled_from([1, 3]),
)  # fmt: skip
def test_any_panel(
    m: int, k: int, density: float, seed: int, vectors: int, pack: int, slots: int, pairs: bool, group: int
) -> None:
    one = one_program(m, k, density, seed, vectors, pack)
    made, values = order(one, Means(slots, 4, pairs, group))
    replay(made, values, columns(one))
    reads = [step for step in made if isinstance(step, ReadX)]
    assert sum(len(step.columns) for step in reads) == len(columns(one))
    assert all(len(step.columns) == 1 or pairs or pack == 2 for step in reads)


def test_neighbours_are_read_together() -> None:
    one = one_program(12, 30, 1.0, 0, 1, 1)
    made, _ = order(one, Means(4, 4, True))
    assert sum(isinstance(step, ReadX) for step in made) == 15
    assert sum(isinstance(step, ReadWeights) for step in made) == 12 * 30 // 8
    made, _ = order(one, Means(4, 4, False))
    assert sum(isinstance(step, ReadX) for step in made) == 30
    assert sum(isinstance(step, ReadWeights) for step in made) == 12 * 30 // 4


def test_columns_are_read_ahead_and_sums_rest() -> None:
    one = one_program(26, 200, 0.1, 0, 1, 0)
    made, _ = order(one, Means(4, 4, False))
    read, used = {}, {}
    for at, step in enumerate(made):
        if isinstance(step, ReadX):
            read |= {slot: at for slot, _ in step.columns}
            used |= {slot: None for slot, _ in step.columns}
        elif isinstance(step, Add) and used[step.slot] is None:
            used[step.slot] = at - read[step.slot]
            assert at < 20 or at - read[step.slot] >= 3
    rows = [step.row for step in made if isinstance(step, Add)]
    turns = {row: [at for at, met in enumerate(rows) if met == row] for row in set(rows)}
    close = sum(b - a < 4 for at in turns.values() for a, b in pairwise(at))
    assert close < len(rows) / 50
