"""This machine: its architecture, its CPU, and the instructions that programs may use."""

import platform
from functools import cache

from tesa.base.hostinfo import cpu_flags, emulated_here
from tesa.targets import llvm
from tesa.targets.architecture import Architecture, Target, find


def machine() -> str:
    """The machine's name of its architecture, such as "x86_64"."""
    return platform.machine().lower()


def host_architecture() -> Architecture | None:
    """This machine's architecture, None where code cannot be made for it."""
    return find(machine())


def host_cpu() -> str:
    """LLVM's name of this machine's CPU, such as "znver4"; "generic" where LLVM does not know it."""
    return llvm.host_cpu()


@cache
def host_flags() -> frozenset[str]:
    """Linux's names of what programs may use here; empty where the system does not tell it, or of another one."""
    return frozenset() if emulated_here() else cpu_flags()


def host_features(here: Architecture) -> frozenset[str]:
    """The features that this machine really has, by LLVM's names; those of the CPU's name where Linux tells nothing."""
    named, flags = llvm.features(here.triple, host_cpu()), host_flags()
    if not flags:
        return named
    told = {name for name, linux in here.linux.items() if linux in flags}
    return frozenset(told | {name for name in named if name not in here.linux})


def hidden_features(here: Architecture) -> tuple[str, ...]:
    """The instruction sets that this machine's CPU should have, but does not let programs use, by LLVM's names.

    Without those that go with another one of them: avx512f stands for avx512vl too.
    """
    cpu, triple = host_cpu(), here.triple
    hidden = sorted(here.needed(cpu) - host_features(here))
    ends = {name: llvm.features(triple, cpu) - llvm.features(triple, cpu, (f"-{name}",)) for name in hidden}
    return tuple(name for name in hidden if not any(name in ends[other] for other in hidden if other != name))


def host_note() -> str:
    """This machine's CPU in words: LLVM's name, and what of it programs may not use."""
    here = host_architecture()
    hidden = hidden_features(here) if here else ()
    without = f" without {', '.join(hidden)}, which the system hides" if hidden else ""
    return ("one that LLVM does not know" if host_cpu() == "generic" else host_cpu()) + without


def runs_here(target: Target) -> bool:
    """True if this machine's CPU has every instruction that code for the target may hold."""
    here = host_architecture()
    if here is None or here.name != target.arch:
        return False
    return here.needed(target.cpu, target.features, target.triple) <= host_features(here)
