"""The kernels of tiles on matrix units, run on NumPy: every shape, kind of number and epilogue equals the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tesa.schedules.gpu.blocks import emit, refusal, space
from tesa.schedules.gpu.blocks_space import fits, tiling_of
from tesa.schedules.registry import find
from tesa.schedules.types import ACTIVATIONS, Epilogue, Output, Window
from tests.schedules.gpu.tiles import blocks, check, config, conv, gpu, linear, of_kind, two_of_four

SHAPES = [
    linear(32, 48, 64), linear(20, 40, 100), linear(16, 33, 37, 2), linear(64, 32, 24, 3), linear(5, 8, 10),
    conv(18, 5, Window(9, 7, (3, 3), padding=(1, 1, 1, 1)), 2),
    conv(16, 6, Window(11, 10, (3, 3), (2, 2), (0, 1, 1, 0))),
    conv(17, 24, Window(8, 8, (1, 1))),
]  # fmt: skip


@pytest.mark.parametrize("problem", SHAPES, ids=lambda p: f"{p.op}-{p.m}x{p.k}x{p.n}")
@pytest.mark.parametrize("arithmetic", ["float16", "bfloat16", "tfloat32", "int8"])
def test_every_shape(problem, arithmetic):
    problem = of_kind(problem, arithmetic)
    weight = blocks(problem, 16, 16, 0.6)
    check(emit(problem, weight, gpu("cuda:sm_80"), config(), "k"), problem, weight)


@pytest.mark.parametrize(
    "wanted", [config(32, 128, 32), config(64, 64, 16), config(16, 128, 16), config(64, 128, 32)], ids=str
)
@pytest.mark.parametrize("arithmetic", ["float16", "tfloat32", "int8"])
def test_every_configuration(wanted, arithmetic):
    problem = of_kind(linear(70, 96, 140), arithmetic)
    weight = blocks(problem, 32, 32, 0.5, 1)
    counts = check(emit(problem, weight, gpu("cuda:sm_80"), wanted, "k"), problem, weight)
    assert sum(count for name, count in counts.items() if name.startswith("mma.sync"))


COPIES = [config(16, 64, 16, 0, 1, 2), config(64, 128, 32, 0, 1, 3), config(32, 128, 16, 0, 1, 4)]
GROUPS = [config(64, 64, 32, 0, 2), config(64, 128, 64, 0, 2), config(128, 256, 32, 0, 2)]
OTHERS = [linear(70, 96, 140, 2), linear(20, 40, 70), conv(33, 5, Window(9, 7, (3, 3), padding=(1, 1, 1, 1)), 2)]


@pytest.mark.parametrize("problem", OTHERS, ids=lambda p: f"{p.op}-{p.n}")
@pytest.mark.parametrize("arithmetic", ["float16", "bfloat16", "tfloat32", "int8"])
@pytest.mark.parametrize(("name", "ways"), [("cuda:sm_80", COPIES), ("cuda:sm_90", GROUPS)], ids=["copies", "groups"])
def test_every_way(name, ways, arithmetic, problem):
    """X and W by asynchronous copies, and by units of four warps: ragged sizes, borders, batches, codes."""
    problem = of_kind(problem, arithmetic)
    weight = blocks(problem, 32, 16, 0.6, 1)
    fit = [one for one in ways if fits(tiling_of(problem, gpu(name), one), gpu(name))]
    for wanted in fit[:: 1 if problem is OTHERS[0] else 2]:
        counts = check(emit(problem, weight, gpu(name), wanted, "k"), problem, weight)
        what = {1: ("cp.async", "mma.sync"), 2: ("cp.async", "wgmma.mma_async")}[wanted["way"]]
        assert all(any(made.startswith(one) for made in counts) for one in what)


def test_codes_need_whole_words_to_be_copied():
    codes = of_kind(linear(64, 64, 70), "int8")
    ways = {one["way"] for one in space(codes, np.ones((64, 64), np.float32), gpu("cuda:sm_80"))}
    assert ways == {0}
    with pytest.raises(ValueError, match="nothing to bring"):
        emit(codes, np.ones((64, 64), np.float32), gpu("cuda:sm_80"), config(32, 128, 32, 0, 1, 2), "k")


def test_rows_of_x_at_one_distance_need_one_place():
    """Where k has whole steps, and where it has not: other rows are then read in place of those beyond the end."""
    for k in (64, 72):
        problem = linear(64, k, 68, arithmetic="float16")
        weight = blocks(problem, 64, 32, 1.0)
        check(emit(problem, weight, gpu("cuda:sm_90"), config(64, 64, 64, 0, 2), "k"), problem, weight)


@pytest.mark.parametrize("wanted", [config(16, 64, 32, 1, 1, 2), config(32, 128, 32, 1, 1, 3)], ids=str)
@pytest.mark.parametrize("arithmetic", ["float16", "int8"])
def test_two_of_four_by_copies(arithmetic, wanted):
    problem = of_kind(linear(40, 72, 68), arithmetic)
    weight = two_of_four(problem)
    if fits(tiling_of(problem, gpu("cuda:sm_80"), wanted), gpu("cuda:sm_80")):
        counts = check(emit(problem, weight, gpu("cuda:sm_80"), wanted, "k"), problem, weight)
        assert any(name.startswith("mma.sp") for name in counts)


def test_the_model_takes_four_warps_where_there_are_such_units():
    problem = linear(1024, 1024, 1024, arithmetic="float16")
    dense = blocks(problem, 64, 64, 1.0)
    ways = {name: space(problem, dense, gpu(name))[0]["way"] for name in ("cuda:sm_75", "cuda:sm_90")}
    assert ways == {"cuda:sm_75": 0, "cuda:sm_90": 2}


@pytest.mark.parametrize("arithmetic", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("wanted", [config(16, 64, 32, 1), config(32, 128, 32, 1)], ids=str)
def test_two_of_four(arithmetic, wanted):
    problem = of_kind(linear(40, 72, 68), arithmetic)
    counts = check(emit(problem, weight := two_of_four(problem), gpu("cuda:sm_80"), wanted, "k"), problem, weight)
    assert sum(count for name, count in counts.items() if name.startswith("mma.sp"))
    with pytest.raises(ValueError, match="more than two non-zeros"):
        emit(problem, blocks(problem, 16, 16, 1.0), gpu("cuda:sm_80"), wanted, "k")


def test_two_of_four_of_newer_ptx():
    problem = linear(16, 64, 64, arithmetic="float16")
    weight = two_of_four(problem)
    counts = check(emit(problem, weight, gpu("cuda:sm_100"), config(16, 64, 32, 1), "k"), problem, weight)
    assert any("ordered_metadata" in name for name in counts)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("residual", [False, True])
def test_every_epilogue(activation, residual):
    problem = linear(20, 24, 34, arithmetic="float16", epilogue=Epilogue(True, residual, activation))
    weight = blocks(problem, 16, 16, 0.8, 2)
    check(emit(problem, weight, gpu("cuda:sm_80"), config(), "k"), problem, weight)


OUTPUTS = [Output(), Output("uint8", 0.05, 3), Output("int8", 0.1, -7)]


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda o: o.dtype)
@pytest.mark.parametrize("residual", [None, *OUTPUTS], ids=lambda o: o.dtype if o else "none")
@pytest.mark.parametrize("n", [36, 33])
def test_codes(output, residual, n):
    """Sums of codes are scaled and made codes again; an element may be a code off where it lies between two."""
    epilogue = Epilogue(True, residual is not None, "relu", scale=True)
    problem = linear(20, 40, n, 2, dtype="int8", epilogue=epilogue, output=output, residual=residual or Output())
    weight = blocks(problem, 16, 16, 0.8, 3)
    check(emit(problem, weight, gpu("cuda:sm_80"), config(), "k"), problem, weight)


@pytest.mark.parametrize("kind", ["float16", "int8"])
@pytest.mark.parametrize("name", ["cuda:sm_75", "cuda:sm_86", "cuda:sm_90", "cuda:sm_100"])
def test_every_architecture(name, kind):
    problem = of_kind(linear(33, 40, 70), kind)
    weight = blocks(problem, 16, 16, 0.5, 4)
    wanted = space(problem, weight, gpu(name))[0]
    check(emit(problem, weight, gpu(name), wanted, "k"), problem, weight)


@pytest.mark.parametrize("wanted", [config(), config(32, 64, 32)], ids=str)
def test_bytes_of_the_oldest_units_are_multiplied_by_8_rows(wanted):
    """sm_75 has an instruction of 8 x 8 x 16 bytes alone: two of them are one of 16 rows."""
    window = Window(6, 7, (3, 3), padding=(1, 1, 1, 1))
    problem = of_kind(conv(20, 5, window, 2), "int8")
    weight = blocks(problem, 16, 16, 0.6, 5)
    counts = check(emit(problem, weight, gpu("cuda:sm_75"), wanted, "k"), problem, weight)
    found = {name for name in counts if name.startswith("mma")}
    assert found == {"mma.sync.aligned.m8n8k16.row.col.s32.s8.u8.s32"}


def test_a_weight_of_zeros():
    problem = linear(16, 16, 16, arithmetic="float16", epilogue=Epilogue(bias=True))
    check(emit(problem, np.zeros((16, 16), np.float32), gpu("cuda:sm_80"), config(), "k"), problem, np.zeros((16, 16)))


@pytest.mark.parametrize(
    ("problem", "name", "reason"),
    [
        (linear(16, 16, 16), "cuda:sm_80", "has to be computed in float32"),
        (linear(16, 16, 16, arithmetic="bfloat16"), "cuda:sm_75", "has no matrix instruction"),
        (linear(16, 16, 2, arithmetic="float16"), "cuda:sm_80", "fewer than four columns"),
        (linear(16, 16, 16, arithmetic="float16"), "rocm:gfx906", "no"),
    ],
)
def test_refusals(problem, name, reason):
    weight = np.ones((16, 16), np.float32)
    assert reason in refusal(problem, weight, gpu(name))
    assert not space(problem, weight, gpu(name))
    with pytest.raises(ValueError, match="no kernel of tiles"):
        emit(problem, weight, gpu(name), config(), "k")


def test_more_zeros_are_expected_to_take_less_time():
    problem = linear(1024, 1024, 1024, arithmetic="float16")
    times = []
    for density in (1.0, 0.5, 0.1):
        weight = blocks(problem, 128, 32, density)  # as high as the highest tiles
        best = space(problem, weight, gpu("cuda:sm_90"))[0]
        times.append(find("block", "gpu").estimate(problem, weight, gpu("cuda:sm_90"), best))
    assert times[0] > 1.5 * times[1] > 1.5 * times[2]
