"""Every family on 64-bit ARM: ragged shapes, types and epilogues on emulated CPUs, against NumPy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tesa.schedules.cpu import cut
from tesa.schedules.pieces import Piece, sums
from tesa.schedules.registry import families
from tesa.schedules.types import ACTIVATIONS, Config, Epilogue, FloatArray, Output, Problem, Window
from tesa.targets.target import Target, parse_target
from tests.emulated.assembly import foreign
from tests.emulated.programs import Case, build, case, check, execute, faults
from tests.support import rest_slow

CPUS = {"cortex-a53": "cortex-a53", "cortex-a76": "cortex-a76", "neoverse-n2": "max"}
"""CPUs without dot products, with them, and with matrix products; and the emulated CPU that their code runs on."""

OTHERS = {
    "cortex-a55": "max", "cortex-a72": "cortex-a72", "cortex-a78": "max", "cortex-x1": "max",
    "neoverse-n1": "neoverse-n1", "neoverse-v1": "max", "apple-m1": "max",
}  # fmt: skip
"""More CPUs, each with code of its own, since LLVM orders instructions for one; and what emulates it."""

FAMILIES = ("dense", "block", "depthwise", "indexed", "rowlanes", "vector", "sliced", "unrolled")

SIZES = (
    (1, 1, 1),
    (3, 7, 2),
    (17, 33, 3),
    (5, 64, 5),
    (16, 40, 7),
    (29, 50, 1),
    (33, 24, 49),
    (8, 70, 12),
    (40, 96, 30),
)
WINDOWS = (
    Window(7, 9, (3, 3), (1, 1), (1, 1, 1, 1)),
    Window(8, 8, (3, 3), (2, 2), (0, 0, 1, 1)),
    Window(6, 11, (2, 5), (1, 2), (0, 2, 1, 2), (2, 1)),
    Window(5, 5, (1, 1), (2, 2)),
)


@pytest.fixture(autouse=True)
def all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even the smallest problem runs on all its threads."""
    monkeypatch.setattr(cut, "SERIAL_CYCLES", 0)


def draw(rng: np.random.Generator, m: int, k: int) -> FloatArray:
    """Numbers that 16 bits hold exactly, in a pattern of some block size and share."""
    rows, columns = rng.choice([1, 1, 4, 16]), rng.choice([1, 1, 4])
    live = rng.random((-(-m // rows), -(-k // columns))) < rng.choice([0.1, 0.3, 0.6, 1.0])
    mask = np.repeat(np.repeat(live, rows, 0), columns, 1)[:m, :k]
    return np.where(mask, rng.integers(-64, 65, (m, k)) / 32, 0).astype(np.float32)


def epilogue(rng: np.random.Generator) -> Epilogue:
    activation = rng.choice([None, "relu", "relu6", "hardswish", *ACTIVATIONS])
    return Epilogue(bool(rng.random() < 0.6), bool(rng.random() < 0.3), activation)


def problems(rng: np.random.Generator) -> Iterator[Problem]:
    """Linear layers of every size, convolutions and depthwise ones of every window, in float32 and in 16 bits."""
    for m, k, n in SIZES:
        batch = int(rng.choice([1, 2]))
        storage = str(rng.choice(["float32", "float16", "bfloat16"]))
        yield Problem("linear", m, k, n, (batch, k, n), (batch, m, n), batch, None, epilogue(rng),
                      threads=int(rng.choice([1, 3])), storage=storage)  # fmt: skip
    for window in WINDOWS:
        n, area = window.out_height * window.out_width, window.kernel[0] * window.kernel[1]
        out = (window.out_height, window.out_width)
        for op, m, channels in (("conv2d", 10, 3), ("depthwise", 7, 7)):
            k = area * (1 if op == "depthwise" else channels)
            yield Problem(op, m, k, n, (1, channels, window.height, window.width), (1, m, *out), 1, window,
                          epilogue(rng), threads=int(rng.choice([1, 2])))  # fmt: skip


def integers(rng: np.random.Generator) -> Iterator[Problem]:
    """int8 layers, and mixed ones, whose result is sums, real numbers or codes."""
    for m, k, n in SIZES:
        output = rng.choice([Output("int32"), Output(), Output("uint8", 0.05, 7), Output("int8", 0.1, -3)])
        end = Epilogue() if output.dtype == "int32" else replace(epilogue(rng), scale=True)
        yield Problem("linear", m, k, n, (k, n), (m, n), 1, None, end, "int8", int(rng.choice([1, 2])), output=output)


def draws(target: Target, seed: int, most: int) -> list[tuple[str, Problem, FloatArray, Config]]:
    """Each family that takes a problem, with `most` configurations of its space."""
    rng, found = np.random.default_rng(seed), []
    for problem in (*problems(rng), *integers(rng)):
        weight = draw(rng, problem.m, problem.k)
        if problem.dtype == "int8":
            weight = np.round(weight * 60).clip(-128, 127).astype(np.float32)
        for family in families("cpu"):
            space = list(family.space(problem, weight, target.core))
            for index in sorted({int(rng.integers(len(space))) for _ in range(most)} if space else ()):
                found.append((family.name, problem, weight, space[index]))
    return found


def cases(target: Target, seed: int, most: int = 1, part: slice = slice(None)) -> list[Case]:
    """A case for each draw, or for a part of them."""
    drawn = draws(target, seed, most)[part]
    return [case(family, problem, weight, target, config, seed) for family, problem, weight, config in drawn]


PARTS = 3 * len(CPUS)


@pytest.mark.parametrize("part", rest_slow(range(PARTS), len(CPUS)))
def test_a_part_of_the_families_problems(part: int) -> None:
    """One kernel in nine on each CPU, and three in nine where there is time."""
    cpu = list(CPUS)[part % len(CPUS)]
    target = parse_target(f"aarch64:{cpu}")
    made = cases(target, 3, part=slice(part, None, PARTS))
    assert len({one.name.split()[0] for one in made}) > 3
    check(made, target, CPUS[cpu])


@pytest.mark.slow
def test_sums_of_pieces() -> None:
    target = parse_target("aarch64:cortex-a76")
    rng, (way,) = np.random.default_rng(0), [way for way in sums() if way.kind == "cpu"]
    found = []
    for m, k, n in ((16, 40, 33), (37, 64, 7), (24, 48, 100)):
        blocks = np.repeat(np.repeat(rng.random((-(-m // 4), k // 4)) < 0.3, 4, 0), 4, 1)[:m]
        scattered = (rng.random((m, k)) < 0.1) & ~blocks
        weight = rng.standard_normal((m, k)).astype(np.float32)
        pieces = (
            Piece(np.where(blocks, weight, 0), pattern="block 4x4", block=(4, 4)),
            Piece(np.where(scattered, weight, 0)),
        )
        problem = Problem("linear", m, k, n, (1, k, n), (1, m, n), epilogue=Epilogue(True, True, "relu"))
        whole = np.where(blocks | scattered, weight, 0).astype(np.float32)
        configs = way.space(problem, pieces, target.core, families("cpu"))
        for index in sorted({0, len(configs) // 2, len(configs) - 1}):
            code = way.emit(problem, pieces, target.core, configs[index], "kernel")
            found.append(case(code, problem, whole, target, name=f"{m}x{k}x{n} {configs[index]}"))
    assert any(one.code.pieces for one in found)
    assert any("fused" in one.name for one in found)
    check(found, target)


@pytest.mark.slow
@pytest.mark.parametrize("cpu", CPUS)
def test_a_configuration_of_every_family(cpu: str) -> None:
    target = parse_target(f"aarch64:{cpu}")
    made = cases(target, 4)
    # families of decompositions are there where another test has registered them; no core of ARM permutes bytes so
    plain = {family.name for family in families("cpu")} & set(FAMILIES)
    assert {one.name.split()[0] for one in made} >= plain
    check(made, target, CPUS[cpu])


@pytest.mark.slow
@pytest.mark.parametrize("cpu", OTHERS)
def test_every_family_on_more_cpus(cpu: str, tmp_path: Path) -> None:
    """Right numbers, and no instruction that the CPU lacks: the emulator knows the CPUs of some names only."""
    target, seen, made = parse_target(f"aarch64:{cpu}"), Counter[str](), []
    for family, problem, weight, config in draws(target, 5, 1):
        seen[family] += 1
        made += [case(family, problem, weight, target, config, 5)] if seen[family] % 3 == 1 else []
    assert {one.name.split()[0] for one in made} >= {family.name for family in families("cpu")} & set(FAMILIES)
    program = build(made, target, tmp_path)
    assert foreign(sorted(tmp_path.glob("*.o")), cpu) == []
    assert faults(made, execute(program, made, OTHERS[cpu])) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 16))
@pytest.mark.parametrize("cpu", CPUS)
def test_more_configurations_of_every_family(cpu: str, seed: int) -> None:
    target = parse_target(f"aarch64:{cpu}")
    check(cases(target, seed, 3), target, CPUS[cpu])
