"""Node.js: where it is, which version, and the options by which it compiles a kernel once and as well as it can."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from tesa.errors import UsageError

INSTALL = "apt-get install nodejs (20 or newer)"
_ASK_S = 60.0

# V8 runs the first calls of a function from a compiler that is quick, Liftoff, at a quarter of the speed or less
_ALWAYS = ("--no-liftoff", "--no-wasm-lazy-compilation")
_RELAXED = "--experimental-wasm-relaxed-simd"
"""For V8 before 11.4: behind it the instructions are always there."""


@dataclass(frozen=True)
class Engine:
    """A Node.js: the path of its command, its version and that of V8, as in "20.20.2" and "11.3.244.8"."""

    path: str
    node: str
    v8: str

    def flags(self, features: Iterable[str]) -> list[str]:
        """The options for code with these features of LLVM ("+relaxed-simd")."""
        wanted = [*_ALWAYS, *([_RELAXED] if "+relaxed-simd" in features else [])]
        known = _options(self.path)
        return [flag for flag in wanted if flag.replace("--no-", "--").replace("_", "-") in known]

    @property
    def words(self) -> str:
        """Both versions in words."""
        return f"Node.js {self.node}, V8 {self.v8.partition('-')[0]}"


def find_engine() -> Engine | None:
    """$NODE, else the command node (nodejs); None where there is none that runs."""
    return _find(os.environ.get("NODE") or "", os.environ.get("PATH", ""))


def engine() -> Engine:
    """The Node.js to take. Raises UsageError, naming what to install, if there is none."""
    found = find_engine()
    if found is not None:
        return found
    named = os.environ.get("NODE")
    raise UsageError(
        f"{f'no command {named!r}, which $NODE names' if named else 'no Node.js found'}, to run WebAssembly: install "
        f"it (Debian and Ubuntu: {INSTALL}), or name one in $NODE"
    )


@cache
def _find(named: str, _path: str) -> Engine | None:
    """_path: where commands are looked for, so that a change is seen."""
    for name in (named,) if named else ("node", "nodejs"):
        path = shutil.which(name)
        if path is None:
            continue
        said = _said(path, "-p", "process.versions.node + ' ' + process.versions.v8").split()
        if len(said) == 2 and re.fullmatch(r"\d+\.\d+\.\d+", said[0]):
            return Engine(path, *said)
    return None


@cache
def _options(path: str) -> frozenset[str]:
    """The options of V8 that this version knows."""
    return frozenset(re.findall(r"^\s+(--[\w-]+) ", _said(path, "--v8-options"), re.MULTILINE))


def _said(path: str, *words: str) -> str:
    try:
        done = subprocess.run([path, *words], capture_output=True, text=True, check=False, timeout=_ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
