"""The permuted family where bytes are permuted within 16, or by tables of registers: exact sums on each kind of CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tesa.build.source import source
from tesa.schedules.cpu.gathering import gathering, gatherings
from tesa.schedules.cpu.windows import pack
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, Output
from tesa.targets.target import Target, parse_target, runs_here
from tests.emulated.programs import case
from tests.emulated.programs import check as check_emulated
from tests.schedules.features_last import Kernel, check, draw, linear, problems
from tests.support import rest_slow

CHIPS = ("cascadelake", "skylake-avx512", "alderlake", "haswell", "x86-64-v2")
"""AVX-512 with dot products of bytes and without, AVX2 with them and without, and SSE."""

HERE = [target for target in map(parse_target, (f"x86:{chip}" for chip in CHIPS)) if runs_here(target)]
EMULATED = {"neoverse-n2": "max", "neoverse-n1": "neoverse-n1"}
FAMILY = find("permuted")
CODES = {"output": Output("uint8", 0.05, 7), "epilogue": Epilogue(bias=True, activation="relu", scale=True)}

pytestmark = pytest.mark.usefixtures("any_work_on_threads")


def every(target: Target, seed: int) -> Iterator[Kernel]:
    """Every problem, with windows, tiles and orders in turn."""
    for number, problem in enumerate(problems(seed)):
        weight = draw(problem, (0.02, 0.1, 0.3, 0.5)[number % 4], number)
        ways = gatherings(target.core, problem.m)
        way = ways[number % len(ways)]
        yield (
            problem,
            weight,
            "permuted",
            {"columns": way.sizes[number % 2], "align": 1, "window": way.window, "sort": 0},
        )


def ordered(target: Target) -> Iterator[Kernel]:
    """Rows of unlike numbers of weights, sorted in blocks, some with residuals."""
    for i, m in enumerate((64, 250, 300)):
        said = {**CODES, "x_zero": m % 3, "threads": 1 + m % 2}
        if i:
            said |= {"residual": Output("uint8", 0.1, 3), "output": Output("int8", 0.05, 1 + i)}
            said["epilogue"] = Epilogue(i % 2 > 0, True, ("relu6", "gelu")[i % 2], scale=True)
        problem = linear(m, 70 + m % 2, 9, **said)
        weight = draw(problem, 0.3, m) * (np.random.default_rng(m).random((m, 1)) < 0.7)
        way = gatherings(target.core)[i % 2]
        config = {"columns": way.sizes[0], "align": 1, "window": way.window, "sort": 256}
        yield problem, weight, "permuted", config


@pytest.mark.parametrize("target", rest_slow(HERE), ids=lambda target: target.cpu)
def test_every_problem_is_right(target: Target) -> None:
    seed = CHIPS.index(target.cpu)
    check([*list(every(target, seed))[seed % 2 :: 2], *ordered(target)], target)


@pytest.mark.parametrize("cpu", rest_slow(EMULATED))
def test_every_problem_is_right_on_arm(cpu: str) -> None:
    target = parse_target(f"aarch64:{cpu}")
    start = list(EMULATED).index(cpu)
    made = [*list(every(target, 2 + start))[start::2], *ordered(target)]
    cases = [case(family, problem, weight, target, config) for problem, weight, family, config in made]
    check_emulated(cases, target, EMULATED[cpu])


@pytest.mark.parametrize("target", HERE, ids=lambda target: target.cpu)
def test_the_largest_sums_do_not_saturate(target: Target) -> None:
    """Bytes of up to 255 times weights that are all as large as can be, also as pairs of unlike ones."""
    problem, rng = linear(20, 64, 9), np.random.default_rng(0)
    weights = [np.full((20, 64), code, np.float32) for code in (-128, 127)]
    weights += [
        rng.choice(list(codes), (20, 64)).astype(np.float32) for codes in ((1, 127, 0), (-128, 0), (64, 65, -64))
    ]
    made = []
    for i, w in enumerate(weights):
        way = gatherings(target.core)[i % 2]
        made.append((problem, w, "permuted", {"columns": 8, "align": 1, "window": way.window, "sort": 0}))
    check(made, target)


@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_small_and_the_steps_are_the_weight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, k, window = 20, 150, (16, 32)[seed % 2]
    w = np.where(rng.random((m, k)) < 0.4, rng.integers(-128, 128, (m, k)), 0).astype(np.float32)
    steps = pack(w, 8, window, 1, limited=True)
    found = np.zeros((m, k + window), np.int64)
    for number, rows in enumerate(steps.rows):
        for step in range(steps.starts[number], steps.starts[number + 1]):
            for lane, row in enumerate(rows):
                for value, place in zip(steps.values[step, lane], steps.places[step, lane], strict=True):
                    found[row, steps.bases[step] + place] += value if row >= 0 else 0
    np.testing.assert_array_equal(found[:, :k], w)
    assert steps.places.max() < window
    assert np.abs(steps.values.astype(int)).reshape(-1, 2, 2).sum(axis=2).max() <= 128


@pytest.mark.parametrize(
    ("chip", "window", "wanted"),
    [
        ("cascadelake", 16, {"vpshufb": 1, "vpdpbusd": 1}), ("cascadelake", 32, {"vpshufb": 2, "vpdpbusd": 1}),
        ("haswell", 16, {"vpshufb": 1, "vpmaddubsw": 1, "vpmaddwd": 1, "vpaddd": 1}),
        ("haswell", 32, {"vpshufb": 2, "vpmaddubsw": 1, "vpmaddwd": 1, "vpaddd": 1, "vpor": 1}),
        ("alderlake", 16, {"vpshufb": 1, "vpdpbusd": 1}),
    ],
)  # fmt: skip
def test_the_loop_has_the_claimed_instructions_for_a_column(chip: str, window: int, wanted: dict[str, int]) -> None:
    target, problem = parse_target(f"x86:{chip}"), linear(64, 256, 60, **CODES)
    columns = gathering(target.core, window).sizes[1]
    config = {"columns": columns, "align": 1, "window": window, "sort": 0}
    text = source(FAMILY.emit(problem, draw(problem, 0.3, 0), target.core, config, "k"), target, "asm")
    parts = text.split("\n.LBB")
    loop = next(part for part in parts if "vpshufb" in part and ("vpmadd" in part or "vpdp" in part))
    assert loop.count("rsp") == 0
    each = 60 // -(-60 // columns)
    for name, count in wanted.items():
        assert abs(loop.count(f"\t{name}") - each * count) <= 3, name
    assert loop.count("\n") < each * (sum(wanted.values()) + window // 16) + 24


def test_it_says_what_it_cannot_do() -> None:
    problem = linear(70, 64, 9, **CODES)
    weight = draw(problem, 0.2, 0)
    plain = parse_target("aarch64:cortex-a53").core
    assert FAMILY.space(problem, weight, plain) == ()
    config = {"columns": 8, "align": 1, "window": 64, "sort": 0}
    with pytest.raises(ValueError, match="gathers no bytes from windows of 64"):
        FAMILY.emit(problem, weight, parse_target("x86:haswell").core, config, "k")
