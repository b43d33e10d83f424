"""The process that tries inputs in children of its own: `python -m tests.fuzz.server MODULE:FUNCTION SECONDS MEMORY`.

A child tries many inputs, one after the other: what it imports and remembers is made once. One that comes to a bad end
after others is tried again in a child of its own, so that each finding stands for itself.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from tesa.errors import TesaError
from tests.fuzz.harness import BAD, LENGTH

ROOM = 4 << 30  # address space beyond the limit: what is reserved and never touched is no memory
INPUTS = 100  # of one child
_ASLEEP = 0.02  # of a processor: a child that takes less of it, and does not want more, waits for something


def main(target: str, seconds: float, memory: int) -> None:
    """Answer each input on stdin with one line of JSON on stdout."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    if not os.environ.get("TESA_FUZZ_STDERR"):
        os.dup2(sink, 2)
    module, _, name = target.partition(":")
    function = getattr(import_module(module), name)
    child = _Child(function, seconds, memory)
    while (data := _read(sys.stdin.buffer)) is not None:
        child, found = _judged(child, data)
        print(json.dumps(found), file=replies, flush=True)
    child.end()


def _judged(child: _Child, data: bytes) -> tuple[_Child, dict[str, Any]]:
    """(the child for the next input, the fields of an Outcome)."""
    if child.tried >= INPUTS:
        child.end()
        child = child.another()
    others = child.tried
    found = child.judged(data)
    if found["kind"] not in BAD:
        return child, found
    child.end()
    child = child.another()
    if not others:
        return child, found
    again = child.judged(data)
    if again["kind"] in BAD:
        child.end()
        return child.another(), again
    if found["kind"] in ("hang", "memory"):  # the machine was busy, or what was remembered of others was large
        return child, again
    return child, {**found, "text": f"behind {others} others, and not alone: {found['text']}"}


class _Child:
    """A process that tries inputs with limits of CPU seconds and bytes of memory for each."""

    def __init__(self, function: Callable[[bytes], Any], seconds: float, memory: int) -> None:
        self.function, self.seconds, self.memory = function, seconds, memory
        self.tried = 0
        inputs, self._inputs = os.pipe()
        self._answers, answers = os.pipe()
        self._child = os.fork()
        if not self._child:
            os.close(self._inputs)
            os.close(self._answers)
            _serve(function, inputs, answers, seconds, memory)
        os.close(inputs)
        os.close(answers)

    def another(self) -> _Child:
        """A new one."""
        return _Child(self.function, self.seconds, self.memory)

    def end(self) -> None:
        """End it, where it has not ended."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            self._wait()

    def judged(self, data: bytes) -> dict[str, Any]:
        """Try one input: the fields of an Outcome."""
        start = time.monotonic()
        self.tried += 1
        with suppress(BrokenPipeError):  # it has ended; how, is seen below
            _write(self._inputs, data)
        text, late = self._answer()
        spent, died, peak = round(time.monotonic() - start, 3), 0, 0
        if late or not text:
            if late:
                os.kill(self._child, signal.SIGKILL)
            died, peak = self._wait()
        head, _, text = text.partition(" ")
        kind, _, text = text.partition(" ")
        peak = int(head or peak)
        if late or died == signal.SIGXCPU:
            kind, text = "hang", f"over {self.seconds:g} s"
        elif died > 0 or not kind:
            kind, text = "crash", signal.Signals(died).name if died > 0 else f"ended with {-died}"
        elif peak > self.memory:
            kind, text = "memory", f"{peak >> 20} MB; {kind}: {text}"
        return {"kind": kind, "text": text, "seconds": spent, "peak": peak}

    def _wait(self) -> tuple[int, int]:
        """(the signal that has ended it, or its exit code below 0; bytes that it had in memory)."""
        os.close(self._inputs)
        os.close(self._answers)
        _, status, usage = os.wait4(self._child, 0)
        self._child = 0
        return -os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024

    def _answer(self) -> tuple[str, bool]:
        """(what it has answered, nothing if it has ended; whether it sleeps and will not answer).

        A child at work is ended by its limit of CPU seconds, later on a busy machine.
        """
        parts, spent = bytearray(), _cpu_seconds(self._child)
        until = time.monotonic() + 2 * self.seconds
        while True:
            ready, _, _ = select.select([self._answers], [], [], max(until - time.monotonic(), 0))
            if not ready:
                before, spent = spent, _cpu_seconds(self._child)
                if spent - before < _ASLEEP * 2 * self.seconds and not _runs(self._child):
                    return "", True
                until = time.monotonic() + 2 * self.seconds
                continue
            part = os.read(self._answers, 1 << 16)
            if not part:
                return "", False
            parts += part
            if len(parts) >= LENGTH.size and len(parts) - LENGTH.size >= LENGTH.unpack_from(parts)[0]:
                return parts[LENGTH.size :].decode(errors="replace"), False


def _serve(function: Callable[[bytes], Any], inputs: int, answers: int, seconds: float, memory: int) -> None:
    """In the child: try what comes, until nothing comes. An answer is "peak kind text"."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        stream = os.fdopen(inputs, "rb")
        while (data := _read(stream)) is not None:
            _limit(seconds, memory)
            text = _said(function, data)
            _write(answers, f"{_peak()} {text}".encode(errors="replace")[:60000])
    finally:
        os._exit(1)


def _limit(seconds: float, memory: int) -> None:
    """Set the limits for one input, above what this process has used until now, and begin to look for its peak."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    infinite = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory + ROOM, infinite))
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, infinite))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> int:
    """Bytes that this process had in memory since the last limit was set."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split(None, 1)[0]) << 10


def _cpu_seconds(process: int) -> float:
    """CPU seconds that all threads of a process have used."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:  # it has just ended
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _runs(process: int) -> bool:
    """True where a thread of a process runs, or would if the machine were less busy."""
    for _ in range(20):
        for path in Path(f"/proc/{process}/task").glob("*/stat"):
            try:
                if path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] in "RD":
                    return True
            except OSError:  # it has just ended
                continue
        time.sleep(0.05)
    return False


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(LENGTH.size)
    return stream.read(*LENGTH.unpack(head)) if len(head) == LENGTH.size else None


def _write(file: int, data: bytes) -> None:
    """Write the length of the data, and them, into a pipe."""
    rest = memoryview(LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _said(function: Callable[[bytes], Any], data: bytes) -> str:
    try:
        return f"right {function(data) or ''}"
    except TesaError as error:
        return f"{'memory' if _is_memory(error) else 'refused'} {error}"
    except MemoryError as error:
        return f"memory {error}"
    except BaseException as error:
        import traceback

        return f"defect {type(error).__name__}: {error}\n{''.join(traceback.format_tb(error.__traceback__)[-6:])}"


def _is_memory(error: BaseException | None) -> bool:
    """True for an error that was caused by an allocation that failed: with more memory it would have taken it."""
    while error is not None:
        if isinstance(error, MemoryError) or "bad_alloc" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
