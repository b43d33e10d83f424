"""What is in the machine code of kernels with matrix units and dot products: the instructions that are claimed, no
memory of a thread's own, and no address whose kind of memory is found out only when it runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tesa.build.gpu import ptx, tools
from tesa.build.gpu.elf import cubin_entries
from tesa.build.gpu.images import build_images
from tesa.schedules.gpu import blocks, dots
from tesa.schedules.gpus import GpuText
from tesa.schedules.types import Epilogue, FloatArray, Problem, Window
from tesa.targets.target import parse_target
from tests.gpu.extra import require_assembler, require_disassembler
from tests.schedules.gpu.tiles import blocks as tiles
from tests.schedules.gpu.tiles import config, conv, gpu, linear, of_kind


@pytest.fixture
def assembles() -> None:
    require_assembler()


@pytest.fixture
def disassembles() -> None:
    require_disassembler()


ASSEMBLES, DISASSEMBLES = pytest.mark.usefixtures("assembles"), pytest.mark.usefixtures("disassembles")

LINEAR = linear(128, 128, 256, epilogue=Epilogue(True, True, "gelu"))
CONV = conv(32, 8, Window(12, 12, (3, 3), padding=(1, 1, 1, 1)), 2)


def two_in_four(weight: FloatArray) -> FloatArray:
    weight = weight.copy()
    weight.reshape(len(weight), -1, 4)[:, :, 2:] = 0
    return weight


def sass(cubin: bytes, folder: Path) -> list[str]:
    """The instructions of a cubin, without their operands."""
    path = folder / "code.cubin"
    path.write_bytes(cubin)
    text = subprocess.run([str(tools.program("nvdisasm")), "-c", str(path)], capture_output=True, text=True, check=True)
    found = re.findall(r"^\s*(?:/\*\w+\*/)?\s+(?:@!?U?P\w+\s+)?([A-Z][A-Za-z0-9_.]+)\b[^;]*;", text.stdout, re.M)
    assert found, "the text of nvdisasm is not as it is expected"
    return found


def assembled(problem: Problem, weight: FloatArray, name: str, wanted: dict[str, int]) -> bytes:
    module = blocks.emit(problem, weight, gpu(name), wanted, "k").modules[0]
    assert isinstance(module, GpuText)
    return ptx.assemble_ptx(module.text, name.partition(":")[2])


@ASSEMBLES
@pytest.mark.parametrize("name", ["cuda:sm_80", "cuda:sm_90"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "tfloat32", "int8"])
@pytest.mark.parametrize("problem", [LINEAR, CONV], ids=lambda p: p.op)
def test_nothing_is_spilled(problem, kind, name):
    if kind == "int8":
        problem = of_kind(linear(problem.m, problem.k, 256) if problem is LINEAR else problem, kind)
    problem = of_kind(problem, kind)
    weight = tiles(problem, 16, 16, 1.0)
    every = blocks.space(problem, weight, gpu(name))
    largest = max(every, key=lambda one: one["rows"] * one["columns"] * one["depth"])
    for wanted in (every[0], largest):
        (entry,) = cubin_entries(assembled(problem, weight, name, dict(wanted)))
        assert entry.spills == 0, wanted
        assert entry.registers <= 255, wanted


@ASSEMBLES
@DISASSEMBLES
@pytest.mark.parametrize(
    ("kind", "sparse", "instruction", "depth"),
    [
        ("float16", 0, "HMMA.16816.F32", 16), ("bfloat16", 0, "HMMA.16816.F32.BF16", 16),
        ("tfloat32", 0, "HMMA.1688.F32.TF32", 8), ("int8", 0, "IMMA.16832.S8.U8", 32),
        ("float16", 1, "HMMA.SP.16832.F32", 32), ("int8", 1, "IMMA.SP.16864.S8.U8", 64),
    ],
)  # fmt: skip
def test_the_matrix_instructions_are_there(kind, sparse, instruction, depth, tmp_path):
    """As many as a step has tiles of 16 x 8 x k; and X and W come by loads of known kinds of memory."""
    problem = of_kind(linear(64, 128, 256), kind)
    weight = tiles(problem, 16, 16, 1.0)
    weight = two_in_four(weight) if sparse else weight
    wanted = config(32, 128, 32, sparse)
    found = sass(assembled(problem, weight, "cuda:sm_80", wanted), tmp_path)
    claimed = [one for one in found if one.startswith(("HMMA", "IMMA"))]
    assert set(claimed) == {instruction}
    assert len(claimed) == 2 * 4 * max(32 // depth, 1)
    assert not [one for one in found if one.startswith(("LDL", "STL", "LD.", "ST.", "CALL.ABS"))]


@ASSEMBLES
@DISASSEMBLES
def test_two_instructions_of_8_rows_are_there(tmp_path):
    """sm_75 multiplies bytes by tiles of 8 x 8 x 16."""
    problem = of_kind(linear(64, 128, 256), "int8")
    found = sass(assembled(problem, tiles(problem, 16, 16, 1.0), "cuda:sm_75", config(32, 128, 32)), tmp_path)
    claimed = [one for one in found if one.startswith("IMMA")]
    assert set(claimed) == {"IMMA.8816.S8.U8"}
    assert len(claimed) == 2 * (2 * 4 * 2)
    assert not [one for one in found if one.startswith(("LDL", "STL", "LD.", "ST.", "CALL.ABS"))]


@ASSEMBLES
@DISASSEMBLES
@pytest.mark.parametrize(
    ("kind", "instruction", "depth"),
    [
        ("float16", "HGMMA.64x128x16.F32", 16),
        ("tfloat32", "HGMMA.64x128x8.F32.TF32", 8),
        ("int8", "IGMMA.64x128x32", 32),
    ],
)
def test_units_of_four_warps_are_there(kind, instruction, depth, tmp_path):
    """One after the other, with one wait behind them: the assembler has not put a wait behind each."""
    problem = of_kind(linear(128, 128, 256), kind)
    wanted = config(64, 128, 64 if kind == "int8" else 32, 0, 2)
    found = sass(assembled(problem, tiles(problem, 16, 16, 1.0), "cuda:sm_90", wanted), tmp_path)
    assert sum(one.startswith(instruction) for one in found) == wanted["depth"] // depth
    assert sum(one.startswith("WARPGROUP.DEPBAR") for one in found) == 1
    assert any(one.startswith("LDGSTS") for one in found)
    assert not [one for one in found if one.startswith(("LDL", "STL", "LD.", "ST.", "HMMA", "IMMA", "MEMBAR.ALL.G"))]


@ASSEMBLES
def test_what_is_of_one_architecture_has_no_text_for_newer_ones():
    problem, target = linear(64, 64, 64, arithmetic="float16"), parse_target("cuda:sm_90")
    code = blocks.emit(problem, np.ones((64, 64), np.float32), gpu("cuda:sm_90"), config(64, 64, 32, 0, 2), "k")
    product = build_images("k", code, target)
    assert product.said == "cubin for sm_90"
    assert "no newer device" in product.notes[0]
    text = code.modules[0]
    assert isinstance(text, GpuText)
    assert ptx.alone(text.text) == "sm_90a"


@ASSEMBLES
@DISASSEMBLES
def test_copies_go_past_the_registers(tmp_path):
    problem = linear(64, 128, 256, arithmetic="float16")
    wanted = config(64, 128, 32, 0, 1, 3)
    found = sass(assembled(problem, tiles(problem, 16, 16, 1.0), "cuda:sm_80", wanted), tmp_path)
    assert sum(one.startswith("LDGSTS.E.BYPASS.128") for one in found) == 3 * (
        8 + 2
    )  # X and W of two steps, and the loop's
    assert not [one for one in found if one.startswith(("LDL", "STL", "STS", "LD.", "ST."))]


@ASSEMBLES
@DISASSEMBLES
@pytest.mark.parametrize("name", ["cuda:sm_75", "cuda:sm_80", "cuda:sm_90"])
def test_the_dot_products_are_there(name, tmp_path):
    problem = of_kind(linear(16, 64, 256), "int8")
    weight = tiles(problem, 1, 4, 0.3)
    live = int((weight.reshape(16, 16, 4) != 0).any(-1).sum())
    module = dots.emit(problem, weight, gpu(name), {"rows": 16, "threads": 64}, "k").modules[0]
    assert isinstance(module, GpuText)
    found = sass(ptx.assemble_ptx(module.text, name.partition(":")[2]), tmp_path)
    assert sum(one.startswith("IDP.4A.U8.S8") for one in found) == 4 * live
    assert not [one for one in found if one.startswith(("LDL", "STL", "LD.", "ST.", "CALL.ABS"))]


@ASSEMBLES
def test_the_code_does_not_grow_with_the_weight():
    small, large = (
        len(assembled(problem, np.ones((problem.m, problem.k), np.float32), "cuda:sm_80", config(32, 64, 32)))
        for problem in (linear(32, 32, 64, arithmetic="float16"), linear(512, 512, 64, arithmetic="float16"))
    )
    assert abs(large - small) < 512
