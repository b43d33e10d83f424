"""Programs of panels against NumPy, and each writer of text against the program and against the writer of TIR."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.schedules import steps
from tesa.schedules.cpu.writers import find_writer
from tesa.schedules.cpu.writers.registry import forget_writer, writer
from tesa.schedules.program import Program
from tesa.schedules.registry import find
from tesa.schedules.types import Assembly, Config, Core, Epilogue, FloatArray, Problem, Tir, Window
from tests.schedules.programs import interpret, programs_of
from tests.schedules.reference import AVX2, AVX512, HERE, SSE42, check, inputs, reference, run
from tests.schedules.strategies import linears, unrolled_configs, weights, windows

UNROLLED = find("unrolled")
PACKS = Core("packs", 4, 32, writer="aarch64")


def as_tir(core: Core) -> Core:
    return replace(core, writer="")


HERE_AS_TIR = [as_tir(core) for core in HERE]
epilogues = st.builds(Epilogue, st.booleans(), st.booleans(), st.sampled_from([None, "relu", "relu6", "hardswish"]))


@st.composite
def small(draw: st.DrawFn) -> tuple[Problem, FloatArray, Config]:
    m, k, n = draw(st.integers(1, 9)), draw(st.integers(1, 12)), draw(st.integers(1, 50))
    p = Problem("linear", m, k, n, (1, k, n), (1, m, n), epilogue=draw(epilogues))
    return p, draw(weights(p)), draw(unrolled_configs())


@given(small(), st.sampled_from([AVX512, AVX2, SSE42, PACKS]))
def test_a_program_computes_the_layer(layer: tuple[Problem, FloatArray, Config], core: Core) -> None:
    """The interpreter against NumPy, without a compiler."""
    p, weight, config = layer
    x, bias, residual = inputs(p)
    y = np.full(p.m * p.n, np.nan, np.float32)
    programs = programs_of(p, weight, core, {**config, "pack": config["pack"] if core is PACKS else 0})
    frame = programs[0].frame
    scratch = frame.tiles.count * frame.scratch
    packed = np.full(frame.tiles.count * frame.packed, np.nan, np.float32)
    arrays = {
        "x": packed if frame.packed else x.ravel(),
        "source": x.ravel(),
        "y": y,
        "scratch": np.full(scratch, np.nan, np.float32),
    }
    arrays |= {"bias": bias} if bias is not None else {}
    arrays |= {"residual": residual.ravel()} if residual is not None else {}
    for one in programs:
        interpret(one, arrays)
    want = reference(p, weight, x, bias, residual)
    np.testing.assert_allclose(y.reshape(p.y_shape), want, rtol=1e-4, atol=1e-4)


@settings(max_examples=8)
@given(linears(), st.sampled_from(HERE_AS_TIR), unrolled_configs(), st.data())
def test_tir_of_any_linear_layer(p: Problem, core: Core, config: Config, data: st.DataObject) -> None:
    check("unrolled", p, data.draw(weights(p)), core, config)


@settings(max_examples=6)
@given(windows, st.sampled_from(HERE_AS_TIR), unrolled_configs(), st.data())
def test_tir_of_any_convolution(p: Problem, core: Core, config: Config, data: st.DataObject) -> None:
    check("unrolled", p, data.draw(weights(p)), core, config)


def count(one: Program) -> dict[str, int]:
    """Steps of a program by name."""
    found = dict.fromkeys((kind.__name__ for kind in steps.STEPS), 0)
    for step in (*one.sums, *one.results):
        found[type(step).__name__] += 1
    return found


_X86 = {
    "LoadX": r"^v(movups|maskmovps) -?\d+\(%rax\),",
    "Weight": r"^v.*\(%rsi\)",
    "MultiplyAdd": r"^vfmadd231ps",
    "LoadSum": r"^vmovups \d+\(%r11\),",
    "StoreSum": r"^vmovups %[yz]mm\d+,\d+\(%r11\)",
    "Bias": r"^v.*\(%r9\)",
    "AddResidual": r"^v.*\(%r10,%rax\)",
    "Store": r"^v.*\(%r8,%rax\)",
}


def in_x86(unit: Tir | Assembly, name: str) -> dict[str, int]:
    """Instructions of a function, by the step they are of."""
    assert isinstance(unit, Assembly)
    lines = unit.text.split(f"\n__tvm_ffi_{name}:\n")[1].split("\nret\n")[0].splitlines()
    found = {step: sum(bool(re.search(form, line)) for line in lines) for step, form in _X86.items()}
    swish = sum(".Lsixth" in line for line in lines)  # each has two multiplications of its own
    return found | {"Multiply": sum(line.startswith("vmulps") for line in lines) - 2 * swish}


_TIR = {
    "LoadX": r"\bX\[",
    "Multiply": r" = T\.Broadcast\(T\.float32\(\S+\), \d+\) \* x\d+(_\d+)?$",
    "MultiplyAdd": r"llvm\.fma",
    "LoadSum": r"= SCRATCH\[",
    "StoreSum": r"^ *SCRATCH\[.* = ",
    "Bias": r"\bBIAS\[",
    "AddResidual": r"\bRESIDUAL\[",
    "Store": r"\bY\[",
}


def in_tir(unit: Tir | Assembly, name: str) -> dict[str, int]:
    """The same of a function of TVM."""
    assert isinstance(unit, Tir)
    lines = str(dict(unit.functions)[name].script(show_meta=False)).splitlines()
    return {step: sum(bool(re.search(form, line)) for line in lines) for step, form in _TIR.items()}


def hold_against(p: Problem, weight: FloatArray, core: Core, config: Config) -> None:
    """The counts of every panel's text and TIR are those of its program."""
    texts = UNROLLED.emit(p, weight, core, config, "s").panels
    for text in texts:
        assert isinstance(text, Assembly)
        assert text.tir is not None
        tir = text.tir()
        for name, _ in tir.functions:
            (one,) = (one for one in programs_of(p, weight, core, config) if one.name == name)
            wanted = count(one)
            for found in (in_x86(text, name), in_tir(tir, name)):
                assert found == {step: wanted[step] for step in found}


@pytest.mark.parametrize("core", [AVX512, AVX2], ids=lambda core: str(core.name))
@pytest.mark.parametrize("activation", [None, "relu", "relu6", "hardswish", "gelu"])
@pytest.mark.parametrize("n", [5, 40])
def test_instructions_are_those_of_the_program(core: Core, activation: str | None, n: int) -> None:
    p = Problem("linear", 7, 20, n, (1, 20, n), (1, 7, n), epilogue=Epilogue(True, True, activation))
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((7, 20)) * (rng.random((7, 20)) < 0.4)).astype(np.float32)
    weight[2] = 0
    for vectors, kblock, pack in ((1, 0, 0), (2, 9, 1), (1, 9, 0)):
        hold_against(p, weight, core, {"rows": 3, "vectors": vectors, "kblock": kblock, "chunk": 2, "pack": pack})


@settings(max_examples=20)
@given(small(), st.sampled_from([AVX512, AVX2]))
def test_instructions_of_any_small_panel(layer: tuple[Problem, FloatArray, Config], core: Core) -> None:
    p, weight, config = layer
    hold_against(p, weight, core, config)


def test_weights_of_the_text_are_those_of_the_program() -> None:
    p = Problem("linear", 4, 40, 16, (1, 40, 16), (1, 4, 16))
    weight = np.random.default_rng(0).standard_normal((4, 40)).astype(np.float32)
    config = {"rows": 4, "vectors": 1, "kblock": 0, "chunk": 1, "pack": 0}
    (one,) = programs_of(p, weight, AVX512, config)
    (text,) = UNROLLED.emit(p, weight, AVX512, config, "s").panels
    assert isinstance(text, Assembly)
    data = text.text.split(".Ls_p0_0_w:\n")[1].split(".text")[0]
    bits = np.array([int(word) for line in data.split() if line != ".long" for word in line.split(",")], np.uint32)
    np.testing.assert_array_equal(bits.view(np.float32), [s.value for s in one.sums if isinstance(s, steps.Weight)])
    np.testing.assert_array_equal(bits.view(np.float32), weight.T.ravel())


@pytest.mark.parametrize("core", [core for core in HERE if core.writer], ids=lambda core: str(core.name))
def test_both_writers_give_the_same_numbers(core: Core) -> None:
    """But for the last bit: a compiler may round a product and a sum once."""
    window = Window(9, 11, (3, 3), (1, 1), (1, 1, 1, 1))
    p = Problem("conv2d", 6, 36, 99, (1, 4, 9, 11), (1, 6, 9, 11), 1, window, Epilogue(True, True, "hardswish"))
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((6, 36)) * (rng.random((6, 36)) < 0.5)).astype(np.float32)
    config = {"rows": 4, "vectors": 1, "kblock": 10, "chunk": 2, "pack": 0}
    x, bias, residual = inputs(p)
    text = run("unrolled", p, weight, core, config, x, bias, residual)
    tir = run("unrolled", p, weight, as_tir(core), config, x, bias, residual)
    np.testing.assert_allclose(text, tir, rtol=1e-6, atol=1e-6)


def test_functions_of_tir_are_small_and_dear() -> None:
    p = Problem("linear", 40, 300, 64, (1, 300, 64), (1, 40, 64))
    weight = np.ones((40, 300), np.float32)
    config = {"rows": 20, "vectors": 1, "kblock": 0, "chunk": 4, "pack": 0}
    code = UNROLLED.emit(p, weight, as_tir(AVX2), config, "s")
    assert [type(unit) for unit in code.panels] == [Tir] * len(code.panels)
    assert len(code.panels) > 1
    functions = [name for unit in code.panels if isinstance(unit, Tir) for name, _ in unit.functions]
    assert len(functions) >= weight.size / find_writer(as_tir(AVX2)).function_fmas
    assert UNROLLED.size is not None
    assert UNROLLED.size(p, weight, as_tir(AVX2), config) == 50 * UNROLLED.size(p, weight, AVX2, config)


def test_x86_refuses_other_cores() -> None:
    p = Problem("linear", 4, 4, 16, (1, 4, 16), (1, 4, 16))
    config = {"rows": 4, "vectors": 1, "kblock": 0, "chunk": 1, "pack": 0}
    for core in (replace(SSE42, writer="x86"), replace(AVX2, fma=False), replace(AVX2, masks=True)):
        with pytest.raises(ValueError, match="panels are written for AVX-512, and for AVX2 with FMA"):
            UNROLLED.emit(p, np.eye(4, dtype=np.float32), core, config, "s")


def test_registry_of_writers() -> None:
    core = replace(AVX2, writer="none")
    with pytest.raises(KeyError, match=r"no writer 'none' for panels; there are '.*'x86'"):
        find_writer(core)
    with pytest.raises(ValueError, match="writer 'x86' is registered twice"):
        writer("x86", function_fmas=1, object_fmas=1, effort=1)(lambda programs, core: Assembly("s", ""))
    writer("none", function_fmas=1, object_fmas=1, effort=1)(lambda programs, core: Assembly("s", ""))
    assert find_writer(core).name == "none"
    forget_writer("none")
