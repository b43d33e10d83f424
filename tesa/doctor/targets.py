"""The targets: the tools that each needs on this machine, what of them is there, and how to get the rest."""

import shutil
from collections.abc import Iterator

from tesa.base.hostinfo import Cpu, emulated_here
from tesa.build.gpu import amd, ptx, tools
from tesa.doctor.check import INFO, MISSING, OK, Check
from tesa.errors import TesaError
from tesa.measure.node.engine import INSTALL as NODE_INSTALL
from tesa.measure.node.engine import find_engine
from tesa.targets.architecture import Architecture, architectures, find

_DEVICES = "timed on devices of a tracker (--rpc)"


def target_checks(cpu: Cpu) -> Iterator[Check]:
    """The tools that each target needs on this machine."""
    here = find(cpu.arch)
    for one in architectures():
        yield _tools_of(one, one == here)
    if here is not None and cpu.features and _old(here, cpu):
        yield Check("targets", here_name(), MISSING, f"its CPU {here.needs}", _elsewhere(here))
    for name, (needed, hint) in _gpu_targets().items():
        yield _target(name, needed, hint, f"compiles, with {', '.join(needed)}")


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
    """The ways to run code of an architecture on this machine, in words, and those that could be added."""
    if here:
        return "; kernels run here", ""
    if one.runner == "node":
        found = find_engine()
        return (f"; kernels run in {found.words}", "") if found else ("", f"to run kernels: {NODE_INSTALL}")
    if shutil.which(one.emulator):
        return f"; kernels are checked by {one.emulator}, {_DEVICES}", ""
    return f"; kernels are {_DEVICES}", f"to check kernels here: apt-get install qemu-user (for {one.emulator})"


def _gpu_targets() -> dict[str, tuple[dict[str, bool], str]]:
    """The compilers for each kind of GPU, and the way to get them. A GPU is not needed."""
    return {
        "cuda": ({"PTX": bool(ptx.assembler()), "NVRTC": tools.library("nvrtc") is not None}, tools.EXTRA),
        "rocm": ({"ld.lld": bool(amd.linker())}, amd.INSTALL),
    }


def _target(name: str, tools: dict[str, bool], hint: str, ready: str, note: str = "") -> Check:
    lacking = [tool for tool, there in tools.items() if not there]
    if lacking:
        return Check("targets", name, MISSING, f"lacks {', '.join(lacking)}{note}", hint)
    return Check("targets", name, INFO if note else OK, ready + note)
