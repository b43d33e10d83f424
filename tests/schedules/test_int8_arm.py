"""Integer kernels for 64-bit ARM: exact on CPUs with i8mm, with dotprod alone and with neither, by the instructions of
each."""

from __future__ import annotations

from dataclasses import replace
from itertools import product as product_of
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tesa.decompose  # noqa: F401  (registers the families of pieces)
from tesa.measure.reference import Reference
from tesa.schedules.cpu.interleave import chunks
from tesa.schedules.cpu.operand import tiling
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Epilogue, Output, Problem
from tesa.targets.target import parse_target
from tests.decompose.running import weight as weight_of_pieces
from tests.emulated.assembly import foreign, listing
from tests.emulated.programs import Case, case, check, objects_of, run
from tests.support import rest_slow

MIXED, SIGNED, PLAIN = "neoverse-n2", "neoverse-n1", "cortex-a53"
EMULATED = {MIXED: "max", SIGNED: "neoverse-n1", PLAIN: "cortex-a53"}
"""CPUs with usdot and usmmla, with sdot, and with smlal alone, and what plays them."""

SHAPES = ((19, 37, 49), (32, 64, 100), (13, 9, 7), (40, 33, 3), (5, 3, 1), (16, 30, 18), (6, 70, 5), (24, 16, 64))
FORMS = ("dense", "block", "indexed", "rowlanes")
SCALED = Epilogue(bias=True, residual=True, activation="relu", scale=True)
OUTPUTS = (Output("int32"), Output(), Output("uint8", 0.05, 7), Output("int8", 0.05, -3))

cpus = pytest.mark.parametrize("cpu", rest_slow([MIXED, SIGNED, PLAIN]))

PAIRS = sorted(product_of(FORMS, EMULATED), key=lambda pair: (FORMS.index(pair[0]) - list(EMULATED).index(pair[1])) % 3)
"""Each family with each CPU; the first four have every one of them."""


def product(m: int, k: int, n: int, output: Output = OUTPUTS[0], **more: Any) -> Problem:
    """A linear layer of codes; its result are the bare sums by default."""
    batch = more.get("batch", 1)
    shapes = ((k, n), (m, n)) if batch == 1 else ((batch, k, n), (batch, m, n))
    epilogue = Epilogue() if output.dtype == "int32" else SCALED
    return Problem("linear", m, k, n, *shapes, **{"dtype": "int8", "output": output, "epilogue": epilogue, **more})


def codes(m: int, k: int, density: float) -> Any:
    """W of the most extreme codes, and some others."""
    rng = np.random.default_rng(m)
    return np.where(rng.random((m, k)) < density, rng.choice([-128, -127, -1, 1, 3, 127], (m, k)), 0).astype(np.float32)


def some(form: str, problem: Problem, w: Any, cpu: str) -> list[Case]:
    """A case for the first configuration of a family, for the last one and for one of each form of the sums."""
    target = parse_target(f"aarch64:{cpu}")
    space = list(find(form).space(problem, w, target.core))
    kinds: dict[Any, Config] = {tuple(sorted(c)): c for c in space[::-1]}
    chosen = {str(c): c for c in [*kinds.values(), *space[-1:]]}
    return [case(form, problem, w, target, c) for c in chosen.values()]


@pytest.mark.parametrize(("form", "cpu"), rest_slow(PAIRS, len(FORMS)))
def test_every_family_is_exact(form: str, cpu: str) -> None:
    cases = []
    for i, (m, k, n) in enumerate(SHAPES):
        cases += some(form, product(m, k, n, OUTPUTS[i % 4]), codes(m, k, (0.1, 0.4, 1.0)[i % 3]), cpu)
    assert len(cases) >= 5
    check(cases, parse_target(f"aarch64:{cpu}"), EMULATED[cpu])


@pytest.mark.slow
@cpus
def test_the_largest_sums_do_not_saturate(cpu: str) -> None:
    """Columns of X that are all 0 and all 255 in turn, with all of W -128, or 127."""
    m, k = 8, 64
    cases = []
    for weight in (-128, 127):
        for form, n in (("dense", 20), ("rowlanes", 19)):
            for one in some(form, product(m, k, n), np.full((m, k), weight, np.float32), cpu)[:2]:
                x = np.tile(np.arange(n) % 2 * 255, (k, 1)).astype(np.uint8)
                wanted = Reference(np.tile(x.sum(axis=0) * float(weight), (m, 1)), 0.0)
                cases.append(replace(one, inputs=(x, *one.inputs[1:]), wanted=wanted))
    check(cases, parse_target(f"aarch64:{cpu}"), EMULATED[cpu])


@pytest.mark.slow
@cpus
def test_batches_threads_and_blocks_of_k(cpu: str) -> None:
    target, cases = parse_target(f"aarch64:{cpu}"), []
    large = product(64, 200, 300, threads=2)
    for form in ("dense", "block", "indexed"):
        cases += some(form, product(20, 33, 50, batch=2, threads=2), codes(20, 33, 0.3), cpu)[:1]
        cases += some(form, large, codes(64, 200, 0.05), cpu)[:1]
    for form, config in (("dense", {"rows": 8, "vectors": 3}), ("indexed", {"rows": 1, "vectors": 7})):
        depth = {"depth": 16} if form == "dense" else {"kblock": 16}
        for more in ({}, {"matrix": 1}) if (cpu, form) == (MIXED, "dense") else ({},):
            config = {**config, **depth, "pack": 1, **more}
            cases.append(case(form, product(17, 200, 70), codes(17, 200, 0.3), target, config))
    check(cases, target, EMULATED[cpu])


@pytest.mark.slow
@cpus
def test_pieces_of_codes_and_outliers(cpu: str) -> None:
    target, cases = parse_target(f"aarch64:{cpu}"), []
    mixed = product(21, 33, 40, Output(), dtype="mixed")
    for name, kinds in (("precision", ["dense"]), ("precision", ["scattered"]), ("widen", ["scattered"])):
        w = weight_of_pieces(mixed, kinds, 3)
        space = list(find(name).space(mixed, w, target.core))
        fused = [config for config in space if "fused.rows" in config]
        chains = [config for config in space if "fused.rows" not in config]
        cases += [case(name, mixed, w, target, config) for config in [*fused[:1], *chains[:1]]]
    whole = product(64, 66, 80, Output())
    for rows in (4, 8):
        config = {"cover.4x4": 1000, "fused.rows": rows, "fused.vectors": 2, "fused.pack": 1}
        cases.append(case("cover", whole, weight_of_pieces(whole, ["blocks", "scattered"], 3), target, config))
    assert len(cases) > 4
    check(cases, target, EMULATED[cpu])


@pytest.mark.parametrize("n", [29, 30, 33])
def test_a_tile_that_is_wider_than_x(n: int) -> None:
    """Its last vector begins between the vectors of 16 bytes that X is read in."""
    target, problem = parse_target(f"aarch64:{SIGNED}"), product(12, 20, n, Output("int32"))
    w = codes(12, 20, 0.5)
    config = {"rows": 1, "kblock": 0, "pack": 1}
    check([case("indexed", problem, w, target, {"vectors": v, **config}) for v in (4, 8, 24)], target)


PRODUCTS = {
    (MIXED, "dense"): r"usmmla", (MIXED, "block"): r"usmmla", (MIXED, "indexed"): r"usdot",
    (MIXED, "rowlanes"): r"(us|su)dot\s.*\.4b\[\d\]",
    **{(SIGNED, form): r"sdot\s.*\.4b\[\d\]" for form in ("dense", "block", "rowlanes")},
    (SIGNED, "indexed"): r"sdot",
    **{(PLAIN, form): r"smlal2?\s.*\.h\[\d\]" for form in ("dense", "block", "rowlanes")},
    (PLAIN, "indexed"): r"smlal2?",
}  # fmt: skip


@pytest.mark.parametrize(("cpu", "form"), PRODUCTS)
def test_the_products_are_those_of_the_cpu(cpu: str, form: str, tmp_path: Path) -> None:
    """The claimed instruction, by element where weights lie side by side, no spill in the loop, and none that the CPU
    lacks."""
    target = parse_target(f"aarch64:{cpu}")
    m, k, n = 64, 128, 98 if form == "rowlanes" else 96
    problem = product(m, k, n, OUTPUTS[2])
    w = codes(m // 16, k, 0.2).repeat(16, axis=0) if form == "block" else codes(m, k, 1.0 if form != "indexed" else 0.1)
    config = find(form).space(problem, w, target.core)[0]
    objects = objects_of(find(form).emit(problem, w, target.core, config, "kernel"), target, tmp_path)
    loop = listing(objects).busiest("smlal2?|u?sdot|sudot|usmmla")
    assert loop.count(PRODUCTS[cpu, form]) >= 4
    every = loop.count("smlal2?|u?sdot|sudot|usmmla")
    # an odd element of X may be read into all lanes
    assert every - loop.count(PRODUCTS[cpu, form]) <= (every // 8 if (cpu, form) == (PLAIN, "rowlanes") else 0)
    assert not loop.spills()
    assert not foreign(objects, cpu)


def test_dot_products_by_element_where_there_are_small_matrices(tmp_path: Path) -> None:
    """The other form of the sums, which an odd number of rows needs."""
    target, problem = parse_target(f"aarch64:{MIXED}"), product(64, 128, 96)
    config = {"rows": 8, "vectors": 3, "pack": 1}
    objects = objects_of(
        find("dense").emit(problem, codes(64, 128, 1.0), target.core, config, "kernel"), target, tmp_path
    )
    loop = listing(objects).busiest("usdot")
    assert loop.count(r"usdot\s.*\.4b\[\d\]") == loop.count("usdot") >= 24
    assert not loop.spills()


@pytest.mark.parametrize(("cpu", "most"), [(MIXED, 0.2), (SIGNED, 0.33), (PLAIN, 1.1)])
def test_dense_takes_few_instructions(cpu: str, most: float) -> None:
    """Executed instructions over those of the same layer in float32."""
    target, (m, k, n) = parse_target(f"aarch64:{cpu}"), (64, 512, 96)
    real = Problem("linear", m, k, n, (k, n), (m, n), epilogue=Epilogue(bias=True, activation="relu"))
    w = codes(m, k, 1.0)
    scaled = product(m, k, n, Output(), epilogue=Epilogue(bias=True, activation="relu", scale=True))
    results = run([case("dense", real, w, target), case("dense", scaled, w, target)], target, counted=True)
    slow, fast = (result.count.instructions for result in results if result.count is not None)
    assert fast < most * slow


def test_matrices_want_pairs_of_rows() -> None:
    target = parse_target(f"aarch64:{MIXED}")
    with pytest.raises(ValueError, match="cannot compute 5 rows"):
        find("dense").emit(
            product(5, 8, 8), codes(5, 8, 1.0), target.core, {"rows": 8, "vectors": 2, "pack": 1, "matrix": 1}, "k"
        )
    for m, n in ((5, 8), (8, 3)):
        space = find("dense").space(product(m, 8, n), codes(m, 8, 1.0), target.core)
        assert space
        assert not any("matrix" in config and config["rows"] % 2 for config in space)
        assert n >= target.core.lanes or not any("matrix" in config for config in space)


@pytest.mark.parametrize("n", range(1, 70))
def test_chunks_hold_each_column_once(n: int) -> None:
    for vectors in range(1, 20):
        t = tiling(n, 4, vectors)
        found = chunks(t)
        assert bool(found) == (t.lanes + t.last_vector >= 8)
        columns = [(c.start + column, place) for c in found for column, place in c.stored]
        if found:
            assert columns == [(min(v * t.lanes, t.last_vector), v * t.lanes) for v in range(t.vectors)]
        assert all(c.start >= 0 and c.start + c.width <= t.last_vector + t.lanes for c in found)
