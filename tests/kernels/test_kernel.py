"""One kernel at a time: its numbers, its errors, its pictures, and that others can load what it saves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.attributes.patterns import digest
from tesa.decompose.candidates import candidates
from tesa.errors import UnsupportedError, UsageError
from tesa.kernels.compiled import Kernel
from tesa.kernels.kernel import kernel
from tesa.measure.reference import Inputs, reference
from tesa.records.log import Log
from tesa.report.kernel import picture, png
from tesa.schedules.types import Epilogue, Problem
from tesa.targets.target import parse_target
from tesa.targets.toolchain import NATIVE

RNG = np.random.default_rng(7)


def sparse(*shape: int, density: float = 0.4) -> np.ndarray:
    return (RNG.standard_normal(shape) * (RNG.random(shape) < density)).astype(np.float32)


def close(k: Kernel, *arrays: np.ndarray) -> None:
    """The call agrees with the reference of the kernel's own problem and weight."""
    residual = arrays[1] if len(arrays) > 1 else None
    wanted = reference(k.problem, k.weight, Inputs(arrays[0], k.bias, residual))
    y = k(*arrays)
    assert y.shape == k.problem.y_shape
    assert wanted.error(y) <= wanted.tolerance


def normal(shape: tuple[int, ...]) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def _no_cost_table() -> Iterator[None]:
    """What is chosen without measuring must not depend on whether there is a table for this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tesa.kernels.kernel.table_for", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def small() -> Kernel:
    return kernel(sparse(5, 7), n=9, family="dense", measure=False)


@pytest.fixture(scope="module")
def full() -> Kernel:
    """A kernel with everything: conv2d, batch, bias, residual, activation."""
    return kernel(
        sparse(6, 3, 3, 2), op="conv2d", size=(8, 9), stride=(2, 1), padding=(1, 0, 1, 1), batch=2,
        bias=np.arange(6), epilogue="residual+relu", family="dense", measure=False,
    )  # fmt: skip


def test_linear(small: Kernel) -> None:
    x = normal((7, 9))
    np.testing.assert_allclose(small(x), small.weight @ x, rtol=1e-5, atol=1e-5)


def test_linear_with_batch() -> None:
    k = kernel(sparse(5, 7), n=9, batch=3, family="dense", measure=False)
    assert k.problem.x_shape == (3, 7, 9)
    close(k, normal((3, 7, 9)))


def test_conv_with_everything(full: Kernel) -> None:
    assert full.problem.y_shape == (2, 6, 4, 9)
    assert full.plan.epilogue == "bias+residual+relu"
    close(full, normal(full.problem.x_shape), normal(full.problem.y_shape))
    k = full.problem
    assert (k.m, k.k, k.n) == (6, 18, 36)


def test_depthwise() -> None:
    k = kernel(sparse(4, 1, 3, 3), op="depthwise", size=(6, 6), padding=1, epilogue="relu6", measure=False)
    assert k.problem.k == 9
    close(k, normal((1, 4, 6, 6)))


def test_measured_choice_and_log(tmp_path: Path) -> None:
    weight = sparse(8, 16, density=0.2)
    first = kernel(weight, n=32, family=["dense", "indexed"], log=tmp_path)
    again = kernel(weight, n=32, family=["dense", "indexed"], log=Log.load(tmp_path), measure=False)
    assert first.plan == again.plan
    assert first.plan.parts[0].reason.startswith("measured: ")
    close(first, normal((16, 32)))


def test_one_configuration() -> None:
    default = kernel(sparse(5, 7), n=9, family="dense", measure=False)
    config = default.plan.parts[0].config
    k = kernel(default.weight, n=9, family="dense", config=config, measure=False)
    assert len(k.plan.parts[0].candidates) == 1
    assert k.plan.parts[0].config == config
    name = next(iter(config))
    for wrong, message in (
        ({"rowz": 1}, "unknown parameter of dense 'rowz'"),
        ({}, "missing; valid are {"),
        ({**config, name: 0}, "is not one for this weight and target; valid are {"),
        ({**config, name: -4}, "valid are {"),
        ({**config, name: 10**9}, "valid are {"),
        ({**config, name: "4"}, "valid are {"),
        ({**config, name: True}, "valid are {"),
        ([4], "is a dictionary such as {.*, not list"),
    ):
        with pytest.raises(UsageError, match=message):
            kernel(default.weight, n=9, family="dense", config=wrong)
    with pytest.raises(UsageError, match="give family"):
        kernel(default.weight, n=9, config=config)


def scattered_blocks(size: int = 128) -> np.ndarray:
    """32x32 blocks and scattered elements, for which a cover is offered."""
    rng = np.random.default_rng(3)
    live = np.kron(rng.random((size // 32, size // 32)) < 0.4, np.ones((32, 32), bool)) | (
        rng.random((size, size)) < 0.01
    )
    return np.where(live, rng.standard_normal(live.shape), 0).astype(np.float32)


def test_a_decomposition(tmp_path: Path) -> None:
    weight = scattered_blocks()
    k = kernel(weight, n=64, family="cover", epilogue="relu", bias=np.ones(128), measure=False)
    plan = k.plan
    assert len(plan.parts) > 1
    assert plan.sparsity == pytest.approx(1 - np.count_nonzero(weight) / weight.size)
    assert plan.digest == digest(weight)
    assert f" + {plan.parts[1].pattern}" in repr(k)
    assert re.search(r"cover: (fused|\w+ \+ .*)\)$", repr(k))
    parser = _Tags()
    parser.feed(k._repr_html_())
    assert parser.rows == 1 + len(plan.parts[0].candidates)
    assert "function" in k.show() or "def " in k.show()
    close(k, normal((128, 64)))
    saved = k.save(tmp_path / "k.so")
    assert len(json.loads(saved.with_suffix(".json").read_text())["plan"]["parts"]) == len(plan.parts)


@pytest.mark.slow
def test_configurations_of_a_decomposition_have_different_parameters() -> None:
    weight = scattered_blocks()
    problem = Problem("linear", 128, 128, 64, (128, 64), (128, 64), alignment=16)
    offered = [dict(config) for _, config in candidates(problem, weight, parse_target(None), ["cover"])]
    fused = next(config for config in offered if "fused.rows" in config)
    chain = next(config for config in offered if "fused.rows" not in config)
    for config in (fused, chain):
        k = kernel(weight, n=64, family="cover", config=config, measure=False)
        assert dict(k.plan.parts[0].config) == config
        close(k, normal((128, 64)))
    for wrong, message in (
        ({**fused, "fused.rowz": 1}, r"unknown parameter of cover 'fused\.rowz'; did you mean 'fused\.rows'"),
        ({**fused, "fused.rows": 1000}, "is not one for this weight and target; valid are {"),
        ({name: value for name, value in fused.items() if name != "fused.rows"}, r"fused\.rows missing; valid are {"),
        ({**fused, **chain}, "too much; valid are {"),
    ):
        with pytest.raises(UsageError, match=message):
            kernel(weight, n=64, family="cover", config=wrong)


def test_dense_has_the_dense_configurations_of_other_families() -> None:
    weight = sparse(32, 16)
    problem = Problem("linear", 32, 16, 1, (16, 1), (32, 1))
    (name, config), *_ = [o for o in candidates(problem, weight, parse_target(None), ["dense"]) if o[0] != "dense"]
    k = kernel(weight, n=1, family="dense", config=config, measure=False)
    assert (k.plan.parts[0].family, dict(k.plan.parts[0].config)) == (name, dict(config))
    close(k, normal((16, 1)))


def test_what_is_left_out_is_in_the_plan() -> None:
    k = kernel(sparse(64, 64), n=32, code_budget=100, measure=False)
    (note,) = [row.note for row in k.plan.parts[0].candidates if row.family == "unrolled"]
    assert re.fullmatch(r"left out: [\d,]+ instructions, the budget is 100 \(--code-budget\)", note)
    assert note in k._repr_html_()


@pytest.mark.parametrize("output", [None, "uint8"])
@pytest.mark.parametrize("scaled", [True, False])
def test_codes_and_outliers(output: str | None, scaled: bool) -> None:
    weight = RNG.integers(-128, 128, (24, 40)).astype(np.float32)
    weight[RNG.random(weight.shape) < 0.05] = 300.25
    scale = (RNG.random(24) + 0.5).astype(np.float32) if scaled else None
    bias = normal((24,))
    more = {} if output is None else {"output": output, "y_scale": 900.0, "y_zero": 7}
    k = kernel(weight, n=33, dtype="mixed", scale=scale, bias=bias, epilogue="relu", measure=False, **more)  # type: ignore[arg-type]
    x = RNG.integers(0, 256, (40, 33)).astype(np.uint8)
    wanted = weight.astype(np.float64) @ x * (1 if scale is None else scale[:, None]) + bias[:, None]
    wanted = np.maximum(wanted, 0)
    if output is None:
        np.testing.assert_allclose(k(x), wanted, rtol=1e-5, atol=1e-2)
        assert k(x).dtype == np.float32
    else:
        codes = np.clip(np.rint(wanted / 900) + 7, 0, 255)
        assert k(x).dtype == np.uint8
        assert np.abs(k(x).astype(int) - codes).max() <= 1
    parts = {(part.pattern, part.bits, part.nonzeros) for part in k.plan.parts}
    outliers = int((weight == 300.25).sum())
    whole = int(np.count_nonzero(weight))
    assert parts in ({("int8", 8, whole - outliers), ("outliers", 32, outliers)}, {("float32", 32, whole)})


def test_mixed_without_any_weight() -> None:
    k = kernel(np.zeros((8, 16)), n=20, dtype="mixed", bias=np.arange(8), measure=False)
    np.testing.assert_array_equal(
        k(np.ones((16, 20), np.uint8)), np.repeat(np.arange(8, dtype=np.float32)[:, None], 20, 1)
    )


def test_mixed_wants_codes() -> None:
    with pytest.raises(UsageError, match=r"64 of its 64 non-zeros are no codes.*30% at most.*in_codes"):
        kernel(normal((8, 8)), dtype="mixed")
    with pytest.raises(UsageError, match="unknown output 'int32'; "):
        kernel(np.ones((8, 8)), dtype="mixed", output="int32")
    with pytest.raises(UnsupportedError, match="mixed kernels are made for linear layers and 1x1 convolutions"):
        kernel(np.ones((8, 8, 3, 3)), op="conv2d", size=(8, 8), dtype="mixed")
    with pytest.raises(UsageError, match="mixed weights are stored in 8 bits"):
        kernel(np.ones((8, 8)), dtype="mixed", storage="float16")
    with pytest.raises(UsageError, match="unknown dtype 'int9'; did you mean 'int8'"):
        kernel(np.ones((8, 8)), dtype="int9")


def test_out_and_read_only_inputs(small: Kernel) -> None:
    x, out = normal((7, 9)), np.full((5, 9), np.nan, np.float32)
    wanted = small(x)
    assert small(x, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    x.flags.writeable = False
    np.testing.assert_array_equal(small(x), wanted)
    both = np.zeros((7, 9), np.float32)
    with pytest.raises(UsageError, match="overlaps"):
        small(both, out=both[:5])
    out.flags.writeable = False
    with pytest.raises(UsageError, match="read-only"):
        small(both, out=out)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((7, 8), np.float32), r"contiguous float32 array of shape \(7, 9\), got float32 of shape \(7, 8\)"),
        (np.zeros((7, 9)), "got float64"),
        (np.zeros((9, 7), np.float32).T, r"strides .*ascontiguousarray\(X\)"),
        (np.zeros(7 * 9 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(7, 9), r"not a multiple of 4: pass X\.copy"),
        ([[0.0]], "got list"),
        (None, "got NoneType"),
    ],
)  # fmt: skip
def test_wrong_inputs(small: Kernel, x: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small(x)


def test_residual_is_asked_for_and_refused(small: Kernel, full: Kernel) -> None:
    with pytest.raises(UsageError, match=r"k\(X, residual\)"):
        full(normal(full.problem.x_shape))
    with pytest.raises(UsageError, match=r"residual: expected .*float64"):
        full(normal(full.problem.x_shape), np.zeros(full.problem.y_shape))
    with pytest.raises(UsageError, match="adds no residual"):
        small(normal((7, 9)), normal((5, 9)))


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        (np.full((2, 2), np.nan), {}, r"nan at \[0, 0\], 4 such"),
        ([[1.0, np.inf]], {}, r"inf at \[0, 1\]"),
        ([[1e300]], {}, "finite in float32"),
        (np.zeros((0, 3)), {}, "no elements"),
        (np.zeros(3), {}, r"expected shape \(m, k\), got \(3,\)"),
        (np.array([[None]]), {}, "dtype is object"),
        ([[1], [1, 2]], {}, "not an array"),
        ([["a"]], {}, "dtype is <U1"),
        (np.ones((2, 2), complex), {}, "complex"),
        (np.ones((2, 2)), {"op": "linaer"}, "did you mean 'linear'"),
        (np.ones((2, 2)), {"n": 0}, "n must be a whole number"),
        (np.ones((2, 2)), {"n": 2.5}, "got 2.5"),
        (np.ones((2, 2)), {"threads": 0}, "threads must be"),
        (np.ones((2, 2)), {"size": (3, 3)}, "takes n"),
        (np.ones((2, 2)), {"epilogue": "relo"}, "did you mean 'relu'"),
        (np.ones((2, 2)), {"epilogue": "relu+gelu"}, "one activation at most"),
        (np.ones((2, 2)), {"epilogue": "bias"}, "bias=array"),
        (np.ones((2, 2)), {"epilogue": Epilogue(activation="step")}, "unknown epilogue 'step'"),
        (np.ones((2, 2)), {"epilogue": 3}, "not int"),
        (np.ones((2, 2)), {"bias": [1, 2, 3]}, "expected 2 numbers"),
        (np.ones((2, 2)), {"bias": [1, np.nan]}, "not finite"),
        (np.ones((2, 2)), {"family": "dens"}, "did you mean dense"),
        (np.ones((2, 2)), {"family": ()}, "family is the name of a kernel family.*leave it out"),
        (np.ones((2, 2)), {"family": 3}, "got 3; leave it out"),
        (np.ones((2, 2)), {"family": [None]}, "family is the name"),
        (np.ones((2, 2, 3, 3)), {"op": "conv2d"}, "needs size"),
        (np.ones((2, 2, 3, 3)), {"op": "conv2d", "size": (2, 2)}, "does not fit"),
        (np.ones((2, 2, 3, 3)), {"op": "conv2d", "size": (5, 5), "n": 3}, "not n"),
        (np.ones((2, 2, 3, 3)), {"op": "conv2d", "size": (5, 5), "stride": 0}, "stride must be"),
        (np.ones((2, 2, 3, 3)), {"op": "conv2d", "size": (5, 5), "padding": (1, 1, 1)}, "2 or 4 numbers"),
        (np.ones((2, 2, 3, 3)), {"op": "depthwise", "size": (5, 5)}, "second size must be 1"),
        (np.ones((2, 2)), {"target": "x68"}, "unknown target"),
    ],
)
def test_wrong_options(weight: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kernel(weight, **options)


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        ([[0.5]], {}, "whole numbers from -128 to 127"),
        ([[200]], {}, "whole numbers from -128 to 127"),
        ([[1]], {"epilogue": "relu"}, "the bare sum"),
        ([[1]], {"output": "uint8"}, "needs a scale"),
        ([[1]], {"scale": 1.0, "output": "int32"}, "the bare sum"),
        ([[1]], {"scale": 1.0, "output": "uint8", "y_zero": 300}, "y_zero in 0 ... 255"),
        ([[1]], {"scale": 1.0, "y_scale": 2.0}, "belong to a quantized output"),
        ([[1]], {"scale": [1.0, 2.0]}, "expected 1 or 1 finite numbers"),
        ([[1]], {"dtype": "float32", "scale": 1.0}, "belong to dtype='int8'"),
        ([[1]], {"dtype": "int4"}, "unknown dtype"),
    ],
)
def test_wrong_options_of_int8(weight: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kernel(np.array(weight), **{"dtype": "int8", **options})


def test_int8() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (24, 30)) * (rng.random((24, 30)) < 0.3)
    x = rng.integers(0, 256, (30, 50), np.uint8)
    sums = weight @ x.astype(np.int64)
    assert np.array_equal(kernel(weight, n=50, dtype="int8", measure=False)(x), sums)
    scale, bias = rng.random(24) / 1000, rng.normal(size=24)
    made = kernel(
        weight, n=50, dtype="int8", scale=scale, bias=bias, epilogue="relu", output="uint8", y_scale=0.1, y_zero=3,
        measure=False,
    )  # fmt: skip
    wanted = np.clip(np.rint(np.maximum(sums * scale[:, None] + bias[:, None], 0) / 0.1) + 3, 0, 255)
    y = made(x)
    assert y.dtype == np.uint8
    assert np.abs(y - wanted).max() <= 1
    assert (y != wanted).mean() < 0.01
    with pytest.raises(UsageError, match="expected a contiguous uint8 array"):
        made(x.astype(np.float32))


@pytest.mark.parametrize(("storage", "most"), [("float16", 2**-11), ("bfloat16", 2**-8)])
@pytest.mark.parametrize("n", [1, 3])
def test_weights_in_16_bits(storage: str, most: float, n: int) -> None:
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(37, 50)) * (rng.random((37, 50)) < 0.5)).astype(np.float32)
    x = rng.normal(size=(50, n)).astype(np.float32)
    made = kernel(weight, n=n, storage=storage, family="vector", measure=False)
    assert 0 < np.abs(made.weight - weight).max() <= most * np.abs(weight).max()
    np.testing.assert_allclose(made(x), made.weight.astype(np.float64) @ x, atol=1e-5)
    with pytest.raises(UsageError, match="unknown storage"):
        kernel(weight, n=n, storage="float8")
    with pytest.raises(UsageError, match="belongs to dtype='float32'"):
        kernel(np.eye(3), n=n, storage=storage, dtype="int8")


def test_a_weight_that_16_bits_cannot_hold() -> None:
    with pytest.raises(UsageError, match="70000 is too large for float16"):
        kernel(np.array([[7e4]]), n=1, storage="float16")


def test_int8_of_features_last() -> None:
    rng = np.random.default_rng(2)
    last: dict[str, Any] = {"dtype": "int8", "layout": "features_last", "measure": False}
    weight = rng.integers(-128, 128, (20, 30)).astype(np.float32) * (rng.random((20, 30)) < 0.4)
    x = rng.integers(0, 256, (2, 9, 30)).astype(np.uint8)
    assert np.array_equal(kernel(weight, n=9, batch=2, x_zero=7, **last)(x), (x.astype(np.int64) - 7) @ weight.T)
    assert kernel(weight, n=9, **last)(x[0]).shape == (9, 20)
    weight = rng.integers(-128, 128, (5, 3, 3, 2)).astype(np.float32)
    image = rng.integers(0, 256, (1, 6, 7, 3)).astype(np.uint8)
    y = kernel(weight, op="conv2d", size=(6, 7), padding=(1, 0, 1, 2), stride=(2, 1), x_zero=9, **last)(image)
    wide = np.pad(image[0].astype(np.int64) - 9, ((1, 1), (0, 2), (0, 0)))
    wanted = [[np.einsum("ocyx,yxc->o", weight, wide[i : i + 3, j : j + 2]) for j in range(8)] for i in (0, 2, 4)]
    assert np.array_equal(y[0], wanted)
    for options, message in (
        ({"layout": "first"}, "unknown layout"),
        ({"dtype": "float32"}, "belongs to dtype='int8'"),
        ({"x_zero": 256}, "a whole number from 0 to 255"),
        ({"x_zero": 1, "layout": "features_first"}, "goes into the bias"),
    ):
        with pytest.raises(UsageError, match=message):
            kernel(np.eye(4), n=4, **{**last, **options})


def test_unsupported() -> None:
    with pytest.raises(UnsupportedError, match=r"int8 kernels of features first .* give layout='features_last'"):
        kernel(np.ones((2, 2, 3, 3)), op="conv2d", size=(5, 5), dtype="int8")
    with pytest.raises(UnsupportedError, match="not supported"):
        kernel(np.ones((2, 2)), target="riscv64")


def extra(module: str) -> Any:
    """A module of an extra. Skips where it is not installed; CI installs all of them, so there it is a failure."""
    return import_module(module) if os.environ.get("CI") else pytest.importorskip(module)


def test_sparse_container() -> None:
    weight = sparse(4, 4)
    k = kernel(extra("scipy.sparse").csr_matrix(weight), n=4, family="dense", measure=False)
    np.testing.assert_array_equal(k.weight, weight)


def test_a_target_of_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("tesa.kernels.compiled.runs_here", "tesa.measure.runners.runs_here"):
        monkeypatch.setattr(name, lambda target: False)
    k = kernel(sparse(4, 4), n=4, family="dense")
    with pytest.raises(UsageError, match="cannot run code for"):
        k(normal((4, 4)))
    with pytest.raises(UsageError, match="cannot run code for"):
        k.time()
    assert k.save(tmp_path / "k.so").exists()


def test_time(small: Kernel) -> None:
    timing = small.time(budget_ms=20)
    assert 0 < timing.min_ms <= timing.median_ms
    assert timing.repeats >= 3


def test_two_threads() -> None:
    k = kernel(sparse(16, 16), n=64, threads=2, family="dense", measure=False)
    close(k, normal((16, 64)))
    assert k.time(budget_ms=5).min_ms > 0


@pytest.mark.parametrize(
    ("kind", "sign"), [("tir", r"def tesa_\w+\("), ("llvm", "define "), ("asm", r"vfmadd\d+ps|vmulps")]
)
def test_show(small: Kernel, kind: str, sign: str) -> None:
    text = small.show(kind)
    assert re.search(sign, text)
    assert small.plan.symbol in text


def test_show_has_the_panels() -> None:
    k = kernel(sparse(16, 16), n=16, family="unrolled", measure=False)
    for kind in ("tir", "asm"):
        assert f"{k.plan.symbol}_p" in k.show(kind)
    assert k.show("tir").count("@T.prim_func") > 1  # panels that are assembly have functions that say the same


def test_assembler_is_shown_without_what_debuggers_read(small: Kernel) -> None:
    text = small.show("asm")
    assert not re.search(r"^\s*(\.section\s+\"?\.debug|\.loc|\.cfi_|\.Ltmp)", text, re.MULTILINE)
    jumps, labels = set(re.findall(r"\sj\w+\s+(\.L\w+)", text)), set(re.findall(r"^(\.L\w+):", text, re.MULTILINE))
    assert jumps <= labels


def test_show_something_else(small: Kernel) -> None:
    with pytest.raises(UsageError, match="did you mean 'asm'"):
        small.show("asn")


@pytest.mark.parametrize("kind", [None, 3])
def test_show_what_is_no_name(small: Kernel, kind: Any) -> None:
    with pytest.raises(UsageError, match="expected 'tir', 'llvm', 'asm'"):
        small.show(kind)


def test_repr(small: Kernel) -> None:
    assert re.fullmatch(r"Kernel\(linear 5x7x9, \w.*, \d+% zeros, (x86:|llvm ).+, dense\)", repr(small))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("img", "br"):
            self.open.append(tag)
        self.rows += tag == "tr"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html(full: Kernel) -> None:
    text = full._repr_html_()
    parser = _Tags()
    parser.feed(text)
    assert parser.open == []
    assert parser.rows == 1 + len(full.plan.parts[0].candidates)
    assert "data:image/png;base64," in text
    assert full.plan.parts[0].reason in text


def test_png_holds_the_mask() -> None:
    grey = np.array([[0, 255, 7], [1, 2, 3]], np.uint8)
    data = png(grey)
    assert data.startswith(b"\x89PNG")
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    assert zlib.decompress(data[start + 4 : start + 4 + length]) == b"\0\x00\xff\x07\0\x01\x02\x03"
    assert 'width="256" height="128"' in picture(np.ones((2, 4)))
    assert picture(np.ones((1000, 3))).count("<img") == 1


@pytest.fixture
def saved(full: Kernel, tmp_path: Path) -> Callable[[], np.ndarray]:
    """The kernel saved with an input, a residual and the right result beside it; calling it gives what y.bin has."""
    full.save(tmp_path / "k.so")
    x, residual = normal(full.problem.x_shape), normal(full.problem.y_shape)
    wanted = full(x, residual)
    x.tofile(tmp_path / "x.bin")
    residual.tofile(tmp_path / "r.bin")

    def compare() -> np.ndarray:
        found = np.fromfile(tmp_path / "y.bin", np.float32).reshape(wanted.shape)
        np.testing.assert_array_equal(found, wanted)
        return found

    return compare


def test_saved_kernel_needs_only_tvm_ffi(tmp_path: Path, saved: Callable[[], np.ndarray]) -> None:
    code = (
        "import json, sys, numpy as np, tvm_ffi\n"
        "about = json.load(open('k.json'))\n"
        "x, r = (np.fromfile(f, 'float32').reshape(p['shape']) for f, p in zip(('x.bin', 'r.bin'), about['inputs']))\n"
        "y = np.empty(about['outputs'][0]['shape'], 'float32')\n"
        "entry = tvm_ffi.load_module('./k.so').get_function(about['entry'])\n"
        "entry(x, r, y); y.tofile('y.bin')\n"
        "assert 'tvm' not in sys.modules\n"
        "try: entry(x, y)\n"
        "except TypeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "takes 3 arguments: X, residual, Y" in done.stdout
    saved()


_PROGRAM = r"""
#include <stdio.h>
#include <tvm/ffi/c_api.h>
int __tvm_ffi_entry(void*, const TVMFFIAny*, int32_t, TVMFFIAny*);
static float x[@X@], r[@Y@], y[@Y@];
static int64_t xs[] = {@XS@}, ys[] = {@YS@};
static TVMFFIAny pass(DLTensor* t, float* data, int64_t* shape) {
  DLTensor made = {data, {kDLCPU, 0}, 4, {kDLFloat, 32, 1}, shape, 0, 0};
  TVMFFIAny any = {0};
  *t = made; any.type_index = kTVMFFIDLTensorPtr; any.v_ptr = t;
  return any;
}
static void file(const char* name, const char* mode, float* data, size_t n) {
  FILE* f = fopen(name, mode);
  if (*mode == 'r' ? fread(data, 4, n, f) != n : fwrite(data, 4, n, f) != n) perror(name);
  fclose(f);
}
int main(void) {
  DLTensor t[3];
  TVMFFIAny result = {0}, args[3];
  file("x.bin", "r", x, @X@); file("r.bin", "r", r, @Y@);
  args[0] = pass(t, x, xs); args[1] = pass(t + 1, r, ys); args[2] = pass(t + 2, y, ys);
  if (__tvm_ffi_entry(0, args, 3, &result)) return 1;
  file("y.bin", "w", y, @Y@);
  return 0;
}
"""


def test_saved_kernel_in_a_c_program(tmp_path: Path, full: Kernel, saved: Callable[[], np.ndarray]) -> None:
    from tvm_ffi import libinfo

    text = _PROGRAM
    for name, shape in (("X", full.problem.x_shape), ("Y", full.problem.y_shape)):
        text = text.replace(f"@{name}@", str(np.prod(shape))).replace(f"@{name}S@", ", ".join(map(str, shape)))
    (tmp_path / "main.c").write_text(text)
    library = Path(libinfo.find_libtvm_ffi()).parent
    command = [NATIVE.compiler(), "-x", "c", "main.c", "-x", "none", "./k.so", "-o", "main"]
    include, dlpack = libinfo.find_include_path(), libinfo.find_dlpack_include_path()
    command += [f"-I{include}", f"-I{dlpack}", f"-L{library}", "-ltvm_ffi", f"-Wl,-rpath,{library}"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run(["./main"], cwd=tmp_path, check=True)
    saved()


def test_saved_files(full: Kernel, small: Kernel, tmp_path: Path) -> None:
    full.save(tmp_path / "one.so")
    full.save(tmp_path / "two.so")
    assert (tmp_path / "one.so").read_bytes() == (tmp_path / "two.so").read_bytes()
    about = json.loads((tmp_path / "one.json").read_text())
    assert [port["name"] for port in about["inputs"]] == ["X", "residual"]
    assert about["plan"]["parts"][0]["family"] == "dense"
    assert str(tmp_path) not in (tmp_path / "one.json").read_text()
    same = kernel(small.weight, n=9, family="dense", measure=False)
    small.save(tmp_path / "a.so")
    same.save(tmp_path / "b.so")
    assert (tmp_path / "a.so").read_bytes() == (tmp_path / "b.so").read_bytes()


def test_saved_where_it_cannot_be(small: Kernel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.so"):
        small.save(tmp_path / "k.dll")
    with pytest.raises(UsageError, match="no folder"):
        small.save(tmp_path / "missing" / "k.so")
    assert list(tmp_path.iterdir()) == []


def test_one_by_one() -> None:
    k = kernel([[2.0]], n=1, family="dense", measure=False)
    assert k(np.array([[3.0]], np.float32)).tolist() == [[6.0]]
    assert k.problem == Problem("linear", 1, 1, 1, (1, 1), (1, 1), alignment=16)


def test_all_zero_weight() -> None:
    k = kernel(np.zeros((3, 4)), n=5, bias=[1, 2, 3], family="dense", measure=False)
    np.testing.assert_array_equal(k(normal((4, 5))), np.array([[1], [2], [3]]) * np.ones((1, 5)))
