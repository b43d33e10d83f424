"""Turns generated code into object files, in parallel and at most once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from tesa.attributes.patterns import digest
from tesa.base.files import atomic_path
from tesa.base.hostinfo import free_memory, usable_cpus
from tesa.base.pool import Pool
from tesa.base.worker import WorkerError
from tesa.build.cache import Cache
from tesa.build.jobs import Job, jobs_of
from tesa.schedules.types import Code, Config, FloatArray, Problem
from tesa.targets.target import Target

COMPILER_BYTES = 600 << 20
"""What one compiler process may need: half of it is TVM itself, and a panel of straight-line code takes some more."""

_LIMIT_S = 1800.0  # for one object file: the largest take a minute or two
Done = Callable[[int, int], None]


@dataclass(frozen=True)
class BuildFailure:
    """What stands in the place of the objects of code that could not be compiled."""

    message: str


def compilers(cpus: int | None = None, free: int | None = None) -> tuple[int, str]:
    """How many compiler processes this machine bears, and a remark where memory allows fewer than CPUs, else "".

    cpus, free (bytes): of this machine by default.

    >>> compilers(8, 2 << 30)
    (3, 'compiling with 3 processes, not 8: 2.0 GiB of memory are free, and each may need 0.6 GiB')
    >>> compilers(2, 8 << 30)
    (2, '')
    """
    cpus, free = cpus or usable_cpus(), free_memory() if free is None else free
    if free is None or free >= cpus * COMPILER_BYTES:
        return cpus, ""
    count = max(free // COMPILER_BYTES, 1)
    processes = f"{count} process{'es' if count > 1 else ''}"
    return count, (
        f"compiling with {processes}, not {cpus}: {free / (1 << 30):.1f} GiB of memory are free, and each may need "
        f"{COMPILER_BYTES / (1 << 30):.1f} GiB"
    ) if count < cpus else ""


def symbol_of(
    problem: Problem, weight: FloatArray, target: Target, family: str, config: Config, known: str | None = None
) -> str:
    """The name of a kernel's function: "tesa_" and 16 hexadecimal digits that identify everything that shapes it.

    known: the weight's digest, where the caller has it.
    """
    facts = [asdict(problem), known or digest(weight), target.tvm, asdict(target.core), family, dict(config)]
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return "tesa_" + hashlib.sha256(text.encode()).hexdigest()[:16]


def build_objects(
    codes: Sequence[tuple[str, Code]],
    target: Target,
    *,
    jobs: int | Pool,
    cache: Cache | None,
    folder: Path,
    done: Done | None = None,
) -> list[tuple[Path, ...] | BuildFailure]:
    """Compile each (symbol, code) to object files in folder: main's first, then one for each tuple of panels.

    jobs: how many compiler processes, or a pool of them that lives on; with 1 everything happens in this process, and
    a crash in LLVM is the caller's. An object that stands in folder already, of an earlier call, is taken as it is.
    done(finished, total) is called after each object. Code that fails, or kills its compiler, gets a BuildFailure and
    harms no other. The same code and target give the same bytes, whatever the number of jobs and the order.
    """
    plans = [jobs_of(symbol, code, target) for symbol, code in codes]
    unique = {job.key: job for plan in plans for job in plan}
    objects: dict[str, bytes | WorkerError] = {}
    for key in unique:
        here = _path(folder, key)
        found = here.read_bytes() if here.exists() else cache.get(key) if cache is not None else None
        if found is not None:
            objects[key] = found
    missing = [job for key, job in unique.items() if key not in objects]
    missing.sort(key=lambda job: -job.size)  # the longest first, so that no worker is left alone with it at the end
    count = len(objects)

    def report(index: int) -> None:
        nonlocal count
        count += 1
        if done is not None:
            done(count, len(unique))

    for job, result in zip(missing, _compile_all(missing, jobs, report), strict=True):
        objects[job.key] = result
        if cache is not None and isinstance(result, bytes):
            cache.put(job.key, result)
    if cache is not None and missing:
        cache.trim()
    return [_written(plan, objects, folder) for plan in plans]


def _compile_all(missing: Sequence[Job], jobs: int | Pool, report: Callable[[int], None]) -> list[bytes | WorkerError]:
    calls = [(job.function, job.arguments) for job in missing]
    if isinstance(jobs, Pool):
        return jobs.run(calls, limit_s=_LIMIT_S, done=report)
    if jobs > 1 and len(missing) > 1:
        with Pool(jobs) as pool:
            return pool.run(calls, limit_s=_LIMIT_S, done=report)
    results: list[bytes | WorkerError] = []
    for index, job in enumerate(missing):
        try:
            results.append(_call(job))
        except Exception as error:  # whatever TVM raises is this candidate's failure, as it is in a child
            results.append(WorkerError(f"{type(error).__name__}: {error}"))
        report(index)
    return results


def _call(job: Job) -> bytes:
    module, function = job.function.split(":")
    return bytes(getattr(import_module(module), function)(*job.arguments))


def _written(
    plan: Sequence[Job], objects: dict[str, bytes | WorkerError], folder: Path
) -> tuple[Path, ...] | BuildFailure:
    paths = []
    for job in plan:
        content = objects[job.key]
        if isinstance(content, WorkerError):
            return BuildFailure(f"{job.name}: {content}".split("\nTraceback")[0])
        path = _path(folder, job.key)
        if not path.exists():
            with atomic_path(path) as aside:
                aside.write_bytes(content)
        paths.append(path)
    return tuple(paths)


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key[:32]}.o"
