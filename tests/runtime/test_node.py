"""Models of WebAssembly in Node.js: right results, times, and what is said of files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tesa.build.ir import ir_object
from tesa.choose.plan import Plan
from tesa.errors import ModelError, UsageError
from tesa.measure.node import engine
from tesa.runtime.bench import bench
from tesa.runtime.manifest import Manifest, SizeInfo, TensorInfo
from tesa.runtime.opening import load
from tesa.targets.target import parse_target
from tests.node import require_node

TARGET = parse_target("wasm32")

TWICE = r"""
@digest = private constant [5 x i8] c"d1d1\00"
@told = private constant [4 x i8] c"odd\00"

define i32 @twice_arena_bytes() {
  ret i32 128
}
define ptr @twice_digest() {
  ret ptr @digest
}
define ptr @twice_error(i32 %status) {
  ret ptr @told
}
define i32 @twice_run(ptr %x, ptr %y, ptr %arena) {
  %first = load float, ptr %x
  %bad = fcmp olt float %first, 0.0
  br i1 %bad, label %refuse, label %go
refuse:
  ret i32 7
go:
  %wild = fcmp ogt float %first, 1000.0
  br i1 %wild, label %trap, label %loop
trap:
  unreachable
loop:
  %i = phi i32 [ 0, %go ], [ %next, %loop ]
  %p = getelementptr float, ptr %x, i32 %i
  %q = getelementptr float, ptr %y, i32 %i
  %a = getelementptr float, ptr %arena, i32 %i
  %v = load float, ptr %p
  %w = fadd float %v, %v
  store float %w, ptr %a
  %u = load float, ptr %a
  store float %u, ptr %q
  %next = add i32 %i, 1
  %more = icmp ult i32 %next, 6
  br i1 %more, label %loop, label %done
done:
  ret i32 0
}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model without a runtime: y = x + x."""
    require_node()
    (tmp_path / "a.o").write_bytes(ir_object(TWICE, TARGET.tvm))
    names = ("run", "arena_bytes", "digest", "error")
    path = tmp_path / "twice.wasm"
    TARGET.toolchain.link([tmp_path / "a.o"], path, [f"--export=twice_{name}" for name in names])
    size = SizeInfo(
        "main", (TensorInfo("x", (2, 3), "float32"),), (TensorInfo("y", (3, 2), "float32"),),
        Plan("wasm32:simd128", 1, ()),
    )  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(Manifest((size,), {}, digest="d1d1").to_json()))
    return path


def test_it_is_called_and_timed(model: Path) -> None:
    loaded = load(model)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(loaded(x)["y"], (x + x).reshape(3, 2))
    np.testing.assert_array_equal(loaded({"x": x + 1})["y"], (x + x + 2).reshape(3, 2))
    result = bench(loaded, repeat=3)
    assert result.model.median_ms > 0
    assert result.device.startswith("node-")
    loaded.engine.close()  # type: ignore[attr-defined]


def test_a_refusal_and_a_trap_are_errors_in_words(model: Path) -> None:
    loaded = load(model)
    with pytest.raises(ModelError, match=r"twice\.wasm: odd$"):
        loaded(np.full((2, 3), -1, np.float32))
    with pytest.raises(ModelError, match=r"twice\.wasm: failed in Node\.js: RuntimeError: unreachable"):
        loaded(np.full((2, 3), 2000, np.float32))
    assert loaded(np.ones((2, 3), np.float32))["y"][0, 0] == 2
    with pytest.raises(UsageError, match=r"\[2, 3\]"):
        loaded(np.ones((3, 3), np.float32))


def test_files_that_are_no_models_are_said_to_be_none(model: Path, tmp_path: Path) -> None:
    content = model.read_bytes()
    model.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"twice\.wasm: cannot be loaded as WebAssembly"):
        load(model)
    TARGET.toolchain.link([tmp_path / "a.o"], model, ["--export=twice_run"])
    with pytest.raises(ModelError, match="is no model"):
        load(model)
    model.write_bytes(content)
    description = model.with_suffix(".json")
    description.write_text(description.read_text().replace("d1d1", "d2d2"))
    with pytest.raises(ModelError, match="describes another model"):
        load(model)


def test_without_node_it_is_said_how_to_get_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE", "nosuch")
    assert engine.find_engine() is None
    with pytest.raises(UsageError, match="apt-get install nodejs"):
        load(model)
