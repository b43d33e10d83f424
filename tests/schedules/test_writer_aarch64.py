"""Panels for 64-bit ARM: numbers against NumPy and against the same panels as TIR, instructions against the program."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.schedules import steps
from tesa.schedules.cpu.writers import registers
from tesa.schedules.registry import find
from tesa.schedules.types import Assembly, Config, Core, Epilogue, FloatArray, Problem, Window
from tesa.targets.target import Target, parse_target
from tests.emulated.assembly import foreign
from tests.emulated.programs import Case, case, check, objects_of, run
from tests.schedules import golden
from tests.schedules.programs import programs_of
from tests.schedules.strategies import unrolled_configs, weights
from tests.schedules.test_writers import count
from tests.support import require_system, rest_slow

UNROLLED = find("unrolled")
TARGET = parse_target("aarch64:cortex-a53")
IN_ORDER = replace(TARGET, core=replace(TARGET.core, in_order=True))
OUT_OF_ORDER = replace(TARGET, core=replace(TARGET.core, in_order=False))
CORES = [IN_ORDER.core, OUT_OF_ORDER.core]
ACTIVATIONS = (None, "relu", "relu6", "hardswish", "gelu")


def sparse(m: int, k: int, density: float, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((m, k)) * (rng.random((m, k)) < density)).astype(np.float32)
    weight[m // 2] = 0
    return weight


def linear(m: int, k: int, n: int, epilogue: Epilogue, batch: int = 1, threads: int = 1) -> Problem:
    return Problem("linear", m, k, n, (batch, k, n), (batch, m, n), batch, None, epilogue, threads=threads)


def config(rows: int, vectors: int = 1, kblock: int = 0, chunk: int = 3, pack: int = 0) -> Config:
    return {"rows": rows, "vectors": vectors, "kblock": kblock, "chunk": chunk, "pack": pack}


def lines(unit: object) -> list[str]:
    assert isinstance(unit, Assembly)
    return unit.text.splitlines()


def linears() -> Iterator[tuple[Problem, FloatArray, Config]]:
    """All activations by all kinds of n; configurations, bias and residual in turns."""
    configs = (config(26), config(10, pack=1), config(3, 2, 9), config(2, 4, 0, 1, 1), config(5, 3, 9, 1), config(1))
    for number, (n, activation) in enumerate(product((1, 2, 3, 4, 5, 49, 100, 196), ACTIVATIONS)):
        m, bias, residual = (29, 3, 14)[number % 3], number % 3 > 0, number % 4 > 1
        p = linear(m, 23, n, Epilogue(bias, residual, activation), 1 + number % 2, 1 + 2 * (number % 2))
        yield p, sparse(m, 23, 0.3, number), configs[number % 6]


def convolutions() -> Iterator[tuple[Problem, FloatArray, Config]]:
    """Strides, padding, dilation, rows of outputs shorter than a vector and longer, dead channels."""
    kinds = (
        Window(9, 11, (3, 3), (1, 1), (1, 1, 1, 1)), Window(9, 11, (3, 3), (2, 2), (1, 0, 1, 2)),
        Window(8, 3, (3, 2), (1, 1), (1, 1, 1, 1)), Window(7, 6, (1, 1), (2, 2)), Window(6, 2, (1, 1), (1, 1)),
        Window(10, 9, (2, 3), (1, 2), (0, 0, 0, 0), (2, 2)), Window(1, 1, (1, 1)), Window(5, 3, (3, 3)),
    )  # fmt: skip
    for number, window in enumerate(kinds):
        channels, m, (rows, vectors) = 4, 7, ((8, 1), (3, 3))[number % 2]
        area = window.kernel[0] * window.kernel[1]
        weight = sparse(m, channels * area, 0.5, number)
        weight[:, area : 2 * area] = 0
        shapes = (2, channels, window.height, window.width), (2, m, window.out_height, window.out_width)
        n = window.out_height * window.out_width
        e = Epilogue(True, number % 3 == 0, ACTIVATIONS[number % 5])
        p = Problem("conv2d", m, channels * area, n, *shapes, 2, window, e, threads=1 + number % 2)
        yield p, weight, config(rows, vectors, 5 * (number // 2 % 2), 2, number // 4)


def made(target: Target, problem: Problem, weight: FloatArray, chosen: Config) -> Case:
    shown = f"{problem.op} n={problem.n} {problem.epilogue} {dict(chosen)} in order: {target.core.in_order}"
    return case("unrolled", problem, weight, target, chosen, name=shown)


@pytest.mark.parametrize("part", rest_slow(range(3)))
def test_every_epilogue_and_width_on_a_cpu_of_armv8_0(part: int) -> None:
    layers = list(enumerate((*linears(), *convolutions())))[part::3]
    check([made((IN_ORDER, OUT_OF_ORDER)[number % 2], *layer) for number, layer in layers], TARGET, "cortex-a53")


@pytest.mark.slow
def test_far_places() -> None:
    """Beyond the immediates: rows of X and Y far apart, rows whose distance is no multiple of a vector, many rows."""
    e, apart = Epilogue(True, True, "relu6"), np.zeros((2, 9), np.float32)
    apart[:, [0, 8]] = 1
    layers = [
        (linear(2, 9, 530_001, Epilogue()), apart, config(2, chunk=16)),
        (linear(3, 5, 30_000, Epilogue()), sparse(3, 5, 0.9), config(2, 2, chunk=16)),
        (linear(3, 700, 2001, e), sparse(3, 700, 0.3), config(2)),
        (linear(3, 900, 24, e), sparse(3, 900, 0.5), config(2, 2, pack=1)),
        (linear(900, 11, 21, e), sparse(900, 11, 0.3), config(26, 1, 4, 5)),
        (linear(60, 11, 1203, e), sparse(60, 11, 0.3), config(26)),
    ]
    check([made((IN_ORDER, OUT_OF_ORDER)[number % 2], *layer) for number, layer in enumerate(layers)], TARGET)


def test_the_numbers_are_those_of_tir() -> None:
    """But for the last bit: a compiler may round a product and a sum once."""
    window = Window(9, 11, (3, 3), (1, 1), (1, 1, 1, 1))
    p = Problem("conv2d", 6, 36, 99, (1, 4, 9, 11), (1, 6, 9, 11), 1, window, Epilogue(True, True, "hardswish"))
    weight, chosen = sparse(6, 36, 0.5), config(4, 1, 10, 2)
    packed = {**chosen, "pack": 1}
    cases = [case("unrolled", p, weight, target, c) for c in (chosen, packed) for target in (IN_ORDER, OUT_OF_ORDER)]
    code = cases[3].code
    units = [unit.tir() for unit in code.panels if isinstance(unit, Assembly) and unit.tir is not None]
    cases.append(replace(cases[3], name="tir", code=replace(code, panels=tuple(units))))
    *texts, as_tir = run(cases, TARGET)
    assert [result.fault for result in (*texts, as_tir)] == [""] * 5
    for text in texts:
        np.testing.assert_allclose(text.y, as_tir.y, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(text.y, texts[0].y)


_TEXT = {
    "LoadX": r"ld(p|r|ur) q\d+,.*\[x9[,\]]|ld1 {v\d+.4s},\[x9\],x1",
    "Pack": r"st(p|r|ur) q\d+,.*\[x17[,\]]",
    "LoadSum": r"ld(p|r|ur) q\d+,.*\[x14[,\]]",
    "StoreSum": r"st(p|r|ur) q\d+,.*\[x14[,\]]",
    "AddResidual": r"ld(p|r|ur) q\d+,.*\[x12[,\]]|ld1 {v\d+.4s},\[x12\],x1",
    "Store": r"st(p|r|ur) q\d+,.*\[x11[,\]]|st1 {v\d+.4s},\[x11\],x1",
    "Multiply": r"fmul v\d+.4s,v\d+.4s,v\d+.s\[\d\]$",
    "MultiplyAdd": r"fmla v\d+.4s,v\d+.4s,v\d+.s\[\d\]$",
}


def in_text(unit: object, name: str) -> dict[str, int]:
    """Instructions of a function, by the step they are of; a load or store of two registers is two."""
    text = "\n".join(lines(unit)).split(f"\n__tvm_ffi_{name}:\n")[1].split("\nret\n")[0].splitlines()
    found = {step: [line for line in text if re.match(form, line)] for step, form in _TEXT.items()}
    return {step: sum(1 + (line[2] == "p") for line in lines) for step, lines in found.items()}


@pytest.mark.parametrize("core", CORES, ids=("in order", "out of order"))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_instructions_are_those_of_the_program(core: Core, activation: str | None) -> None:
    for n, epilogue in ((40, Epilogue(True, True, activation)), (4, Epilogue(activation=activation))):
        p, weight = linear(7, 20, n, epilogue), sparse(7, 20, 0.4)
        for chosen in (config(3), config(3, 2, 9, pack=1), config(3, 1, 9), config(7, 1, pack=1)):
            hold_against(p, weight, core, chosen)


@settings(max_examples=20)
@given(st.integers(4, 60), st.booleans(), unrolled_configs(), st.data())
def test_instructions_of_any_small_panel(n: int, in_order: bool, chosen: Config, data: st.DataObject) -> None:
    p = linear(data.draw(st.integers(1, 12)), data.draw(st.integers(1, 20)), n, Epilogue(True, True, "relu"))
    hold_against(p, data.draw(weights(p)), replace(TARGET.core, in_order=in_order), chosen)


def hold_against(p: Problem, weight: FloatArray, core: Core, chosen: Config) -> None:
    """The counts of every panel's text are those of its program, where the bias is added as a product."""
    programs = {one.name: one for one in programs_of(p, weight, core, chosen)}
    for unit in UNROLLED.emit(p, weight, core, chosen, "s").panels:
        for name in re.findall(r"^__tvm_ffi_(\w+):$", "\n".join(lines(unit)), re.MULTILINE):
            wanted = count(programs[name])
            wanted["MultiplyAdd"] += wanted["AddBias"]
            wanted["LoadX"] += wanted["LoadSource"]
            assert in_text(unit, name) == {step: wanted[step] for step in _TEXT}


def test_pairs_halve_the_loads_of_packed_tiles() -> None:
    p, weight = linear(52, 100, 3136, Epilogue()), np.ones((52, 100), np.float32)
    (unit,) = UNROLLED.emit(p, weight, OUT_OF_ORDER.core, config(26, pack=1), "s").panels
    first, second = "\n".join(lines(unit)).split("\nret\n")[:2]
    pairs = re.findall(r"^ldp q.*$", second, re.MULTILINE)
    assert len(pairs) == 100 / 2 + 26 * 100 / 8
    assert len(re.findall(r"^ldr q.*$", second, re.MULTILINE)) == 0
    moved = re.findall(r"^(add|sub) x(9|10),x(9|10),#.*$", second, re.MULTILINE)
    assert len(moved) <= 100 * 16 / 1008 + 26 * 100 * 4 / 2032
    assert len(re.findall(r"^ld1 {v\d+.4s},\[x9\],x1$", first, re.MULTILINE)) == 99
    assert len(re.findall(r"^stp q\d+,q\d+,\[x17,#-?\d+\]$", first, re.MULTILINE)) == 100 / 2
    assert len(re.findall(r"^st1 {v\d+.4s},\[x11\],x1$", second, re.MULTILINE)) == 25


def test_weights_of_the_text_are_those_of_the_program() -> None:
    p, weight = linear(4, 40, 16, Epilogue()), sparse(4, 40, 0.6)
    (one,) = programs_of(p, weight, OUT_OF_ORDER.core, config(4))
    (unit,) = UNROLLED.emit(p, weight, OUT_OF_ORDER.core, config(4), "s").panels
    data = "\n".join(lines(unit)).split(".Ls_p0_0_w:\n")[1].split(".text")[0]
    bits = [int(word) for line in data.split() if line != ".long" for word in line.split(",")]
    wanted = np.array([s.value for s in one.sums if isinstance(s, steps.Weight)], np.float32).view(np.uint32)
    assert sorted(bits) == sorted([0] * (-len(wanted) % 8) + wanted.tolist())


def test_no_instruction_beyond_armv8_0(tmp_path: Path) -> None:
    """By the disassembler, and by an assembler that knows no other."""
    assembler = require_system("aarch64-linux-gnu-as", "binutils-aarch64-linux-gnu")
    for number, activation in enumerate(("relu6", "hardswish", None)):
        p = linear(30, 40, 3 + 40 * number, Epilogue(True, True, activation))
        found = case("unrolled", p, sparse(30, 40, 0.3), OUT_OF_ORDER, config(13, 1, 9, pack=1))
        assert foreign(objects_of(found.code, TARGET, tmp_path, f"k{number}")[1:], "cortex-a53") == []
        text = "\n".join(line for unit in found.code.panels for line in lines(unit))
        words = [assembler, "-march=armv8-a", "-o", str(tmp_path / "panel.o"), "-"]
        subprocess.run(words, input=text + "\n", check=True, text=True)


_CALLER = r"""
#include <stdio.h>
#include <string.h>
int CALLED(void*, void*, int, void*);
int main() {
  static float x[4096], y[4096], bias[64];
  struct { long type; union { void* pointer; long number; }; } given[5] = {
    {0, {x}}, {0, {y}}, {0, {bias}}, {0, {.number = 0}}, {0, {.number = 9}}};
  for (int i = 0; i < 4096; ++i) x[i] = 1;
  bias[0] = 0.5;
  double before[8], after[8];
  for (int i = 0; i < 8; ++i) before[i] = 1.5 + i;
  register void* arguments asm("x1") = given;
  register double* from asm("x19") = before;
  register double* to asm("x20") = after;
  asm volatile(
    "ldp d8,d9,[x19]; ldp d10,d11,[x19,#16]; ldp d12,d13,[x19,#32]; ldp d14,d15,[x19,#48]\n bl CALLED\n"
    "stp d8,d9,[x20]; stp d10,d11,[x20,#16]; stp d12,d13,[x20,#32]; stp d14,d15,[x20,#48]\n"
    : "+r"(arguments) : "r"(from), "r"(to)
    : "memory", "cc", "x0", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
      "x16", "x17", "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",
      "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29",
      "v30", "v31");
  puts(memcmp(before, after, sizeof before) ? "lost" : y[0] == 30.5 ? "kept" : "wrong");
}
"""


@pytest.mark.parametrize("rows", [26, 24, 18, 3])
def test_registers_of_the_caller_are_kept(rows: int, tmp_path: Path) -> None:
    gcc = require_system("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    p = linear(rows, 30, 36, Epilogue(bias=True))
    found = UNROLLED.emit(p, np.ones((rows, 30), np.float32), OUT_OF_ORDER.core, config(rows), "s")
    (tmp_path / "panel.s").write_text("\n".join(lines(found.panels[0])) + "\n")
    (tmp_path / "main.c").write_text(_CALLER.replace("CALLED", "__tvm_ffi_s_p0_0"))
    words = [gcc, "-O1", "-static", "-o", str(tmp_path / "main"), str(tmp_path / "main.c"), str(tmp_path / "panel.s")]
    subprocess.run(words, check=True)
    qemu = require_system("qemu-aarch64", "qemu-user")
    done = subprocess.run([qemu, str(tmp_path / "main")], check=True, capture_output=True, text=True)
    assert done.stdout == "kept\n"


def test_as_many_rows_as_there_are_registers_and_not_one_more() -> None:
    most = TARGET.core.registers - registers(0, 1, TARGET.core)
    assert most == 26
    p, weight = linear(52, 30, 37, Epilogue(True, True, "hardswish")), np.ones((52, 30), np.float32)
    with pytest.raises(ValueError, match=f"no panel of .* with {TARGET.core.registers} registers of neon"):
        UNROLLED.emit(p, weight, TARGET.core, config(52), "s")
    assert max(chosen["rows"] for chosen in UNROLLED.space(p, weight, TARGET.core)) == most


def test_other_cores_are_refused() -> None:
    p = linear(4, 4, 16, Epilogue())
    for core in (replace(TARGET.core, lanes=8), replace(TARGET.core, fma=False)):
        with pytest.raises(ValueError, match="panels are written for NEON, whose vectors have 4 lanes"):
            UNROLLED.emit(p, np.eye(4, dtype=np.float32), core, config(4), "s")


@pytest.mark.parametrize("target", [IN_ORDER, OUT_OF_ORDER], ids=("in_order", "out_of_order"))
def test_golden(target: Target) -> None:
    p = linear(3, 4, 11, Epilogue(True, True, "hardswish"))
    weight = np.array([[1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 4, 0]], np.float32)
    (unit,) = UNROLLED.emit(p, weight, target.core, config(2, 1, 0, 2, 1), "unrolled").panels
    name = "in_order" if target.core.in_order else "out_of_order"
    golden.compare_text(f"unrolled_panels_aarch64_{name}", "\n".join(lines(unit)) + "\n")


@pytest.mark.parametrize(("m", "k", "n"), [(512, 512, 196), (128, 128, 3136), (1024, 1024, 49)])
def test_tiles_are_packed_at_first_where_pairs_are_read(m: int, k: int, n: int) -> None:
    space = UNROLLED.space(linear(m, k, n, Epilogue(True)), sparse(m, k, 0.1), parse_target("aarch64:cortex-a76").core)
    assert (space[0]["rows"], space[0]["vectors"], space[0]["pack"]) == (26, 1, 1)
