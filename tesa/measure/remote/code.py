"""Libraries that go to a device: a kernel with the code that checks and times it, and the known-good check alone."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tesa.base.files import atomic_path
from tesa.build.objects import c_compiler, link_errors
from tesa.errors import UsageError
from tesa.measure.local import Built

_ASK_S = 30.0  # for a compiler to tell what it makes code for
_COMPILE_S = 120.0  # for device.c

SOURCE = Path(__file__).with_name("device.c")
"""The functions in C that are linked into every library."""


@dataclass(frozen=True)
class Toolchain:
    """The C compiler that makes code for the devices, with a folder for its output.

    command: such as "aarch64-linux-gnu-gcc"; by default this machine's.
    """

    folder: Path
    command: str | None = None

    @cached_property
    def machine(self) -> str:
        """The architecture that the compiler makes code for, by the compiler's name of it; "" if it does not tell."""
        words = [self._compiler(), "-dumpmachine"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_ASK_S)
        return done.stdout.strip().partition("-")[0]

    def probe(self) -> Path:
        """The library of the known-good check. Raises UsageError, once and not for each candidate, if none works."""
        path = self.folder / "tesa_probe.so"
        if not path.exists():
            self._link([self._tools()], path, [])
        return path

    def link(self, kernel: Built, path: Path) -> None:
        """The kernel's library at path. Raises UsageError if its objects do not fit together."""
        options = [f"-Wl,--defsym=tesa_candidate=__tvm_ffi_{kernel.symbol}"]
        self._link([*kernel.objects, self._tools()], path, options)

    def _link(self, objects: list[Path], path: Path, options: list[str]) -> None:
        from tvm.support import cc

        with atomic_path(path) as aside, link_errors(path):
            cc.create_shared(str(aside), [str(item) for item in objects], options, cc=self._compiler())

    def _compiler(self) -> str:
        if self.command is None:
            return c_compiler()
        found = shutil.which(self.command)
        if found is None:
            raise UsageError(
                f"no command {self.command!r} to link code for the devices: install a cross compiler (Debian and "
                "Ubuntu, for 64-bit ARM: apt-get install g++-aarch64-linux-gnu), or name another one"
            )
        return found

    def _tools(self) -> Path:
        path = self.folder / "device.o"
        if path.exists():
            return path
        from tvm_ffi import libinfo

        headers = [f"-I{libinfo.find_include_path()}", f"-I{libinfo.find_dlpack_include_path()}"]
        flags = ["-x", "c", "-std=gnu11", "-O2", "-fPIC", *headers, "-c", str(SOURCE)]
        with atomic_path(path) as aside:
            command = [self._compiler(), *flags, "-o", str(aside)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMPILE_S)
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if "error" in line]
                raise UsageError(f"cannot compile what checks a device: {shlex.join(command)}: {'; '.join(said[:3])}")
        return path
