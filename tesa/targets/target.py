"""Names of targets: a short name such as `x86` or `x86:cascadelake`, or TVM's own JSON or classic string."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tesa.errors import UnsupportedError, UsageError
from tesa.schedules.types import Core
from tesa.targets import llvm
from tesa.targets.llvm import TRIPLE

_KIB = 1024

# Data caches of one core in KiB, (L1, L2), from the vendors' optimization manuals. A family only takes a tile size
# from them, so the smaller core of a hybrid CPU decides. Never read from the machine: the code must not depend on it.
_CACHES: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("haswell", "core-avx2", "core-4th-gen-avx", "core-4th-gen-avx-tsx"), (32, 256)),
    **dict.fromkeys(("broadwell", "core-5th-gen-avx", "core-5th-gen-avx-tsx", "skylake", "x86-64-v3"), (32, 256)),
    **dict.fromkeys(("skx", "skylake-avx512", "cascadelake", "cooperlake", "x86-64-v4"), (32, 1024)),
    **dict.fromkeys(("icelake-client", "rocketlake"), (48, 512)),
    **dict.fromkeys(("icelake-server", "tigerlake"), (48, 1280)),
    **dict.fromkeys(("sapphirerapids", "emeraldrapids", "diamondrapids"), (48, 2048)),
    **dict.fromkeys(("graniterapids", "graniterapids-d"), (48, 2048)),
    **dict.fromkeys(("alderlake", "raptorlake", "meteorlake"), (32, 1280)),
    **dict.fromkeys(("arrowlake", "arrowlake-s", "lunarlake", "pantherlake"), (32, 2048)),
    **dict.fromkeys(("znver1", "znver2", "znver3"), (32, 512)),
    "znver4": (32, 1024),
    "znver5": (48, 1024),
}
_DEFAULT_CACHES = {"avx512": (32, 1024), "avx2": (32, 256)}

# What a user may ask for, that this version cannot make yet. Each name is also the architecture in an LLVM triple, or
# the kind of a TVM target.
_LATER = {
    "aarch64": "64-bit ARM", "wasm32": "WebAssembly", "riscv64": "RISC-V", "cuda": "NVIDIA GPUs", "rocm": "AMD GPUs",
}  # fmt: skip
_X86 = ("x86", "x86_64", "x86-64", "amd64")
_ALIASES = {
    "arm64": "aarch64", "wasm": "wasm32", "wasm64": "wasm32", "riscv": "riscv64", "nvptx": "cuda", "nvptx64": "cuda",
    "amdgcn": "rocm",
}  # fmt: skip
_OTHER_KINDS = ("c", "hexagon", "metal", "opencl", "trn", "vulkan", "webgpu")
_KEYS = ("kind", "mtriple", "mcpu", "mattr")
_IGNORED = ("tag", "keys", "host")  # TVM prints these for every target; they change no code of a CPU


@dataclass(frozen=True)
class Target:
    """What code is generated for. name is how the user may write it again; tvm is the dictionary that TVM takes.

    cpu: LLVM's name of the CPU; features: LLVM features on top of it ("+avx512f", "-fma"), sorted; triple: LLVM's.
    """

    name: str
    arch: str
    cpu: str
    core: Core
    features: tuple[str, ...] = ()
    triple: str = TRIPLE

    @property
    def kind(self) -> str:
        """The kind of machine, by which kernel families are registered."""
        return "cpu"

    @property
    def tvm(self) -> dict[str, object]:
        """The dictionary that tvm.target.Target takes. Holds nothing of the machine that compiles."""
        target: dict[str, object] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu}
        if self.features:
            target["mattr"] = list(self.features)
        return target


@dataclass(frozen=True)
class TargetInfo:
    """One line of `tesa list targets`: a name, whether this version can compile for it, and a remark."""

    name: str
    supported: bool
    note: str


def parse_target(text: str | Mapping[str, Any] | Target | None) -> Target:
    """The target that a user's text means. None is "x86": the CPU that this runs on, without the instructions that a
    virtual machine or the system's settings hide.

    text: a short name ("x86", "x86:cascadelake"), TVM's JSON or dictionary ({"kind": "llvm", "mcpu": "haswell"}), or
    the classic string ("llvm -mtriple=x86_64-linux-gnu -mcpu=haswell -mattr=+avx512f,+avx512vl").

    Raises UnsupportedError for an architecture that tesa has no kernels for yet, and for a CPU without AVX2 and FMA;
    UsageError, with the nearest names, for a name that nobody knows.

    >>> parse_target("x86:cascadelake").core.lanes
    16
    >>> parse_target("llvm -mcpu=haswell").name
    'x86:haswell'
    """
    if isinstance(text, Target):
        return text
    if text is None:
        return parse_target("x86")
    if isinstance(text, Mapping):
        return _from_dict(text)
    if not isinstance(text, str):
        raise UsageError(f"a target is a name, a dictionary or TVM's JSON text, not {type(text).__name__}")
    stripped = text.strip()
    if stripped.startswith("{"):
        return _from_json(stripped)
    if stripped.split(" ")[0] in ("llvm", "cuda", "rocm", *_OTHER_KINDS) or " -" in stripped:
        return _from_classic(stripped)
    return _from_short(stripped)


def host_cpu() -> str:
    """LLVM's name of this machine's CPU, such as "znver4"; "generic" where LLVM does not know it."""
    return llvm.host_cpu()


def runs_here(target: Target) -> bool:
    """True if this machine's CPU has every instruction that code for the target may hold.

    >>> runs_here(parse_target("x86")) if _host_is_x86() else True
    True
    """
    if not _host_is_x86():
        return False
    return llvm.instructions(target.triple, target.cpu, target.features) <= llvm.host_features()


def host_note() -> str:
    """This machine's CPU in words: LLVM's name, and what of it programs may not use."""
    hidden = llvm.hidden_features()
    without = f" without {', '.join(hidden)}, which the system hides" if hidden else ""
    return ("one that LLVM does not know" if host_cpu() == "generic" else host_cpu()) + without


def target_names() -> tuple[str, ...]:
    """Every short name that can be compiled for: "x86", then "x86:CPU" for each x86 CPU with AVX2 and FMA."""
    return ("x86", *(f"x86:{cpu}" for cpu in llvm.cpus(TRIPLE) if _core_name(llvm.features(TRIPLE, cpu))))


def list_targets() -> tuple[TargetInfo, ...]:
    """What `tesa list targets` prints: the usable names with their instruction set, then the ones to come."""
    note = f"this machine's CPU: {host_note()}" if _host_is_x86() else "the host is not x86-64"
    rows = [TargetInfo("x86", _host_is_x86(), note)]
    for name in target_names()[1:]:
        core = parse_target(name).core
        rows.append(TargetInfo(name, True, f"{core.name}, {core.lanes} float32 lanes"))
    rows += [TargetInfo(name, False, f"{what}: not supported yet") for name, what in _LATER.items()]
    return tuple(rows)


def _from_short(text: str) -> Target:
    arch, _, cpu = text.partition(":")
    arch = _ALIASES.get(arch.lower(), arch.lower())
    if arch in _LATER:
        raise _later(text, arch)
    if arch not in _X86:
        known = ["x86", *_LATER, *(f"x86:{name}" for name in llvm.cpus(TRIPLE))]
        bare = {name.removeprefix("x86:"): name for name in known}
        near = [bare[name] for name in get_close_matches(text, bare, n=3)] or get_close_matches(text, known, n=3)
        raise UsageError(f"unknown target {text!r}; {_nearest(near)}known are x86, x86:CPU and TVM's own forms "
                         "(see `tesa list targets`)")  # fmt: skip
    if cpu:
        return _x86(cpu, (), TRIPLE, text)
    if not _host_is_x86():
        raise UsageError(f"target {text!r} is the CPU of this machine, and that is {platform.machine()}, not x86-64; "
                         "name the CPU to compile for, as in x86:haswell")  # fmt: skip
    return _host(text)


def _host(text: str) -> Target:
    """The target "x86". A CPU that LLVM does not know is taken for the newest general one that it covers."""
    cpu = llvm.host_cpu()
    if cpu == "generic":
        general = ("x86-64-v4", "x86-64-v3")
        fits = [name for name in general if llvm.instructions(TRIPLE, name) <= llvm.host_features()]
        if not fits:
            raise UsageError(f"target {text!r} is the CPU of this machine, which LLVM does not know; name one whose "
                             "instructions it has, as in x86:haswell")  # fmt: skip
        return _x86(fits[0], (), TRIPLE, text)
    return _x86(cpu, tuple(f"-{name}" for name in llvm.hidden_features()), TRIPLE, text)


def _from_json(text: str) -> Target:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"target {text!r} is not valid JSON: {error}") from error
    return _from_dict(data)


def _from_classic(text: str) -> Target:
    kind, *options = text.split()
    data: dict[str, Any] = {"kind": kind}
    for option in options:
        match = re.fullmatch(r"--?([\w-]+)=(\S*)", option)
        if not match:
            raise UsageError(f"target {text!r}: {option!r} is not of the form -name=value, as in -mcpu=haswell")
        data[match[1]] = match[2]
    return _from_dict(data)


def _from_dict(data: Mapping[str, Any]) -> Target:
    text = json.dumps(dict(data), default=str)
    unknown = [key for key in data if key not in (*_KEYS, *_IGNORED)]
    kind = str(data.get("kind", ""))
    arch = _ALIASES.get(kind, kind)
    if arch in _LATER:
        raise _later(text, arch)
    if kind in _OTHER_KINDS:
        raise UnsupportedError(f"target {text}: kind {kind!r} is not supported; tesa compiles for x86 CPUs (kind llvm)")
    if kind != "llvm":
        near = get_close_matches(kind, ["llvm", *_LATER, *_OTHER_KINDS], n=3)
        raise UsageError(f"target {text}: unknown kind {kind!r}; {_nearest(near)}expected llvm")
    if unknown:
        raise UsageError(f"target {text}: unknown option {unknown[0]!r}; known are {', '.join(_KEYS)} "
                         "(the number of threads is given apart)")  # fmt: skip
    triple = str(data.get("mtriple") or TRIPLE)
    arch = _ALIASES.get(triple.split("-")[0].lower(), triple.split("-")[0].lower())
    if arch in _LATER:
        raise _later(text, arch)
    if arch not in _X86:
        raise UnsupportedError(f"target {text}: architecture {arch!r} is not supported; tesa compiles for x86_64")
    cpu = str(data.get("mcpu") or "x86-64")
    return _x86(cpu, _features(data.get("mattr", ()), text), triple, text)


def _features(mattr: object, text: str) -> tuple[str, ...]:
    if isinstance(mattr, str):
        mattr = [item for item in mattr.split(",") if item]
    if not isinstance(mattr, list | tuple):
        raise UsageError(f'target {text}: mattr is a list such as ["+avx512f"], not {mattr!r}')
    for item in mattr:
        if not re.fullmatch(r"[+-][\w.-]+", str(item)):
            raise UsageError(f"target {text}: {item!r} in mattr is not of the form +feature or -feature")
    features = tuple(sorted({str(item) for item in mattr}))
    for item in features:
        if item[1:] not in llvm.known_features():
            near = get_close_matches(item[1:].lower(), sorted(llvm.known_features()), n=3)
            raise UsageError(f"target {text}: no x86 CPU has a feature {item[1:]!r}; "
                             f"{_nearest(near)}features are LLVM's, such as avx512vl")  # fmt: skip
    return features


def _x86(cpu: str, extra: tuple[str, ...], triple: str, text: str) -> Target:
    names = llvm.cpus(triple)
    if cpu not in names:
        lowered = cpu.lower().replace("_", "-")
        near = get_close_matches(lowered, names, n=3)
        raise UsageError(f"target {text}: LLVM knows no x86 CPU {cpu!r}; {_nearest(near)}see `tesa list targets`")
    features = llvm.features(triple, cpu, extra)
    core = _core_name(features)
    if not core:
        raise UnsupportedError(f"target {text}: {cpu} has no AVX2 with FMA, which all of tesa's x86 kernels need; "
                               "the oldest CPU they run on is x86:haswell")  # fmt: skip
    l1, l2 = _CACHES.get(cpu.replace("_", "-"), _DEFAULT_CACHES[core])
    lanes, registers = (16, 32) if core == "avx512" else (8, 16)
    name = f"x86:{cpu}"
    if extra or triple != TRIPLE:
        mattr = f" -mattr={','.join(extra)}" if extra else ""
        name = f"llvm -mtriple={triple} -mcpu={cpu}{mattr}"
    dot = "avx512vnni" in features if core == "avx512" else "avxvnni" in features
    return Target(
        name,
        "x86",
        cpu,
        Core(core, lanes, registers, l1 * _KIB, l2 * _KIB, dot, masks=core == "avx512", writer="x86"),
        extra,
        triple,
    )


def _core_name(features: frozenset[str]) -> str:
    if not {"avx2", "fma"} <= features:
        return ""
    return "avx512" if {"avx512f", "avx512vl"} <= features else "avx2"


def _nearest(names: list[str]) -> str:
    return f"nearest: {', '.join(names)}; " if names else ""


def _later(text: str, arch: str) -> UnsupportedError:
    what = f"{_LATER[arch]} ({arch})"
    return UnsupportedError(f"target {text}: {what} not supported yet; use x86 or x86:CPU")


def _host_is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")
