"""Helpers that tests of several rooms share."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

PATIENCE_S = 600.0
"""For what must come. However busy the machine is, it has come by then; a test never waits that long otherwise."""

QUICK = {"kind": "llvm", "opt-level": 0}
"""TVM's target for what a test compiles to run it once: LLVM leaves out its optimizations, half of the time."""


FEW = os.environ.get("TESA_TEST_EXAMPLES") == "few"
"""True where a part of the examples of properties is enough, see drawn."""


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
    """Wait for a condition; fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)


def when(condition: Callable[[], object], action: Callable[[], object]) -> threading.Thread:
    """Do something in a thread as soon as a condition is true, while the test's own thread waits for what follows."""

    def wait() -> None:
        until(condition, "what was waited for")
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def children() -> set[int]:
    """The processes that this one has started, and theirs."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


def gone(pids: set[int]) -> bool:
    """Whether these processes have ended."""
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
    return True


def kill_family(pid: int) -> None:
    """Kill a process and all that it has started, if there is any left."""
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    for member in family:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            os.kill(member.pid, signal.SIGKILL)


def require_system(tool: str, package: str) -> str:
    """The path of a program from a system package. Skips the test where it is missing; under CI that is a failure."""
    path = shutil.which(tool)
    if path is not None:
        return path
    reason = f"{tool} is not installed: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (scripts/setup_system.sh must bring it for CI)")
    pytest.skip(reason)


def require_package(name: str, advice: str) -> Path:
    """The folder of an installed package, which is not imported. Skips the test where it is missing; fails under CI."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0])
    reason = f"the package {name} is not installed: {advice}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def rest_slow(values: Iterable[Any], quick: int = 1) -> list[Any]:
    """Parameters of a test: the first `quick` ones run with `make test`, the others are slow.

    A tuple has a value for each argument of the test.
    """
    found = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*value, marks=() if n < quick else pytest.mark.slow) for n, value in enumerate(found)]


def drawn(count: int, **more: Any) -> Callable[[Callable[..., Any]], Any]:
    """A property with so many examples: `make test` tries a third of them, `make test-slow` all. more: settings."""
    made = settings(max_examples=max(count // 3, 6) if FEW else count, deadline=None, **more)
    return lambda test: pytest.mark.drawn(made(test))


def with_tests() -> dict[str, str]:
    """The environment of a child that imports this package of tests, behind the tesa that is tested."""
    root = str(Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), root]))}


def logged(*files: Path) -> list[dict[str, Any]]:
    """The records in log files, in their order; a file that is not there has none."""
    lines = [line for path in files if path.exists() for line in path.read_text().splitlines()]
    return [data for data in map(json.loads, lines) if "task" in data]
