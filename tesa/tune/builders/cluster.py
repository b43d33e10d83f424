"""Builds candidates on a Dask cluster: many machines generate code and compile, and this one gets the objects.

What travels to a worker is a pickled job; a layer's weight is scattered once. A worker that dies has its jobs done
again by the others (distributed does that). When the cluster itself is gone, the rest is built here: a night of tuning
must not end because a machine elsewhere was restarted.
"""

import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tesa.build.cache import Cache
from tesa.errors import UsageError
from tesa.tune.builders import remote
from tesa.tune.builders.connect import connect, disconnect, on_this_machine, within
from tesa.tune.builders.dask_jobs import ClusterLost, DaskJobs, Weights
from tesa.tune.builders.local import LIMIT_S, JobBuilder, LocalBuilder
from tesa.tune.builders.work import Job, Package, Result

_AGAIN_S = 60.0  # between two attempts to find a cluster that was lost
_SHORT_S = 5.0  # for such an attempt


class ClusterBuilder(JobBuilder):
    """A Builder (tesa.measure.interfaces) on the Dask cluster whose scheduler is at address, such as "tcp://host:8786".

    limit_s: seconds for one candidate on a worker. jobs, cache: of the builder that takes over on this machine; objects
    from the cluster are kept in the cache too, where `tesa compile` finds them. connect_s, workers_s: how long to wait
    for the scheduler, and for a first worker; a cluster without any worker for so long counts as lost. alone: held
    while something is built on this machine, for a caller that measures here and must not be disturbed.

    Raises UsageError as connect does. What goes wrong later is a warning, and the rest is built on this machine; after
    a while the cluster is looked for again.
    """

    def __init__(
        self,
        address: str,
        *,
        jobs: int | None = None,
        cache: Cache | None = None,
        limit_s: float = LIMIT_S,
        connect_s: float = 30.0,
        workers_s: float = 60.0,
        alone: AbstractContextManager[Any] | None = None,
    ) -> None:
        super().__init__(jobs, cache, limit_s)
        self.address, self._workers_s = address, workers_s
        self._alone: AbstractContextManager[Any] = nullcontext() if alone is None else alone
        self._local = LocalBuilder(jobs, self.cache, limit_s)
        self._lost_at: float | None = None
        self._closed = threading.Event()
        self._running: set[DaskJobs] = set()
        self._wanted = remote.versions()
        self._client: Any = connect(address, self._wanted, connect_s=connect_s, workers_s=workers_s)
        self._weights = Weights()

    def results(self, jobs: Sequence[Job], ranking: Sequence[int]) -> Iterator[tuple[int, Result]]:
        """As LocalBuilder's. A candidate that kills worker after worker fails alone."""
        self._closed.clear()
        client, left = self._connected(), list(ranking)
        if client is not None:
            sent = DaskJobs(
                client, jobs, ranking, self._weights, self.limit_s, self._workers_s, self._wanted, self._closed
            )
            self._running.add(sent)
            try:
                for index, result in sent:
                    for item in result.objects if isinstance(result, Package) else ():
                        self.cache.put(item.key, item.content)
                    yield index, result
            except ClusterLost as error:
                self._lose(str(error))
            finally:
                sent.close()
                self._running.discard(sent)
            left = sent.left
            for text in sent.complaints:
                self._tell(f"{text}; its candidates are built on this machine")
        if left and not self._closed.is_set():
            with self._alone:
                yield from self._local.results(jobs, left)

    @property
    def here(self) -> bool:
        """True where a worker runs on this very machine, as far as addresses tell, and while the cluster is lost."""
        try:
            return self._client is None or on_this_machine(within(_SHORT_S, self._client.ncores))
        except Exception:  # a cluster that does not answer is lost, as the next build will find
            return True

    def close(self) -> None:
        """As JobBuilder's, here and on the cluster, which it leaves."""
        self._closed.set()
        for sent in tuple(self._running):
            sent.close()  # while there is a connection to tell the workers
        self._local.close()
        client, self._client = self._client, None
        if client is not None:
            disconnect(client)

    def _connected(self) -> Any:
        """The client, or None while the cluster is lost."""
        now = time.monotonic()
        if self._client is None and (self._lost_at is None or now - self._lost_at > _AGAIN_S):
            try:
                self._client = connect(self.address, self._wanted, connect_s=_SHORT_S, workers_s=_SHORT_S)
            except UsageError as error:
                self._lost_at = now
                self._tell(f"{error}; candidates are built on this machine")
            else:
                self._weights = Weights()
                if self._lost_at is not None:
                    self._told.clear()
                    warnings.warn(f"the Dask cluster at {self.address} is back", stacklevel=3)
        return self._client

    def _lose(self, why: str) -> None:
        client, self._client = self._client, None
        if client is not None and not self._closed.is_set():
            self._lost_at = time.monotonic()
            disconnect(client)
            self._tell(f"the Dask cluster at {self.address} is lost: {why}; candidates are built on this machine")

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            warnings.warn(text, stacklevel=4)
