"""Jobs under way on a Dask cluster: sent out a few at a time, watched, sent again where a worker took them along."""

import contextlib
import pickle
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tesa.attributes.patterns import digest
from tesa.base.told import Untruthful, line
from tesa.measure.failure import Failure, FailureKind
from tesa.schedules.types import FloatArray
from tesa.tune.builders import remote
from tesa.tune.builders.connect import within
from tesa.tune.builders.work import Job, Package, checked

_PER_THREAD = 3  # jobs under way for each thread of the cluster: enough that none waits for this machine
_ATTEMPTS = 3
_POLL_S = 0.5
_HEALTH_S = 4.0
_ANSWER_S = 20.0
_SLACK_S = 60.0  # on top of a job's limit, until a cluster that sends nothing counts as lost
_SMALL = 1 << 16  # bytes of a weight that travels with its job
_KEPT = 8  # weights that stay on the cluster between two builds


class ClusterLost(Exception):
    """The cluster is of no more use. The text says why."""


class Weights:
    """Weights that lie on the cluster, the last few layers', so that each is sent once and not with every candidate."""

    def __init__(self) -> None:
        self._futures: OrderedDict[str, Any] = OrderedDict()

    def get(self, client: Any, weight: FloatArray) -> Any:
        """The argument for submit: the weight (m, k) itself if it is small, else a future of it."""
        if weight.nbytes <= _SMALL:
            return weight
        key = digest(weight)
        future = self._futures.get(key)
        if future is None or future.status not in ("pending", "finished"):
            future = client.scatter(weight, hash=False, timeout=_ANSWER_S)
            self._futures[key] = future
        self._futures.move_to_end(key)
        while len(self._futures) > _KEPT:
            self._futures.popitem(last=False)
        return future


@dataclass
class _Sent:
    """A job under way: its index, how often it was sent, and distributed's future."""

    index: int
    attempt: int
    future: Any


class DaskJobs:
    """An iterator of (index, result) of jobs on the cluster, as they get ready. Raises ClusterLost.

    left: what has to be built elsewhere, everything that was not yielded. complaints: why single workers were of no
    use. wanted: the versions that a worker must have. stop: ends it without a result.
    """

    def __init__(
        self,
        client: Any,
        jobs: Sequence[Job],
        ranking: Sequence[int],
        weights: Weights,
        limit_s: float,
        workers_s: float,
        wanted: Mapping[str, str],
        stop: threading.Event,
    ) -> None:
        self._client, self._jobs, self._weights = client, jobs, weights
        self._limit_s, self._workers_s, self._wanted, self._stop = limit_s, workers_s, wanted, stop
        self._waiting = deque((index, 1) for index in ranking)
        self._sent: list[_Sent] = []
        self._yielded: set[int] = set()
        self.complaints: dict[str, None] = {}
        self._ranking = ranking
        self._token = secrets.token_hex(8)
        self._wake = threading.Event()
        self._room = 0
        self._ended = False
        self._last_result = self._last_workers = self._last_look = time.monotonic()

    @property
    def left(self) -> list[int]:
        """Jobs that have no result, in their ranking."""
        return [index for index in self._ranking if index not in self._yielded]

    def __iter__(self) -> Iterator[tuple[int, Package | Failure]]:
        self._room = self._threads() * _PER_THREAD
        while (self._waiting or self._sent) and not self._stop.is_set():
            while self._waiting and len(self._sent) < max(1, self._room):
                self._send(*self._waiting.popleft())
            self._wake.wait(_POLL_S)
            self._wake.clear()
            ready = [item for item in self._sent if item.future.status != "pending"]
            for item in ready:
                self._sent.remove(item)
                result = self._result(item)
                if result is not None:
                    self._yielded.add(item.index)
                    yield item.index, result
            self._watch(bool(ready))

    def close(self) -> None:
        """End what is still under way, on the workers too. From any thread, after stop was set or iterating ended."""
        pending = list(self._sent)
        if self._ended or not pending or self._client.status != "running":
            return
        self._ended = True
        with contextlib.suppress(Exception):  # the cluster may go at this very moment, and its children with it
            within(_ANSWER_S, lambda: self._client.cancel([item.future for item in pending]))
            within(_ANSWER_S, lambda: self._client.run(remote.end, self._token, on_error="ignore"))

    def _send(self, index: int, attempt: int) -> None:
        job = self._jobs[index]
        try:
            future = self._client.submit(
                remote.serve,
                pickle.dumps(job.bare, protocol=pickle.HIGHEST_PROTOCOL),
                self._weights.get(self._client, job.request.weight),
                self._token,
                self._limit_s,
                self._wanted,
                key=f"tesa-build-{self._token}-{index}-{attempt}",
                pure=False,
            )
        except Exception as error:  # no connection, or nobody to scatter the weight to
            raise ClusterLost(f"a job could not be sent ({type(error).__name__}: {error})") from error
        future.add_done_callback(lambda _: self._wake.set())
        self._sent.append(_Sent(index, attempt, future))

    def _result(self, item: _Sent) -> Package | Failure | None:
        """The result; None if there is none yet, or it has to come from elsewhere."""
        from distributed.scheduler import KilledWorker

        status = item.future.status
        if status == "finished":
            try:
                result = within(_ANSWER_S + self._limit_s, lambda: item.future.result())
            except Exception:  # the worker that held it died now
                self._again(item)
                return None
            if isinstance(result, Failure) and result.kind is FailureKind.MACHINE:
                self.complaints[line(str(result.message))] = None
                return None
            try:
                return checked(result)
            except Untruthful as lie:
                self.complaints[f"a worker of the cluster sent what is no kernel ({lie})"] = None
                return None
        if status == "error":
            error = within(_ANSWER_S, lambda: item.future.exception())
            if isinstance(error, KilledWorker):
                return Failure(
                    FailureKind.BUILD,
                    f"the compiler killed the workers of the cluster, one after another: {line(str(error))}",
                )
            text = line(f"{type(error).__name__}: {error}")
            self.complaints[f"a worker of the cluster failed ({text})"] = None
            return None
        self._again(item)
        return None

    def _again(self, item: _Sent) -> None:
        """The cluster lost the job, or the weight that it needs."""
        if self._client.status != "running":
            raise ClusterLost("the connection to the scheduler broke")
        if item.attempt < _ATTEMPTS:
            self._waiting.appendleft((item.index, item.attempt + 1))

    def _watch(self, progress: bool) -> None:
        """Raise ClusterLost where nothing will come any more; notice workers that joined."""
        now = time.monotonic()
        if progress:
            self._last_result = now
        if not self._sent and not self._waiting:
            return
        if self._client.status != "running":
            raise ClusterLost("the connection to the scheduler broke")
        if now - self._last_look > _HEALTH_S:
            self._last_look = now
            threads = self._threads()
            if threads:
                self._last_workers, self._room = now, threads * _PER_THREAD
            elif now - self._last_workers > self._workers_s:
                raise ClusterLost(f"it has had no worker for {self._workers_s:g} s")
        if now - self._last_result > self._limit_s + _SLACK_S:
            raise ClusterLost(
                f"no result in {now - self._last_result:.0f} s, although a job may take {self._limit_s:g} s"
            )

    def _threads(self) -> int:
        """Threads of all workers together."""
        try:
            return sum(within(_ANSWER_S, self._client.ncores).values())
        except Exception as error:
            raise ClusterLost(f"the scheduler does not answer ({type(error).__name__}: {error})") from error
