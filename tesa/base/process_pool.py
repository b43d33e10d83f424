"""Child processes that work through jobs while their results are fetched one by one, each child under a time limit."""

from __future__ import annotations

import contextlib
import queue
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from tesa.base.workers import Worker, WorkerDied, WorkerError

_TURN_S = 0.2
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Call = tuple[str, tuple[Any, ...]]
"""module:function and its arguments, for Worker.call."""

T = TypeVar("T")


class TimeUp(WorkerError):
    """The call took longer than its limit, and its child was ended."""


class Hold:
    """The children that work for one caller, which may end them all at any time, and no other's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Worker] = set()
        self.ended = False

    def enter(self, worker: Worker) -> None:
        """The child works for this caller from now on."""
        with self._lock:
            self._running.add(worker)

    def leave(self, worker: Worker) -> None:
        """The child is free again, and will not be ended."""
        with self._lock:
            self._running.discard(worker)

    @property
    def working(self) -> bool:
        """True while a child works for this caller."""
        return bool(self._running)

    def end(self) -> None:
        """End the children that work now; later calls end at once. One that just starts needs another call of this."""
        self.ended = True
        with self._lock:
            for worker in self._running:
                worker.kill()


class Crew:
    """Children that are shared by everything that runs here at the same time. They start when there is work.

    folder: for their temporary files, by default one in the system's place for these.
    """

    def __init__(self, count: int, env: Mapping[str, str] | None = None, folder: str | None = None) -> None:
        self.count = count
        # What a killed compiler leaves behind goes with this folder.
        self._place = tempfile.TemporaryDirectory(prefix="tesa-build-", dir=folder)
        settings = {**dict.fromkeys(_THREADS, "1"), "TMPDIR": self._place.name, **dict(env or {})}
        self._workers = [Worker(settings) for _ in range(count)]
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()  # the last one has its modules imported already
        for worker in reversed(self._workers):
            self._idle.put(worker)
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()

    def call(self, call: Call, limit_s: float, hold: Hold | None = None) -> Any:
        """The result of one call, in the first child that is free. Raises WorkerError, TimeUp after limit_s seconds."""
        hold = Hold() if hold is None else hold
        worker = self._take(hold)
        try:
            return worker.call(call[0], *call[1], timeout=limit_s)
        except WorkerDied as error:
            if str(error).startswith("no result after"):
                raise TimeUp(f"no result after {limit_s:g} s") from error
            raise
        finally:
            hold.leave(worker)
            self._idle.put(worker)

    def _take(self, hold: Hold) -> Worker:
        while not hold.ended:
            with contextlib.suppress(queue.Empty):
                worker = self._idle.get(timeout=_TURN_S)
                hold.enter(worker)
                return worker
        raise WorkerDied("ended before it began")

    def stream(
        self, calls: Sequence[Call], finish: Callable[[int, Any], T], *, limit_s: float, ahead: int
    ) -> Stream[T]:
        """Carry out the calls in their order; see Stream."""
        stream = Stream(self, calls, finish, limit_s, ahead)
        self._streams.add(stream)
        return stream

    def close(self) -> None:
        """End all children; what still runs in streams ends with them. The next call starts new ones."""
        for stream in list(self._streams):
            stream.close()
        for worker in self._workers:
            worker.close()
        for path in Path(self._place.name).iterdir():
            shutil.rmtree(path, ignore_errors=True)


class Stream(Generic[T]):
    """(index, finish(index, result or WorkerError)) of each call, as they get ready. finish runs in other threads.

    Work starts with the first that is fetched. At most `ahead` results wait to be fetched; then the children wait. An
    exception in finish ends the stream and is raised to who iterates. close ends the children that still compute.
    """

    def __init__(
        self, crew: Crew, calls: Sequence[Call], finish: Callable[[int, Any], T], limit_s: float, ahead: int
    ) -> None:
        self._crew, self._calls, self._finish, self._limit_s = crew, calls, finish, limit_s
        self._todo = iter(range(len(calls)))
        self._lock = threading.Lock()
        self._done: queue.Queue[tuple[int, T] | BaseException] = queue.Queue(max(1, ahead))
        self._hold = Hold()
        self._threads: list[threading.Thread] = []
        self._fetched = 0

    def __iter__(self) -> Iterator[tuple[int, T]]:
        return self

    def __next__(self) -> tuple[int, T]:
        if not self._threads and not self._hold.ended:
            count = min(self._crew.count, len(self._calls))
            self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
            for thread in self._threads:
                thread.start()
        while self._fetched < len(self._calls) and not self._hold.ended:
            try:
                item = self._done.get(timeout=_TURN_S)  # a long wait would not end by a signal
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                self.close()
                raise item
            self._fetched += 1
            return item
        self.close()
        raise StopIteration

    def close(self) -> None:
        """End what still runs. Safe from any thread, and more than once."""
        self._hold.end()
        for thread in self._threads:
            while thread.is_alive():
                self._hold.end()
                thread.join(0.05)

    def _work(self) -> None:
        while not self._hold.ended:
            with self._lock:
                index = next(self._todo, None)
            if index is None:
                return
            try:
                result: Any = self._crew.call(self._calls[index], self._limit_s, self._hold)
            except WorkerError as error:
                result = error
            except BaseException as error:  # no process can be started, say
                self._put(error)
                return
            if self._hold.ended:
                return
            try:
                self._put((index, self._finish(index, result)))
            except BaseException as error:
                self._put(error)
                return

    def _put(self, item: tuple[int, T] | BaseException) -> None:
        while not self._hold.ended:
            with contextlib.suppress(queue.Full):
                self._done.put(item, timeout=_TURN_S)
                return
