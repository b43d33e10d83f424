"""The emulator of programs for a target, and what runs in it: qemu-user, with a CPU that has what the target's has."""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tesa.targets.architecture import Target, find

_ASK_S = 30.0
_ANY = "max"
"""The CPU of an emulator that has every instruction it knows."""


class Ended(Exception):
    """A program did not come to a good end. late: it had to be ended; otherwise the text says how it died."""

    def __init__(self, message: str, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


@dataclass(frozen=True)
class Emulator:
    """A command that runs programs for another architecture. cpu: the one that it plays."""

    command: str
    cpu: str

    def run(self, program: Path, arguments: Sequence[str], limit_s: float) -> str:
        """The program's standard output. Raises Ended where it fails, crashes or is too slow."""
        words = [self.command, "-cpu", self.cpu, str(program), *arguments]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=limit_s, errors="replace")
        except subprocess.TimeoutExpired as error:
            raise Ended(f"no result after {limit_s:g} s", late=True) from error
        if done.returncode:
            raise Ended(_death(done.returncode, done.stderr))
        return done.stdout


def lacking_emulator(target: Target) -> str:
    """The lack that keeps this machine from emulating the target, with what to install; "" for nothing."""
    architecture = find(target.arch)
    command = "" if architecture is None else architecture.emulator
    if not command:
        return f"there is no emulator of programs for {target.arch}"
    if shutil.which(command) is None:
        return f"{command} is not installed (Debian and Ubuntu: apt-get install qemu-user)"
    if target.toolchain.found() is None:
        return f"there is no C compiler for {target.arch} ({target.toolchain.install()})"
    return ""


def emulator_for(target: Target) -> Emulator:
    """The emulator for a target that lacks nothing, see lacking_emulator.

    It plays the target's own CPU where it knows that and the target adds no instructions to it: what the CPU lacks
    ends a program there too.
    """
    architecture = find(target.arch)
    assert architecture is not None
    known = _cpus(architecture.emulator)
    own = target.cpu if target.cpu in known and not target.features else _ANY
    return Emulator(architecture.emulator, own)


@cache
def _cpus(command: str) -> frozenset[str]:
    done = subprocess.run([command, "-cpu", "help"], capture_output=True, text=True, check=False, timeout=_ASK_S)
    return frozenset(line.split()[-1] for line in done.stdout.splitlines() if line.startswith(" "))


def _death(code: int, errors: str) -> str:
    lines = errors.strip().splitlines()
    caught = next((line for line in lines if "target signal" in line), "")  # qemu: uncaught target signal 4 (...)
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if number in {int(one) for one in signal.Signals}:
        words = caught.partition("(")[2].partition(")")[0]
        return f"ended by {signal.Signals(number).name}{f' ({words})' if words else ''}"
    return lines[-1] if lines else f"exit code {code}"
