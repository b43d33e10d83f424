"""The unrolled family against NumPy: tiles that overlap, blocks of columns, packed tiles, staged convolutions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.schedules.cpu.unrolled_space import MAX_FMAS, MOST
from tesa.schedules.cpu.writers import find_writer, registers
from tesa.schedules.panels import groups, panels
from tesa.schedules.registry import find
from tesa.schedules.tiles import tiles
from tesa.schedules.types import Assembly, Config, Core, Epilogue, Problem, Tir, Window
from tests.schedules import golden
from tests.schedules.guarded import harsh
from tests.schedules.programs import programs_of
from tests.schedules.reference import AVX2, AVX512, HERE, check, run
from tests.schedules.strategies import cores, linears, unrolled_configs, weights, windows
from tests.support import drawn, rest_slow

UNROLLED = find("unrolled")


@drawn(25)
@given(linears(), cores, unrolled_configs(), st.data())
def test_any_linear_layer(p: Problem, core: Core, config: Config, data: st.DataObject) -> None:
    with harsh(data.draw(st.booleans())):
        check("unrolled", p, data.draw(weights(p)), core, config)


@drawn(20)
@given(windows, cores, unrolled_configs(), st.data())
def test_any_convolution(p: Problem, core: Core, config: Config, data: st.DataObject) -> None:
    with harsh(data.draw(st.booleans())):
        check("unrolled", p, data.draw(weights(p)), core, config)


@pytest.mark.parametrize("core", rest_slow(HERE, 2), ids=lambda core: str(core.name))
def test_every_default_configuration(core: Core) -> None:
    p = Problem("linear", 40, 160, 64, (1, 160, 64), (1, 40, 64), epilogue=Epilogue(True, True, "gelu"), threads=2)
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((40, 160)) * (rng.random((40, 160)) < 0.04)).astype(np.float32)
    space = UNROLLED.space(p, weight, core)
    assert 1 < len(space) <= MOST
    for config in space:
        check("unrolled", p, weight, core, config)


def test_functions_and_objects_stay_small() -> None:
    weight = np.ones((90, 900), np.float32)
    config = {"rows": 30, "vectors": 1, "kblock": 0, "chunk": 4, "pack": 0}
    limits = find_writer(AVX512)
    rows = panels(weight, config, 1, "s", limits.function_fmas)
    functions = [panel for row in rows for panel in row]
    assert sum(panel.fmas for panel in functions) == weight.size
    assert max(panel.fmas for panel in functions) <= limits.function_fmas
    files = groups(functions, limits.object_fmas)
    assert [panel for group in files for panel in group] == functions
    assert len(files) > 1
    assert max(sum(panel.fmas for panel in group) for group in files) <= limits.object_fmas
    p = Problem("linear", 90, 900, 64, (1, 900, 64), (1, 90, 64))
    code = UNROLLED.emit(p, weight, AVX512, config, "s")
    assert [unit.name for unit in code.panels] == [group[0].name for group in files]
    assert sum(text(unit).count(".globl") for unit in code.panels) == len(functions)


def test_zeros_are_no_instructions() -> None:
    p = Problem("linear", 8, 40, 16, (1, 40, 16), (1, 8, 16))
    weight = np.zeros((8, 40), np.float32)
    weight[3, 7] = weight[4, 7] = weight[4, 30] = 2
    code = UNROLLED.emit(p, weight, AVX512, {"rows": 8, "vectors": 1, "kblock": 0, "chunk": 1, "pack": 0}, "s")
    lines = text(code.panels[0]).splitlines()
    assert sum(line.startswith(("vfmadd231ps", "vmulps")) for line in lines) == 3
    assert sum(line.startswith("vmovups") and "(%rax)," in line for line in lines) == 2


def test_budget_and_narrow_problems() -> None:
    wide = Problem("linear", 640, 640, 64, (1, 640, 64), (1, 640, 64))
    assert UNROLLED.space(wide, np.ones((640, 640), np.float32), AVX512) == ()
    assert MAX_FMAS < 640 * 640
    narrow = Problem("linear", 8, 8, 4, (1, 8, 4), (1, 8, 4))
    assert UNROLLED.space(narrow, np.ones((8, 8), np.float32), AVX512) == ()
    depthwise = Problem("depthwise", 8, 1, 64, (1, 8, 8, 8), (1, 8, 8, 8), window=Window(8, 8, (1, 1)))
    assert UNROLLED.space(depthwise, np.ones((8, 1), np.float32), AVX512) == ()


def test_size_counts_instructions() -> None:
    p = Problem("linear", 4, 4, 64, (1, 4, 64), (1, 4, 64))
    assert UNROLLED.size is not None
    assert UNROLLED.size(p, np.eye(4, dtype=np.float32), AVX512, {"vectors": 2}) == 8


@given(st.integers(1, 40), st.integers(1, 70), st.integers(0, 5), st.integers(1, 5), st.sampled_from([8, 16]))
def test_tiles_cover_every_position_and_no_other(height: int, width: int, gap: int, vectors: int, lanes: int) -> None:
    cut = tiles(height, width, width + gap, lanes, vectors)
    assert len(cut.reads) <= vectors
    met = set()
    for t in range(cut.count):
        read, write = (int(v) for v in cut.start(t))
        for r, w in zip(cut.reads, cut.writes, strict=True):
            for lane in range(cut.lanes):
                at = write + w + lane
                met.add(at)
                # the element of S behind an output: rows there are longer by the gap
                assert read + r + lane == at + (at // width) * (cut.pitch - cut.width)
    assert met == set(range(height * width))


def test_estimate_follows_the_non_zeros() -> None:
    p = Problem("linear", 64, 64, 256, (1, 64, 256), (1, 64, 256))
    config = {"rows": 26, "vectors": 1, "kblock": 0, "chunk": 8, "pack": 0}
    rng = np.random.default_rng(0)
    weight = (rng.random((64, 64)) < 0.5).astype(np.float32)
    thin = (weight * (rng.random((64, 64)) < 0.2)).astype(np.float32)
    estimates = [UNROLLED.estimate(p, w, AVX512, config) for w in (thin, weight)]
    assert 0 < estimates[0] < estimates[1]


def test_golden() -> None:
    p = Problem("linear", 3, 4, 40, (1, 4, 40), (1, 3, 40), epilogue=Epilogue(bias=True, activation="relu"))
    weight = np.array([[1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 4, 0]], np.float32)
    config = {"rows": 2, "vectors": 1, "kblock": 0, "chunk": 2, "pack": 0}
    code = UNROLLED.emit(p, weight, AVX512, config, "unrolled")
    golden.compare("unrolled", code)
    golden.compare_text("unrolled_panels", text(code.panels[0]))
    assert isinstance(code.panels[0], Assembly)
    assert code.panels[0].tir is not None
    functions = code.panels[0].tir().functions
    golden.compare_text("unrolled_panels_tir", "\n".join(f.script(show_meta=False) for _, f in functions) + "\n")
    programs = programs_of(p, weight, AVX512, config, "unrolled")
    golden.compare_text("unrolled_programs", "\n".join(map(str, programs)) + "\n")


def test_golden_of_the_other_instruction_set() -> None:
    p = Problem("linear", 3, 4, 5, (1, 4, 5), (1, 3, 5), epilogue=Epilogue(True, True, "hardswish"))
    weight = np.array([[1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 4, 0]], np.float32)
    config = {"rows": 2, "vectors": 1, "kblock": 0, "chunk": 2, "pack": 1}
    golden.compare_text("unrolled_panels_avx2", text(UNROLLED.emit(p, weight, AVX2, config, "unrolled").panels[0]))


@pytest.mark.parametrize("core", [AVX512, AVX2], ids=lambda core: str(core.name))
def test_as_many_rows_as_there_are_registers_and_not_one_more(core: Core) -> None:
    most = core.registers - registers(0, 1, core)
    p = Problem("linear", 40, 30, 37, (1, 30, 37), (1, 40, 37), epilogue=Epilogue(True, True, "relu6"))
    weight = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    config = {"rows": most, "vectors": 1, "kblock": 0, "chunk": 2, "pack": 0}
    check("unrolled", p, weight, core, config)
    with pytest.raises(ValueError, match=f"no panel of .* with {core.registers} registers of {core.name}"):
        UNROLLED.emit(p, weight, core, {**config, "rows": 40}, "s")


@pytest.mark.parametrize("core", rest_slow(HERE, 2), ids=lambda core: str(core.name))
@pytest.mark.parametrize("pack", [0, 1])
def test_pointers_move_along(core: Core, pack: int) -> None:
    """So many weights and columns that displacements leave the range of a byte again and again."""
    p = Problem("linear", 8, 700, 40, (1, 700, 40), (1, 8, 40))
    weight = np.random.default_rng(0).standard_normal((8, 700)).astype(np.float32)
    weight[:, 100:400] = 0
    check("unrolled", p, weight, core, {"rows": 8, "vectors": 1, "kblock": 0, "chunk": 2, "pack": pack})


@pytest.mark.parametrize("core", HERE, ids=lambda core: str(core.name))
@pytest.mark.parametrize("activation", [None, "relu", "relu6", "hardswish"])
def test_a_not_a_number_goes_through(core: Core, activation: str | None) -> None:
    p = Problem("linear", 2, 2, 16, (1, 2, 16), (1, 2, 16), epilogue=Epilogue(activation=activation))
    x = np.zeros((2, 16), np.float32)
    x[0, 3] = np.nan
    config = {"rows": 2, "vectors": 1, "kblock": 0, "chunk": 1, "pack": 0}
    y = run("unrolled", p, np.eye(2, dtype=np.float32), core, config, x)
    assert np.isnan(y[0, 0, 3])
    assert np.isfinite(y).sum() == 31


def text(unit: Tir | Assembly) -> str:
    """The assembly of a unit."""
    assert isinstance(unit, Assembly)
    return unit.text
