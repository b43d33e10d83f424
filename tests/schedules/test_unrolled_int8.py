"""Unrolled kernels of int8: exact sums in both layouts, what is stored, and each writer against the neutral program."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.measure.reference import Inputs, reference
from tesa.schedules import dots
from tesa.schedules.cpu.unrolled_dots_space import stored
from tesa.schedules.cpu.writers import find_dot_writer
from tesa.schedules.dots import GROUP, DotProgram, dot_program
from tesa.schedules.panels import panels
from tesa.schedules.registry import find
from tesa.schedules.types import Assembly, Config, Core, Epilogue, Output, Problem, Tir, Window
from tesa.targets.target import parse_target, runs_here
from tests.schedules import features_last, test_inner
from tests.schedules.guarded import guarded
from tests.schedules.reference import build
from tests.support import rest_slow

pytestmark = pytest.mark.usefixtures("any_work_on_threads")

UNROLLED = find("unrolled")
CPUS = {16: "cascadelake", 8: "alderlake"}
WIDE, SHORT = (parse_target(f"x86:{cpu}").core for cpu in CPUS.values())
CORES = [core for core in (WIDE, SHORT) if runs_here(parse_target(f"x86:{CPUS[core.lanes]}"))]
HERE = [found for core in CORES for found in (core, replace(core, writer=""))]
here = pytest.mark.skipif(not HERE, reason="the CPU of this machine has no dot product of bytes")
CONFIGS = {
    16: [(28, 1), (12, 2), (8, 3), (4, 1)],
    8: [(12, 1), (4, 2), (4, 1)],
}  # fmt: skip


@st.composite
def configs(draw: st.DrawFn, lanes: int) -> Config:
    rows, vectors = draw(st.sampled_from(CONFIGS[lanes]))
    kblock, chunk = draw(st.sampled_from([0, 0, 3])), draw(st.sampled_from([0, 1, 3]))
    return {"rows": rows, "vectors": vectors, "kblock": kblock, "chunk": chunk}


def product(m: int, k: int, n: int, layout: str = "features_first", **more: Any) -> Problem:
    options = {"dtype": "int8", "output": Output("int32"), "batch": 1, **more}
    batch = options["batch"]
    last = layout == "features_last"
    shapes = ((batch, n, k), (batch, n, m)) if last else ((batch, k, n), (batch, m, n))
    return Problem("linear", m, k, n, *shapes, layout=layout, **options)


def draw_weight(m: int, k: int, density: float, seed: int, block: tuple[int, int] = (1, 4)) -> Any:
    """W with all codes, the extreme ones too, in blocks."""
    rng = np.random.default_rng(seed)
    live = np.kron(rng.random((-(-m // block[0]), -(-k // block[1]))) < density, np.ones(block))[:m, :k]
    return np.where(live, rng.choice([-128, -127, -1, 0, 1, 3, 127], live.shape), 0).astype(np.float32)


def run(problem: Problem, w: Any, config: Config, core: Core, inputs: Inputs, at_end: bool = True) -> Any:
    """Y of a kernel. at_end: arrays end at memory that must not be touched, else they begin behind it."""
    code = UNROLLED.emit(problem, w, core, config, "kernel")
    y = guarded(np.full(problem.y_shape, 77, problem.output.dtype), at_end)
    arrays = [guarded(array, at_end) for array in (inputs.x, *code.constants, *inputs.extra)]
    with tempfile.TemporaryDirectory() as folder:
        build(code, core, Path(folder), CPUS[core.lanes])(*arrays, y)
    return y.numpy()


layouts = st.sampled_from(["features_first", "features_last"])
sizes = st.tuples(st.integers(1, 45), st.integers(1, 80), st.integers(1, 40))


@here
@settings(max_examples=8, deadline=None)
@given(
    sizes, layouts, st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([0, 1, 200]), st.integers(0, 99), st.data()
)
def test_sums_are_exact(size: Any, layout: str, density: float, x_zero: int, seed: int, data: st.DataObject) -> None:
    batch, threads = (data.draw(st.sampled_from([1, 2])) for _ in range(2))
    problem = product(*size, layout, batch=batch, threads=threads, x_zero=x_zero)
    core = data.draw(st.sampled_from(HERE))
    w, inputs = draw_weight(*size[:2], density, seed), Inputs.random(problem, seed)
    got = run(problem, w, data.draw(configs(core.lanes)), core, inputs)
    np.testing.assert_array_equal(got, reference(problem, w, inputs).y)


@pytest.mark.slow
@here
@settings(max_examples=8, deadline=None)
@given(
    sizes,
    layouts,
    st.sampled_from([Output("uint8", 0.05, 7), Output("int8", 0.03, -100), Output("uint8", 0.04), Output("float32")]),
    st.sampled_from([None, "relu", "relu6", "hardswish", "gelu"]),
    st.sampled_from([None, Output(), Output("uint8", 0.02, 100)]),
    st.booleans(),
    st.data(),
)
def test_what_is_stored(
    size: Any, layout: str, output: Output, activation: str | None, residual: Output | None, bias: bool,
    data: st.DataObject,
) -> None:  # fmt: skip
    epilogue = Epilogue(bias, residual is not None, activation, scale=True)
    problem = product(*size, layout, output=output, epilogue=epilogue, residual=residual or Output())
    core = data.draw(st.sampled_from(HERE))
    w, inputs = draw_weight(*size[:2], 0.4, 3), Inputs.random(problem, 5)
    wanted = reference(problem, w, inputs)
    got = run(problem, w, data.draw(configs(core.lanes)), core, inputs)
    assert got.dtype == np.dtype(output.dtype)
    assert wanted.error(got) <= wanted.tolerance
    if output.quantized:
        assert (got != wanted.y).sum() <= 1 + 0.01 * got.size  # one off only where the number lies between two codes


@pytest.mark.slow
@here
@settings(max_examples=8, deadline=None)
@given(
    sizes,
    st.sampled_from([("bias",), ("scale",), ("residual",), ("bias", "residual"), ("scale", "bias")]),
    st.sampled_from([Output("uint8", 0.0537, 7), Output("int8", 0.0413, -3)]),
    st.sampled_from([None, "relu", "relu6"]),
    st.sampled_from([None, Output(), Output("uint8", 0.0511, 100)]),
    st.booleans(),
    st.data(),
)
def test_numbers_that_are_rounded_on_the_way(
    size: Any, steps: Any, output: Output, activation: str | None, residual: Output | None, bias: bool,
    data: st.DataObject,
) -> None:  # fmt: skip
    kinds = data.draw(st.permutations(test_inner.KINDS))
    problem = product(
        *size, "features_last", output=output, epilogue=Epilogue(bias, residual is not None, activation, scale=True),
        residual=residual or Output(), inner=tuple(zip(steps, kinds, strict=False)), batch=data.draw(st.integers(1, 2)),
        threads=data.draw(st.integers(1, 2)),
    )  # fmt: skip
    core = data.draw(st.sampled_from(HERE))
    w, inputs = draw_weight(*size[:2], 0.4, 3), Inputs.random(problem, 5)
    got = run(problem, w, data.draw(configs(core.lanes)), core, inputs, data.draw(st.booleans()))
    assert features_last.difference(problem, w, inputs, got) == ""


def test_panels_store_what_is_rounded_before_the_residual() -> None:
    inner, residual = Output("int8", 0.0457, -20), Output("uint8", 0.0511, 9)
    problem = product(
        64, 40, 33, "features_last", output=Output("uint8", 0.0537, 7), inner=(("bias", inner),), residual=residual,
        epilogue=Epilogue(True, True, "relu", scale=True),
    )  # fmt: skip
    behind = replace(problem, inner=(("residual", inner),))
    assert (stored(problem), stored(behind)) == (inner, None)
    assert stored(replace(problem, inner=(("bias", problem.output),))) == problem.output


@here
@pytest.mark.parametrize("part", rest_slow(range(3)))
def test_every_window_of_features_last(part: int) -> None:
    faults = []
    for i, problem in list(enumerate(features_last.problems(8)))[len(features_last.SIZES) + part :: 3]:
        w, inputs, core = features_last.draw(problem, (0.1, 0.4, 0.9)[i % 3], i), Inputs.random(problem, i), CORES[0]
        rows, vectors = CONFIGS[core.lanes][i % 3]
        config = {"rows": rows, "vectors": vectors, "kblock": i % 2 * 5, "chunk": i % 4}
        fault = features_last.difference(problem, w, inputs, run(problem, w, config, core, inputs, bool(i % 2)))
        faults += [f"{config} {problem}: {fault}"] if fault else []
    assert not faults, "\n".join(faults)


@here
@pytest.mark.parametrize("scale", [1e4, 1e9, 3e38])
def test_codes_of_numbers_that_no_integer_holds_are_the_ends(scale: float) -> None:
    problem = product(8, 16, 20, output=Output("uint8", 0.01, 3), epilogue=Epilogue(scale=True))
    w = draw_weight(8, 16, 0.5, 1)
    inputs = replace(Inputs.random(problem, 1), scale=np.full(8, scale, np.float32))
    for core in HERE:
        got = run(problem, w, {"rows": 4, "vectors": 1, "kblock": 0, "chunk": 1}, core, inputs)
        np.testing.assert_array_equal(got, reference(problem, w, inputs).y)


@here
def test_a_pointwise_convolution() -> None:
    window = Window(6, 7, (1, 1))
    shapes = {"features_first": ((1, 40, 6, 7), (1, 20, 6, 7)), "features_last": ((1, 6, 7, 40), (1, 6, 7, 20))}
    w = draw_weight(20, 40, 0.3, 1)
    for layout, (x, y) in shapes.items():
        problem = Problem(
            "conv2d", 20, 40, 42, x, y, window=window, dtype="int8", output=Output("int32"), layout=layout
        )
        inputs, config = Inputs.random(problem, 1), UNROLLED.space(problem, w, CORES[0])[0]
        np.testing.assert_array_equal(run(problem, w, config, CORES[0], inputs), reference(problem, w, inputs).y)


def test_it_asks_for_what_it_needs() -> None:
    w = draw_weight(32, 64, 0.3, 0)
    problem = product(32, 64, 49)
    assert UNROLLED.space(problem, w, WIDE)
    assert UNROLLED.space(problem, w, SHORT)
    assert not UNROLLED.space(problem, np.ones((32, 64), np.float32), WIDE)
    for core in ("x86:skylake-avx512", "x86:haswell", "x86:nehalem", "aarch64:cortex-a76"):
        plain = parse_target(core).core
        assert UNROLLED.space(problem, w, plain) == ()
        with pytest.raises(ValueError, match="family unrolled cannot compute int8 'linear' on core"):
            UNROLLED.emit(problem, w, plain, {"rows": 4, "vectors": 1, "kblock": 0, "chunk": 1}, "k")
    with pytest.raises(ValueError, match="no panel of 32 rows and 1 vectors in 32 registers"):
        UNROLLED.emit(problem, w, WIDE, {"rows": 32, "vectors": 1, "kblock": 0, "chunk": 1}, "k")


def test_the_space_and_what_it_costs() -> None:
    problem = product(256, 256, 196)
    scattered, blocks = draw_weight(256, 256, 0.3, 0, (1, 1)), draw_weight(256, 256, 0.3, 0)
    config = UNROLLED.space(problem, blocks, WIDE)[0]
    assert UNROLLED.size is not None
    live = int(np.count_nonzero(blocks.reshape(256, 64, 4).any(axis=2)))
    assert UNROLLED.size(problem, blocks, WIDE, config) == live * config["vectors"]
    assert UNROLLED.estimate(problem, blocks, WIDE, config) < 0.6 * UNROLLED.estimate(problem, scattered, WIDE, config)
    for config in UNROLLED.space(problem, blocks, WIDE):
        assert config["rows"] % GROUP == 0
        assert UNROLLED.emit(problem, blocks, WIDE, config, "k").panels


class Tile:
    """Runs a program on NumPy arrays, tile by tile."""

    def __init__(self, frame: dots.DotFrame, arrays: dict[str, Any], number: int) -> None:
        sizes = {"x": frame.packed, "y": frame.out, "scratch": frame.scratch}
        self.lanes, self.codes, self.together = frame.lanes, frame.codes, frame.together
        self.at = {name: arrays[name][number * size :] for name, size in sizes.items() if size}
        self.scale, self.bias = arrays["scale"], arrays["bias"]
        self.sums: dict[int, Any] = {}
        self.x: dict[int, Any] = {}
        self.w: Any = None
        self.s = self.b = np.float32(0)

    def run(self, step: object) -> None:
        lanes = self.lanes
        match step:
            case dots.Begin(a, value):
                self.sums[a] = np.full(lanes, value, np.int32)
            case dots.LoadSum(a, at):
                self.sums[a] = self.at["scratch"][at : at + lanes].copy()
            case dots.LoadX(v, at):
                self.x[v] = self.at["x"][at : at + lanes].view(np.uint8).reshape(lanes, GROUP).astype(np.int32)
            case dots.Weights(values):
                assert any(values)
                self.w = np.array(values, np.int32)
            case dots.Dot(a, v):
                self.sums[a] = self.sums[a] + self.x[v] @ self.w
            case dots.StoreSum(a, at):
                self.at["scratch"][at : at + lanes] = self.sums[a]
            case dots.Scale(row):
                self.s, self.b = self.scale[row], self.bias[row]
            case dots.Real(a, _):
                self.sums[a] = (self.sums[a] * np.float64(self.s) + self.b).astype(np.float32)
            case dots.Within(a, low, high):
                self.sums[a] = np.minimum(self.sums[a] if low is None else np.maximum(self.sums[a], low), high)
            case dots.Nearest(a):
                self.sums[a] = np.rint(self.sums[a]).astype(np.int32)
            case dots.StoreCodes(sums, at):
                assert self.codes is not None
                kind = np.iinfo(self.codes.dtype)
                codes = np.zeros((lanes, GROUP), self.codes.dtype)
                for j, a in enumerate(sums):
                    codes[:, j] = np.clip(self.sums[a], kind.min, kind.max)
                order = np.ascontiguousarray(codes.T) if self.together else codes
                self.at["y"][at : at + lanes] = order.reshape(-1).view(np.int32)
            case _:
                raise AssertionError(f"unknown step {step}")


def programs(
    w: Any, config: Config, lanes: int, codes: dots.Codes | None, begin: Any = None, together: bool = False
) -> tuple[list[DotProgram], dots.DotFrame]:
    elements = np.ascontiguousarray(w.astype(np.int8)).view(np.int32)
    found = panels(elements, config, config["vectors"], "p", 4000, GROUP)
    frame = dots.DotFrame(len(w), elements.shape[1], lanes, config["vectors"], codes, len(found) > 1, together)
    return [dot_program(frame, panel, begin) for row in found for panel in row], frame


CODES = dots.Codes("uint8", 5.0, 250.0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.sampled_from([16, 8]),
    st.sampled_from([None, CODES]),
    st.booleans(),
    st.data(),
)
def test_a_program_computes_the_layer(
    m: int, kg: int, lanes: int, codes: Any, together: bool, data: st.DataObject
) -> None:
    """The interpreter against NumPy, without a compiler."""
    w = draw_weight(m, kg * GROUP, data.draw(st.sampled_from([0.1, 0.6])), 0)
    rng, begin = np.random.default_rng(1), np.arange(m, dtype=np.int32) - 7
    found, frame = programs(w, data.draw(configs(lanes)), lanes, codes, begin, together)
    x = rng.integers(0, 256, (2, kg, frame.width, GROUP)).astype(np.uint8)
    scale, bias = (rng.standard_normal((2, m)) * [[0.003], [50]]).astype(np.float32)
    arrays = {"x": x.view(np.int32).ravel(), "scale": scale, "bias": bias}
    arrays |= {"y": np.zeros(2 * frame.out, np.int32), "scratch": np.zeros(2 * frame.scratch, np.int32)}
    for one in found:
        for number in range(2):
            tile = Tile(frame, arrays, number)
            for step in (*one.sums, *one.results):
                tile.run(step)
    wanted = np.einsum("mgj,tgpj->tmp", w.reshape(m, kg, GROUP).astype(np.int64), x.astype(np.int64))
    wanted += begin[:, None]
    if codes is None:
        np.testing.assert_array_equal(arrays["scratch"].reshape(2, m, -1), wanted)
        return
    real = (wanted * scale.astype(np.float64)[:, None] + bias[:, None]).astype(np.float32)
    got = arrays["y"].view(np.uint8).reshape(2, -1, frame.vectors, *((GROUP, lanes) if together else (lanes, GROUP)))
    got = got.transpose(0, 1, 3, 2, 4) if together else got.transpose(0, 1, 4, 2, 3)
    got = got.reshape(2, -1, frame.width)
    np.testing.assert_array_equal(got[:, :m], np.rint(np.clip(real, 5, 250)))


def count(one: DotProgram) -> dict[str, int]:
    """Steps of a program by name."""
    found = dict.fromkeys((kind.__name__ for kind in dots.STEPS), 0)
    for step in (*one.sums, *one.results):
        found[type(step).__name__] += 1
    return found


_X86 = {
    "LoadX": r"^vmovups -?\d+\(%rax\),",
    "Weights": r"^vp.*\(%rsi\)",
    "Dot": r"vpdpbusd",
    "LoadSum": r"^vmovups \d+\(%r11\),",
    "StoreSum": r"^vmovups %[yz]mm\d+,\d+\(%r11\)",
    "Scale": r"^vbroadcastss \d+\(%r10\)",
    "Real": r"^vfmadd213ps",
    "Within": r"^vminps",
    "Nearest": r"^vcvtps2dq",
    "StoreCodes": r"^vmovups %[yz]mm\d+,\d+\(%r8\)",
}
_TIR = {
    "LoadX": r"\bX\[",
    "Dot": r"vpdpbusd",
    "LoadSum": r"= SCRATCH\[",
    "StoreSum": r"^ *SCRATCH\[.* = ",
    "Scale": r"\bSCALE\[",
    "Real": r"llvm\.fma",
    "Nearest": r"nearbyint",
    "StoreCodes": r"^ *Y\[.* = ",
}


@pytest.mark.parametrize("core", [WIDE, SHORT], ids=["avx512", "avx2"])
@pytest.mark.parametrize("codes", [None, CODES])
def test_instructions_are_those_of_the_program(core: Core, codes: Any) -> None:
    w = draw_weight(19, 44, 0.4, 0)
    for rows, vectors, kblock in ((12, 1, 0), (4, 2, 0), (4, 2, 5)):
        config = {"rows": rows, "vectors": vectors, "kblock": kblock}
        found, _ = programs(w, config, core.lanes, codes, together=rows == 12)
        text, tir = (find_dot_writer(as_core).write(found, as_core) for as_core in (core, replace(core, writer="")))  # type: ignore[union-attr]
        assert isinstance(text, Assembly)
        assert isinstance(tir, Tir)
        for one in found:
            lines = text.text.split(f"\n__tvm_ffi_{one.name}:\n")[1].split("\nret\n")[0].splitlines()
            script = str(dict(tir.functions)[one.name].script(show_meta=False)).splitlines()
            for forms, given_lines in ((_X86, lines), (_TIR, script)):
                for step, form in forms.items():
                    assert sum(bool(re.search(form, line)) for line in given_lines) == count(one)[step], (step, form)


def test_the_next_panel_is_asked_for_where_code_comes_from_beyond() -> None:
    config = {"rows": 28, "vectors": 1, "kblock": 0, "chunk": 4}
    small, large = product(64, 64, 64, "features_last"), product(768, 768, 64, "features_last")
    texts = [UNROLLED.emit(p, draw_weight(p.m, p.k, 0.4, 0), WIDE, config, "k").panels[0] for p in (small, large)]
    lines = [text.text.count("prefetcht1") for text in texts if isinstance(text, Assembly)]
    assert lines[0] == 0
    assert lines[1] > 28  # a part for each panel


def test_weights_of_the_text_are_those_of_the_program() -> None:
    w = draw_weight(8, 64, 0.5, 0)
    found, _ = programs(w, {"rows": 8, "vectors": 1, "kblock": 0}, 16, None)
    text = find_dot_writer(WIDE).write(found, WIDE).text  # type: ignore[union-attr]
    data = text.split(".Lp_p0_0_w:\n")[1].split(".section")[0]
    words = np.array([int(word) for line in data.split() if line != ".long" for word in line.split(",")], np.int32)
    live = [w.reshape(8, 16, 4)[r, g] for g in range(16) for r in range(8) if w.reshape(8, 16, 4)[r, g].any()]
    np.testing.assert_array_equal(words.view(np.int8).reshape(-1, 4), live)
