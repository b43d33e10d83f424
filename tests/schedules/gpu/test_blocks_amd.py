"""The kernels of tiles as AMD assembly: LLVM assembles them, and run on NumPy they equal the reference."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tesa.schedules.gpu.blocks import emit, refusal, space
from tesa.schedules.gpus import GpuText
from tesa.schedules.types import Epilogue, Output, Window
from tests.gpu.assembler import assemble
from tests.schedules.gpu.tiles import blocks, check, config, conv, gpu, linear, of_kind, two_of_four

UNITS = [
    *(("rocm:gfx90a", kind) for kind in ("float16", "bfloat16", "int8", "float32")),
    *(("rocm:gfx942", kind) for kind in ("float16", "bfloat16", "int8", "float32")),
    *(("rocm:gfx1100", kind) for kind in ("float16", "bfloat16", "int8")),
]
SHAPES = [
    linear(33, 40, 37, 2),
    linear(64, 64, 128),
    conv(18, 5, Window(9, 7, (3, 3), padding=(1, 1, 1, 1)), 2),
    conv(16, 6, Window(11, 10, (3, 3), (2, 2), (0, 1, 1, 0))),
]


@pytest.mark.parametrize("problem", SHAPES, ids=lambda p: f"{p.op}-{p.m}x{p.k}x{p.n}")
@pytest.mark.parametrize(("name", "kind"), UNITS)
def test_every_shape(problem, name, kind):
    problem = of_kind(problem, kind)
    weight = blocks(problem, 16, 16, 0.6)
    code = emit(problem, weight, gpu(name), config(16, 64, 32), "k")
    assert isinstance(code.modules[0], GpuText)
    assemble(code.modules[0].text)
    counts = check(code, problem, weight)
    unit = "v_wmma" if name.endswith("gfx1100") else "v_mfma"
    assert any(one.startswith(unit) for one in counts)


@pytest.mark.parametrize("name", ["rocm:gfx90a", "rocm:gfx942", "rocm:gfx1100"])
@pytest.mark.parametrize("wanted", [config(32, 128, 32), config(64, 128, 32)], ids=str)
def test_every_configuration(name, wanted):
    problem = linear(70, 96, 140, arithmetic="float16")
    weight = blocks(problem, 32, 32, 0.5, 1)
    assert wanted in space(problem, weight, gpu(name))
    check(emit(problem, weight, gpu(name), wanted, "k"), problem, weight)


@pytest.mark.parametrize("wanted", [config(16, 64, 32, 1), config(32, 128, 64, 1)], ids=str)
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("problem", [linear(40, 136, 68), SHAPES[2]], ids=lambda p: p.op)
def test_two_of_four(problem, kind, wanted):
    problem = of_kind(problem, kind)
    weight = two_of_four(problem)
    code = emit(problem, weight, gpu("rocm:gfx942"), wanted, "k")
    assemble(code.modules[0].text)  # type: ignore[union-attr]
    counts = check(code, problem, weight)
    assert any(one.startswith("v_smfmac") for one in counts)
    assert not any(one.startswith("v_mfma") for one in counts)


def test_two_of_four_is_chosen_where_there_is_such_an_instruction():
    problem = linear(256, 256, 512, arithmetic="float16")
    kinds = {
        name: {one["sparse"] for one in space(problem, two_of_four(problem), gpu(name))}
        for name in ("rocm:gfx90a", "rocm:gfx942", "rocm:gfx1100")
    }
    assert kinds == {"rocm:gfx90a": {0}, "rocm:gfx942": {0, 1}, "rocm:gfx1100": {0}}
    with pytest.raises(ValueError, match="no such matrix instruction"):
        emit(problem, two_of_four(problem), gpu("rocm:gfx90a"), config(16, 64, 32, 1), "k")


@pytest.mark.parametrize("name", ["rocm:gfx942", "rocm:gfx1100"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "hardswish"])
def test_epilogues(name, activation):
    problem = linear(20, 24, 34, arithmetic="float16", epilogue=Epilogue(True, True, activation))
    weight = blocks(problem, 16, 16, 0.8, 2)
    code = emit(problem, weight, gpu(name), config(16, 64, 32), "k")
    assemble(code.modules[0].text)  # type: ignore[union-attr]
    check(code, problem, weight)


@pytest.mark.parametrize("name", ["rocm:gfx90a", "rocm:gfx1100"])
@pytest.mark.parametrize("output", [Output("uint8", 0.05, 3), Output("int8", 0.1, -7), Output()], ids=lambda o: o.dtype)
def test_codes(name, output):
    epilogue = Epilogue(True, True, "relu", scale=True)
    problem = linear(20, 40, 33, 2, dtype="int8", epilogue=epilogue, output=output, residual=output)
    weight = blocks(problem, 16, 16, 0.8, 3)
    code = emit(problem, weight, gpu(name), config(16, 64, 32), "k")
    assemble(code.modules[0].text)  # type: ignore[union-attr]
    check(code, problem, weight)


@pytest.mark.parametrize("name", ["rocm:gfx90a", "rocm:gfx942", "rocm:gfx1100"])
def test_every_configuration_of_the_space_is_assembled(name):
    """Registers fit, nothing is spilled: there is no scratch in the text, and its registers are what is declared."""
    problem = linear(128, 128, 256, arithmetic="float16")
    weight = np.ones((128, 128), np.float32)
    for wanted in space(problem, weight, gpu(name)):
        text = emit(problem, weight, gpu(name), wanted, "k").modules[0].text  # type: ignore[union-attr]
        assemble(text)
        assert "scratch" not in text
        declared = int(re.search(r"next_free_vgpr (\d+)", text)[1])  # type: ignore[index]
        used = {int(n) for n in re.findall(r"\bv(\d+)\b", text)} | {int(n) for n in re.findall(r"v\[\d+:(\d+)\]", text)}
        assert max(used) < declared <= 256


def test_refusals():
    assert "16-bit reals or bytes" in refusal(linear(16, 16, 16), np.ones((16, 16)), gpu("rocm:gfx1100"))
    assert not refusal(linear(16, 16, 16), np.ones((16, 16)), gpu("rocm:gfx942"))
    many = linear(16, 16, 1 << 22, arithmetic="float16")
    assert "four million columns" in refusal(many, np.ones((16, 16)), gpu("rocm:gfx942"))
