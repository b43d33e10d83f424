"""The doctor tells a sound installation from a broken one, and lives through whatever the self-test does."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

from tesa.base.extras import install
from tesa.base.hostinfo import Cache, read_cpu
from tesa.doctor import checks as doctor
from tesa.doctor.checks import FAILED, INFO, MISSING, OK, Check
from tesa.doctor.selftest import STEPS
from tesa.report.doctor import next_step
from tesa.targets.llvm import features
from tesa.targets.toolchain import NATIVE
from tesa.targets.x86 import X86


def child(body: str) -> tuple[str, ...]:
    lines = [json.dumps({"step": step, "ok": True, "text": "fine"}) for step in STEPS[:1]]
    return (sys.executable, "-c", f"print({lines[0]!r}, flush=True)\n{body}")


def only(checks: list[Check], status: str) -> Check:
    found = [check for check in checks if check.status == status]
    assert len(found) == 1, checks
    return found[0]


def test_this_installation_is_sound() -> None:
    diagnosis = doctor.examine()
    assert diagnosis.failures == ()
    assert [check.name for check in diagnosis.checks if check.group == "self-test"] == list(STEPS)
    targets = [check.name for check in diagnosis.checks if check.group == "targets"]
    assert {"x86", "aarch64", "wasm32", "cuda", "rocm"} <= set(targets)


def test_a_segmentation_fault_is_told() -> None:
    command = child("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    checks = list(doctor.self_test(command))
    failed = only(checks, FAILED)
    assert failed.name == "save and load TIR"
    assert failed.found == "the process was ended by SIGSEGV"
    assert "apache-tvm-ffi==" in failed.hint


def test_a_wrong_exit_is_told() -> None:
    failed = only(list(doctor.self_test(child("raise SystemExit('no such module')"))), FAILED)
    assert failed.found == "the process ended with code 1: no such module"


def test_a_failed_step_is_told() -> None:
    line = json.dumps({"step": STEPS[1], "ok": False, "text": "ValueError: odd"})
    checks = list(doctor.self_test(child(f"print({line!r})")))
    assert only(checks, FAILED).found == "ValueError: odd"
    assert len(checks) == 2


def test_a_child_that_hangs_is_told() -> None:
    checks = list(doctor.self_test(child("import time; time.sleep(60)"), timeout_s=2))
    assert checks[0].status == OK
    assert "no answer within 2 s" in only(checks, FAILED).found


def test_the_pin_of_the_ffi_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    fake = {"apache-tvm-ffi": "0.1.15.post2"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: fake.get(name) or real(name))
    failed = only(list(doctor.versions()), FAILED)
    assert failed.name == "apache-tvm-ffi"
    assert failed.found == "0.1.15.post2, not 0.1.14.post1"
    assert failed.hint.startswith("pip install apache-tvm-ffi==0.1.14.post1")


def test_a_missing_extra_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("onnxruntime", "onnx"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    checks = list(doctor.versions())
    assert only(checks, MISSING).hint == install("bench")
    assert only(checks, FAILED).name == "onnx"


@pytest.mark.slow
def test_without_a_compiler_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    checks = doctor.examine().checks
    failed = {check.name: check.hint for check in checks if check.status == FAILED}
    assert "apt-get install g++ (or gcc, or clang)" in failed["compiler"]
    advice = "install a compiler: apt-get install g++ (or gcc, or clang), or pip install ziglang"
    assert failed["build and export"] == advice


@pytest.mark.parametrize("name", ["g++", "gcc", "clang", "cc"])
def test_any_of_the_compilers_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CXX", "CC"):
        monkeypatch.delenv(variable, raising=False)
    assert only(list(doctor._tools()), OK).found == str(tmp_path / name) == NATIVE.compiler()


def test_a_named_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    failed = only(list(doctor._tools()), FAILED)
    assert failed.found == "no-such-compiler, which $CXX names, is not there"
    assert failed.hint.startswith("unset $CXX")


def test_a_hidden_instruction_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.targets.host.machine", lambda: "x86_64")
    monkeypatch.setattr("tesa.targets.llvm.host_cpu", lambda: "cascadelake")
    named = features(X86.triple, "cascadelake")
    monkeypatch.setattr("tesa.targets.host.host_features", lambda _: frozenset(f for f in named if "avx512" not in f))
    (check,) = doctor.host_check()
    assert check.status == INFO
    assert check.found.startswith("cascadelake without avx512f, which the system hides: llvm ")
    assert check.found.endswith("-mattr=-avx512f, avx2")
    monkeypatch.setattr("tesa.targets.llvm.host_cpu", lambda: "core2")
    monkeypatch.setattr("tesa.targets.host.host_features", lambda _: features(X86.triple, "core2"))
    (check,) = doctor.host_check()
    assert check.status == MISSING


def test_a_cpu_without_sse42_is_told() -> None:
    cpu = read_cpu()
    old = type(cpu)(cpu.model, "x86_64", cpu.usable, ("sse",), ())
    found = {check.name: check for check in doctor.target_checks(old)}
    assert found["x86, this machine"].status == MISSING


def test_the_cache_is_measured(tmp_path: Path) -> None:
    assert doctor.cache_check(tmp_path / "none").found == "empty"
    (tmp_path / "a").write_bytes(bytes(1_500_000))
    assert doctor.cache_check(tmp_path).found.startswith("1 files, 1.5 MB")


def test_the_cpu_is_read_from_linux(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Old One\nflags : fpu avx2 fma\n\nprocessor : 1\n")
    for index, (kind, size, shared) in enumerate(
        [("Data", "48K", "0-1"), ("Instruction", "32K", "0"), ("Unified", "2M", "0-3,8")]
    ):
        folder = tmp_path / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in {"level": str(index + 1), "type": kind, "size": size, "shared_cpu_list": shared}.items():
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "cache" / "index3").mkdir()
    cpu = read_cpu(tmp_path / "cpuinfo", tmp_path / "cache")
    assert (cpu.model, cpu.features) == ("Old One", ("fma", "avx2"))
    assert cpu.caches == (Cache(1, "Data", 48 * 1024, 2), Cache(3, "Unified", 2 * 1024**2, 5))


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    cpu = read_cpu(tmp_path / "none", tmp_path / "none")
    assert (cpu.features, cpu.caches) == ((), ())


def test_it_ends_with_the_next_command() -> None:
    fine = [Check("versions", "onnx", OK, "1")]
    cpu = read_cpu()
    assert "Next: python -m tesa.models.demo" in next_step(doctor.Diagnosis(tuple(fine), cpu))
    bare = [*fine, Check("versions", "onnxruntime", MISSING, "not installed", install("bench"))]
    assert next_step(doctor.Diagnosis(tuple(bare), cpu)).endswith(
        "Next: tesa inspect model.onnx looks at a model of yours."
    )
    bad = [*bare, Check("tools", "compiler", FAILED, "none found", "apt-get install g++")]
    told = next_step(doctor.Diagnosis(tuple(bad), cpu))
    assert told == "Next: mend 'compiler' (apt-get install g++), then run tesa doctor again."
