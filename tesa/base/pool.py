"""Child processes for many calls: results as they get ready, time limits, and a way to cancel."""

from __future__ import annotations

import contextlib
import queue
import shutil
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tesa.base.scratch import Scratch
from tesa.base.worker import Worker, WorkerDied, WorkerError

_POLL_S = 0.2  # of a wait: a long one would not end by a signal

Call = tuple[str, tuple[Any, ...]]
"""module:function and its arguments, for Worker.call."""


class CancelToken:
    """Ends the calls of one caller of a pool, at any time and from any thread, and nobody else's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Worker] = set()
        self.cancelled = False

    def attach(self, worker: Worker) -> None:
        """The child works for this caller from now on."""
        with self._lock:
            self._running.add(worker)

    def detach(self, worker: Worker) -> None:
        """The child is free again, and will not be ended."""
        with self._lock:
            self._running.discard(worker)

    @property
    def busy(self) -> bool:
        """True while a child works for this caller."""
        return bool(self._running)

    def cancel(self) -> None:
        """End the children that work now; later calls end at once. One that just starts needs another call of this."""
        self.cancelled = True
        with self._lock:
            for worker in self._running:
                worker.kill()


class Pool:
    """A number of children that everything which runs here shares. They start when there is work.

    They end with the with block, or with close. A call that kills its child fails alone: the next call of that child
    starts a new one. modules: of each Worker; folder: for the children's temporary files, by default one in the
    system's place for these.

    >>> with Pool(2) as pool:
    ...     sorted(pool.as_completed([("math:sqrt", (4.0,)), ("math:hypot", (3.0, 4.0))]))
    [(0, 2.0), (1, 5.0)]
    """

    def __init__(self, count: int, modules: Sequence[str] = (), folder: str | None = None) -> None:
        self.count = count
        # What a killed compiler leaves behind goes with this folder.
        self._temporary = Scratch(folder)
        self._workers = [Worker({"TMPDIR": self._temporary.name}, modules) for _ in range(count)]
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()  # the last one has its modules imported already
        for worker in reversed(self._workers):
            self._idle.put(worker)
        self._batches: weakref.WeakSet[Results] = weakref.WeakSet()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, call: Call, limit_s: float | None = None, cancel: CancelToken | None = None) -> Any:
        """The result of one call, in the first child that is free. Raises WorkerError, TimedOut after limit_s."""
        cancel = CancelToken() if cancel is None else cancel
        worker = self._take(cancel)
        try:
            return worker.call(call[0], *call[1], timeout=limit_s)
        finally:
            cancel.detach(worker)
            self._idle.put(worker)

    def as_completed(self, calls: Sequence[Call], *, limit_s: float | None = None, ahead: int = 8) -> Results:
        """Begin the calls in their order and yield their results as they get ready; see Results."""
        results = Results(self, calls, limit_s, ahead)
        self._batches.add(results)
        return results

    def close(self) -> None:
        """End all children, and what runs in them. The next call starts new ones."""
        for results in list(self._batches):
            results.close()
        for worker in self._workers:
            worker.close()
        folder = Path(self._temporary.name)
        for path in folder.iterdir() if folder.exists() else ():
            shutil.rmtree(path, ignore_errors=True)

    def _take(self, cancel: CancelToken) -> Worker:
        while not cancel.cancelled:
            with contextlib.suppress(queue.Empty):
                worker = self._idle.get(timeout=_POLL_S)
                cancel.attach(worker)
                return worker
        raise WorkerDied("ended before it began")


class Results:
    """An iterator of (index, result or WorkerError) of each call, as they get ready.

    Work starts with the first that is fetched. At most `ahead` results wait to be fetched; then the children wait.
    close ends the children that still compute.
    """

    def __init__(self, pool: Pool, calls: Sequence[Call], limit_s: float | None, ahead: int) -> None:
        self._pool, self._calls, self._limit_s = pool, calls, limit_s
        self._todo = iter(range(len(calls)))
        self._lock = threading.Lock()
        self._ready: queue.Queue[tuple[int, Any] | BaseException] = queue.Queue(max(1, ahead))
        self._cancel = CancelToken()
        self._threads: list[threading.Thread] = []
        self._fetched = 0

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return self

    def __next__(self) -> tuple[int, Any]:
        if not self._threads and not self._cancel.cancelled:
            count = min(self._pool.count, len(self._calls))
            self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
            for thread in self._threads:
                thread.start()
        while self._fetched < len(self._calls) and not self._cancel.cancelled:
            try:
                item = self._ready.get(timeout=_POLL_S)
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
        self._cancel.cancel()
        for thread in self._threads:
            while thread.is_alive():
                self._cancel.cancel()
                thread.join(0.05)

    def _work(self) -> None:
        while not self._cancel.cancelled:
            with self._lock:
                index = next(self._todo, None)
            if index is None:
                return
            try:
                self._put((index, self._pool.call(self._calls[index], self._limit_s, self._cancel)))
            except WorkerError as error:
                self._put((index, error))
            except BaseException as error:  # no process can be started, say
                self._put(error)
                return

    def _put(self, item: tuple[int, Any] | BaseException) -> None:
        while not self._cancel.cancelled:
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=_POLL_S)
                return
