"""Looks at the machine and the installation, and says what is missing for which target."""

import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tesa.base.display import Displayed
from tesa.base.extras import install
from tesa.base.files import cache_dir
from tesa.base.hostinfo import Cpu, read_cpu
from tesa.base.scratch import Scratch
from tesa.doctor.check import FAILED, INFO, MISSING, OK, Check
from tesa.doctor.selftest import STEPS
from tesa.doctor.targets import here_name, host_check, target_checks
from tesa.targets.toolchain import INSTALL, NATIVE

_OPTIONAL = {"onnxruntime": "bench", "matplotlib": "plot"}
_SELF_TEST = (sys.executable, "-m", "tesa.doctor.selftest")


@dataclass(frozen=True)
class Diagnosis(Displayed):
    """Everything that was looked at."""

    checks: tuple[Check, ...]
    cpu: Cpu

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == FAILED)


def examine() -> Diagnosis:
    """Look at everything. Takes a few seconds: a kernel is built and run in a child process."""
    cpu = read_cpu()
    tested = list(self_test())
    targets = list(target_checks(cpu))
    old = any(check.name == here_name() for check in targets)
    if not old and all(check.status == OK for check in tested):  # else the import of TVM may end this process
        place = next((i + 1 for i, check in enumerate(targets) if here_name().startswith(f"{check.name},")), 0)
        targets[place:place] = host_check()
    checks = (*versions(), *tested, *_cpu_checks(cpu), *_tools(), *targets, cache_check(cache_dir()))
    return Diagnosis(checks, cpu)


def versions() -> Iterator[Check]:
    """The versions of what tesa stands on. Those that it pins exactly must be exactly those."""
    yield Check("versions", "python", OK, platform.python_version())
    yield Check("versions", "tesa", OK, importlib.metadata.version("tesa"))
    pins = dict(_pins())
    for name in ("apache-tvm", "apache-tvm-ffi", "numpy", "onnx", *_OPTIONAL):
        yield _version(name, pins.get(name))


def _pins() -> Iterator[tuple[str, str]]:
    for requirement in importlib.metadata.requires("tesa") or ():
        match = re.fullmatch(r"([\w.-]+)==([\w.]+)", requirement.strip())
        if match:
            yield match[1], match[2]


def _version(name: str, pin: str | None) -> Check:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if name in _OPTIONAL:
            return Check("versions", name, MISSING, "not installed", install(_OPTIONAL[name]))
        return Check("versions", name, FAILED, "not installed", f"pip install {name}{f'=={pin}' if pin else ''}")
    if pin is not None and version != pin:
        why = "another version of the pair can end the process without a message"
        return Check("versions", name, FAILED, f"{version}, not {pin}", f"pip install {name}=={pin}: {why}")
    return Check("versions", name, OK, f"{version}, as pinned" if pin else version)


def self_test(command: Sequence[str] = _SELF_TEST, timeout_s: float = 120) -> Iterator[Check]:
    """The findings of `python -m tesa.doctor.selftest`, one check per step, also where it did not live to the end."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with Scratch() as folder:
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=timeout_s, cwd=folder, env=env
            )
            out, errors, code = child.stdout, child.stderr, child.returncode
        except subprocess.TimeoutExpired as late:
            out = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
            errors, code = f"no answer within {timeout_s:g} s", 1
    done = [json.loads(line) for line in out.splitlines() if line.startswith('{"step"')]
    for line in done:
        yield Check("self-test", line["step"], OK if line["ok"] else FAILED, line["text"], _self_test_hint(line))
    if all(line["ok"] for line in done) and len(done) < len(STEPS):
        yield Check("self-test", STEPS[len(done)], FAILED, _death(code, errors), _self_test_hint({"ok": False}))


def _death(code: int, errors: str) -> str:
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    last = errors.strip().splitlines()[-1:] or ["no message"]
    return f"the process ended with code {code}: {last[0]}"


def _self_test_hint(line: dict[str, object]) -> str:
    if line["ok"]:
        return ""
    if not NATIVE.found():
        return f"install a compiler: {INSTALL}"
    return "install the pair that tesa pins: " + " ".join(f"{name}=={pin}" for name, pin in _pins())


def _cpu_checks(cpu: Cpu) -> Iterator[Check]:
    yield Check("cpu", "model", INFO, f"{cpu.model}, {cpu.arch}, {cpu.usable} usable")
    yield Check("cpu", "features", INFO, " ".join(cpu.features) or "the system does not tell")
    caches = (f"L{c.level} {c.kind.lower()} {c.bytes // 1024} KiB shared by {c.shared_by}" for c in cpu.caches)
    yield Check("cpu", "caches", INFO, ", ".join(caches) or "the system does not tell")


def _tools() -> Iterator[Check]:
    found = NATIVE.found()
    named = next((name for name in ("CXX", "CC") if os.environ.get(name)), "")
    if found:
        yield Check("tools", "compiler", OK, found)
    elif named:
        text = f"{os.environ[named]}, which ${named} names, is not there"
        yield Check("tools", "compiler", FAILED, text, f"unset ${named}, or let it name g++, gcc or clang")
    else:
        yield Check("tools", "compiler", FAILED, "none found", f"it links every compiled model: {INSTALL}")


def cache_check(folder: Path) -> Check:
    """The cache folder and how much is in it."""
    if not folder.is_dir():
        return Check("cache", str(folder), INFO, "empty")
    files = [path for path in folder.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    return Check("cache", str(folder), INFO, f"{len(files)} files, {total / 1e6:.1f} MB; may be deleted at any time")
