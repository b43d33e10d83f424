"""The unrolled family against NumPy: tiles that overlap, blocks of columns, packed tiles, staged convolutions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.schedules.cpu.grid import grid
from tesa.schedules.cpu.operand import Operand
from tesa.schedules.cpu.panel import FUNCTION_FMAS, OBJECT_FMAS, panels
from tesa.schedules.cpu.unrolled import MAX_FMAS
from tesa.schedules.registry import find
from tesa.schedules.types import Code, Config, Epilogue, Isa, Problem, Window
from tests.schedules import golden
from tests.schedules.guarded import harsh
from tests.schedules.reference import AVX2, AVX512, check
from tests.schedules.strategies import convolutions, isas, linears, weights

UNROLLED = find("unrolled")


@st.composite
def configs(draw: st.DrawFn) -> Config:
    rows, vectors = draw(st.sampled_from([(26, 1), (10, 1), (3, 2), (5, 4), (1, 1)]))
    kblock, chunk = draw(st.sampled_from([0, 0, 5])), draw(st.sampled_from([0, 1, 3]))
    return {"rows": rows, "vectors": vectors, "kblock": kblock, "chunk": chunk, "pack": draw(st.integers(0, 1))}


@settings(max_examples=25)
@given(linears(), isas, configs(), st.data())
def test_any_linear_layer(p: Problem, isa: Isa, config: Config, data: st.DataObject) -> None:
    with harsh(data.draw(st.booleans())):
        check("unrolled", p, data.draw(weights(p)), isa, config)


@settings(max_examples=20)
@given(convolutions(), isas, configs(), st.data())
def test_any_convolution(p: Problem, isa: Isa, config: Config, data: st.DataObject) -> None:
    with harsh(data.draw(st.booleans())):
        check("unrolled", p, data.draw(weights(p)), isa, config)


@pytest.mark.parametrize("isa", [AVX512, AVX2], ids=lambda isa: str(isa.name))
def test_every_default_configuration(isa: Isa) -> None:
    p = Problem("linear", 40, 160, 64, (1, 160, 64), (1, 40, 64), epilogue=Epilogue(True, True, "gelu"), threads=2)
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((40, 160)) * (rng.random((40, 160)) < 0.04)).astype(np.float32)
    space = UNROLLED.space(p, weight, isa)
    assert 1 < len(space) <= 6
    for config in space:
        check("unrolled", p, weight, isa, config)


def test_functions_and_objects_stay_small() -> None:
    weight = np.ones((60, 400), np.float32)
    config = {"rows": 30, "vectors": 1, "kblock": 0, "chunk": 4, "pack": 0}
    functions = [panel for row in panels(weight, config, 1, "s") for panel in row]
    assert sum(panel.fmas for panel in functions) == weight.size
    assert max(panel.fmas for panel in functions) <= FUNCTION_FMAS
    p = Problem("linear", 60, 400, 64, (1, 400, 64), (1, 60, 64))
    groups = UNROLLED.emit(p, weight, AVX512, config, "s").panels
    assert len(groups) >= weight.size // OBJECT_FMAS
    names = [str(f.attrs["global_symbol"]) for group in groups for f in group]
    assert len(set(names)) == len(names) == len(functions)
    assert all(name.startswith("s_p") for name in names)


def test_zeros_are_no_instructions() -> None:
    p = Problem("linear", 8, 40, 16, (1, 40, 16), (1, 8, 16))
    weight = np.zeros((8, 40), np.float32)
    weight[3, 7] = weight[4, 7] = weight[4, 30] = 2
    code = UNROLLED.emit(p, weight, AVX512, {"rows": 8, "vectors": 1, "kblock": 0, "chunk": 1, "pack": 0}, "s")
    text = code.panels[0][0].script()
    assert text.count("llvm.fma") + text.count("* x") == 3
    assert text.count(" = x[") == 2


def test_budget_and_narrow_problems() -> None:
    wide = Problem("linear", 256, 256, 64, (1, 256, 64), (1, 256, 64))
    assert UNROLLED.space(wide, np.ones((256, 256), np.float32), AVX512) == ()
    assert MAX_FMAS < 256 * 256
    narrow = Problem("linear", 8, 8, 4, (1, 8, 4), (1, 8, 4))
    assert UNROLLED.space(narrow, np.ones((8, 8), np.float32), AVX512) == ()
    depthwise = Problem("depthwise", 8, 1, 64, (1, 8, 8, 8), (1, 8, 8, 8), window=Window(8, 8, (1, 1)))
    assert UNROLLED.space(depthwise, np.ones((8, 1), np.float32), AVX512) == ()


def test_size_counts_instructions() -> None:
    p = Problem("linear", 4, 4, 64, (1, 4, 64), (1, 4, 64))
    assert UNROLLED.size is not None
    assert UNROLLED.size(p, np.eye(4, dtype=np.float32), {"vectors": 2}) == 8


@given(st.integers(1, 40), st.integers(1, 70), st.integers(0, 5), st.integers(1, 5), st.sampled_from([8, 16]))
def test_tiles_cover_every_position_and_no_other(height: int, width: int, gap: int, vectors: int, lanes: int) -> None:
    view = Operand(np.zeros(1, np.int64), height, width, width + gap, staged=1)
    tiles = grid(view, height * width, lanes, vectors)
    assert len(tiles.reads) <= vectors
    met = set()
    for t in range(tiles.count):
        read, write = (int(v) for v in tiles.start(t))
        for r, w in zip(tiles.reads, tiles.writes, strict=True):
            for lane in range(tiles.lanes):
                at = write + w + lane
                met.add(at)
                # the element of S behind an output: rows there are longer by the gap
                assert read + r + lane == at + (at // width) * (tiles.pitch - tiles.width)
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
    for i, panel in enumerate(code.panels[0]):
        golden.compare(f"unrolled_panel{i}", Code(panel))
