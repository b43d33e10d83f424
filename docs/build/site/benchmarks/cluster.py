"""Candidates per minute that builders make: `python -m benchmarks.cluster`.

The same candidates of one pruned layer, every family with its first configurations, are generated and compiled by the
local builder with two processes and by a Dask cluster of two workers on this machine, in turns, each time with an empty
cache. The objects of both are compared byte by byte. The cluster has the same two cores: what it takes longer is what
distributed, pickling and the way through the scheduler cost. `--address` measures a cluster that is there already,
whose workers must have an empty cache then.

Prints a table in Markdown and appends JSON lines to benchmarks/results/cluster.jsonl.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.tables import append, markdown
from tesa.build.cache import Cache
from tesa.build.product import Product
from tesa.decompose.candidates import candidates
from tesa.measure.interfaces import Builder, BuildRequest
from tesa.schedules.registry import find
from tesa.schedules.types import Problem
from tesa.targets.target import parse_target
from tesa.tune.builders import ClusterBuilder, LocalBuilder

RESULTS = Path(__file__).parent / "results" / "cluster.jsonl"
_PER_FAMILY = 8
_LARGEST = 6000  # straight-line instructions


def main() -> int:
    """Measure, print and record; 1 if the builders do not make the same objects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="local processes, and workers of the cluster")
    parser.add_argument("--rounds", type=int, default=3, help="turns for each builder")
    parser.add_argument("--address", help="of a Dask scheduler that is there already")
    parser.add_argument("--quick", action="store_true", help="a small layer and one round; nothing is recorded")
    parser.add_argument("--json", type=Path, help=f"append the results to this file (default: {RESULTS.name})")
    options = parser.parse_args()
    requests = layer_requests(64 if options.quick else 256)
    speeds: dict[str, list[float]] = {"local": [], "cluster": []}
    same = True
    for _ in range(1 if options.quick else options.rounds):
        made = []
        for name in speeds:
            with tempfile.TemporaryDirectory() as folder, builder_of(name, options, Path(folder)) as builder:
                seconds, contents = timed(builder, requests, Path(folder))
            speeds[name].append(60.0 * len(requests) / seconds)
            made.append(contents)
        same = same and made[0] == made[1]
    rows = [[name, f"{median(found):.0f}", f"{min(found):.0f}", f"{max(found):.0f}"] for name, found in speeds.items()]
    print(f"{len(requests)} candidates, {options.jobs} processes each, the same objects: {'yes' if same else 'NO'}")
    print(markdown(("builder", "candidates per minute", "least", "most"), rows))
    target = options.json or (None if options.quick else RESULTS)
    if target is not None:
        record = {"candidates": len(requests), "jobs": options.jobs, "per_minute": speeds, "same_objects": same}
        append(target, [record], "benchmarks.cluster")
    return 0 if same else 1


def layer_requests(size: int) -> list[BuildRequest]:
    """Candidates of a 90 % pruned layer, size x size, n = 4 size."""
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((size, size)) < 0.1, rng.standard_normal((size, size)), 0).astype(np.float32)
    problem = Problem("linear", size, size, 4 * size, (1, size, 4 * size), (1, size, 4 * size))
    target = parse_target("x86:haswell")
    counts: dict[str, int] = {}
    found = []
    for name, config in candidates(problem, weight, target):
        family = find(name)
        counts[name] = counts.get(name, 0) + 1
        if counts[name] <= _PER_FAMILY and (
            family.size is None or family.size(problem, weight, target.core, config) <= _LARGEST
        ):
            found.append(BuildRequest(problem, weight, target, name, config))
    return found


@contextlib.contextmanager
def builder_of(name: str, options: argparse.Namespace, folder: Path) -> Iterator[Builder]:
    """A builder whose processes have started, all caches empty."""
    cache = Cache(folder / "objects")
    if name == "local":
        with LocalBuilder(options.jobs, cache) as local:
            _warm(local, folder)
            yield local
        return
    with _cluster(options, folder) as address, ClusterBuilder(address, cache=cache) as cluster:
        _warm(cluster, folder)
        yield cluster


@contextlib.contextmanager
def _cluster(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    if options.address:
        yield options.address
        return
    from distributed import LocalCluster

    start: Any = LocalCluster
    with start(
        n_workers=options.jobs,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=":0",
        local_directory=str(folder),
        env={"TESA_CACHE_DIR": str(folder / "workers")},
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield str(cluster.scheduler_address)


def _warm(builder: Builder, folder: Path) -> None:
    """Let every process start and import what it needs, with another layer."""
    timed(builder, layer_requests(32)[: 4 * (os.cpu_count() or 1)], folder)


def timed(builder: Builder, requests: Sequence[BuildRequest], folder: Path) -> tuple[float, list[Any]]:
    """(seconds, what was built in the order of the requests). RuntimeError if a candidate cannot be built."""
    start = time.perf_counter()
    found = dict(builder.build(requests, folder))
    seconds = time.perf_counter() - start
    contents = []
    for index in range(len(requests)):
        result = found[index]
        if not isinstance(result, Product):
            raise RuntimeError(f"{requests[index].family} {dict(requests[index].config)}: {result.message}")
        contents.append((result.symbol, [path.read_bytes() for path in result.objects]))
    return seconds, contents


if __name__ == "__main__":
    raise SystemExit(main())
