"""Builds candidates in child processes of this one: code generation and compilation, each candidate on its own."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tesa.base.hostinfo import usable_cpus
from tesa.base.pool import Call, Pool
from tesa.base.worker import StartFailed, TimedOut, WorkerError
from tesa.build.cache import Cache
from tesa.build.objects import write_objects
from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.interfaces import BuildRequest
from tesa.schedules.registry import find
from tesa.tune.builders.families import gather
from tesa.tune.builders.work import Job, Package, Result, storage_failure

LIMIT_S = 300.0
"""Seconds for one candidate, generating and compiling: 100,000 straight-line instructions take about a second alone."""

WORK, MODULES = "tesa.tune.builders.work:work", ("tvm", "tesa.tune.builders.work")
"""The function that a child is called with, and what it imports at its start."""


B = TypeVar("B", bound="JobBuilder")


class JobBuilder(ABC):
    """A Builder by the results of jobs, for use in a with block."""

    def __init__(self, jobs: int | None, cache: Cache | None, limit_s: float) -> None:
        if jobs is not None and jobs < 1:
            raise UsageError(f"jobs is {jobs}: at least one process is needed to build kernels")
        if not limit_s > 0:
            raise UsageError(f"limit_s is {limit_s:g}: give the seconds that one candidate may take, more than 0")
        self.cache = Cache() if cache is None else cache
        self.limit_s = limit_s
        self._told: set[str] = set()

    def __enter__(self: B) -> B:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def build(self, requests: Sequence[BuildRequest], folder: Path) -> Iterator[tuple[int, Product | Failure]]:
        """Yield (index of the request, its kernel or why there is none) as each one is ready, in any order.

        The largest straight-line candidates are begun first. Raises UsageError where nothing can be written: the disk
        is full, folder is missing; and where a user's family cannot be sent to the children.
        """
        stored = False
        for index, result in self.results(*jobs_of(requests)):
            stored = stored or isinstance(result, Package)
            yield index, unpacked(result, folder, self._told)
        if stored:
            self.cache.trim()

    @abstractmethod
    def results(self, jobs: Sequence[Job], ranking: Sequence[int]) -> Iterator[tuple[int, Result]]:
        """The result of each job, with its index, begun in the order of the ranking."""

    @abstractmethod
    def close(self) -> None:
        """End all processes. May be called twice, and from another thread: what is being built ends without result."""


class LocalBuilder(JobBuilder):
    """A Builder (tesa.measure.interfaces) with a number of child processes, by default one for each CPU.

    cache: of objects, by default the user's, which `tesa compile` reads too. limit_s: seconds for one candidate; a
    compiler that needs longer is killed. ahead: how many kernels may wait to be fetched until building pauses, by
    default four for each child. Until then the children go on while the caller does something else between two
    results: who measures on the same machine fetches all results before.

    >>> with LocalBuilder(jobs=1) as builder:
    ...     list(builder.build([], Path(".")))
    []
    """

    def __init__(
        self, jobs: int | None = None, cache: Cache | None = None, limit_s: float = LIMIT_S, ahead: int | None = None
    ) -> None:
        super().__init__(jobs, cache, limit_s)
        count = usable_cpus() if jobs is None else jobs
        self._ahead = max(8, 4 * count) if ahead is None else ahead
        self._pool = Pool(count, MODULES)

    def results(self, jobs: Sequence[Job], ranking: Sequence[int]) -> Iterator[tuple[int, Result]]:
        """As JobBuilder's. Raises UsageError where a child cannot write."""
        folder = str(self.cache.folder.absolute())
        calls: list[Call] = [(WORK, (jobs[index], folder)) for index in ranking]
        ready = self._pool.as_completed(calls, limit_s=self.limit_s, ahead=self._ahead)
        try:
            for position, answer in ready:
                result = judged(answer)
                if isinstance(result, Failure) and result.kind is FailureKind.MACHINE:
                    raise UsageError(result.message)
                yield ranking[position], result
        finally:
            ready.close()

    def close(self) -> None:
        """As JobBuilder's."""
        self._pool.close()


def jobs_of(requests: Sequence[BuildRequest]) -> tuple[list[Job], list[int]]:
    """The jobs of requests, and their ranking: the one that takes longest to compile is not left to the end."""
    families = gather()
    sizes = [_size(request) for request in requests]
    ranking = sorted(range(len(requests)), key=lambda index: -sizes[index])
    return [Job(request, families) for request in requests], ranking


def _size(request: BuildRequest) -> int:
    try:
        size = find(request.family, request.target.kind).size
        return 0 if size is None else size(request.problem, request.weight, request.target.core, request.config)
    except Exception:  # a defect of this candidate alone, which its job will tell of
        return 0


def judged(answer: Result | WorkerError) -> Result:
    """The result that a child's answer, or the error instead of one, comes to."""
    if isinstance(answer, TimedOut):
        return Failure(FailureKind.TIMEOUT, f"the compiler did not end: {answer}")
    if isinstance(answer, StartFailed):
        return Failure(FailureKind.MACHINE, str(answer).split("\nTraceback")[0])
    if isinstance(answer, WorkerError):
        text = str(answer).split("\nTraceback")[0]
        return storage_failure(text) or Failure(FailureKind.BUILD, text)
    return answer


def unpacked(result: Package | Failure, folder: Path, told: set[str]) -> Product | Failure:
    """A kernel with its objects written to folder. Its warnings are given, those once that are not in told."""
    if isinstance(result, Failure):
        return result
    for text in result.warnings:
        if text not in told:
            told.add(text)
            warnings.warn(text, stacklevel=3)
    objects = write_objects(result.objects, folder)
    return Product(result.symbol, objects, result.constants, code=result.code, footprint=result.footprint)
