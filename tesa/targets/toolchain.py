"""The C compiler of a target: what compiles C for it, and joins objects into a library."""

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tesa.base.files import atomic_path
from tesa.base.hostinfo import architecture
from tesa.errors import UsageError
from tesa.targets import zig

NAMES = ("g++", "gcc", "clang++", "clang", "c++", "cc")
"""Compilers of this machine, in the order in which they are looked for."""

_ASK_S = 30.0  # for a compiler to tell what it makes code for
_COMPILE_S = 900.0  # for a file of C, which may hold hundreds of megabytes of a weight
_LINK_S = 900.0  # for a program: zig makes a C library at its first use

INSTALL = f"apt-get install g++ (or gcc, or clang), or {zig.INSTALL}"


@dataclass(frozen=True)
class Toolchain:
    """The tools for a target: $CXX or $CC where it makes code for the target, else the first that there is of others.

    command: this one alone; machines: names of machines, as Python's platform knows them, whose own compilers make code
    for the target, none for whatever this machine is; cross: compilers for it elsewhere; package: which holds the
    first of these; zig: the target as zig calls it, for zig as the last resort; static: the same, for programs that
    need no library; suffix: of a library.
    """

    command: str = ""
    machines: tuple[str, ...] = ()
    cross: tuple[str, ...] = ()
    package: str = ""
    zig: str = ""
    static: str = ""
    suffix: str = ".so"

    def found(self) -> str | None:
        """The path of the compiler, None where there is none, or not the one that the user has named."""
        named = self._named()
        if named:
            return shutil.which(named)
        names = self.cross if self.foreign else NAMES
        path = next((path for name in names if (path := shutil.which(name))), None)
        return path or (zig.compiler(self.zig) if self.zig else None)

    def install(self) -> str:
        """The command that installs a compiler."""
        other = f" (or {zig.INSTALL})" if self.zig else ""
        return f"apt-get install {self.package}{other}" if self.foreign else INSTALL

    def compiler(self) -> str:
        """The command that compiles C and links. Raises UsageError, naming a package to install, if there is none."""
        found = self.found()
        if found:
            return self._named() or found
        if self.command:
            raise UsageError(
                f"no command {self.command!r} to link code for the devices: install a cross compiler (Debian and "
                "Ubuntu, for 64-bit ARM: apt-get install g++-aarch64-linux-gnu), or name another one"
            )
        if self._named():
            raise UsageError(f"no command {self._named()!r}, which $CXX or $CC names, to link kernels")
        if self.foreign:
            raise UsageError(
                f"no C compiler found that makes code for the target: install {self.cross[0]} (Debian and Ubuntu: "
                f"apt-get install {self.package}), or zig from PyPI ({zig.INSTALL}), or name one in $CXX"
            )
        raise UsageError(
            "no C compiler found, and one is needed to link kernels: install g++, gcc or clang (Debian and Ubuntu: "
            f"apt-get install g++; Fedora: dnf install gcc-c++; PyPI: {zig.INSTALL}), or name one in $CXX"
        )

    def machine(self) -> str:
        """The architecture that the compiler makes code for, by the compiler's name of it; "" if it does not tell."""
        return _machine_of(self.compiler())

    @property
    def foreign(self) -> bool:
        """True where this machine's own compilers make no code for the target."""
        return bool(self.machines) and platform.machine().lower() not in self.machines

    def compile(self, source: Path | str, path: Path, options: Sequence[str] = ()) -> None:
        """Compile C, a file or a text, into an object file at path. Raises UsageError with the compiler's words."""
        text = source if isinstance(source, str) else None
        command = [self.compiler(), "-x", "c", "-O2", "-fPIC", *_headers(), *options, "-c"]
        with atomic_path(path) as aside:
            command += ["-" if text is not None else str(source), "-o", str(aside)]
            done = ran(command, path, _COMPILE_S, text)
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
                raise UsageError(f"cannot compile C for a kernel: {shlex.join(command)}: {'; '.join(said[:3])}")

    def link(self, objects: Sequence[Path], path: Path, options: Sequence[str] = ()) -> None:
        """Join object files into a shared library at path, which appears whole or not at all.

        Raises UsageError if there is no compiler, if the objects do not fit together, or if path cannot be written.
        """
        from tvm.support import cc

        compiler = self.compiler()
        with atomic_path(path) as aside, _errors(path):
            cc.create_shared(str(aside), [str(item) for item in objects], list(options), cc=compiler)

    def export(self, executable: Any, objects: Sequence[Path], path: Path) -> None:
        """Join what TVM has compiled and further objects into a shared library at path. Raises UsageError as link."""
        with _errors(path):
            executable.export_library(str(path), addons=[str(item) for item in objects], cc=self.compiler())

    def program(self, objects: Sequence[Path], path: Path, options: Sequence[str] = ()) -> None:
        """Join object files into a program at path that needs no library of the system. Raises UsageError as link."""
        by_zig = self.static and self.compiler() == zig.compiler(self.zig)
        command = [(by_zig and zig.compiler(self.static)) or self.compiler(), "-static"]
        with atomic_path(path) as aside:
            command += [*map(str, objects), "-o", str(aside), "-lm", *options]
            done = ran(command, path, _LINK_S)
            if done.returncode:
                raise UsageError(f"cannot link {path.name}: {_linker_says(done.stderr)}")

    def renamed(self, symbol: str, name: str, folder: Path) -> tuple[list[Path], list[str]]:
        """The objects and the options of link that let a function, called symbol in what is linked, be called name."""
        if self.zig and self.compiler() == zig.compiler(self.zig):  # it knows no --defsym
            path = folder / f"{name}-{symbol}.o"
            self.compile(_RENAMED.format(symbol=symbol, name=name), path)
            return [path], []
        return [], [f"-Wl,--defsym={name}={symbol}"]

    def _named(self) -> str:
        """The compiler that a user has named and that makes code for the target; "" for none."""
        if self.command:
            return self.command
        named = os.environ.get("CXX") or os.environ.get("CC") or ""
        return named if named and self._suits(named) else ""

    def _suits(self, named: str) -> bool:
        """True where a compiler makes code for the target. One that is missing is the user's for this machine."""
        makes = _machine_of(named)
        if not makes:
            return not self.foreign
        wanted = self.machines or (platform.machine(),)
        return architecture(makes) in map(architecture, wanted)


def ran(
    command: Sequence[str], path: Path, limit_s: float, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """A tool's run that is to write path, with what it said; text: its input. UsageError where it is too slow."""
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"cannot write {path.name}: {command[0]} was not done after {limit_s:g} s") from error


_RENAMED = """
extern int {symbol}(void*, const void*, int, void*);
int {name}(void* self, const void* args, int count, void* result) {{ return {symbol}(self, args, count, result); }}
"""
"""A packed function that calls another one."""


def _machine_of(command: str) -> str:
    """The architecture that a compiler makes code for, by its own name; "" where it does not tell, or is not there."""
    path = shutil.which(command)
    return _asked(path) if path else ""


@cache
def _asked(path: str) -> str:
    try:
        done = subprocess.run([path, "-dumpmachine"], capture_output=True, text=True, check=False, timeout=_ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("-")[0]


def _native() -> Toolchain:
    if platform.system() != "Linux":
        return Toolchain()
    machine = architecture(platform.machine())
    return Toolchain(zig=f"{machine}-linux-gnu.2.28", static=f"{machine}-linux-musl")


NATIVE = _native()
"""This machine's own."""


def _headers() -> list[str]:
    from tvm_ffi import libinfo

    return [f"-I{folder}" for folder in sorted({libinfo.find_include_path(), libinfo.find_dlpack_include_path()})]


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turn a linker's failure into a UsageError that names the library. A full disk is left to atomic_path."""
    try:
        yield
    except RuntimeError as error:
        if "No space left" in str(error):
            raise
        raise UsageError(f"cannot link {path.name}: {_linker_says(str(error))}") from error


def _linker_says(text: str) -> str:
    """The lines of a linker's output that tell what is wrong."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Command line")]
    told = [line for line in lines if "error" in line or "undefined" in line or "multiple definition" in line]
    return "; ".join((told or lines)[:3])
