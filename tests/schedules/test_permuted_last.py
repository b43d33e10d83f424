"""The permuted family for features_last: exact sums whatever the shape, the window and the order of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tesa.build.source import source
from tesa.schedules.cpu.gathering import gathering
from tesa.schedules.cpu.permuted_last import tiles_of, view_of
from tesa.schedules.cpu.permuted_order import BLOCK, LINE, blocks_of, order_of, sorts
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, Output, Window
from tesa.targets.target import parse_target, runs_here
from tests.schedules.features_last import Kernel, check, convolution, draw, linear, problems
from tests.support import rest_slow

TARGET = parse_target("x86:icelake-server")
CORE = TARGET.core
FAMILY = find("permuted")
CODES = {"output": Output("uint8", 0.05, 7), "epilogue": Epilogue(bias=True, activation="relu", scale=True)}
here = pytest.mark.skipif(not runs_here(TARGET), reason="this machine's CPU cannot permute bytes (AVX-512 VBMI)")

pytestmark = pytest.mark.usefixtures("any_work_on_threads")


def every(seed: int) -> Iterator[Kernel]:
    for number, problem in enumerate(problems(seed)):
        weight = draw(problem, (0.02, 0.1, 0.3, 0.5)[number % 4], number)
        space = FAMILY.space(problem, weight, CORE)
        yield problem, weight, "permuted", space[(number + seed) % len(space)]


@here
@pytest.mark.parametrize("seed", rest_slow([0, 1]))
def test_every_problem_is_right(seed: int) -> None:
    check(list(every(seed)), TARGET)


@pytest.mark.slow
@here
def test_rows_come_back_to_their_order() -> None:
    """Rows of unlike numbers of weights, in registers that are full and that are not, in one block and in several."""
    made = []
    sizes = ((64, 64), (64, 256), (65, 256), (192, 64), (192, 256), (250, 256), (257, 256), (300, 256), (448, 64))
    rests = (Output("uint8", 0.1, 3), Output("int8", 0.05, -2))
    for i, (m, sort) in enumerate([*sizes, (320, 256), (560, 256)] * 2):
        said: dict[str, Any] = {**CODES, "x_zero": m % 3, "threads": 1 + m % 2}
        if i >= len(sizes):
            said |= {"residual": rests[i % 2], "output": Output("int8", 0.05, 1 + i)}
            said["epilogue"] = Epilogue(i % 3 > 0, i % 4 > 0, ("relu6", "gelu", None, "hardswish")[i % 4], scale=True)
        problem = linear(m, 70 if m % 2 else 128, 9, **said)
        weight = draw(problem, 0.3, m) * (np.random.default_rng(m).random((m, 1)) < 0.7)
        weight[::3, ::2] = 0
        assert sort in sorts(problem)
        assert (np.diff(order_of(problem, weight, 16, sort)) < 0).any()
        made.append((problem, weight, "permuted", {"columns": 20, "align": 32, "sort": sort}))
    check(made, TARGET)


@here
def test_long_rows_and_windows_of_every_alignment() -> None:
    far = linear(20, 4096, 21, **CODES)
    wide = convolution(24, 40, Window(6, 5, (3, 3)), batch=2, x_zero=3, **CODES)
    made = []
    for problem in (far, wide, linear(70, 200, 50)):
        weight = draw(problem, 0.2, 0)
        made += [(problem, weight, "permuted", {"columns": 14, "align": a, "sort": 0}) for a in (1, 32, 64)]
    check([*made, (far, np.zeros((20, 4096), np.float32), "permuted", {"columns": 14, "align": 32, "sort": 0})], TARGET)


def test_blocks_are_whole_registers_or_have_one_at_least() -> None:
    for m in range(LINE, 6000):
        made = blocks_of(m, 16)
        last = m - (made.count - 1) * made.size
        assert LINE <= last <= made.size <= BLOCK
        assert made.size % (LINE if m % LINE == 0 else 16) == 0


@pytest.mark.parametrize("most", [8, 14, 20])
def test_tiles_hold_each_column_once(most: int) -> None:
    for problem in problems(0):
        view = view_of(problem, gathering(CORE, 0))
        found = []
        for kind in tiles_of(view, most):
            assert len(kind.offsets) <= most
            for line in range(kind.lines):
                for number in range(kind.count):
                    first = kind.first + line * view.width + number * len(kind.offsets)
                    found += [view.place(first) + offset for offset in kind.offsets]
        assert found == [view.place(p) for p in range(view.columns)] or sorted(found) == sorted(
            view.place(p) for p in range(view.columns)
        )


def test_the_loop_is_two_instructions_for_a_column() -> None:
    window = Window(14, 14, (3, 3))
    for problem in (linear(64, 256, 60, **CODES), convolution(64, 64, window, **CODES)):
        config = {"columns": 20, "align": 32, "sort": 64}
        columns = len(tiles_of(view_of(problem, gathering(CORE, 0)), 20)[0].offsets)
        text = source(FAMILY.emit(problem, draw(problem, 0.3, 0), CORE, config, "k"), TARGET, "asm")
        (loop, *_) = (part for part in text.split("\n.LBB") if "vpermb" in part and "vpdpbusd" in part)
        assert (loop.count("vpermb"), loop.count("vpdpbusd"), loop.count("rsp")) == (columns, columns, 0)
        assert loop.count("\n") < columns * 2 + 18


def test_it_asks_for_what_it_needs() -> None:
    problem = linear(70, 64, 9, **CODES)
    weight = draw(problem, 0.2, 0)
    assert FAMILY.space(problem, weight, parse_target("aarch64:cortex-a53").core) == ()
    assert FAMILY.space(problem, np.ones((70, 64), np.float32), CORE) == ()
    with pytest.raises(ValueError, match="cannot sort 70 rows of uint8"):
        FAMILY.emit(problem, weight, CORE, {"columns": 8, "align": 32, "sort": 64}, "k")
