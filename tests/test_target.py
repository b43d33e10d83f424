"""Every way to write a target, and every way to write one wrongly."""

from __future__ import annotations

import json

import pytest

from tesa.errors import UnsupportedError, UsageError
from tesa.schedules.types import Isa
from tesa.target import Target, list_targets, parse_target, target_names


def test_short_name_of_an_avx512_cpu() -> None:
    target = parse_target("x86:cascadelake")
    assert target.arch == "x86"
    assert target.cpu == "cascadelake"
    assert target.isa == Isa("avx512", 16, 32, 32 * 1024, 1024 * 1024)


def test_short_name_of_an_avx2_cpu() -> None:
    assert parse_target("x86:haswell").isa == Isa("avx2", 8, 16, 32 * 1024, 256 * 1024)


@pytest.mark.parametrize(
    "text",
    [
        "llvm -mcpu=cascadelake",
        "llvm -mtriple=x86_64-linux-gnu -mcpu=cascadelake",
        '{"kind": "llvm", "mcpu": "cascadelake"}',
        {"kind": "llvm", "mcpu": "cascadelake", "keys": ["cpu"], "tag": ""},
    ],
)
def test_tvm_forms_mean_the_same(text: str | dict[str, object]) -> None:
    assert parse_target(text) == parse_target("x86:cascadelake")


@pytest.mark.parametrize("name", ["x86:haswell", "x86:znver5", "llvm -mcpu=haswell -mattr=+avx512vl,+avx512f"])
def test_name_can_be_parsed_again(name: str) -> None:
    target = parse_target(name)
    assert parse_target(target.name) == target
    assert parse_target(target) is target
    assert parse_target(target.tvm) == target
    assert parse_target(json.dumps(target.tvm)) == target


def test_features_decide_on_the_instruction_set() -> None:
    assert parse_target("llvm -mcpu=haswell -mattr=+avx512f,+avx512vl").isa.name == "avx512"
    assert parse_target("llvm -mcpu=cascadelake -mattr=-avx512vl").isa.name == "avx2"
    assert parse_target("llvm -mcpu=x86-64 -mattr=+avx2,+fma").isa.name == "avx2"


def test_tvm_accepts_the_dictionary() -> None:
    import tvm

    target = tvm.target.Target(parse_target("llvm -mcpu=haswell -mattr=+avx512f,+avx512vl").tvm)
    assert str(target.attrs["mcpu"]) == "haswell"


@pytest.mark.parametrize(
    "text", ["aarch64", "arm64:cortex-a72", "wasm32", "cuda", "rocm", "riscv64", "cuda -arch=sm_80",
             "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a76", '{"kind": "cuda"}', "webgpu"]
)  # fmt: skip
def test_known_but_not_yet(text: str) -> None:
    with pytest.raises(UnsupportedError, match="not supported") as error:
        parse_target(text)
    assert error.value.exit_code == 3


@pytest.mark.parametrize("text", ["x86:core2", "llvm", "llvm -mcpu=haswell -mattr=-fma", "x86:x86-64"])
def test_cpu_without_avx2(text: str) -> None:
    with pytest.raises(UnsupportedError, match="AVX2"):
        parse_target(text)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("x68", "x86"),
        ("x86:cascadlake", "cascadelake"),
        ("x86:Haswell", "haswell"),
        ("cascadelak", "x86:cascadelake"),
        ("llvm -mcpu=znver9", "znver"),
        ("cudda -arch=sm_80", "cuda"),
        ('{"kind": "llvmm"}', "llvm"),
    ],
)
def test_unknown_names_come_with_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"nearest: .*{near}"):
        parse_target(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("llvm -mcpu", "-name=value"),
        ("llvm -mcpu=haswell -num-cores=4", "unknown option 'num-cores'"),
        ("llvm -mcpu=haswell -mattr=avx512f", r"\+feature or -feature"),
        ({"kind": "llvm", "mcpu": "haswell", "mattr": 3}, "mattr is a list"),
        ({}, "unknown kind ''"),
        (3, "not int"),
    ],
)
def test_malformed(text: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_target(text)  # type: ignore[arg-type]


def test_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.target._host_is_x86", lambda: True)
    monkeypatch.setattr("tesa.target._host_cpu", lambda: "znver4")
    assert parse_target("x86") == parse_target(None) == parse_target("x86:znver4")
    monkeypatch.setattr("tesa.target._host_is_x86", lambda: False)
    with pytest.raises(UsageError, match="name the CPU"):
        parse_target("x86")


def test_every_listed_name_parses() -> None:
    names = target_names()
    assert "x86:haswell" in names
    assert "x86:core2" not in names
    assert all(isinstance(parse_target(name), Target) for name in names[1:])
    assert {row.name: row.supported for row in list_targets()}["cuda"] is False
