"""The machine that this runs on: CPU, caches, memory. It enters an artefact only where that machine is the target."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FEATURES = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "sve",
)  # fmt: skip

_KERNEL, _BUS = Path("/proc/sys/kernel/arch"), Path("/sys/devices/system/cpu/modalias")
"""Tell of the real machine, to a program that is emulated too."""


@dataclass(frozen=True)
class Cache:
    """One level of cache. shared_by: how many logical CPUs use it together."""

    level: int
    kind: str
    bytes: int
    shared_by: int


@dataclass(frozen=True)
class Cpu:
    """A CPU. features: those that matter for kernels, by Linux's names; empty, like caches, where no system tells."""

    model: str
    arch: str
    usable: int
    features: tuple[str, ...]
    caches: tuple[Cache, ...]


def read_cpu(proc: Path = Path("/proc/cpuinfo"), sys: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> Cpu:
    """The CPU of this machine, as Linux tells it in proc and sys.

    >>> read_cpu().usable > 0
    True
    """
    facts = _cpuinfo(proc)
    present = cpu_flags(proc)
    model = facts.get("model name") or platform.processor() or "unknown"
    features = tuple(name for name in _FEATURES if name in present)
    return Cpu(model, platform.machine(), usable_cpus(), features, _caches(sys))


def architecture(name: str) -> str:
    """The one name of an architecture that systems, compilers and LLVM spell differently.

    >>> architecture("amd64"), architecture("arm64"), architecture("armv7l"), architecture("i686")
    ('x86_64', 'aarch64', 'arm', 'x86')
    """
    name = name.lower().replace("-", "_")
    known = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
    if name in known:
        return known[name]
    if name.startswith("arm"):
        return "arm"
    return "x86" if len(name) == 4 and name[0] == "i" and name.endswith("86") else name


def cpu_flags(proc: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Every instruction set that the CPU and the system let programs use, by Linux's names; empty where none is told.

    >>> cpu_flags(Path("/nowhere"))
    frozenset()
    """
    facts = _cpuinfo(proc)
    return frozenset((facts.get("flags") or facts.get("Features") or "").split())


def usable_cpus() -> int:
    """The number of logical CPUs that this process may run on.

    >>> usable_cpus() > 0
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(proc: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process can still get: of the machine, and of the control group it is in where that has a limit.

    None where the system does not tell.

    >>> free_memory(Path("/nowhere"), Path("/nowhere")) is None
    True
    """
    known = [_available(proc), _left_in_group(group)]
    return min((size for size in known if size is not None), default=None)


def _available(proc: Path) -> int | None:
    if not proc.is_file():
        return None
    lines = (line.split() for line in proc.read_text(encoding="ascii", errors="replace").splitlines())
    sizes = {words[0].rstrip(":"): words[1] for words in lines if len(words) > 1}
    return int(sizes["MemAvailable"]) * 1024 if sizes.get("MemAvailable", "").isdigit() else None


def _left_in_group(group: Path) -> int | None:
    """Bytes left to a control group, version 2, as containers have them. Pages of files that nobody uses are free."""
    try:
        limit, used = ((group / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        stat = (line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except OSError:
        return None
    if not limit.isdigit():
        return None
    idle = {words[0]: int(words[1]) for words in stat if len(words) == 2}.get("inactive_file", 0)
    return max(int(limit) - int(used) + idle, 0)


def cpuinfo(text: str) -> dict[str, str]:
    """The first CPU in the text of /proc/cpuinfo, name by name.

    >>> cpuinfo("processor : 0\\nvendor_id : AuthenticAMD\\n\\nprocessor : 1\\n")
    {'processor': '0', 'vendor_id': 'AuthenticAMD'}
    """
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def emulator(machine: str, cpu: Mapping[str, str], kernel: str = "", bus: str = "") -> str:
    """Signs, in words, that a program's machine is played by another one, so that its times are no CPU's; "" for none.

    machine: as uname tells the program; cpu: of cpuinfo; kernel, bus: the contents of /proc/sys/kernel/arch and
    /sys/devices/system/cpu/modalias, which are the real machine's. An emulator of programs, as qemu-aarch64 is, shows
    files of the system as they are.

    >>> emulator("aarch64", {"vendor_id": "AuthenticAMD", "model name": "AMD EPYC"})
    'aarch64, played by AMD EPYC'
    >>> emulator("aarch64", {"CPU implementer": "0x41"}, "aarch64")
    ''
    """
    mine = architecture(machine)
    told = bus.removeprefix("cpu:type:").partition(",")[0] if bus.startswith("cpu:type:") else ""
    real = {architecture(name) for name in (kernel, told.partition(":")[0]) if name}
    foreign = {"x86_64": "CPU implementer", "aarch64": "vendor_id"}.get(mine, "")
    if real and not any(_same(mine, name) for name in real):
        return f"{mine}, played by {cpu.get('model name') or sorted(real)[0]}"
    if foreign and foreign in cpu:
        return f"{mine}, played by {cpu.get('model name') or 'another machine'}"
    model = cpu.get("model name", "")
    whole = "QEMU TCG" in model or cpu.get("vendor_id") == "VirtualApple"
    return f"{mine}, played by {model or 'an emulator'}" if whole else ""


def _same(mine: str, real: str) -> bool:
    """True where a kernel of the architecture real runs programs of mine by itself, those of 32 bits too."""
    return real == mine or (real, mine) in (("x86_64", "x86"), ("x86", "x86_64"), ("aarch64", "arm"))


EMULATED = "emulated "
"""Begins the name of a machine that another one plays, before its architecture: no CPU is called so."""


def emulated_here() -> str:
    """Signs that this machine is played by another one, see emulator."""
    return emulator(platform.machine(), _cpuinfo(Path("/proc/cpuinfo")), _first(_KERNEL), _first(_BUS))


def _first(path: Path) -> str:
    """The first line of a file, "" where there is none."""
    try:
        return path.read_text(encoding="ascii", errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _cpuinfo(path: Path) -> dict[str, str]:
    """The lines of the first CPU."""
    return cpuinfo(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else {}


def _caches(folder: Path) -> tuple[Cache, ...]:
    found = [_cache(index) for index in sorted(folder.glob("index*"))]
    return tuple(cache for cache in found if cache is not None and cache.kind != "Instruction")


def _cache(index: Path) -> Cache | None:
    """One index folder; None where the system leaves something out, as some virtual machines do."""
    try:
        level, kind, size, shared = (
            (index / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size", "shared_cpu_list")
        )
        return Cache(int(level), kind, _bytes(size), _count(shared))
    except (OSError, ValueError):
        return None


def _bytes(text: str) -> int:
    """Linux writes "48K" or "32M"."""
    factor = {"K": 1024, "M": 1024**2}.get(text[-1], 1)
    return int(text.rstrip("KM")) * factor


def _count(ranges: str) -> int:
    """The count of numbers in a list such as "0-1,8"."""
    bounds = [part.split("-") for part in ranges.split(",")]
    return sum(int(bound[-1]) - int(bound[0]) + 1 for bound in bounds)


def crowded(threads: int) -> str:
    """A warning about times that are measured with more threads than there are CPUs; "" for no more.

    >>> crowded(1)
    ''
    """
    cpus = usable_cpus()
    if threads <= cpus:
        return ""
    return (
        f"{threads} threads are measured on {cpus} CPU{'s' if cpus > 1 else ''}: the times say little about a machine "
        "that has as many; tune on the device itself (--rpc), or choose by estimate (--no-measure)"
    )
