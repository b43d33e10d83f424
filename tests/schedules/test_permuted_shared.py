"""Slices of rows that share their columns: exact sums whatever the blocks, the window and the border."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tesa.build.source import source
from tesa.schedules.cpu.gathering import gathering
from tesa.schedules.cpu.permuted_last import view_of
from tesa.schedules.cpu.permuted_shared import shares
from tesa.schedules.cpu.permuted_steps import shared_steps
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, FloatArray, Output, Problem, Window
from tesa.targets.target import parse_target, runs_here
from tests.schedules.features_last import Kernel, check, convolution, draw, linear, problems

TARGET = parse_target("x86:icelake-server")
CORE = TARGET.core
FAMILY = find("permuted")
WAY = gathering(CORE, 0)
CODES: dict[str, Any] = {"output": Output("uint8", 0.05, 7), "epilogue": Epilogue(bias=True, scale=True)}
SHARED = {"columns": 20, "align": 32, "sort": 0, "shared": 1}
here = pytest.mark.skipif(not runs_here(TARGET), reason="this machine's CPU cannot permute bytes (AVX-512 VBMI)")

pytestmark = pytest.mark.usefixtures("any_work_on_threads")


def blocks(problem: Problem, density: float, seed: int, rows: int = 16) -> FloatArray:
    """Codes in blocks of so many rows and one column, a few of which are zero by chance."""
    live = np.random.default_rng(seed).random((-(-problem.m // rows), problem.k)) < density
    weight: FloatArray = draw(problem, 0.95, seed) * np.repeat(live, rows, axis=0)[: problem.m]
    return weight


@here
@pytest.mark.parametrize("seed", [0, 1])
def test_every_problem_is_right(seed: int) -> None:
    def every() -> Iterator[Kernel]:
        for number, problem in enumerate(problems(seed)):
            weight = blocks(problem, (0.02, 0.1, 0.3, 1.0)[number % 4], number, (16, 8, 32)[number % 3])
            yield problem, weight, "permuted", SHARED | {"columns": (8, 14, 20)[number % 3]}

    check(list(every()), TARGET)


@here
def test_long_rows_and_windows_of_every_alignment() -> None:
    far = linear(36, 4096, 21, **CODES)
    wide = convolution(48, 40, Window(6, 5, (3, 3), padding=(1, 0, 1, 2)), batch=2, x_zero=3, **CODES)
    made = []
    for problem in (far, wide, linear(70, 200, 50)):
        made += [(problem, blocks(problem, 0.2, 0), "permuted", SHARED | {"align": a}) for a in (1, 32, 64)]
    check([*made, (far, np.zeros((36, 4096), np.float32), "permuted", SHARED)], TARGET)


@pytest.mark.parametrize(("density", "stored"), [(0.1, 16), (0.3, 32), (0.9, 64)])
def test_a_window_is_gathered_once_for_all_rows(density: float, stored: int) -> None:
    problem = linear(64, 512, 9, **CODES)
    weight = blocks(problem, density, 0)
    made = shared_steps(problem, weight, view_of(problem, WAY), np.arange(64, dtype=np.int32), WAY, 32)
    union = [int(rows.any(axis=0).sum()) for rows in weight.reshape(4, 16, 512)]
    assert made.stored == stored
    assert np.diff(made.starts).tolist() == [-(-count // 4) for count in union]
    assert np.diff(made.windows).max() <= 1.1 * 512 / 64
    assert made.longest == max(union) + stored


def test_it_is_for_rows_that_share_their_columns() -> None:
    problem = linear(64, 512, 40, **CODES)
    together, apart = blocks(problem, 0.3, 0), draw(problem, 0.3, 0)
    assert shares(WAY, together)
    assert not shares(WAY, apart)
    assert FAMILY.space(problem, together, CORE)[0].get("shared")
    assert not any(config.get("shared") for config in FAMILY.space(problem, apart, CORE))
    with pytest.raises(ValueError, match="shared"):
        FAMILY.emit(problem, together, parse_target("x86:cascadelake").core, SHARED | {"window": 16}, "k")


def test_the_loop_is_a_load_and_a_product_for_a_column() -> None:
    problem = linear(64, 256, 60, **CODES)
    text = source(FAMILY.emit(problem, blocks(problem, 0.3, 0), CORE, SHARED, "k"), TARGET, "asm")
    (loop, *_) = (part for part in text.split("\n.LBB") if "vpdpbusd" in part)
    assert [loop.count(name) for name in ("vpbroadcastd", "vpdpbusd", "vpermb", "rsp")] == [20, 20, 0, 0]
    assert loop.count("\n") < 2 * 20 + 14
