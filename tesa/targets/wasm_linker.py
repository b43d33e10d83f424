"""The linker of WebAssembly: wasm-ld, LLVM's own, or the one inside of zig. No C compiler is needed."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from tesa.base.files import atomic_path
from tesa.errors import UnsupportedError, UsageError
from tesa.targets.toolchain import Toolchain, ran

_NAME = "wasm-ld"
_OLDEST = 19  # what is older refuses what LLVM 22 writes
_VERSIONS = range(40, _OLDEST - 1, -1)
_ASK_S = 30.0
INSTALL = "apt-get install lld-22 (or lld), or: pip install ziglang"
LINK_S = 300.0
"""For a link. The first use of zig from PyPI may take a minute."""

STACK_BYTES = 256 << 10
"""For what kernels keep on the stack. It lies in front of all data, so that an overflow traps."""

_OPTIONS = (
    "--no-entry", "--gc-sections", "--strip-all", "--stack-first", "-z", f"stack-size={STACK_BYTES}",
    "--export=__heap_base", "--fatal-warnings",
)  # fmt: skip


@dataclass(frozen=True)
class WasmLinker(Toolchain):
    """The tools for WebAssembly: $WASM_LD, else the newest wasm-ld that there is, else zig's.

    What is linked has no imports: an undefined symbol is an error. Its memory is called memory, and is free from the
    address __heap_base on.
    """

    suffix: str = ".wasm"

    def found(self) -> str | None:
        """The path of the program that links, None where there is none."""
        words = self._words()
        return words[0] if words else None

    def install(self) -> str:
        """The command that installs a linker."""
        return INSTALL

    def compiler(self) -> str:
        """The command that links, in a shell's words. Raises UsageError, naming what to install, if there is none."""
        return shlex.join(self.linker())

    def linker(self) -> list[str]:
        """The words of the command that links. Raises UsageError, naming what to install, if there is none."""
        words = self._words()
        if words:
            return list(words)
        named = os.environ.get("WASM_LD")
        if named:
            raise UsageError(f"no command {named!r}, which $WASM_LD names, to link WebAssembly")
        raise UsageError(
            "no linker found for WebAssembly: install LLVM's wasm-ld (Debian and Ubuntu: apt-get install lld-22, or "
            "lld), or zig from PyPI (pip install ziglang), or name one in $WASM_LD"
        )

    def machine(self) -> str:
        """The architecture that is linked for."""
        self.linker()
        return "wasm32"

    def compile(self, source: Path | str, path: Path, options: Sequence[str] = ()) -> NoReturn:
        """Raise UnsupportedError: code for WebAssembly is made by TVM's LLVM alone."""
        raise UnsupportedError(f"cannot compile C into {path.name}: code for WebAssembly is made without a C compiler")

    def link(self, objects: Sequence[Path], path: Path, options: Sequence[str] = ()) -> None:
        """Join object files into a module at path, which appears whole or not at all.

        options: "--export=NAME" for each symbol that whoever loads the module may use.

        Raises UsageError if there is no linker, if the objects do not fit together, or if path cannot be written.
        """
        with atomic_path(path) as aside:
            command = [*self.linker(), *_OPTIONS, *options, *map(str, objects), "-o", str(aside)]
            done = ran(command, path, LINK_S)
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
                raise UsageError(f"cannot link {path.name}: {'; '.join(said[:3])}")

    def export(self, executable: Any, objects: Sequence[Path], path: Path) -> NoReturn:
        """Raise UnsupportedError: TVM's virtual machine does not run there."""
        raise UnsupportedError(
            f"cannot write {path.name}: TVM's virtual machine is not there for WebAssembly; take --format wasm, "
            "a module without a runtime"
        )

    def _words(self) -> tuple[str, ...]:
        return _find(os.environ.get("WASM_LD") or "", os.environ.get("PATH", ""))


@cache
def _find(named: str, _path: str) -> tuple[str, ...]:
    """The words of the command that links. _path: where commands are looked for, so that a change is seen."""
    if named:
        first, *rest = shlex.split(named)
        path = shutil.which(first)
        return (path, *rest) if path else ()
    for version in _VERSIONS:
        if path := shutil.which(f"{_NAME}-{version}"):
            return (path,)
    if (path := shutil.which(_NAME)) and _version(path) >= _OLDEST:
        return (path,)
    if path := shutil.which("zig"):
        return (path, "wasm-ld")
    return (sys.executable, "-m", "ziglang", "wasm-ld") if find_spec("ziglang") else ()


def _version(path: str) -> int:
    """The first number of a linker's version, 0 if it does not tell."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=_ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"LLD (\d+)\.", done.stdout)
    return int(found[1]) if found else 0
