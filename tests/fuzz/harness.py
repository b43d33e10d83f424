"""Runs a function on damaged inputs, in processes of their own with limits of time and memory.

A server process imports what takes long once, and forks children that try inputs; so a crash, an endless loop or a
giant allocation ends a child alone. What is tried is any function of bytes that stands in a module: `module:function`.
It returns for what is right, raises an error of tesa for what is refused; anything else that it raises is a defect.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

RIGHT, REFUSED = "right", "refused"
BAD = ("crash", "hang", "memory", "defect")
"""The kinds of outcomes that no input may have: killed by a signal, over the limit of time, of memory, exit code 70."""

SECONDS, MEMORY = 20.0, 4 << 30
LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Outcome:
    """What became of one input. kind: right, refused or one of BAD. peak: bytes that the process had in memory."""

    kind: str
    text: str
    seconds: float
    peak: int

    @property
    def bad(self) -> bool:
        """True for what must not happen."""
        return self.kind in BAD


class Harness:
    """A server for one function, `module:function`; to be used in a `with` block.

    seconds, memory: the limits of one input, in bytes and in CPU seconds, so that a busy machine finds no hangs; twice
    as many by the clock for one that only waits.
    """

    def __init__(self, target: str, *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.target, self.seconds, self.memory = target, seconds, memory
        self._server: Any = None

    def __enter__(self) -> Harness:
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS"), "1")
        root = Path(__file__).parents[2]
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(root))))  # behind an installed tesa
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.server", self.target, str(self.seconds), str(self.memory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **single, "PYTHONPATH": path},
            cwd=root, start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        server = self._server
        server.stdin.close()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        server.stdout.close()

    def run(self, data: bytes) -> Outcome:
        """The outcome of one input."""
        self._server.stdin.write(LENGTH.pack(len(data)) + data)
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of {self.target} has ended with {self._server.wait()}")
        return Outcome(**json.loads(line))

    def run_all(self, inputs: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes, Outcome]]:
        """(name, input, outcome) of each."""
        for name, data in inputs:
            yield name, data, self.run(data)


@dataclass
class Tally:
    """The counts of a run; the findings with a bad outcome are written into a folder as they come."""

    folder: Path | None = None
    suffix: str = ""
    counts: Counter[str] | None = None

    def add(self, name: str, data: bytes, outcome: Outcome) -> None:
        """Count one, and keep it where it is bad."""
        self.counts = self.counts or Counter()
        self.counts[outcome.kind] += 1
        if outcome.bad and self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{name}{self.suffix}").write_bytes(data)
            with (self.folder / "findings.txt").open("a", encoding="utf-8") as file:
                file.write(f"{name}: {outcome.kind}: {outcome.text}\n")

    def __str__(self) -> str:
        counts = self.counts or Counter()
        return ", ".join(f"{kind} {counts[kind]}" for kind in (RIGHT, REFUSED, *BAD))
