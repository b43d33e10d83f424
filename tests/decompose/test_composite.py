"""Kernels made of pieces compute what NumPy does: fused and in turn, every type, epilogue, window, thread count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesa.build.objects import build_objects
from tesa.decompose import policies
from tesa.errors import UsageError
from tesa.layers.layer import Layer
from tesa.schedules.cpu import cut
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Epilogue, Problem, Window
from tesa.tune.choose import choose
from tests.decompose.running import KINDS, TARGET, check, convolution, linear, problems, weight
from tests.support import rest_slow


@pytest.fixture(autouse=True, scope="module")
def _small_work_on_threads_too() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut, "SERIAL_CYCLES", 0)
        yield


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(problems(), st.lists(st.sampled_from(KINDS), min_size=1, max_size=2), st.integers(0, 99), st.data())
def test_numbers(problem: Problem, kinds: list[str], seed: int, data: st.DataObject) -> None:
    """The first policy that applies, of any order: a space is long to work out, and one kernel of one is run."""
    values = weight(problem, kinds, seed)
    for name in data.draw(st.permutations([policy.name for policy in policies() if "cpu" in policy.kinds])):
        if space := find(name).space(problem, values, TARGET.core):
            check(name, problem, values, data.draw(st.sampled_from(list(space))), seed)
            return


SCALED = Epilogue(True, True, "relu", scale=True)
FULL = Epilogue(True, True, "gelu")
CASES = {
    "cover": (linear(67, 70, 83, epilogue=FULL, threads=2), ["blocks", "scattered"]),
    "cover batch": (linear(64, 64, 33, epilogue=FULL, batch=2), ["blocks", "scattered"]),
    "cover conv": (
        convolution(48, 8, Window(9, 11, (3, 3), (2, 1), (1, 1, 1, 1)), epilogue=FULL, threads=2, batch=2),
        ["blocks", "scattered"],
    ),
    "precision": (linear(67, 70, 83, epilogue=SCALED, dtype="mixed", threads=2), ["dense"]),
    "precision batch": (linear(9, 33, 40, epilogue=SCALED, dtype="mixed", batch=2), ["scattered"]),
    "widen": (linear(20, 33, 40, epilogue=SCALED, dtype="mixed", batch=2, threads=2), ["scattered"]),
    "groups": (linear(67, 70, 83, epilogue=FULL, threads=2), ["rows"]),
    "order": (linear(64, 70, 83, epilogue=FULL, threads=3), ["rows", "scattered"]),
    "nm": (linear(37, 512, 112, epilogue=FULL, threads=2), ["n:m"]),
}


def configs(name: str, problem: Problem, kinds: list[str]) -> list[Config]:
    return list(find(name).space(problem, weight(problem, kinds, 3), TARGET.core))


@pytest.mark.parametrize("case", rest_slow(sorted(CASES, key=lambda case: " " in case), 3))
def test_every_form_of_a_policy(case: str) -> None:
    problem, kinds = CASES[case]
    name = case.split()[0]
    found = configs(name, problem, kinds)
    fused = [config for config in found if "fused.rows" in config]
    chains = [config for config in found if "fused.rows" not in config]
    assert fused or name in ("widen", "nm")
    assert chains or name in ("groups", "order")
    for config in [*fused[:2], *chains[:2]]:
        check(name, problem, weight(problem, kinds, 3), config)


@pytest.mark.parametrize("vectors", [2, 3])
def test_a_last_tile_of_fewer_vectors(vectors: int) -> None:
    problem = linear(16, 64, 5 * TARGET.core.lanes, dtype="mixed", epilogue=Epilogue(True, False, "relu", scale=True))
    values = weight(problem, ["dense"], 3)
    base = next(c for c in find("precision").space(problem, values, TARGET.core) if "fused.rows" in c)
    check("precision", problem, values, {**base, "fused.rows": 4, "fused.vectors": vectors})


def test_int8_weights_are_covered_too() -> None:
    problem = linear(64, 66, 80, dtype="int8", epilogue=SCALED, threads=2)
    values = weight(problem, ["blocks", "scattered"], 3)
    for rows in (4, 8):
        config = {"cover.4x4": 1000, "fused.rows": rows, "fused.vectors": 2, "fused.pack": 1}
        check("cover", problem, values, config)


def test_three_pieces_in_turn() -> None:
    rng = np.random.default_rng(0)
    values = np.zeros((96, 96), np.float32)
    values[:32, :32] = rng.standard_normal((32, 32))
    values[40:48, 40:48] = rng.standard_normal((8, 8))
    values[90, ::7] = 1
    problem = linear(96, 96, 50, epilogue=FULL)
    config: Config = {
        "cover.32x32": 31000, "cover.8x8": 2400,
        "0.block.rows": 8, "0.block.vectors": 2, "0.block.pack": 0,
        "1.block.rows": 4, "1.block.vectors": 2, "1.block.pack": 1,
        "2.indexed.vectors": 4, "2.indexed.rows": 1, "2.indexed.kblock": 0, "2.indexed.pack": 0,
    }  # fmt: skip
    check("cover", problem, values, config)


@pytest.mark.slow
def test_outliers_without_codes_and_codes_without_outliers() -> None:
    problem = linear(16, 24, 40, dtype="mixed", epilogue=SCALED)
    rng = np.random.default_rng(0)
    codes = rng.integers(-128, 128, (16, 24)).astype(np.float32)
    for values in (codes, codes + np.float32(0.25)):
        for config in find("precision").space(problem, values, TARGET.core)[:3]:
            check("precision", problem, values, config)


def test_the_space_is_plain_numbers_and_the_estimates_rank_it() -> None:
    problem, kinds = CASES["cover"]
    values = weight(problem, kinds, 3)
    found = configs("cover", problem, kinds)
    assert len({tuple(config.items()) for config in found}) == len(found)
    times = [find("cover").estimate(problem, values, TARGET.core, config) for config in found]
    assert times == sorted(times)
    assert all(isinstance(value, int) for config in found for value in config.values())
    assert all(key.split(".")[0] in ("cover", "fused", "0", "1", "2", "3") for config in found for key in config)


def test_only_the_widened_dense_kernel_is_dense() -> None:
    problem, kinds = CASES["widen"]
    values = weight(problem, kinds, 3)
    dense = [c for c in configs("widen", problem, kinds) if find("widen").dense(values, c)]  # type: ignore[misc]
    assert dense
    assert all(any(key.startswith("0.dense.") for key in config) for config in dense)
    cover = find("cover").dense
    assert cover is not None
    assert not any(cover(values, config) for config in configs("cover", *CASES["cover"]))


def test_the_same_bytes_each_time() -> None:
    problem, kinds = CASES["cover"]
    values = weight(problem, kinds, 3)
    first, *_, last = configs("cover", problem, kinds)
    for config in (first, last):
        codes = [find("cover").emit(problem, values, TARGET.core, config, "tesa_x") for _ in range(2)]
        one, two = (build_objects("tesa_x", code, TARGET) for code in codes)
        assert one == two


def test_a_configuration_for_another_weight_is_told() -> None:
    problem = linear(64, 64, 64)
    plain = weight(problem, ["dense"], 0)
    with pytest.raises(UsageError, match="policy 'cover' does not apply to this weight with"):
        find("cover").emit(problem, plain, TARGET.core, {"cover.32x32": 100, "fused.rows": 8}, "x")
    mixed = weight(problem, ["blocks", "scattered"], 3)
    with pytest.raises(UsageError, match="names no kernel for piece 0"):
        find("cover").emit(problem, mixed, TARGET.core, {"cover.8x8": 1000}, "x")


def test_the_compiler_chooses_among_them(tmp_path: Path) -> None:
    problem, kinds = CASES["cover"]
    problem = replace(problem, threads=1)
    task = Layer("mixed", problem, weight(problem, kinds, 3))
    (kernel,) = choose([task], TARGET, families=["cover"], log=tmp_path)
    assert kernel.part.family == "cover"
    assert kernel.part.reason.startswith("measured")
