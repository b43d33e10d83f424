"""Objects: the same bytes each time, built once; libraries that load, or a clear error."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm

from tesa.base.worker import Worker, WorkerError
from tesa.build import objects as building
from tesa.build.cache import Cache
from tesa.build.objects import BuildError, build_objects, symbol_of, write_objects
from tesa.build.source import source
from tesa.errors import UsageError
from tesa.schedules.types import Assembly, Code, Epilogue, Tir
from tesa.targets.target import parse_target
from tesa.targets.toolchain import NATIVE
from tests.build import toy

PROBLEM = toy.linear()
WEIGHT = toy.weight(PROBLEM)


def build(tmp_path: Path, codes: list[tuple[str, Code]], cache: Cache | None = None) -> list[tuple[Path, ...]]:
    return [write_objects(build_objects(symbol, code, toy.TARGET, cache), tmp_path) for symbol, code in codes]


def toy_codes() -> list[tuple[str, Code]]:
    return [(name, toy.code(PROBLEM, WEIGHT, name, repeat=i)) for i, name in enumerate(("tesa_a", "tesa_b"), 1)]


def test_same_bytes_each_time() -> None:
    here, there = ([build_objects(*item, toy.TARGET) for item in codes] for codes in (toy_codes(), toy_codes()[::-1]))
    assert here == there[::-1]
    assert here[0] != here[1]


def test_library_runs(tmp_path: Path) -> None:
    (paths, _) = build(tmp_path, toy_codes())
    NATIVE.link(paths, tmp_path / "kernel.so")
    x = np.random.default_rng(1).standard_normal(PROBLEM.x_shape).astype("float32")
    y = tvm.runtime.tensor(np.zeros(PROBLEM.y_shape, "float32"))
    tvm.runtime.load_module(str(tmp_path / "kernel.so"))["tesa_a"](tvm.runtime.tensor(x), tvm.runtime.tensor(WEIGHT), y)
    np.testing.assert_allclose(y.numpy(), WEIGHT @ x, rtol=1e-4, atol=1e-5)


def test_same_library_from_same_objects(tmp_path: Path) -> None:
    (paths, _) = build(tmp_path, toy_codes())
    NATIVE.link(paths, tmp_path / "one.so")
    NATIVE.link(paths, tmp_path / "two.so")
    assert (tmp_path / "one.so").read_bytes() == (tmp_path / "two.so").read_bytes()


def test_panels_are_objects_of_their_own(tmp_path: Path) -> None:
    code = toy.code(PROBLEM, WEIGHT, "tesa_main")
    panel = Tir((("tesa_main_p0", toy.code(PROBLEM, WEIGHT, "tesa_main_p0").main),))
    other = Tir((("tesa_main_p1", toy.code(PROBLEM, WEIGHT, "tesa_main_p1").main),))
    (paths,) = build(tmp_path, [("tesa_main", replace(code, panels=(panel, other)))])
    assert len(paths) == 3
    NATIVE.link(paths, tmp_path / "kernel.so")
    library = tvm.runtime.load_module(str(tmp_path / "kernel.so"))
    assert all(library.implements_function(name) for name in ("tesa_main", "tesa_main_p0", "tesa_main_p1"))


def test_a_failure_tells_the_symbol_and_the_compilers_words() -> None:
    with pytest.raises(BuildError, match=r"^tesa_bad: InternalError: .*llvm\.sqrt"):
        build_objects("tesa_bad", toy.broken(PROBLEM, WEIGHT, "tesa_bad"), toy.TARGET)


def test_the_cache_saves_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache")
    first = [build_objects(*item, toy.TARGET, cache) for item in toy_codes()]

    def refuse(*_: object) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(building, "object_of", refuse)
    assert first == [build_objects(*item, toy.TARGET, cache) for item in toy_codes()]
    other = toy.code(PROBLEM, WEIGHT, "tesa_a", error=np.nextafter(np.float32(1), np.float32(2)).item())
    with pytest.raises(BuildError, match="compiled again"):
        build_objects("tesa_a", other, toy.TARGET, cache)


def test_neighbouring_constants_are_different_code(tmp_path: Path) -> None:
    near = [np.float32(1), np.nextafter(np.float32(1), np.float32(2)), np.float32(1e-45), np.float32(-0.0)]
    codes = [("tesa_a", toy.code(PROBLEM, WEIGHT, "tesa_a", error=value.item())) for value in near]
    assert len({paths[0].read_bytes() for paths in build(tmp_path, codes)}) == len(near)


def test_damaged_cache_is_rebuilt(tmp_path: Path) -> None:
    cache, item = Cache(tmp_path), toy_codes()[0]
    before = build_objects(*item, toy.TARGET, cache)
    for entry in tmp_path.glob("*/*"):
        entry.write_bytes(entry.read_bytes()[:100])
    assert build_objects(*item, toy.TARGET, cache) == before


def test_target_is_part_of_the_key() -> None:
    item = toy_codes()[0]
    (narrow,), (wide,) = (build_objects(*item, target) for target in (toy.TARGET, parse_target("x86:cascadelake")))
    assert narrow.key != wide.key


def test_symbol_names_everything_that_shapes_the_code() -> None:
    names = {
        symbol_of(PROBLEM, WEIGHT, toy.TARGET, "dense", {"a": 1, "b": 2}),
        symbol_of(PROBLEM, WEIGHT, toy.TARGET, "dense", {"a": 1, "b": 3}),
        symbol_of(PROBLEM, WEIGHT, toy.TARGET, "block", {"a": 1, "b": 2}),
        symbol_of(PROBLEM, WEIGHT, parse_target("x86:cascadelake"), "dense", {"a": 1, "b": 2}),
        symbol_of(PROBLEM, WEIGHT + 1, toy.TARGET, "dense", {"a": 1, "b": 2}),
        symbol_of(toy.linear(epilogue=Epilogue(bias=True)), WEIGHT, toy.TARGET, "dense", {"a": 1, "b": 2}),
    }
    assert len(names) == 6
    assert all(re.fullmatch("tesa_[0-9a-f]{16}", name) for name in names)
    assert symbol_of(PROBLEM, WEIGHT, toy.TARGET, "dense", {"b": 2, "a": 1}) in names


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(UsageError, match=r"apt-get install g\+\+"):
        NATIVE.link([], tmp_path / "kernel.so")


def test_objects_that_do_not_fit(tmp_path: Path) -> None:
    (paths, _) = build(tmp_path, toy_codes())
    copy = tmp_path / "copy.o"
    copy.write_bytes(paths[0].read_bytes())
    with pytest.raises(UsageError, match=r"cannot link kernel\.so: .*multiple definition"):
        NATIVE.link([*paths, copy], tmp_path / "kernel.so")
    assert not (tmp_path / "kernel.so").exists()


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("Compilation error:\n/usr/bin/ld: final link failed: No space left on device")

    monkeypatch.setattr("tvm.support.cc.create_shared", full)
    with pytest.raises(UsageError, match="disk is full"):
        NATIVE.link([], tmp_path / "kernel.so")
    assert list(tmp_path.iterdir()) == []


def answer(text: str = "") -> Code:
    """A kernel whose panel is assembly: it answers 7 by itself."""
    lines = ['# "quoted" and \\\\ stay', ".text", ".globl tesa_seven", "tesa_seven:", text or "movl $7,%eax", "ret"]
    panel = Assembly("tesa_seven", "\n".join(lines) + "\n")
    return replace(toy.code(PROBLEM, WEIGHT, "tesa_a"), panels=(panel,))


def test_assembly_is_assembled(tmp_path: Path) -> None:
    (paths,) = build(tmp_path, [("tesa_a", answer())])
    NATIVE.link(paths, tmp_path / "kernel.so")
    assert ctypes.CDLL(str(tmp_path / "kernel.so")).tesa_seven() == 7
    assert build_objects("tesa_a", answer(), toy.TARGET) == build_objects("tesa_a", answer(), toy.TARGET)


def test_wrong_assembly_is_a_failure_of_its_own() -> None:
    """In a child, whatever the assembler does to its process."""
    worker = Worker()
    with pytest.raises(WorkerError, match="invalid instruction mnemonic"):
        worker.call(f"{__name__}:build_wrong_assembly")
    worker.close()


def build_wrong_assembly() -> None:
    build_objects("tesa_a", answer("nosuch %eax"), toy.TARGET)


def test_assembly_is_shown_as_it_is_or_as_the_functions_it_stands_for() -> None:
    (panel,) = answer().panels
    assert isinstance(panel, Assembly)
    other = Tir((("tesa_seven", toy.code(PROBLEM, WEIGHT, "tesa_seven").main),))
    both = replace(answer(), panels=(replace(panel, tir=lambda: other),))
    assert "def tesa_seven" in source(both, toy.TARGET, "tir")
    assert "movl\t$7, %eax" in source(both, toy.TARGET, "asm")
    assert "movl $7,%eax" in source(answer(), toy.TARGET, "tir")
    assert "movl\t$7, %eax" in source(answer(), toy.TARGET, "asm")
