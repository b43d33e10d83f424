"""An architecture is one registration: its names parse, its targets say what it said, and families make its code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.build.source import source
from tesa.errors import UsageError
from tesa.schedules.registry import families, find
from tesa.schedules.types import Core, Dot, Output, Permute, Problem
from tesa.targets import architecture
from tesa.targets.architecture import Architecture, register
from tesa.targets.target import Target, list_targets, parse_target, runs_here
from tesa.targets.toolchain import Toolchain

NARROW = Core(
    "narrow", 4, 16, fma=False, dot=Dot(2, ((4, "llvm.wasm.dot"),)),
    permute=Permute(((1, "llvm.wasm.swizzle"),), in_bytes=True),
)  # fmt: skip


@pytest.fixture
def wasm(monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(architecture, "_ARCHITECTURES", dict(architecture._ARCHITECTURES))
    register(
        Architecture(
            name="wasm32",
            title="WebAssembly",
            triple="wasm32-unknown-unknown",
            core=lambda cpu, features: NARROW if "simd128" in features else None,
            needs="has no SIMD",
            example="generic",
            aliases=("wasm",),
            bare="generic",
            features=("+simd128",),
            options=(("vector-width", 128),),
            toolchain=Toolchain(command="no-such-compiler", suffix=".wasm"),
            runner="node",
        )
    )
    return parse_target("wasm")


def test_its_names_and_what_its_targets_say(wasm: Target) -> None:
    assert wasm == parse_target("wasm32:generic") == parse_target(wasm.name) == parse_target(wasm.tvm)
    assert (wasm.runner, wasm.toolchain.suffix, wasm.kind) == ("node", ".wasm", "cpu")
    assert wasm.tvm["vector-width"] == 128
    assert wasm.tvm["mattr"] == ["+simd128"]
    assert not runs_here(wasm)
    assert {row.name: row.supported for row in list_targets()}["wasm32:generic"]
    with pytest.raises(UsageError, match="no command 'no-such-compiler'"):
        wasm.toolchain.compiler()
    with pytest.raises(UsageError, match="nearest: wasm32"):
        parse_target("wasm23")


@pytest.mark.parametrize(("n", "dtype", "words"), [
    (50, "float32", {"f32x4.mul"}), (1, "float32", {"f32x4.mul"}), (50, "int8", {"i32x4.dot_i16x8_s"}),
])  # fmt: skip
def test_every_family_makes_its_code(wasm: Target, n: int, dtype: str, words: set[str]) -> None:
    output = Output("int32" if dtype == "int8" else "float32")
    p = Problem("linear", 16, 32, n, (32, n), (16, n), dtype=dtype, output=output)
    rng = np.random.default_rng(0)
    weight = (rng.integers(-9, 9, (16, 32)) * (rng.random((16, 32)) < 0.3)).astype(np.float32)
    made = 0
    for family in families("cpu"):
        for config in list(family.space(p, weight, wasm.core))[:1]:
            text = source(family.emit(p, weight, wasm.core, config, "k"), wasm, "asm")
            if family.name != "indexed" or n > 1:  # which is scalar code for one column
                assert all(word in text for word in words), family.name
            assert "fmaf" not in text
            made += 1
    assert made >= 3


def test_a_core_without_a_permutation_or_a_dot_product() -> None:
    plain = replace(NARROW, dot=None, permute=None)
    p = Problem("linear", 16, 32, 1, (32, 1), (16, 1))
    weight = np.eye(16, 32, dtype=np.float32)
    assert find("sliced").space(p, weight, plain) == ()
    with pytest.raises(ValueError, match="on core narrow: it permutes no registers"):
        find("sliced").emit(p, weight, plain, {"window": 2, "share": 1}, "no")
