"""Every way to write a target, and every way to write one wrongly."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tesa.errors import UnsupportedError, UsageError
from tesa.targets import target as parsing
from tesa.targets import x86
from tesa.targets.architecture import architectures
from tesa.targets.target import Target, host_note, list_targets, parse_target, runs_here


def test_short_name_of_an_avx512_cpu() -> None:
    target = parse_target("x86:cascadelake")
    assert target.arch == "x86"
    assert target.cpu == "cascadelake"
    assert target.core == replace(x86.AVX512, dot=x86.BYTES)
    assert (target.core.lanes, target.core.registers, target.core.l2_bytes) == (16, 32, 1024 * 1024)


def test_short_name_of_an_avx2_cpu() -> None:
    assert parse_target("x86:haswell").core == x86.AVX2


@pytest.mark.parametrize("text", ["x86:x86-64-v2", "x86:nehalem", "x86:westmere", "x86:sandybridge", "x86:ivybridge",
                                  "llvm -mcpu=x86-64-v2", "llvm -mcpu=haswell -mattr=-fma"])  # fmt: skip
def test_a_cpu_without_avx2_and_fma(text: str) -> None:
    core = parse_target(text).core
    assert (core.name, core.lanes, core.registers, core.fma, core.writer) == ("sse4.2", 4, 16, False, "")


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
    assert parse_target("llvm -mcpu=haswell -mattr=+avx512f,+avx512vl").core.name == "avx512"
    assert parse_target("llvm -mcpu=cascadelake -mattr=-avx512vl").core.name == "avx2"
    assert parse_target("llvm -mcpu=x86-64 -mattr=+avx2,+fma").core.name == "avx2"


def test_tvm_accepts_the_dictionary() -> None:
    import tvm

    target = tvm.target.Target(parse_target("llvm -mcpu=haswell -mattr=+avx512f,+avx512vl").tvm)
    assert str(target.attrs["mcpu"]) == "haswell"


@pytest.mark.parametrize(
    "text",
    ["riscv64", "llvm -mtriple=riscv64-linux-gnu", "webgpu"],
)
def test_known_but_not_yet(text: str) -> None:
    with pytest.raises(UnsupportedError, match="not supported") as error:
        parse_target(text)
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("text", "same", "core"),
    [
        ("aarch64:cortex-a76", "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a76", "neon"),
        ("arm64:apple-m1", "aarch64:apple-m1", "neon"),
        ("wasm", "wasm32:simd128", "simd128"),
        ("wasm32:relaxed", "llvm -mtriple=wasm32-unknown-unknown-wasm -mattr=+relaxed-simd,+simd128", "relaxed"),
    ],
)
def test_arm_and_webassembly(text: str, same: str, core: str) -> None:
    target = parse_target(text)
    assert target == parse_target(same) == parse_target(target.name) == parse_target(target.tvm)
    assert (target.core.name, target.core.lanes) == (core, 4)


def test_arm_alone_is_any_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.targets.host.machine", lambda: "x86_64")
    assert parse_target("aarch64").name == "aarch64:generic"


def test_webassembly_without_vectors() -> None:
    with pytest.raises(UnsupportedError, match=r"no vectors of 128 bits.*wasm32:simd128"):
        parse_target("wasm32:mvp")


@pytest.mark.parametrize("text", ["x86:core2", "llvm", "x86:penryn", "x86:x86-64"])
def test_cpu_without_sse42(text: str) -> None:
    with pytest.raises(UnsupportedError, match=r"has no SSE4.2.*the oldest .* x86:nehalem"):
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
    monkeypatch.setattr("tesa.targets.host.machine", lambda: "x86_64")
    machine(monkeypatch, "znver4", "")
    assert parse_target("x86") == parse_target(None) == parse_target("x86:znver4")
    monkeypatch.setattr("tesa.targets.host.machine", lambda: "aarch64")
    with pytest.raises(UsageError, match="name the CPU"):
        parse_target("x86")


# What Linux tells of a Zen 4, and of the same machine where a hypervisor masks AVX-512.
SSE42 = "sse sse2 pni ssse3 sse4_1 sse4_2 popcnt cx16 lahf_lm"
AVX2 = (
    "sse sse2 pni ssse3 sse4_1 sse4_2 sse4a movbe popcnt abm aes pclmulqdq avx f16c fma bmi1 bmi2 avx2 adx sha_ni "
    "vaes vpclmulqdq gfni"
)
AVX512 = AVX2 + (
    " avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512_bf16 avx512vbmi avx512_vbmi2 avx512_vnni "
    "avx512_bitalg avx512_vpopcntdq"
)


def machine(monkeypatch: pytest.MonkeyPatch, cpu: str, flags: str) -> None:
    monkeypatch.setattr("tesa.targets.host.machine", lambda: "x86_64")
    monkeypatch.setattr("tesa.targets.llvm.host_cpu", lambda: cpu)
    monkeypatch.setattr("tesa.targets.host.host_flags", lambda: frozenset(flags.split()))


def test_a_host_with_all_that_its_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "znver4", AVX512)
    assert parse_target("x86") == parse_target("x86:znver4")
    assert [runs_here(parse_target(f"x86:{cpu}")) for cpu in ("znver4", "x86-64-v4", "haswell", "znver5")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert host_note() == "znver4"


def test_a_host_whose_avx512_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "znver4", AVX2)
    target = parse_target("x86")
    assert (target.cpu, target.core.name, target.features) == ("znver4", "avx2", ("-avx512f",))
    assert runs_here(target)
    assert not runs_here(parse_target("x86:znver4"))
    assert not runs_here(parse_target("x86:x86-64-v4"))
    assert parse_target(target.name) == target
    assert host_note() == "znver4 without avx512f, which the system hides"
    assert "without avx512f" in next(row.note for row in list_targets() if row.name == "x86")


def test_a_host_without_a_part_of_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "znver4", AVX512.replace("avx512_bf16", ""))
    assert parse_target("x86").features == ("-avx512bf16",)
    assert parse_target("x86").core.name == "avx512"


@pytest.mark.parametrize(
    ("flags", "name"), [(AVX512, "x86:x86-64-v4"), (AVX2, "x86:x86-64-v3"), (SSE42, "x86:x86-64-v2")]
)
def test_a_host_that_llvm_does_not_know(monkeypatch: pytest.MonkeyPatch, flags: str, name: str) -> None:
    machine(monkeypatch, "generic", flags)
    assert parse_target("x86") == parse_target(name)
    assert runs_here(parse_target(name))


@pytest.mark.parametrize("flags", ["", "sse sse2"])
def test_a_host_of_which_nothing_is_known(monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    machine(monkeypatch, "generic", flags)
    with pytest.raises(UsageError, match="which LLVM does not know; name one"):
        parse_target("x86")


def test_without_flags_the_name_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "cascadelake", "")
    assert parse_target("x86") == parse_target("x86:cascadelake")
    assert runs_here(parse_target("x86"))


def test_unknown_features_come_with_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"no x86 CPU has a feature 'avx512vll'; nearest: avx512vl"):
        parse_target("llvm -mcpu=haswell -mattr=+avx512vll")
    with pytest.raises(UsageError, match=r"'bogus'; features are LLVM's"):
        parse_target({"kind": "llvm", "mcpu": "haswell", "mattr": ["-bogus"]})
    assert capfd.readouterr().err == ""


def test_nothing_near_is_suggested_for_nonsense() -> None:
    with pytest.raises(UsageError) as error:
        parse_target("x86:nonsense")
    assert "nearest" not in str(error.value)
    assert "tesa list targets" in str(error.value)


def test_every_listed_name_parses() -> None:
    names = [row.name for row in list_targets() if row.supported]
    assert "x86:haswell" in names
    assert "x86:core2" not in names
    assert all(isinstance(parse_target(name), Target) for name in names[1:])
    assert {row.name: row.supported for row in list_targets()}["cuda"] is True


def test_an_architecture_more_does_not_change_what_a_cpu_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that comes first, on a machine whose own architecture is unknown."""
    arm = replace(parsing.architectures()[0], name="aarch64", triple="aarch64-linux-gnu")
    monkeypatch.setattr(parsing, "architectures", lambda: (arm, *architectures()))
    monkeypatch.setattr(parsing.host, "host_architecture", lambda: None)
    assert parse_target("llvm -mcpu=haswell").name == "x86:haswell"


def test_a_colon_without_a_cpu_is_refused() -> None:
    for text in ("aarch64:", "x86:", "wasm32:"):
        with pytest.raises(UsageError, match=f"target '{text}' names no CPU behind the colon; name one, as in {text}"):
            parse_target(text)
