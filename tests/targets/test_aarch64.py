"""64-bit ARM: CPUs by name, the choice of a family on each without a device, and what code for each may hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tesa.errors import UsageError
from tesa.schedules.registry import families
from tesa.schedules.types import Epilogue, FloatArray, Output, Problem
from tesa.targets import llvm
from tesa.targets.aarch64 import AARCH64
from tesa.targets.hwcap import places, probe
from tesa.targets.target import parse_target
from tests.emulated.assembly import foreign
from tests.emulated.programs import case, check, objects_of
from tests.support import require_system, rest_slow

NAMED = (
    "cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76", "cortex-a78", "cortex-x1", "neoverse-n1", "neoverse-v1",
    "neoverse-n2", "apple-m1",
)  # fmt: skip
QEMU = {
    "cortex-a53": "cortex-a53",
    "cortex-a72": "cortex-a72",
    "cortex-a76": "cortex-a76",
    "neoverse-n1": "neoverse-n1",
}
"""CPUs that qemu-user 7 has by their own names; the others' code runs on "max"."""


def sparse(m: int, k: int, share: float) -> FloatArray:
    rng = np.random.default_rng(m)
    return (rng.standard_normal((m, k)) * (rng.random((m, k)) < share)).astype(np.float32)


def linear(m: int, k: int, n: int) -> Problem:
    return Problem("linear", m, k, n, (1, k, n), (1, m, n), epilogue=Epilogue(True, False, "relu"))


def test_every_cpu_has_a_core_and_those_that_run_in_order_are_slower() -> None:
    for cpu in AARCH64.cpus():
        core = parse_target(f"aarch64:{cpu}").core
        assert (core.lanes, core.registers, core.writer) == (4, 32, "aarch64")
        assert core.l1_bytes <= 128 * 1024 <= core.l2_bytes
        assert core.rates.fmas <= (1 if core.in_order else 6)
    assert set(NAMED) <= set(AARCH64.cpus())
    assert parse_target("llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a55").name == "aarch64:cortex-a55"
    with pytest.raises(UsageError, match="nearest: cortex-a76"):
        parse_target("aarch64:cortex-a76x")


@pytest.mark.parametrize("cpu", NAMED)
def test_scattered_weights_are_unrolled_and_blocks_go_by_panels(cpu: str) -> None:
    core = parse_target(f"aarch64:{cpu}").core

    def best(weight: FloatArray) -> str:
        problem = linear(256, 256, 196)
        found = [
            (family.estimate(problem, weight, core, config), family.name)
            for family in families("cpu")
            for config in family.space(problem, weight, core)
        ]
        return min(found)[1]

    assert best(sparse(256, 256, 0.1)) == best(sparse(256, 256, 0.3)) == "unrolled"
    assert best(np.repeat(sparse(16, 256, 0.7), 16, axis=0)) == "block"
    assert best(sparse(256, 256, 1.0)) == "dense"


@pytest.mark.parametrize("cpu", rest_slow(NAMED, 3))
def test_code_holds_no_instruction_that_the_cpu_lacks(cpu: str, tmp_path: Path) -> None:
    target, weight = parse_target(f"aarch64:{cpu}"), sparse(24, 40, 0.4)
    codes = np.round(weight * 20).clip(-127, 127).astype(np.float32)
    quantized = Problem("linear", 24, 40, 13, (40, 13), (24, 13), epilogue=Epilogue(scale=True), dtype="int8",
                        output=Output("uint8", 0.5, 3))  # fmt: skip
    families_of = (("block", 13), ("unrolled", 13), ("sliced", 1), ("rowlanes", 3))
    cases = [case(family, linear(24, 40, n), weight, target) for family, n in families_of]
    cases.append(case("dense", quantized, codes, target))
    objects = [path for i, one in enumerate(cases) for path in objects_of(one.code, target, tmp_path, f"k{i}")]
    assert foreign(objects, cpu) == []
    check(cases, target, cpu if cpu in QEMU else "max")


def missing(features: tuple[str, ...], cpu: str, folder: Path) -> list[str]:
    """What the C that asks a CPU says that it lacks."""
    source, program = folder / "probe.c", folder / "probe"
    main = "int main(void) { for (int i = 0; needs[i].name[0]; ++i) if (!has(i)) puts(needs[i].name); return 0; }"
    source.write_text(f"#include <stdio.h>\n{probe(features, AARCH64.linux)}\n{main}\n")
    gcc = require_system("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    subprocess.run([gcc, "-Wall", "-Werror", "-static", "-o", str(program), str(source)], check=True)
    qemu = [require_system("qemu-aarch64", "qemu-user"), "-cpu", cpu, str(program)]
    return subprocess.run(qemu, check=True, capture_output=True, text=True).stdout.split()


def test_a_cpu_is_asked_for_what_it_lacks(tmp_path: Path) -> None:
    newest = tuple(sorted(AARCH64.needed("neoverse-n2")))
    old = AARCH64.needed("cortex-a53")
    lacking = missing(newest, "cortex-a53", tmp_path)
    told = {name for name, _, _ in places(newest, AARCH64.linux)}
    assert {"dotprod", "i8mm", "fullfp16", "sve2", "lse"} <= set(lacking) == told - old
    assert missing(tuple(sorted(AARCH64.needed("neoverse-n1"))), "neoverse-n1", tmp_path) == []
    assert missing(tuple(sorted(old)), "cortex-a53", tmp_path) == []


def test_linux_and_the_auxiliary_vector_tell_of_the_same_features() -> None:
    known = llvm.known_features(AARCH64.triple)
    names = set(AARCH64.linux)
    assert names <= known
    assert {name for name, _, _ in places(sorted(known), AARCH64.linux)} == names
