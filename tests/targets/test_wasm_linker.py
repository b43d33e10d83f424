"""The linker of WebAssembly: which one is taken, and what is said where there is none or where objects do not fit."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tesa.build.ir import ir_object
from tesa.errors import UnsupportedError, UsageError
from tesa.targets.target import parse_target
from tesa.targets.wasm_linker import WasmLinker
from tests.support import require_system

TARGET = parse_target("wasm32")
LINKER = WasmLinker()


def program(folder: Path, name: str, version: int = 22) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho LLD {version}.1.0\n")
    path.chmod(0o755)
    return path


def test_the_newest_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WASM_LD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    zig = program(tmp_path, "zig")
    assert LINKER.linker() == [str(zig), "wasm-ld"]
    program(tmp_path, "wasm-ld", 14)  # too old
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{tmp_path}")
    assert LINKER.linker() == [str(zig), "wasm-ld"]
    for name in ("wasm-ld", "wasm-ld-19", "wasm-ld-22"):
        program(tmp_path, name)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{tmp_path / name}")  # what was found is kept by PATH
        assert LINKER.found() == str(tmp_path / name)
    monkeypatch.setenv("WASM_LD", f"{zig} wasm-ld")
    assert LINKER.compiler() == f"{zig} wasm-ld"


def test_without_one_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WASM_LD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("tesa.targets.wasm_linker.find_spec", lambda name: None)
    assert LINKER.found() is None
    with pytest.raises(UsageError, match=r"apt-get install lld-22.*pip install ziglang"):
        LINKER.link([], tmp_path / "a.wasm")
    monkeypatch.setenv("WASM_LD", "nosuch")
    with pytest.raises(UsageError, match=r"no command 'nosuch', which \$WASM_LD names"):
        LINKER.compiler()


def test_zig_of_python_is_taken_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WASM_LD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tesa.targets.wasm_linker.find_spec", lambda name: name)
    assert LINKER.linker() == [sys.executable, "-m", "ziglang", "wasm-ld"]


def test_an_undefined_symbol_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    if LINKER.found() is None:
        require_system("wasm-ld-22", "lld-22")
    text = "declare i32 @nobody(i32)\ndefine i32 @ask() {\n  %r = call i32 @nobody(i32 1)\n  ret i32 %r\n}"
    (tmp_path / "a.o").write_bytes(ir_object(text, TARGET.tvm))
    with pytest.raises(UsageError, match=r"cannot link a\.wasm: .*nobody"):
        LINKER.link([tmp_path / "a.o"], tmp_path / "a.wasm", ["--export=ask"])
    assert not (tmp_path / "a.wasm").exists()


def test_no_c_and_no_virtual_machine_there(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="without a C compiler"):
        LINKER.compile("int x;", tmp_path / "a.o")
    with pytest.raises(UnsupportedError, match="--format wasm"):
        LINKER.export(None, [], tmp_path / "a.wasm")
