"""The process that forks a child for each input: `python -m tests.fuzz.server MODULE:FUNCTION SECONDS MEMORY`."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from tesa.errors import TesaError
from tests.fuzz.harness import LENGTH

ROOM = 4 << 30  # address space beyond the limit: what is reserved and never touched is no memory


def main(target: str, seconds: float, memory: int) -> None:
    """Answer each input on stdin with one line of JSON on stdout."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    if not os.environ.get("TESA_FUZZ_STDERR"):
        os.dup2(sink, 2)
    module, _, name = target.partition(":")
    function = getattr(import_module(module), name)
    while (data := _read(sys.stdin.buffer)) is not None:
        print(json.dumps(_judged(function, data, seconds, memory)), file=replies, flush=True)


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(LENGTH.size)
    return stream.read(*LENGTH.unpack(head)) if len(head) == LENGTH.size else None


def _judged(function: Callable[[bytes], Any], data: bytes, seconds: float, memory: int) -> dict[str, Any]:
    """Run the function in a child: the fields of an Outcome."""
    reader, writer = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if not child:
        os.close(reader)
        _child(function, data, writer, seconds, memory)
    os.close(writer)
    text, late = _answer(reader, start + 2 * seconds)
    if late:
        os.kill(child, signal.SIGKILL)
    os.close(reader)
    _, status, usage = os.wait4(child, 0)
    peak, spent = usage.ru_maxrss * 1024, round(time.monotonic() - start, 3)
    died = -os.waitstatus_to_exitcode(status)
    kind, _, text = text.partition(" ")
    if late or died == signal.SIGXCPU:
        kind, text = "hang", f"over {seconds:g} s"
    elif died > 0 or not kind:
        kind, text = "crash", signal.Signals(died).name if died > 0 else f"ended with {-died}"
    elif peak > memory:
        kind, text = "memory", f"{peak >> 20} MB; {kind}: {text}"
    return {"kind": kind, "text": text, "seconds": spent, "peak": peak}


def _answer(reader: int, until: float) -> tuple[str, bool]:
    """(what the child wrote, whether it took too long)."""
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([reader], [], [], max(until - time.monotonic(), 0))
        if not ready:
            return "", True
        part = os.read(reader, 1 << 16)
        if not part:
            return b"".join(parts).decode(errors="replace"), False
        parts.append(part)


def _child(function: Callable[[bytes], Any], data: bytes, writer: int, seconds: float, memory: int) -> None:
    """Run the function with the limits and end. Its answer is "kind text"."""
    code = 1
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory + ROOM,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(writer, _said(function, data).encode(errors="replace")[:60000])
        code = 0
    finally:
        os._exit(code)


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
