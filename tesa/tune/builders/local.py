"""Builds candidates in child processes of this one: code generation and compilation, each candidate on its own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tesa.base.files import atomic_path
from tesa.base.hostinfo import usable_cpus
from tesa.base.process_pool import Call, Crew, Stream, TimeUp
from tesa.base.workers import WorkerError
from tesa.build.cache import Cache
from tesa.errors import UsageError
from tesa.measure.interfaces import BuildRequest
from tesa.measure.local import Built
from tesa.measure.timing import Failure
from tesa.schedules.registry import find
from tesa.schedules.types import FloatArray
from tesa.tune.builders.families import gather
from tesa.tune.builders.work import Job, KernelJob, Package, Result, Trouble, trouble

LIMIT_S = 300.0
"""For one candidate: generating and compiling it. 100,000 straight-line instructions take about a minute alone."""

_WORK = "tesa.tune.builders.work:work"


@dataclass(frozen=True)
class Order:
    """A job and its weight, which it needs in order to run."""

    job: Job
    weight: FloatArray | None = None


class LocalBuilder:
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
        check_numbers(jobs, limit_s)
        count = usable_cpus() if jobs is None else jobs
        self.cache = Cache() if cache is None else cache
        self.limit_s = limit_s
        self._ahead = max(8, 4 * count) if ahead is None else ahead
        self._crew = Crew(count)
        self._told: set[str] = set()

    def __enter__(self) -> LocalBuilder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def build(self, requests: Sequence[BuildRequest], folder: Path) -> Iterator[tuple[int, Built | Failure]]:
        """Yield (index of the request, its kernel or why there is none) as each one is ready, in any order.

        The largest straight-line candidates are begun first. Raises UsageError where nothing can be written: the disk
        is full, folder is missing; and where a user's family cannot be sent to the children.
        """
        stored = False
        for index, result in self.results(*orders_of(requests)):
            stored = stored or isinstance(result, Package)
            yield index, unpacked(result, folder, self._told)
        if stored:
            self.cache.trim()

    def results(self, orders: Sequence[Order], ranking: Sequence[int]) -> Iterator[tuple[int, Package | Failure]]:
        """What each order came to, with its index, begun in the order of the ranking.

        Raises UsageError where a child cannot write.
        """
        folder, me = str(self.cache.folder.absolute()), os.getpid()
        calls: list[Call] = [
            (_WORK, (orders[index].job, orders[index].weight, folder, self.limit_s, me)) for index in ranking
        ]
        stream: Stream[Result] = self._crew.stream(calls, _judged, limit_s=self.limit_s, ahead=self._ahead)
        try:
            for place, result in stream:
                if isinstance(result, Trouble):
                    raise UsageError(result.message)
                yield ranking[place], result
        finally:
            stream.close()

    def close(self) -> None:
        """End all processes. May be called twice, and from another thread: what is being built ends without result."""
        self._crew.close()


def check_numbers(jobs: int | None, limit_s: float) -> None:
    """UsageError for what can build nothing."""
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs is {jobs}: at least one process is needed to build kernels")
    if not limit_s > 0:
        raise UsageError(f"limit_s is {limit_s:g}: give the seconds that one candidate may take, more than 0")


def orders_of(requests: Sequence[BuildRequest]) -> tuple[list[Order], list[int]]:
    """The requests as orders, and how they are ranked: the one that takes longest to compile is not left to the end."""
    families = gather()
    orders = [Order(KernelJob.of(request, families), request.weight) for request in requests]
    sizes = [_size(request) for request in requests]
    return orders, sorted(range(len(requests)), key=lambda index: -sizes[index])


def _size(request: BuildRequest) -> int:
    try:
        size = find(request.family).size
        return 0 if size is None else size(request.problem, request.weight, request.config)
    except Exception:  # a defect of this candidate alone, which its job will tell of
        return 0


def _judged(_: int, result: Any) -> Result:
    return judged(result)


def judged(result: Any) -> Result:
    """What a child answered, or a WorkerError as what it means."""
    if isinstance(result, TimeUp):
        return Failure("timeout", f"the compiler did not end: {result}")
    if isinstance(result, WorkerError):
        text = str(result).split("\nTraceback")[0]
        return trouble(text) or Failure("build", text)
    answer: Result = result
    return answer


def unpacked(result: Package | Failure, folder: Path, told: set[str]) -> Built | Failure:
    """A kernel with its objects written to folder. Its warnings are given, those once that are not in told."""
    if isinstance(result, Failure):
        return result
    for text in result.warnings:
        if text not in told:
            told.add(text)
            warnings.warn(text, stacklevel=3)
    paths = []
    for item in result.objects:
        path = folder / item.name
        if not path.exists():
            with atomic_path(path) as aside:
                aside.write_bytes(item.content)
        paths.append(path)
    return Built(result.symbol, tuple(paths), result.constants, result.code)
