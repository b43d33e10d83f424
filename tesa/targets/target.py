"""Names of targets: a short name such as `x86` or `x86:cascadelake`, or TVM's own JSON or classic string."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tesa.base.told import Untruthful, parsed, shown
from tesa.errors import UnsupportedError, UsageError
from tesa.schedules.gpus import Gpu
from tesa.targets import host, llvm
from tesa.targets.architecture import Architecture, architectures, find
from tesa.targets.architecture import Target as Target
from tesa.targets.gpus import GpuKind, find_gpu_kind, gpu_kinds
from tesa.targets.host import host_cpu as host_cpu
from tesa.targets.host import host_note as host_note
from tesa.targets.host import runs_here as runs_here

# What a user may ask for, that this version cannot make yet. Each name is also the architecture in an LLVM triple, or
# the kind of a TVM target.
_LATER = {"riscv64": "RISC-V"}
_LATER_ALIASES = {"riscv": "riscv64"}
_OTHER_KINDS = ("c", "hexagon", "metal", "opencl", "trn", "vulkan", "webgpu")
_KEYS = ("kind", "mtriple", "mcpu", "mattr")
_IGNORED = ("tag", "keys", "host")  # TVM prints these for every target; they change no code of a CPU


@dataclass(frozen=True)
class TargetInfo:
    """One line of `tesa list targets`: a name, whether this version can compile for it, and a remark."""

    name: str
    supported: bool
    note: str


def parse_target(text: str | Mapping[str, Any] | Target | None) -> Target:
    """The target that a user's text means. None is the CPU that this runs on, without the instructions that a virtual
    machine or the system's settings hide.

    text: a short name ("x86", "x86:cascadelake"), TVM's JSON or dictionary ({"kind": "llvm", "mcpu": "haswell"}), or
    the classic string ("llvm -mtriple=x86_64-linux-gnu -mcpu=haswell -mattr=+avx512f,+avx512vl"). GPUs are named in the
    same ways: "cuda", "cuda:sm_90", "rocm:gfx90a", "cuda -arch=sm_80", {"kind": "rocm", "mcpu": "gfx942"}.

    Raises UnsupportedError for an architecture that tesa has no kernels for yet, and for a CPU that they do not run on;
    UsageError, with the nearest names, for a name that nobody knows.

    >>> parse_target("x86:cascadelake").core.lanes
    16
    >>> parse_target("llvm -mcpu=haswell").name
    'x86:haswell'
    """
    if isinstance(text, Target):
        return text
    if text is None:
        return parse_target(_native().name)
    if isinstance(text, Mapping):
        return _from_dict(text)
    if not isinstance(text, str):
        raise UsageError(f"a target is a name, a dictionary or TVM's JSON text, not {type(text).__name__}")
    stripped = text.strip()
    if stripped.startswith("{"):
        try:
            data = parsed(stripped)
        except Untruthful as error:
            raise UsageError(f"target {shown(stripped)} is not valid JSON: {error}") from error
        return _from_dict(data)
    if stripped.split(" ")[0] in ("llvm", *(one.name for one in gpu_kinds()), *_OTHER_KINDS) or " -" in stripped:
        return _from_classic(stripped)
    return _from_short(stripped)


def refuse_gpu(target: Target, what: str) -> None:
    """Raise UnsupportedError for a GPU, which `what`, a verb or an option in words, does not know.

    >>> refuse_gpu(parse_target("x86:haswell"), "tesa analyze")
    """
    if target.gpu is not None:
        raise UnsupportedError(
            f"{what}: knows CPUs alone, not {target.name}; `tesa compile --target {target.name}` chooses kernels by "
            "the static model of time, or measures the best ones itself where it finds a GPU's driver, "
            f"`tesa analyze --target {target.name}` predicts by that model, and `tesa tune` measures where the GPU is"
        )


def list_targets() -> tuple[TargetInfo, ...]:
    """The lines of `tesa list targets`: the usable names with their instruction set, then the ones to come."""
    rows = []
    for one in architectures():
        here = host.host_architecture() == one
        note = f"this machine's CPU: {host_note()}" if here else f"the host is not {one.title}"
        if meant := one.bare or ("" if here else one.elsewhere):
            here, note = True, f"{one.title}, as {one.name}:{meant}"
        rows.append(TargetInfo(one.name, here, note))
        for cpu in one.cpus():
            target = _target(one, cpu, (), one.triple, cpu)
            rows.append(TargetInfo(target.name, True, f"{target.core.name}, {target.core.lanes} float32 lanes"))
    for kind in gpu_kinds():
        rows.append(TargetInfo(kind.name, True, f"{kind.title}, as {kind.target().name}"))
        rows += [TargetInfo(f"{kind.name}:{name}", True, _gpu_note(gpu)) for name, gpu in kind.gpus.items()]
    return (*rows, *(TargetInfo(name, False, f"{what}: not supported yet") for name, what in _later().items()))


def _gpu_note(gpu: Gpu) -> str:
    kinds = dict.fromkeys(unit.inputs for unit in gpu.matrices)
    matrices = f", matrices of {', '.join(kinds)}" if kinds else ""
    return f"{gpu.multiprocessors} multiprocessors, warps of {gpu.warp}{matrices}"


def _later() -> dict[str, str]:
    """The names of _LATER that no architecture has yet."""
    return {name: what for name, what in _LATER.items() if find(name) is None}


def _from_short(text: str) -> Target:
    name, _, cpu = text.partition(":")
    architecture, gpus = find(name), find_gpu_kind(name)
    if gpus is not None:
        if text.endswith(":"):
            raise UsageError(f"target {text!r} names no architecture behind the colon, as in {gpus.name}:{gpus.plain}")
        return gpus.target(cpu, text)
    if architecture is None:
        _refuse_later(text, name)
        raise UsageError(f"unknown target {text!r}; {_near_names(text)}known are {_forms()} and TVM's own forms "
                         "(see `tesa list targets`)")  # fmt: skip
    if text.endswith(":"):
        raise UsageError(
            f"target {text!r} names no CPU behind the colon; name one, as in {_example(architecture)}, or write {name}"
        )
    if cpu or architecture.bare:
        return _target(architecture, cpu or architecture.bare, (), architecture.triple, text)
    if host.host_architecture() != architecture:
        if architecture.elsewhere:
            return _target(architecture, architecture.elsewhere, (), architecture.triple, text)
        raise UsageError(
            f"target {text!r} is the CPU of this machine, and that is {host.machine()}, not {architecture.title}; "
            f"name the CPU to compile for, as in {_example(architecture)}"
        )
    return _host(architecture, text)


def _host(here: Architecture, text: str) -> Target:
    """This machine's CPU. One that LLVM does not know is taken for the newest general one that it covers."""
    cpu = host_cpu()
    if cpu == "generic":
        fits = [name for name in here.general if here.needed(name) <= host.host_features(here)]
        if not fits:
            raise UsageError(f"target {text!r} is the CPU of this machine, which LLVM does not know; name one whose "
                             f"instructions it has, as in {_example(here)}")  # fmt: skip
        return _target(here, fits[0], (), here.triple, text)
    return _target(here, cpu, tuple(f"-{name}" for name in host.hidden_features(here)), here.triple, text)


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
    gpus = _gpu_kind(data)
    if gpus is not None:
        return gpus.of_dictionary(data, text)
    _check_kind(str(data.get("kind", "")), text)
    triple = str(data.get("mtriple") or _native(str(data.get("mcpu") or "")).triple)
    name = triple.split("-")[0].lower()
    architecture = find(name)
    if architecture is None:
        _refuse_later(text, name)
        known = ", ".join(one.triple.split("-")[0] for one in architectures())
        raise UnsupportedError(f"target {text}: architecture {name!r} is not supported; tesa compiles for {known}")
    known_keys = (*_KEYS, *dict(architecture.options))
    unknown = [key for key in data if key not in (*known_keys, *_IGNORED)]
    if unknown:
        raise UsageError(f"target {text}: unknown option {unknown[0]!r}; known are {', '.join(known_keys)} "
                         "(the number of threads is given apart)")  # fmt: skip
    cpu = str(data.get("mcpu") or architecture.plain)
    return _target(architecture, cpu, _features(architecture, data.get("mattr", ()), text), triple, text)


def _gpu_kind(data: Mapping[str, Any]) -> GpuKind | None:
    """The kind of GPUs that TVM's dictionary means, by its kind or its tag; None for a CPU."""
    found = find_gpu_kind(str(data.get("kind", "")))
    triple = str(data.get("mtriple", "")).split("-")[0]
    return found if found is not None else find_gpu_kind(triple) if triple else None


def _native(cpu: str = "") -> Architecture:
    """The architecture that is meant where none is named: this machine's, if LLVM knows such a CPU of it."""
    here = host.host_architecture()
    order = [*([here] if here is not None else []), *architectures()]
    return next((one for one in order if not cpu or cpu in llvm.cpus(one.triple)), order[0])


def _check_kind(kind: str, text: str) -> None:
    if kind == "llvm":
        return
    _refuse_later(text, kind)
    if kind in _OTHER_KINDS:
        raise UnsupportedError(f"target {text}: kind {kind!r} is not supported; tesa compiles for "
                               f"{_forms()} (kind llvm)")  # fmt: skip
    near = get_close_matches(kind, ["llvm", *(one.name for one in gpu_kinds()), *_later(), *_OTHER_KINDS], n=3)
    raise UsageError(f"target {text}: unknown kind {kind!r}; {_nearest(near)}expected llvm")


def _features(architecture: Architecture, mattr: object, text: str) -> tuple[str, ...]:
    """The features that a user switches, beside those of the CPU and of the architecture, sorted."""
    if isinstance(mattr, str):
        mattr = [item for item in mattr.split(",") if item]
    if not isinstance(mattr, list | tuple):
        raise UsageError(f'target {text}: mattr is a list such as ["+avx512f"], not {mattr!r}')
    for item in mattr:
        if not re.fullmatch(r"[+-][\w.-]+", str(item)):
            raise UsageError(f"target {text}: {item!r} in mattr is not of the form +feature or -feature")
    features = tuple(sorted({str(item) for item in mattr} - set(architecture.features)))
    known = llvm.known_features(architecture.triple)
    for item in features:
        if item[1:] not in known:
            near = get_close_matches(item[1:].lower(), sorted(known), n=3)
            raise UsageError(f"target {text}: no {architecture.name} CPU has a feature {item[1:]!r}; "
                             f"{_nearest(near)}features are LLVM's, such as avx512vl")  # fmt: skip
    return features


def _target(architecture: Architecture, cpu: str, extra: tuple[str, ...], triple: str, text: str) -> Target:
    names = (*llvm.cpus(triple), *architecture.named)
    if cpu in architecture.named:
        cpu, given = architecture.named[cpu]
        extra = tuple(sorted({*given, *extra}))
    if cpu not in names:
        near = get_close_matches(cpu.lower().replace("_", "-"), names, n=3)
        raise UsageError(f"target {text}: LLVM knows no {architecture.name} CPU {cpu!r}; {_nearest(near)}"
                         "see `tesa list targets`")  # fmt: skip
    features = tuple(sorted({*architecture.features, *extra}))
    core = architecture.core(cpu, llvm.features(triple, cpu, features))
    if core is None:
        raise UnsupportedError(f"target {text}: {cpu} {architecture.needs}")
    short = {value: key for key, value in architecture.named.items()}.get((cpu, extra))
    name = f"{architecture.name}:{short or cpu}"
    if (extra and not short) or triple != architecture.triple:
        mattr = f" -mattr={','.join(extra)}" if extra else ""
        name = f"llvm -mtriple={triple} -mcpu={cpu}{mattr}"
    return Target(name, architecture.name, cpu, core, features, triple, options=architecture.options,
                  toolchain=architecture.toolchain, runner=architecture.runner,
                  runtime=architecture.runtime, portable=architecture.portable)  # fmt: skip


def _refuse_later(text: str, name: str) -> None:
    name = _LATER_ALIASES.get(name.lower(), name.lower())
    if name in _later():
        raise UnsupportedError(f"target {text}: {_LATER[name]} ({name}) not supported yet; use {_forms(' or ')}")


def _near_names(text: str) -> str:
    full = {f"{one.name}:{cpu}": cpu for one in architectures() for cpu in (*llvm.cpus(one.triple), *one.named)}
    full |= {f"{one.name}:{gpu}": gpu for one in gpu_kinds() for gpu in one.gpus}
    known = [*(one.name for one in architectures()), *(one.name for one in gpu_kinds()), *_later(), *full]
    bare = {full.get(name, name): name for name in known}
    return _nearest([bare[name] for name in get_close_matches(text, bare, n=3)] or get_close_matches(text, known, n=3))


def _forms(between: str = ", ") -> str:
    """The forms of a short name."""
    forms = [form for one in architectures() for form in (one.name, f"{one.name}:CPU")]
    forms += [form for one in gpu_kinds() for form in (one.name, f"{one.name}:{one.plain}")]
    return between.join(forms)


def _example(architecture: Architecture) -> str:
    return f"{architecture.name}:{architecture.example}"


def _nearest(names: list[str]) -> str:
    return f"nearest: {', '.join(names)}; " if names else ""
