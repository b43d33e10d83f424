"""Tiles and what stands alone in one kernel, and pieces in a chain: run on NumPy they equal the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tesa.decompose.candidates import candidates, predict
from tesa.schedules.gpu import chain
from tesa.schedules.gpu.mixed import Mixed
from tesa.schedules.gpus import GpuText
from tesa.schedules.pieces import Piece, PieceKernel
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, FloatArray, Output, Problem, Window, config_key
from tesa.targets.target import parse_target
from tests.gpu import simulate
from tests.gpu.assembler import assemble
from tests.gpu.kernels import check as loosely
from tests.schedules.gpu.tiles import blocks, check, config, conv, gpu, linear, of_kind, rounded

SHAPES = [
    linear(33, 40, 37, 2),
    linear(48, 64, 128),
    conv(18, 5, Window(9, 7, (3, 3), padding=(1, 1, 1, 1)), 2),
    conv(16, 6, Window(11, 10, (3, 3), (2, 2), (0, 1, 1, 0))),
]
CODES = {"dtype": "mixed", "epilogue": Epilogue(True, True, "relu", scale=True)}


def pieces(problem: Problem, share: float = 0.05, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Tiles, and single elements beside them: of any size where the others are codes."""
    rng = np.random.default_rng(seed + 5)
    exact = replace(problem, dtype="int8") if problem.dtype == "mixed" else problem
    tiles = blocks(exact, 16, 16, 0.4, seed)
    if problem.dtype == "int8":
        values = rng.integers(-127, 128, tiles.shape).astype(np.float32)
    elif problem.dtype == "mixed":
        values = (rng.standard_normal(tiles.shape) * 300).astype(np.float32)
    else:
        values = rounded(rng.standard_normal(tiles.shape).astype(np.float32), problem.arithmetic)
    alone = (rng.random(tiles.shape) < share) & (tiles == 0)
    alone[-1] = False  # a row that has none
    return tiles, np.asarray(values * alone, np.float32)


def of(problem: Problem, kind: str) -> Problem:
    return replace(problem, **CODES) if kind == "mixed" else of_kind(problem, kind)  # type: ignore[arg-type]


CASES = [
    *(("cuda:sm_80", kind, shape) for kind in ("float16", "int8", "mixed") for shape in range(4)),
    ("cuda:sm_80", "tfloat32", 0), ("cuda:sm_80", "bfloat16", 3),
    *(("rocm:gfx942", kind, shape) for kind in ("float16", "int8", "mixed") for shape in (0, 2)),
    ("rocm:gfx942", "float32", 3), ("rocm:gfx1100", "bfloat16", 0), ("rocm:gfx1100", "int8", 3),
    ("rocm:gfx1100", "mixed", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "shape"), CASES)
def test_both_pieces_in_one_launch(name: str, kind: str, shape: int) -> None:
    problem = of(SHAPES[shape], kind)
    tiles, alone = pieces(problem)
    code = Mixed(problem, tiles, alone).emit(gpu(name), config(depth=32), "k")
    (text,), (_,) = code.modules, code.launches
    assert isinstance(text, GpuText)
    if name.startswith("rocm"):
        assemble(text.text)
    counts = check(code, problem, tiles + alone)
    assert any(one.startswith(("mma", "v_mfma", "v_wmma")) for one in counts)


@pytest.mark.parametrize("name", ["cuda:sm_80", "rocm:gfx942"])
@pytest.mark.parametrize("wanted", [config(32, 128, 32), config(64, 64, 32)], ids=str)
def test_more_rows_and_columns(name: str, wanted: dict[str, int]) -> None:
    problem = linear(70, 96, 140, arithmetic="float16", epilogue=Epilogue(True, False, "gelu"))
    tiles, alone = pieces(problem, 0.1)
    check(Mixed(problem, tiles, alone).emit(gpu(name), wanted, "k"), problem, tiles + alone)


def test_codes_of_the_output() -> None:
    problem = linear(20, 40, 36, dtype="int8", epilogue=Epilogue(True, False, "relu", scale=True))
    problem = replace(problem, output=Output("uint8", 0.05, 3))
    tiles, alone = pieces(problem)
    for name in ("cuda:sm_80", "rocm:gfx90a"):
        check(Mixed(problem, tiles, alone).emit(gpu(name), config(depth=32), "k"), problem, tiles + alone)


def test_what_fills_up_adds_nothing_to_what_is_not_finite() -> None:
    """An entry that only fills up a group of four names a row of X that the weight has nothing to do with."""
    problem = linear(16, 48, 64, arithmetic="float16")
    tiles, alone = np.zeros((16, 48), np.float32), np.zeros((16, 48), np.float32)
    tiles[:, 32:], alone[3, 20] = 1, 2
    for name in ("cuda:sm_80", "rocm:gfx942"):
        code = Mixed(problem, tiles, alone).emit(gpu(name), config(), "k")
        x = np.ones(problem.x_shape, np.float32)
        x[0, 0] = np.inf  # where entries point that fill up
        y = np.full(problem.y_shape, np.nan, np.float32)
        arrays = {"x": x, "y": y} | {f"constant{i}": array for i, array in enumerate(code.constants)}
        (launch,) = code.launches
        given = [arrays[one] for one in launch.arguments]
        simulate.run(code.modules[0].text, launch.entry, launch.grid, launch.block, 0, given)  # type: ignore[union-attr]
        np.testing.assert_array_equal(y[0], (tiles + alone)[:, 1:] @ x[0, 1:])


def test_a_missing_element_is_found() -> None:
    problem = linear(16, 32, 64, arithmetic="float16")
    tiles, alone = pieces(problem, 0.2)
    code = Mixed(problem, tiles, alone).emit(gpu("cuda:sm_80"), config(), "k")
    lists = code.constants[4].copy()
    group, entry = np.argwhere(lists[:, :, 1])[0]
    lists[group, entry, 1] ^= 1 << 22
    with pytest.raises(AssertionError):
        check(replace(code, constants=(*code.constants[:4], lists)), problem, tiles + alone)


@pytest.mark.parametrize(("name", "kind"), [("cuda:sm_80", "float16"), ("rocm:gfx942", "float32")])
def test_pieces_one_after_the_other(name: str, kind: str) -> None:
    problem = linear(32, 64, 128, arithmetic=kind, epilogue=Epilogue(True, True, "relu"))
    tiles, alone = pieces(problem)
    subs = chain.problems(problem, 3)
    rest = alone.copy()
    rest[:12] = 0
    weights = ((tiles, "block"), (alone - rest, "unrolled"), (rest, "unrolled"))
    made = [
        PieceKernel(Piece(weight), family, find(family, "gpu").space(sub, weight, gpu(name))[0])
        for sub, (weight, family) in zip(subs, weights, strict=True)
    ]
    code = chain.emit(problem, made, gpu(name), "k")
    assert [one.stage for one in code.launches] == [0, 1, 2]
    assert len(code.work) == 3
    loosely(code, problem, tiles + alone)  # panels of pairs add up in 16 bits


def test_the_static_model_chooses() -> None:
    """Full tiles and single elements: both pieces in one launch are expected to be faster than each way for all."""
    target, rng = parse_target("cuda:sm_90"), np.random.default_rng(0)
    problem = linear(1024, 1024, 1024, dtype="int8", epilogue=Epilogue(scale=True))
    mask = np.kron(rng.random((32, 32)) < 0.1, np.ones((32, 32), bool)) | (rng.random((1024, 1024)) < 0.005)
    weight = np.asarray(rng.integers(1, 9, mask.shape) * mask, np.float32)
    options = candidates(problem, weight, target)
    times = predict(options, problem, weight, target)
    best = min(options, key=lambda one: times[config_key(*one)])
    assert best[0] == "tiles"
    assert any(key.startswith("fused.") for key in best[1])
    scattered = np.asarray(rng.integers(1, 9, mask.shape) * (rng.random(mask.shape) < 0.05), np.float32)
    assert "tiles" not in {name for name, _ in candidates(problem, scattered, target)}
