"""A child process that runs one function after another, so that a crash in generated code or in LLVM stays there.

Not multiprocessing: its spawn runs the user's main script a second time, which fails in a script without a main guard,
and one dead worker of a process pool takes all the other jobs with it.
"""

import contextlib
import importlib
import math
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from tesa.base.scratch import scratch_file

_HEADER = struct.Struct("<Q")
_POLL_S = 0.2  # of a wait: a long one would not end by a signal that another thread of the process took
_START_S = 300.0  # for a child to be ready, however busy the machine is
_PARENT_S = 0.5  # between two looks at whether the parent lives
_GRACE_S = 20.0  # a child whose parent does not end it in time is ended by the system this much later
_TAIL = 600  # characters of a child's error output that go into a message
_NUMPY = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # NumPy's would spin beside the child's work


class WorkerError(Exception):
    """A call in a child process brought no result. The text says why."""


class WorkerDied(WorkerError):
    """The child process ended, or had to be ended, during the call."""


class TimedOut(WorkerDied):
    """The call took longer than its limit, and its child was ended."""


class StartFailed(WorkerError):
    """A child process could not be made ready for its calls. It says nothing about them."""


class Worker:
    """One child process. It starts at the first call, and again at the call after its death.

    It ends with this process, in the middle of a call too. env: variables that it gets on top of this process's own;
    NumPy has one thread in it. modules: what it imports at its start, so that no call's limit has to count with that.
    """

    def __init__(self, env: Mapping[str, str] | None = None, modules: Sequence[str] = ()) -> None:
        self._modules = modules
        self._env = {**dict.fromkeys(_NUMPY, "1"), **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None

    def call(self, function: str, *args: object, timeout: float | None = None) -> Any:
        """The result of module:function(*args) in the child.

        Raises WorkerError with the traceback if the function raises, WorkerDied if the child crashes, and TimedOut if
        it needs longer than timeout seconds: it is killed then. Raises StartFailed as start does.
        """
        return self._exchange(self.start(), function, args, timeout)

    def start(self) -> subprocess.Popen[bytes]:
        """The running child, ready for a call. Raises StartFailed if a new one cannot be made ready."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        process = self._launch()
        if self._modules:
            try:
                self._exchange(process, f"{__name__}:import_all", (self._modules,), _START_S)
            except WorkerError as error:
                self.close()
                raise StartFailed(f"a process cannot start: {error}") from error
        return process

    def kill(self) -> None:
        """End the child while another thread waits in call, which then raises WorkerDied."""
        if (process := self._process) is not None:
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

    def _exchange(
        self, process: subprocess.Popen[bytes], function: str, args: tuple[object, ...], timeout: float | None
    ) -> Any:
        """Send a call to the child and wait for its answer."""
        assert process.stdin is not None
        payload = pickle.dumps((function, args, timeout), protocol=pickle.HIGHEST_PROTOCOL)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            process.stdin.write(_HEADER.pack(len(payload)) + payload)
            process.stdin.flush()
            (length,) = _HEADER.unpack(self._read(_HEADER.size, deadline))
            reply = self._read(length, deadline)
        except TimeoutError as error:  # an OSError, so it has to stand first
            self.close()
            raise TimedOut(f"no result after {timeout:g} s") from error
        except (OSError, EOFError) as error:
            raise WorkerDied(self._obituary()) from error
        except BaseException:  # a KeyboardInterrupt leaves half a message in the pipe: this child is of no more use
            self.close()
            raise
        ok, value = pickle.loads(reply)
        if not ok:
            raise WorkerError(value)
        return value

    def _launch(self) -> subprocess.Popen[bytes]:
        self.close()
        self._errors = scratch_file()
        code = f"import sys; sys.path[:] = {sys.path!r}; from tesa.base.worker import serve; serve({os.getpid()})"
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
            if not select.select([descriptor], [], [], min(left, _POLL_S))[0]:
                if left <= _POLL_S:
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


def import_all(modules: Sequence[str]) -> None:
    """Import the modules, in a child."""
    for module in modules:
        importlib.import_module(module)


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, also in the middle of generated code that never returns."""
    while os.getppid() == parent:
        time.sleep(_PARENT_S)
    os._exit(1)


def serve(parent: int) -> None:
    """Answer the calls of the process that started this one, until it closes the pipe or ends.

    parent: its process id. What the called code prints goes to standard error.
    """
    requests: BinaryIO = os.fdopen(os.dup(0), "rb")
    replies: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    while header := requests.read(_HEADER.size):
        name, args, limit = pickle.loads(requests.read(_HEADER.unpack(header)[0]))
        if limit is not None:  # a timer of the system ends a compiler that lets no thread of Python run
            signal.setitimer(signal.ITIMER_REAL, limit + _GRACE_S)
        try:
            module, _, function = name.partition(":")
            reply = (True, getattr(importlib.import_module(module), function)(*args))
        except Exception as error:
            reply = (False, f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}".strip())
        signal.setitimer(signal.ITIMER_REAL, 0)
        payload = pickle.dumps(reply, protocol=pickle.HIGHEST_PROTOCOL)
        replies.write(_HEADER.pack(len(payload)) + payload)
        replies.flush()
