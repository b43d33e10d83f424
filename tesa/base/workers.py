"""Child processes that run one function after another, so that a crash in generated code or in LLVM stays theirs.

Not multiprocessing: its spawn runs the user's main script a second time, which fails in a script without a main guard,
and one dead worker of a process pool takes all the other jobs with it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import math
import os
import pickle
import queue
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

_HEADER = struct.Struct("<Q")
_TURN_S = 0.2  # of a wait: a long one would not end by a signal that another thread of the process took
_TAIL = 600  # characters of a child's error output that go into a message


class WorkerError(Exception):
    """A call in a child process brought no result. The text says why."""


class WorkerDied(WorkerError):
    """The child process ended, or had to be ended, during the call."""


class Worker:
    """One child process. It starts at the first call, and again at the call after its death.

    env: variables that the child gets on top of this process's own.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None

    def call(self, function: str, *args: object, timeout: float | None = None) -> Any:
        """The result of module:function(*args) in the child.

        Raises WorkerError with the traceback if the function raises, WorkerDied if the child crashes or needs longer
        than timeout seconds (it is killed then).
        """
        process = self._start()
        assert process.stdin is not None
        payload = pickle.dumps((function, args), protocol=pickle.HIGHEST_PROTOCOL)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            process.stdin.write(_HEADER.pack(len(payload)) + payload)
            process.stdin.flush()
            (length,) = _HEADER.unpack(self._read(_HEADER.size, deadline))
            reply = self._read(length, deadline)
        except TimeoutError as error:  # an OSError, so it has to stand first
            self.close()
            raise WorkerDied(f"no result after {timeout} s") from error
        except (OSError, EOFError) as error:
            raise WorkerDied(self._obituary()) from error
        except BaseException:  # a KeyboardInterrupt leaves half a message in the pipe: this child is of no more use
            self.close()
            raise
        ok, value = pickle.loads(reply)
        if not ok:
            raise WorkerError(value)
        return value

    def kill(self) -> None:
        """End the child while another thread waits in call, which then raises WorkerDied."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the child, whatever it is doing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):  # flushing to a dead child
                    stream.close()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the child)
        code = f"import sys; sys.path[:] = {sys.path!r}; from tesa.base.workers import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **self._env},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends its children
        )
        return self._process

    def _read(self, count: int, deadline: float | None) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, parts = self._process.stdout.fileno(), []
        while count:
            left = math.inf if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], min(left, _TURN_S))[0]:
                if left <= _TURN_S:
                    raise TimeoutError
                continue
            part = os.read(descriptor, min(count, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _obituary(self) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        tail = self._errors.read().decode("utf-8", "replace").strip()[-_TAIL:]
        self.close()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"the process died ({how})" + (f": {tail}" if tail else "")


class Pool:
    """A number of children for many jobs. They start when there is work, and end with the with block.

    >>> with Pool(2) as pool:
    ...     pool.run([("math:sqrt", (4.0,)), ("math:hypot", (3.0, 4.0))])
    [2.0, 5.0]
    """

    def __init__(self, count: int) -> None:
        self._workers = [Worker() for _ in range(count)]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children."""
        for worker in self._workers:
            worker.close()

    def run(
        self, jobs: Sequence[tuple[str, tuple[Any, ...]]], *, done: Callable[[int], None] | None = None
    ) -> list[Any]:
        """The result of each job (function, arguments), or the WorkerError it ended with.

        A job whose child dies fails alone: a new child goes on with the next. done(i) is called in the caller's thread
        after job i. Ctrl-C ends the children and passes on.
        """
        results: list[Any] = [None] * len(jobs)
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        finished: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
        for index in range(len(jobs)):
            todo.put(index)
        stop = threading.Event()

        def work(worker: Worker) -> None:
            while not stop.is_set():
                try:
                    index = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    results[index] = worker.call(jobs[index][0], *jobs[index][1])
                except WorkerError as error:
                    results[index] = error
                except BaseException as error:
                    finished.put(error)
                    return
                finished.put(index)

        workers = self._workers[: len(jobs)]
        threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        try:
            for _ in jobs:
                item = _next(finished)
                if isinstance(item, BaseException):
                    raise item
                if done is not None:
                    done(item)
        finally:
            stop.set()
            for worker, thread in zip(workers, threads, strict=True):
                thread.join(0.1)
                while thread.is_alive():
                    worker.kill()
                    thread.join(0.05)
        return results


def _next(finished: queue.SimpleQueue[int | BaseException]) -> int | BaseException:
    """The next item."""
    while True:
        with contextlib.suppress(queue.Empty):
            return finished.get(timeout=_TURN_S)


@functools.cache
def shared_pool(count: int) -> Pool:
    """A pool that lives as long as this process: the next kernel in a notebook does not wait for children to start."""
    pool = Pool(count)
    atexit.register(pool.close)
    return pool


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, also in the middle of generated code that never returns."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def serve() -> None:
    """The child's side: answer calls until the pipe closes. What the called code prints goes to standard error."""
    requests: BinaryIO = os.fdopen(os.dup(0), "rb")
    replies: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    while header := requests.read(_HEADER.size):
        name, args = pickle.loads(requests.read(_HEADER.unpack(header)[0]))
        try:
            module, _, function = name.partition(":")
            reply = (True, getattr(importlib.import_module(module), function)(*args))
        except Exception as error:
            reply = (False, f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}".strip())
        payload = pickle.dumps(reply, protocol=pickle.HIGHEST_PROTOCOL)
        replies.write(_HEADER.pack(len(payload)) + payload)
        replies.flush()
