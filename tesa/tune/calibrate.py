"""Makes a cost table: measures layers of the grid until the time is over, and can be stopped and resumed anywhere."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic

from tesa.base.display import Displayed
from tesa.base.hostinfo import emulated_here, read_cpu
from tesa.base.progress import Event, Progress, automatic, shows_progress, silent
from tesa.base.version import versions
from tesa.costs import store
from tesa.costs.fingerprint import code_digest, fingerprint
from tesa.costs.grid import grid_layer
from tesa.costs.quality import Quality, quality
from tesa.costs.refresh import refreshed
from tesa.costs.sample import Measured
from tesa.costs.table import CostTable
from tesa.errors import CheckFailed, UsageError
from tesa.measure.runners import lacking
from tesa.targets.target import Target, host_cpu, parse_target, refuse_gpu
from tesa.tune.backend import backend
from tesa.tune.calibration import Work, build_and_time, plan

MINUTES = 14.0
"""The minutes of measuring. To learn from what was measured takes up to a minute more."""

BATCH = 4
"""Layers whose kernels are compiled at once."""

_HOPELESS = 3  # batches without a single time: nothing works here


Measure = Callable[[Sequence[Work]], list[Measured]]
"""Builds and times the kernels of some layers."""


@dataclass(frozen=True)
class Calibration(Displayed):
    """The result of a calibration: the cost table, its file and how well it predicts.

    added: kernels of this run; failed: those of this run that could not be built or were wrong, each
    with the reason.
    """

    table: CostTable
    path: Path
    quality: Quality
    added: int
    failed: tuple[str, ...]


@shows_progress
def calibrate(
    target: str | Target | None = None,
    *,
    threads: int = 1,
    minutes: float = MINUTES,
    path: str | Path | None = None,
    seed: int = 0,
    jobs: int | None = None,
    progress: Progress | None = automatic,
    measure: Measure | None = None,
    clock: Callable[[], float] = monotonic,
) -> Calibration:
    """Measure layers of the grid for so many minutes, on top of what the file holds already.

    path: a JSON file, by default this machine's in the user's data folder. It is written, whole, after every few
    layers: however this ends, what was measured is kept, and another run goes on behind it. seed: of the grid, where
    the file has no table yet. jobs: compiler processes, by default one for each CPU. measure, clock: for tests.

    Raises UsageError if this machine cannot run code for the target or the file cannot be used, CheckFailed if no
    kernel at all can be measured.
    """
    progress = progress or silent
    if threads < 1 or not minutes > 0:
        raise UsageError(f"threads and minutes must be above 0, got {threads} and {minutes}")
    wanted, file = parse_target(target), store.default_path() if path is None else Path(path)
    refuse_gpu(wanted, "tesa calibrate")
    if why := lacking(wanted):
        if wanted.portable:
            raise UsageError(why)
        raise UsageError(
            f"target {wanted.name}: this machine ({host_cpu()}) cannot run its code, and a cost table is measured; "
            "run tesa calibrate on the device itself"
        )
    if sign := emulated_here():
        raise UsageError(f"this machine is emulated ({sign}), and a cost table holds times: make it on a real device")
    table, begin = _begun(file, wanted, threads, seed), clock()
    before, failed = table.samples, list[str]()
    with backend(wanted, jobs=jobs) as place:
        run = measure or (lambda works: build_and_time(works, wanted, place.builder, place.runner))
        for grown, broken in _grow(table, wanted, run, begin, minutes * 60, clock, progress):
            table = grown
            store.write(file, table)
            failed += broken
    table = learnt(table)
    store.write(file, table)
    return Calibration(table, file, quality(table), table.samples - before, tuple(failed))


def _begun(path: Path, target: Target, threads: int, seed: int) -> CostTable:
    """The table that the file holds already, or a new one."""
    made, cpu = versions(), read_cpu().model
    new = CostTable(host_cpu(), cpu, target.name, threads, seed, versions=made, started=_now(), code=code_digest())
    for table in store.read(path) if path.exists() else ():
        if store.same(table, new):
            return replace(refreshed(table), versions=made)
    store.write(path, new)  # to learn now, and not after a quarter of an hour, that it cannot be written
    return new


def _grow(
    table: CostTable,
    target: Target,
    measure: Measure,
    begin: float,
    seconds: float,
    clock: Callable[[], float],
    progress: Progress,
) -> Iterator[tuple[CostTable, list[str]]]:
    """The table after each batch of layers, and what failed in the batch. seconds: to go on for, since begin."""
    spent, barren, known = table.seconds, 0, dict(table.fingerprints)
    slowest = 0.0  # seconds of a batch: the next one must not end late
    done = {layer.index for layer in table.layers}
    indices = (index for index in itertools.count() if index not in done)
    while clock() - begin + slowest <= seconds or not slowest:  # one batch at least, however long it took to get here
        start = clock()
        text = f"{table.samples} kernels of {len(table.layers)} layers"
        progress(Event("calibrate", int(start - begin), int(seconds), text))
        batch = itertools.islice(indices, BATCH)
        measured = measure([plan(i, grid_layer(i, table.seed, table.threads), target) for i in batch])
        slowest = max(slowest, clock() - start)
        spent += clock() - start
        layers = (*table.layers, *measured)
        names = sorted({sample.family for layer in layers for sample in layer.samples})
        known = {name: known.get(name) or fingerprint(name, table.core) for name in names}
        table = replace(table, layers=layers, updated=_now(), seconds=spent, fingerprints=known)
        broken = [f"layer {m.index}: {name} {dict(config)}: {why}" for m in measured for name, config, why in m.failed]
        barren = 0 if any(m.samples for m in measured) else barren + 1
        if barren == _HOPELESS:
            raise CheckFailed(f"no kernel can be measured on this machine; the last one: {(broken or ['none'])[-1]}")
        yield table, broken
    progress(Event("calibrate", int(seconds), int(seconds), f"{table.samples} kernels"))


def learnt(table: CostTable) -> CostTable:
    """The table with the shapes of the families, so that nobody who reads it has to learn them again."""
    families = replace(table, shapes={}).families
    return replace(table, shapes={name: family.fitted.shape for name, family in families.items()})


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
