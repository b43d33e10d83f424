"""One contest: a network with one batch and one number of threads, every engine and form of it in turn.

    python -m benchmarks.networks.contest SPEC.json RESULT.json NOW

NOW is a file that tells which engine is at work, should it end the process. It runs in a process of its own, so that
the libraries of all engines begin with the right number of threads.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from benchmarks.networks.catalogue import network
from benchmarks.networks.engines import ENGINES, Ready, tesa_ready
from benchmarks.networks.files import Folder, how
from benchmarks.networks.pruning import parse_sparsity
from tesa.base.progress import shown
from tesa.errors import TesaError
from tesa.runtime import verify
from tesa.runtime.bench import interleave, profile_layers

Array = NDArray[Any]


@dataclass(frozen=True)
class Spec:
    """The contest: what benchmarks.networks was asked for, of one network, batch and number of threads."""

    network: str
    batch: int
    threads: int
    precisions: Sequence[str]
    sparsities: Sequence[str]
    peers: Sequence[str]
    folder: str
    rounds: int = 20
    slice_ms: float = 10.0
    measure: bool = True
    tiny: bool = False
    seed: int = 0
    reuse: bool = False
    profile: bool = False
    lock: str = ""
    isa: str = ""


@dataclass
class Entry:
    """One contestant. error: its largest difference from onnxruntime without optimization, by the largest number.

    why: what kept it from running, or from being right. layers: operator, kernel and median time of each, on request.
    """

    engine: str
    precision: str
    sparsity: str
    min_ms: float | None = None
    median_ms: float | None = None
    error: float | None = None
    why: str = ""
    compile_s: float | None = None
    bytes: int | None = None
    layers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Unique within the contest."""
        return f"{self.engine} {self.precision} {self.sparsity}"


def run(spec: Spec, at_work: Callable[[str], object] = lambda engine: None) -> dict[str, Any]:
    """Make the files, compile, compare all results, then time all in turn. at_work: is told which engine begins."""
    folder = Folder(Path(spec.folder), spec.tiny, spec.seed, spec.reuse)
    entries: list[tuple[Entry, Ready | None]] = []
    for precision in spec.precisions:
        for number, sparsity in enumerate(spec.sparsities):
            path = folder.model(network(spec.network), spec.batch, parse_sparsity(sparsity), precision)
            if path is None:
                continue
            entries.append(_ours(spec, folder, path, precision, sparsity))
            # other engines compute with the zeros: their time is the same for any sparsity
            peers = spec.peers if not number else ()
            for peer in peers:
                at_work(peer)
                entries.append(_theirs(peer, spec, folder, path, precision, sparsity))
                at_work("")
    ready = {entry.name: one for entry, one in entries if one is not None}
    with _held(spec.lock), _pinned(spec.threads):
        times = {t.name: t for t in interleave({n: r.call for n, r in ready.items()}, spec.rounds, spec.slice_ms)}
        for entry, one in entries:
            if entry.name in times:
                entry.min_ms, entry.median_ms = times[entry.name].min_ms, times[entry.name].median_ms
            if one is not None and entry.engine == "tesa" and spec.profile:
                entry.layers = _layers(one)
    return {**asdict(spec), "entries": [asdict(entry) for entry, _ in entries]}


def _ours(spec: Spec, folder: Folder, path: Path, precision: str, sparsity: str) -> tuple[Entry, Ready | None]:
    entry = Entry("tesa", precision, sparsity)
    try:
        with shown(sys.stderr) as progress:
            library, entry.compile_s = folder.library(path, spec.threads, spec.measure, progress)
        entry.bytes = library.stat().st_size
        ready = tesa_ready(library, folder.feeds(path))
        entry.error = difference(ready.results(), folder.expected(path))
        checked = verify(ready.model[0], path, feeds=folder.feeds(path))
    except TesaError as error:
        entry.why = _line(error)
        return entry, None
    if not checked.ok:
        entry.why = f"WRONG: {', '.join(item.name for item in checked.outputs if not item.ok)}"
        return entry, None
    return entry, ready


def _theirs(
    name: str, spec: Spec, folder: Folder, path: Path, precision: str, sparsity: str
) -> tuple[Entry, Ready | None]:
    entry = Entry(name, precision, sparsity)
    try:
        engine, source, prepare = ENGINES[name], path, ENGINES[name].prepare
        if engine.dynamic and how(network(spec.network), precision) == "dynamic":
            real = folder.model(network(spec.network), spec.batch, parse_sparsity(sparsity), "float32")
            source, prepare = real or path, engine.dynamic
        ready = prepare(source, folder.feeds(path), spec.threads)
        entry.error = difference(ready.results(), folder.expected(path))
    except Exception as error:  # an engine may refuse a network in any way; the table says so
        entry.why = _line(error)
        return entry, None
    return entry, ready


def difference(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The largest difference of any output, by the largest number of that output; infinite where one is no number.

    >>> difference({"y": np.array([1.0, 2.5])}, {"y": np.array([1.0, 2.0])})
    0.25
    """
    largest = 0.0
    for name, array in expected.items():
        off = np.abs(found[name].reshape(array.shape).astype(np.float64) - array).max(initial=0)
        largest = max(largest, float(off) / (float(np.abs(array).max(initial=0)) or 1.0))
    return largest if np.isfinite(largest) else float("inf")


def _layers(ready: Ready) -> list[dict[str, Any]]:
    model, prepared = ready.model
    plans: dict[str, Any] = {}
    for plan in model.plan.layers:
        plans.setdefault(plan.symbol, plan)
    rows = []
    for row in profile_layers(model, prepared, 10):
        plan = plans.get(row.symbol)
        kernel = plan.kernel if plan is not None and plan.kind == "sparse" else ""
        kind = plan.kind if plan is not None else "operator"
        shape = list(plan.shape) if plan is not None else []
        facts = {"layer": row.layer, "symbol": row.symbol, "kind": kind, "kernel": kernel, "shape": shape}
        rows.append({**facts, "ms": row.median_ms})
    return rows


@contextmanager
def _held(lock: str) -> Iterator[None]:
    """Nobody else who holds the file's lock measures at the same time; where the system lets it, others wait."""
    if not lock:
        yield
        return
    with FileLock(lock):
        for thread in os.listdir("/proc/self/task"):
            with suppress(PermissionError, ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread), -5)
        yield


@contextmanager
def _pinned(threads: int) -> Iterator[None]:
    """One thread stays on one CPU."""
    before = os.sched_getaffinity(0)
    if threads == 1:
        os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


def main() -> int:
    """Run the contest that the first file describes, and write the second."""
    given, found, now = map(Path, sys.argv[1:4])
    spec = Spec(**json.loads(given.read_text(encoding="utf-8")))
    found.write_text(json.dumps(run(spec, now.write_text)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
