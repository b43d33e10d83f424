"""A library on a CPU that lacks its instructions: an error that names them, before one of them runs."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import numpy as np
import pytest

import tesa
from tesa.build.interface import Entry, Port, interface_source, needed
from tesa.cli import main
from tesa.compiler import compile_model
from tesa.errors import ModelError
from tesa.runtime import load
from tesa.targets.cpuid import probe
from tesa.targets.host import host_architecture, host_features
from tesa.targets.target import parse_target, runs_here
from tesa.targets.toolchain import NATIVE

from .models import build, identity

OLD = "x86:bdver4"  # its FMA4 and XOP are in no CPU that was made since
x86 = pytest.mark.skipif(getattr(host_architecture(), "name", "") != "x86", reason="asks an x86 CPU")


@x86
@pytest.mark.skipif(runs_here(parse_target(OLD)), reason="this CPU has what the target needs")
def test_a_model_for_another_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = tmp_path / "m.so"
    compile_model(identity(), output=library, target=OLD, measure=False)
    with pytest.raises(ModelError, match=r"m\.so: was compiled for x86:bdver4, .* lacks fma4, .*xop") as caught:
        load(library)
    assert "--target x86" in str(caught.value)
    np.savez(tmp_path / "in.npz", x=np.ones((2, 3), np.float32))
    assert main(["run", str(library), "-i", str(tmp_path / "in.npz")]) == ModelError.exit_code
    assert "lacks fma4" in capsys.readouterr().err


def test_missing_features_are_told_whoever_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, identity())
    monkeypatch.setattr("tesa.runtime.cpu.missing_features", lambda _library: ("avx512f", "avx512vl"))
    with pytest.raises(ModelError, match="cannot run it: it lacks avx512f, avx512vl, or its system hides them"):
        load(tmp_path / "model.so")


@x86
def test_c_programs_can_ask_a_library(tmp_path: Path) -> None:
    compiled = build(tmp_path, identity())
    assert list(compiled.manifest.needs) == sorted(needed(parse_target(None)))
    library = ctypes.CDLL(str(tmp_path / "model.so"))
    library.tesa_missing.restype = library.tesa_target.restype = ctypes.c_char_p
    assert library.tesa_missing() == b""
    assert library.tesa_target().decode() == parse_target(None).name
    for name, answer in (("tesa_missing", ""), ("tesa_target", parse_target(None).name), ("tesa_function", "main")):
        arguments = compiled.prepare(np.ones((2, 3), np.float32)) if name == "tesa_function" else []
        assert compiled.library.get_function(name, query_imports=True)(*arguments) == answer


@x86
def test_a_saved_kernel_answers_as_well(tmp_path: Path) -> None:
    kernel = tesa.kernel(np.eye(8, dtype=np.float32), n=4, family="indexed", target="x86:haswell")
    kernel.save(tmp_path / "k.so")
    library = ctypes.CDLL(str(tmp_path / "k.so"))
    library.tesa_missing.restype = library.tesa_target.restype = ctypes.c_char_p
    assert library.tesa_target() == b"x86:haswell"
    here = host_architecture()
    assert here is not None
    lacks = set(needed(parse_target("x86:haswell"))) - host_features(here)
    assert library.tesa_missing().decode() == ", ".join(sorted(lacks))


@x86
def test_cpuid_agrees_with_what_the_system_tells(tmp_path: Path) -> None:
    """Of every feature that both know."""
    here = host_architecture()
    assert here is not None
    names = sorted(here.linux)
    text = probe(names) + "\nconst char* name(int i) { return needs[i].name; }\nint there(int i) { return has(i); }\n"
    NATIVE.compile(text, tmp_path / "probe.o", here.baseline)
    NATIVE.link([tmp_path / "probe.o"], tmp_path / "probe.so")
    library = ctypes.CDLL(str(tmp_path / "probe.so"))
    library.name.restype = ctypes.c_char_p
    asked = [library.name(i).decode() for i in range(len(names))]
    assert asked == names
    found = {name for i, name in enumerate(asked) if library.there(i)}
    assert found == {name for name in host_features(here) if name in names}


def test_every_instruction_set_that_a_system_tells_of_can_be_asked_for() -> None:
    from tesa.targets.x86 import X86

    for cpu in X86.cpus():
        names = needed(parse_target(f"x86:{cpu}"))
        assert all(f'"{name}"' in probe(names) for name in names), cpu
        assert "sse4.2" in names


def test_a_library_for_this_machine_is_not_refused_here() -> None:
    """Of what no system tells, as of a virtual machine's AMX-FP16, nobody knows whether it is there."""
    assert "amx-fp16" not in needed(parse_target("x86:graniterapids"))
    assert "amx-int8" in needed(parse_target("x86:graniterapids"))


def test_a_library_for_another_kind_of_machine(tmp_path: Path) -> None:
    build(tmp_path, identity())
    path = tmp_path / "model.so"
    content = bytearray(path.read_bytes())
    (machine,) = struct.unpack_from("<H", content, 18)
    struct.pack_into("<H", content, 18, 183 if machine == 62 else 62)
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(
        ModelError, match=r"it is made for (aarch64|x86_64), and this machine is .*; run it on a device of a tracker"
    ):
        load(path)


def test_a_target_whose_cpus_cannot_be_asked_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.build.interface.find", lambda _name: None)
    text = interface_source(parse_target("x86:haswell"), [Entry("main", (Port("x", (1, 3), "float32"),), ())])
    assert 'needs[] = {{""}}' in text
