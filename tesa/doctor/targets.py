"""The targets: the tools that each needs on this machine, what of them is there, and how to get the rest."""

import os
import shutil
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

from tesa.base.hostinfo import Cpu, emulated_here
from tesa.doctor.check import INFO, MISSING, OK, Check
from tesa.errors import TesaError
from tesa.measure.node.engine import INSTALL as NODE_INSTALL
from tesa.measure.node.engine import find_engine
from tesa.targets.architecture import Architecture, architectures, find

_BITCODE = ("/opt/rocm/amdgcn/bitcode", "/usr/lib/x86_64-linux-gnu/amdgcn/bitcode")
_DEVICES = "timed on devices of a tracker (--rpc)"


def target_checks(cpu: Cpu) -> Iterator[Check]:
    """The tools that each target needs on this machine."""
    here = find(cpu.arch)
    for one in architectures():
        yield _tools_of(one, one == here)
    if here is not None and cpu.features and _old(here, cpu):
        yield Check("targets", here_name(), MISSING, f"its CPU {here.needs}", _elsewhere(here))
    made = {one.name for one in architectures()}
    for name, (tools, hint) in _later_targets().items():
        if name not in made:
            yield _target(name, tools, hint, f"has {', '.join(tools)}", "; tesa cannot compile for it yet")


def here_name() -> str:
    """The name of the line about this machine's own CPU."""
    here = _here()
    return f"{here.name if here else 'no target'}, this machine"


def host_check() -> Iterator[Check]:
    """The target that is meant where none is named, and what a virtual machine or the system hides of this CPU."""
    from tesa.targets.target import host_note, parse_target

    try:
        target = parse_target(None)
    except TesaError as error:
        yield Check("targets", here_name(), MISSING, str(error), _elsewhere(_here()))
    else:
        sign = emulated_here()
        note = f"; emulated ({sign}): its times are no CPU's" if sign else ""
        yield Check("targets", here_name(), INFO, f"{host_note()}: {target.name}, {target.core.name}{note}")


def _here() -> Architecture | None:
    from tesa.targets.host import host_architecture

    return host_architecture()


def _elsewhere(here: Architecture | None) -> str:
    one = here or architectures()[0]
    return f"name another CPU to compile for, as in {one.name}:{one.example}, and run the model there"


def _old(here: Architecture, cpu: Cpu) -> bool:
    """True where no kernel runs on this machine's CPU, by what Linux tells of it: TVM may not even load here."""
    return here.core("", frozenset(name for name, linux in here.linux.items() if linux in cpu.features)) is None


def _tools_of(one: Architecture, here: bool) -> Check:
    """The tools that link code for an architecture, and those that run it on this machine."""
    compiler = one.toolchain.found()
    if compiler is None:
        what = "a linker" if one.portable else "a C compiler"
        return Check("targets", one.name, MISSING, f"lacks {what}", one.toolchain.install())
    runs, hint = _runs(one, here)
    return Check("targets", one.name, OK if runs or not one.portable else MISSING, f"linked by {compiler}{runs}", hint)


def _runs(one: Architecture, here: bool) -> tuple[str, str]:
    """What runs code of an architecture on this machine, in words, and what more there could be."""
    if here:
        return "; kernels run here", ""
    if one.runner == "node":
        found = find_engine()
        return (f"; kernels run in {found.words}", "") if found else ("", f"to run kernels: {NODE_INSTALL}")
    if shutil.which(one.emulator):
        return f"; kernels are checked by {one.emulator}, {_DEVICES}", ""
    return f"; kernels are {_DEVICES}", f"to check kernels here: apt-get install qemu-user (for {one.emulator})"


def _later_targets() -> dict[str, tuple[dict[str, bool], str]]:
    cuda = {"nvcc": shutil.which("nvcc") is not None, "libcuda.so": find_library("cuda") is not None}
    home = os.environ.get("ROCM_PATH")
    bitcode = any(Path(folder).is_dir() for folder in ((f"{home}/amdgcn/bitcode",) if home else _BITCODE))
    return {
        "cuda": (cuda, "install CUDA and NVIDIA's driver"),
        "rocm": ({"ld.lld": _versioned("ld.lld"), "device libraries": bitcode}, "apt-get install lld rocm-device-libs"),
    }


def _target(name: str, tools: dict[str, bool], hint: str, ready: str, note: str = "") -> Check:
    lacking = [tool for tool, there in tools.items() if not there]
    if lacking:
        return Check("targets", name, MISSING, f"lacks {', '.join(lacking)}{note}", hint)
    return Check("targets", name, INFO if note else OK, ready + note)


def _versioned(name: str) -> bool:
    """Debian adds the version to the name of LLVM's tools, as in wasm-ld-19."""
    return any(shutil.which(one) for one in (name, *(f"{name}-{version}" for version in range(14, 30))))
