"""The families for few columns of int8: exact sums whatever the shape, and how their weights are packed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.build.source import source
from tesa.measure.reference import Inputs, reference
from tesa.schedules.cpu import bitmap, gathered
from tesa.schedules.cpu.windows import pack
from tesa.schedules.registry import families, find
from tesa.schedules.types import Epilogue, Output, Problem, Window
from tesa.targets.target import parse_target, runs_here
from tests.schedules.guarded import guarded
from tests.schedules.reference import build, unaligned
from tests.support import drawn

TARGET = parse_target("x86:icelake-server")
CORE = TARGET.core
FAMILIES = ("gathered", "bitmap")
here = pytest.mark.skipif(not runs_here(TARGET), reason="this machine's CPU cannot permute and expand bytes")
LAYOUTS = ("features_first", "features_last")
EDGES = {4: [-8, -1, 1, 7], 8: [-128, -1, 1, 127]}

sizes = st.tuples(st.integers(1, 70), st.integers(1, 300), st.integers(1, 16))
densities = st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.55])


def product(m: int, k: int, n: int, batch: int = 1, layout: str = "features_first", **more: Any) -> Problem:
    options = {"dtype": "int8", "output": Output("int32"), **more}
    x, y = ((batch, k, n), (batch, m, n)) if layout == "features_first" else ((batch, n, k), (batch, n, m))
    return Problem("linear", m, k, n, x, y, batch, layout=layout, **options)


def draw(m: int, k: int, density: float, bits: int = 8, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((m, k)) < density, rng.choice(EDGES[bits], (m, k)), 0).astype(np.float32)


def run(name: str, problem: Problem, w: Any, config: Any, inputs: Inputs) -> Any:
    code = find(name).emit(problem, w, CORE, config, "kernel")
    y = unaligned(np.full(problem.y_shape, 77, problem.output.dtype))
    with tempfile.TemporaryDirectory() as folder:
        function = build(code, CORE, Path(folder), TARGET.cpu)
        function(*map(unaligned, (inputs.x, *code.constants, *inputs.extra)), y)
    return y.numpy()


@here
@drawn(16)
@given(
    sizes, densities, st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.sampled_from(LAYOUTS),
    st.sampled_from([4, 8]), st.sampled_from(FAMILIES), st.data(),
)  # fmt: skip
@pytest.mark.usefixtures("any_work_on_threads")
def test_sums_are_exact(
    size: Any, density: float, batch: int, threads: int, layout: str, bits: int, name: str, data: st.DataObject
) -> None:
    m, k, n = size
    zero = 0 if layout == "features_first" else 131
    problem = product(m, k, max(n // batch, 1), batch, layout, threads=threads, x_zero=zero)
    w = draw(m, k, density, bits)
    space = list(find(name).space(problem, w, CORE))
    assert {config["bits"] for config in space} == ({4, 8} if w.min() >= -8 and w.max() <= 7 else {8})
    inputs = Inputs.random(problem, 3)
    got = run(name, problem, w, data.draw(st.sampled_from(space)), inputs)
    np.testing.assert_array_equal(got, reference(problem, w, inputs).y)


@here
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
@pytest.mark.parametrize(
    ("n", "layout", "activation"),
    [(1, LAYOUTS[0], None), (3, LAYOUTS[0], "relu"), (16, LAYOUTS[0], None), (2, LAYOUTS[1], "gelu")],
)
def test_what_is_stored(name: str, layout: str, dtype: str, n: int, activation: str | None) -> None:
    output = Output(dtype) if dtype == "float32" else Output(dtype, 0.05, 7)
    epilogue = Epilogue(bias=True, residual=True, activation=activation, scale=True)
    codes = Output("uint8", 0.1, 100) if n == 3 else Output()
    problem = product(37, 100, n, 1, layout, output=output, epilogue=epilogue, residual=codes)
    w, inputs = draw(37, 100, 0.4), Inputs.random(problem, 5)
    wanted = reference(problem, w, inputs)
    got = run(name, problem, w, find(name).space(problem, w, CORE)[0], inputs)
    assert wanted.error(got) <= wanted.tolerance
    if output.quantized:
        assert (got != wanted.y).mean() < 0.02  # a code is off by one only where the number lies between two


@here
@pytest.mark.parametrize("name", FAMILIES)
def test_a_pointwise_convolution(name: str) -> None:
    problem = Problem("conv2d", 20, 40, 9, (1, 40, 3, 3), (1, 20, 3, 3), window=Window(3, 3, (1, 1)), dtype="int8",
                      output=Output("int32"))  # fmt: skip
    w, inputs = draw(20, 40, 0.3), Inputs.random(problem, 5)
    got = run(name, problem, w, find(name).space(problem, w, CORE)[0], inputs)
    np.testing.assert_array_equal(got, reference(problem, w, inputs).y)


@given(sizes, densities, st.sampled_from([4, 8]), st.sampled_from([1, 64]), st.sampled_from([1, 2, 4]))
def test_the_stream_is_the_weight(size: Any, density: float, bits: int, align: int, streams: int) -> None:
    m, k, _ = size
    w = draw(m, k, density, bits)
    stream = gathered._stream(pack(w, 16, 128, align), bits, streams)
    assert len(stream.rows) % streams == 0
    each, found = 8 // bits, np.zeros((m + 1, k + 256), np.int64)
    for number, rows in enumerate(stream.rows):
        data, bases = stream.data[number % streams], stream.bases[number % streams]
        for unit in range(stream.starts[number // streams], stream.starts[number // streams + 1]):
            codes = data[unit, 64 * each :]
            for step in range(each):
                mine = codes.view(np.int8) if bits == 8 else ((codes << 4 * (1 - step)) & 240).view(np.int8) >> 4
                places = data[unit, 64 * step : 64 * step + 64].astype(int) + bases[unit, step]
                np.add.at(found, (np.repeat(rows, 4), places), mine)
    np.testing.assert_array_equal(found[:m, :k], w)
    assert not found[m:].any()
    assert not found[:, k:].any()


@given(sizes, densities, st.sampled_from([4, 8]), st.sampled_from([1, 2, 4]))
def test_the_bitmap_is_the_weight(size: Any, density: float, bits: int, streams: int) -> None:
    m, k, _ = size
    w = draw(m, k, density, bits)
    masks, codes, starts = bitmap.pack(w, 16, bits, streams)
    slices = len(starts) - 1
    groups = len(masks) // slices
    assert slices % streams == 0
    assert groups % 8 == 0
    assert len(codes) == starts[-1] + 64  # what a vector may read
    found = np.zeros((slices, groups, 64), np.int64)
    for number in range(slices):
        at = [starts[number]] * (8 // bits)
        for group in range(groups):
            row = group % len(at)
            live = np.unpackbits(masks[number * groups + group : number * groups + group + 1].view(np.uint8),
                                 bitorder="little").astype(bool)  # fmt: skip
            mine = codes[at[row] : at[row] + live.sum()]
            found[number, group, live] = (
                mine.view(np.int8) if bits == 8 else ((mine << 4 * (1 - row)) & 240).view(np.int8) >> 4
            )
            at[row] += live.sum()
        assert max(at) == starts[number + 1]
    rows = found.reshape(slices, groups, 16, 4).transpose(0, 2, 1, 3).reshape(slices * 16, -1)
    np.testing.assert_array_equal(rows[:m, :k], w)
    assert np.count_nonzero(rows) == np.count_nonzero(w)


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("target", [TARGET, parse_target("x86:znver4")], ids=lambda t: t.name)
def test_their_loops_are_tight(target: Any, streams: int) -> None:
    problem = product(256, 1024, 1, layout="features_last")
    w = draw(256, 1024, 0.3)

    def loop(name: str, config: Any, word: str) -> str:
        text = source(find(name).emit(problem, w, target.core, config, "k"), target, "asm")
        return max(text.split("\n.LBB"), key=lambda part: part.count(word)).split("jne")[0]

    found = loop("gathered", {"bits": 8, "align": 1, "streams": streams}, "vpermt2b")
    steps = found.count("vpermt2b")  # LLVM may write out more
    assert steps in (4, 8)
    assert [found.count(word) for word in ("vpdpbusd", "prefetcht0")] == [steps, 2 * steps]
    assert not [line for line in found.splitlines() if "zmm" in line and "rsp" in line]
    assert found.count("\n") < steps * 8 + 8
    found = loop("bitmap", {"bits": 8, "streams": streams}, "vpexpandb")
    assert [found.count(word) for word in ("vpexpandb", "vpdpbusd")] == [8 * streams, 8 * streams]
    targets = {line.split("%zmm")[-1].split()[0] for line in found.splitlines() if "vpexpandb" in line}
    assert len(targets) >= 4  # see the family
    assert found.count("\n") < 8 * streams * 9


@pytest.mark.parametrize("name", FAMILIES)
def test_they_ask_for_what_they_need(name: str) -> None:
    plain, w = parse_target("x86:cascadelake").core, draw(32, 64, 0.2)
    family = find(name)
    assert family.space(product(32, 64, 1), w, CORE)
    assert family.space(product(32, 64, 1), w, plain) == ()
    assert family.space(product(32, 64, 17), w, CORE) == ()
    assert family.space(product(32, 64, 1), np.ones((32, 64), np.float32), CORE) == ()
    with pytest.raises(ValueError, match=f"{name} cannot compute int8 'linear' of 1 columns on core avx512"):
        family.emit(product(32, 64, 1), w, plain, {"bits": 8, "align": 1, "streams": 1}, "k")
    with pytest.raises(ValueError, match=f"{name} cannot keep codes of this weight in 4 bits"):
        family.emit(product(32, 64, 1), w, CORE, {"bits": 4, "align": 1, "streams": 1}, "k")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("zeros", "bits", "best"), [(0.5, 8, "bitmap"), (0.7, 8, "bitmap"), (0.9, 8, "gathered"), (0.7, 4, "bitmap")]
)
def test_weights_from_memory_are_expected_to_be_read_by_the_fewest_bytes(
    layout: str, zeros: float, bits: int, best: str
) -> None:
    core = parse_target("x86:znver4").core
    problem, w = product(1024, 2048, 1, 1, layout), draw(1024, 2048, 1 - zeros, bits)
    every = [(made, config) for made in families("cpu") for config in made.space(problem, w, core)]
    made, config = min(every, key=lambda option: option[0].estimate(problem, w, core, option[1]))
    assert (made.name, config["bits"]) == (best, bits)


@here
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("size", "layout", "bits"), [((33, 201, 1), LAYOUTS[1], 8), ((17, 70, 3), LAYOUTS[0], 4)])
def test_nothing_is_read_behind_an_array(name: str, size: Any, layout: str, bits: int, tmp_path: Path) -> None:
    m, k, n = size
    problem, w = product(m, k, n, 1, layout), draw(m, k, 0.3, bits)
    code = find(name).emit(problem, w, CORE, find(name).space(problem, w, CORE)[0], "kernel")
    function, inputs = build(code, CORE, tmp_path, TARGET.cpu), Inputs.random(problem, 3)
    for at_end in (True, False):
        y = guarded(np.zeros(problem.y_shape, np.int32), at_end)
        function(*(guarded(array, at_end) for array in (inputs.x, *code.constants)), y)
        np.testing.assert_array_equal(y.numpy(), reference(problem, w, inputs).y)
