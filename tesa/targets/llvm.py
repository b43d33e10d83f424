"""What LLVM knows of x86 CPUs, and which of their instructions this machine lets programs use."""

from __future__ import annotations

from functools import cache
from typing import Any

from tesa.base.hostinfo import cpu_flags

TRIPLE = "x86_64-linux-gnu"

# LLVM's feature names that stand for instructions; the others are hints about speed, such as prefer-256-bit.
_INSTRUCTIONS = (
    "adx", "aes", "amx", "avx", "bmi", "f16c", "fma", "gfni", "lzcnt", "movbe", "pclmul", "popcnt", "sha", "sse",
    "ssse", "vaes", "vpclmulqdq", "xop",
)  # fmt: skip
# Linux's name of an instruction set, by LLVM's: those that /proc/cpuinfo has told since Linux 5.4. Of the others LLVM's
# word is taken.
_LINUX = {
    **{name: name for name in (
        "adx", "aes", "avx", "avx2", "bmi2", "f16c", "fma", "fma4", "gfni", "movbe", "popcnt", "sse", "sse2", "sse4a",
        "ssse3", "vaes", "vpclmulqdq", "xop", "avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl", "avx512ifma",
        "avx512vbmi",
    )},
    **{f"avx512{name}": f"avx512_{name}" for name in ("bf16", "bitalg", "fp16", "vbmi2", "vnni", "vpopcntdq")},
    **{f"amx-{name}": f"amx_{name}" for name in ("bf16", "int8", "tile")},
    "avxvnni": "avx_vnni", "avx512vp2intersect": "avx512_vp2intersect", "bmi": "bmi1", "lzcnt": "abm",
    "pclmul": "pclmulqdq", "sha": "sha_ni", "sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2",
}  # fmt: skip


@cache
def host_cpu() -> str:
    """LLVM's name of this machine's CPU, such as "znver4"; "generic" where LLVM does not know it."""
    from tvm.target import codegen

    return str(codegen.llvm_get_system_cpu())


@cache
def host_flags() -> frozenset[str]:
    """Linux's names of what programs may use here; empty where the system does not tell."""
    return cpu_flags()


def host_features() -> frozenset[str]:
    """What this machine really runs, by LLVM's names; without a word from Linux, what the CPU's name stands for."""
    named, flags = features(TRIPLE, host_cpu()), host_flags()
    if not flags:
        return named
    told = {name for name, linux in _LINUX.items() if linux in flags}
    return frozenset(told | {name for name in named if name not in _LINUX})


def hidden_features() -> tuple[str, ...]:
    """The instruction sets that this machine's CPU should have, but does not let programs use, by LLVM's names.

    Without those that go with another one of them: avx512f stands for avx512vl too.
    """
    cpu = host_cpu()
    hidden = sorted(instructions(TRIPLE, cpu) - host_features())
    ends = {name: features(TRIPLE, cpu) - features(TRIPLE, cpu, (f"-{name}",)) for name in hidden}
    return tuple(name for name in hidden if not any(name in ends[other] for other in hidden if other != name))


@cache
def cpus(triple: str) -> tuple[str, ...]:
    """The names of all CPUs that LLVM knows."""
    from tvm.target import Target as TvmTarget
    from tvm.target import codegen

    return tuple(str(cpu) for cpu in codegen.llvm_get_cpu_archlist(TvmTarget({"kind": "llvm", "mtriple": triple})))


@cache
def features(triple: str, cpu: str, extra: tuple[str, ...] = ()) -> frozenset[str]:
    """LLVM's features of a CPU, with those of extra ("+fma", "-avx2") and all that follows from them switched."""
    from tvm.target import Target as TvmTarget
    from tvm.target import codegen

    data: dict[str, Any] = {"kind": "llvm", "mtriple": triple, "mcpu": cpu}
    target = TvmTarget(data | {"mattr": list(extra)} if extra else data)
    return frozenset(str(feature) for feature in codegen.llvm_get_cpu_features(target))


def instructions(triple: str, cpu: str, extra: tuple[str, ...] = ()) -> frozenset[str]:
    """Those of the features that stand for instructions."""
    return frozenset(name for name in features(triple, cpu, extra) if name.startswith(_INSTRUCTIONS))


@cache
def known_features() -> frozenset[str]:
    """Every feature that some x86 CPU of LLVM has. To ask LLVM for another one prints a line on standard error."""
    return frozenset().union(*(features(TRIPLE, cpu) for cpu in cpus(TRIPLE)))
