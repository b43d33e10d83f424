"""Chooses a kernel for every layer: by measured time, kept in a log, or by estimate where nothing may be measured.

The way of one layer: candidates() lists every decomposition, form and configuration that applies; what the log does not
know is generated, built and measured; the fastest wins, where a sparse form must beat the dense one by more than the
noise. What is chosen has been compared with NumPy in this run, whatever a log says.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tesa.base.hostinfo import crowded
from tesa.base.progress import Event, Progress, silent
from tesa.base.workers import Pool, shared_pool
from tesa.build.cache import Cache
from tesa.build.digest import code_digest
from tesa.build.objects import BuildFailure, build_objects, compilers, symbol_of, versions
from tesa.choose.competitors import Offer, machines, offer
from tesa.choose.decide import Decision, Nearest, candidate_rows, decide, make_parts
from tesa.choose.plan import Part
from tesa.choose.predict import source_of
from tesa.choose.shortlist import INSTRUCTIONS
from tesa.decompose.candidates import Option, candidates, describe
from tesa.errors import CheckFailed
from tesa.layers.layer import Layer
from tesa.measure.device import this_device
from tesa.measure.local import BUDGET_MS, Built, Failure
from tesa.measure.local import measure as measure_kernels
from tesa.records.emitted import emitted_by_families
from tesa.records.log import Log, Record, Task
from tesa.schedules.registry import find
from tesa.schedules.types import Code, config_key
from tesa.targets.target import Target, host_cpu, runs_here

if TYPE_CHECKING:
    from tesa.costs.table import CostTable

__all__ = ["ChosenKernel", "Layer", "candidates", "choose"]

_BATCH = 24  # candidates that are generated at once: their code is held in memory, and unrolled forms are large
_PASSING = ("link", "load")  # kinds of failure that say nothing about the kernel: they do not enter the log


@dataclass(frozen=True)
class ChosenKernel:
    """The kernel of a layer: called as symbol(X, *constants, bias if any, residual if any, Y).

    objects: what has to be linked, main first; they lie in the folder that choose was given. parts: one, or those of a
    decomposition; see tesa.choose.plan.
    """

    layer: str
    parts: tuple[Part, ...]
    symbol: str
    constants: tuple[NDArray[Any], ...]
    objects: tuple[Path, ...]
    digest: str = ""

    @property
    def part(self) -> Part:
        """The first part: it has the candidates and the reason."""
        return self.parts[0]


def choose(
    layers: Sequence[Layer],
    target: Target,
    *,
    log: str | Path | Log | None = None,
    measure: bool = True,
    jobs: int | None = None,
    forms: Sequence[str] | None = None,
    options: Sequence[Option] | None = None,
    instructions: int = INSTRUCTIONS,
    table: CostTable | None = None,
    progress: Progress = silent,
    cache: Cache | None = None,
    folder: Path | None = None,
) -> list[ChosenKernel]:
    """A kernel for each layer, in their order. Layers with equal problem and weight share one.

    log: a folder of records, or a Log; it is read first, and what is measured is added to it. measure=False decides
    without measuring where the log does not know the very weight: by the fastest record of the nearest weight, else by
    what is expected; and so it is for a target whose code this machine cannot run. jobs: compiler processes, by default
    one for each CPU as far as there is memory for them. forms: only these families compete; options: only these, each a
    family with its configuration. instructions: of straight-line code that the measured candidates of a layer may have
    together, about 10 microseconds of compile time and 8 bytes each; what a log already knows competes whatever its
    size, and the plan names what was left out. table: of costs, for what is expected and for the prices of blocks; see
    tesa.choose.predict.table_for. progress gets Events of phase "kernels". cache: of objects, by default the user's.
    folder: where the objects of the chosen kernels are written, by default a temporary one that lasts as long as this
    process.

    The same layers, target and table with a log that knows all candidates give the same kernels, byte by byte.

    Raises UnsupportedError for a layer that no form applies to, UsageError for an unknown form or a log that cannot be
    written, CheckFailed if every candidate of a layer is wrong or cannot be built.
    """
    if log is not None and not isinstance(log, Log):
        log = Log.load(log, device=host_cpu())
    log = Log() if log is None else log
    works: dict[tuple[Any, ...], _Work] = {}
    mine: list[_Work] = []
    for layer in layers:
        task = Task.of(layer.problem, layer.weight)
        key = (task.key, layer.problem.x_shape, layer.problem.y_shape)
        if key not in works:
            found = offer(layer.problem, layer.weight, task, target, log, forms, options, instructions, table)
            works[key] = _Work(layer, task, found, source_of(table))
        mine.append(works[key])
    count, note = (jobs, "") if jobs else compilers()
    home = _lasting_folder() if folder is None else folder
    chooser = _Chooser(target, log, measure, cache or Cache(), progress, shared_pool(count), home)
    threads = max((layer.problem.threads for layer in layers), default=1)
    notes = [text for text in (note, crowded(threads) if chooser.measure else "") if text]
    if notes:
        progress(Event("kernels", 0, len(works), "; ".join(notes)))
    kernels = chooser.run(list(works.values()))
    return [replace(kernels[id(work)], layer=layer.name) for work, layer in zip(mine, layers, strict=True)]


def _lasting_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="tesa-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@dataclass
class _Work:
    """A layer on its way. records: what is known, by config_key; checked: compared with NumPy in this run.

    source: whose expectations the offer has, in words. elsewhere: the records are of the device that the target names,
    which is not this machine.
    """

    layer: Layer
    task: Task
    offer: Offer
    source: str = ""
    records: dict[str, Record] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)
    built: dict[str, Built] = field(default_factory=dict)
    elsewhere: bool = False

    @property
    def options(self) -> tuple[Option, ...]:
        """What competes."""
        return self.offer.options

    def decide(self, nearest: Sequence[Nearest] = ()) -> Decision | None:
        """The best by what is known now; None if all failed."""
        found = self.offer
        return decide(found.options, self.records, found.predicted, found.dense, source=self.source, nearest=nearest)


class _Chooser:
    def __init__(
        self, target: Target, log: Log, measure: bool, cache: Cache, progress: Progress, pool: Pool, home: Path
    ) -> None:
        self.target, self.log, self.cache, self.progress, self.pool = target, log, cache, progress, pool
        self.runs = runs_here(target)
        self.measure = measure and self.runs
        self.home = home
        self.done, self.total = 0, 0

    def run(self, works: Sequence[_Work]) -> dict[int, ChosenKernel]:
        """The kernel of every work, by the work's id. The candidates' objects do not outlive this."""
        self.total = len(works)
        kernels: dict[int, ChosenKernel] = {}
        with tempfile.TemporaryDirectory(prefix="tesa-") as self.bench:
            for work, kernel in self._choose(works):
                objects = tuple(Path(shutil.copy(path, self.home)) for path in kernel.objects)
                kernels[id(work)] = replace(kernel, objects=objects)
        return kernels

    def _choose(self, works: Sequence[_Work]) -> Iterator[tuple[_Work, ChosenKernel]]:
        for work in works:
            self._recall(work)
        for batch in _batches([(work, self._unknown(work)) for work in works]):
            self._build(batch)
            for work, unknown in batch:
                if unknown:
                    self._tell(f"{work.layer.name}: measuring {len(unknown)} candidates")
                    self._measure(work, [option for option in unknown if config_key(*option) in work.built])
            for work, kernel in self._settle([work for work, _ in batch]):
                self.done += 1
                self._tell(f"{work.layer.name}: {kernel.part.family}")
                yield work, kernel

    def _recall(self, work: _Work) -> None:
        """What the log knows. Times of another CPU than this are never compared with what is measured here."""
        layer = work.layer
        emitted = emitted_by_families(layer.problem, layer.weight, self.target, work.task.pattern.digest)
        found = self.log.records(work.task, self.target.name, machines(self.target), emitted)
        known = {config_key(record.family, record.config): record for record in found}
        cpus = {str(record.device.get("cpu", "")) for record in found}
        if self.measure and cpus and cpus != {host_cpu()}:
            missing = any(config_key(*option) not in known for option in work.options)
            work.elsewhere = cpus == {self.target.cpu} and any(record.ok for record in found)
            if missing and not work.elsewhere:
                return
        work.records.update(known)

    def _unknown(self, work: _Work) -> list[Option]:
        """What has to be measured: what the log does not know, and with it the best that it knows, to compare."""
        missing = [option for option in work.options if config_key(*option) not in work.records]
        if not missing or not self.measure or work.elsewhere:
            return []
        best = work.decide() if len(missing) < len(work.options) else None
        known = [(best.family, best.config)] if best and best.reason.startswith("measured") else []
        return known + missing

    def _build(self, wanted: Sequence[tuple[_Work, Sequence[Option]]]) -> None:
        """Generate and compile options; what fails becomes a failed record."""
        from tesa.decompose import unchanging

        codes: list[tuple[str, Code]] = []
        places: list[tuple[_Work, Option]] = []
        for work, options in wanted:
            for option in options:
                if config_key(*option) in work.built:
                    continue
                name, config = option
                problem, weight = work.layer.problem, work.layer.weight
                symbol = symbol_of(problem, weight, self.target, name, config, work.task.pattern.digest)
                try:
                    with unchanging(weight, work.task.pattern.digest):
                        codes.append((symbol, find(name).emit(problem, weight, self.target.core, config, symbol)))
                except Exception as error:  # a defect of one form must not stop the others
                    self._fail(work, option, Failure("build", f"cannot be generated: {type(error).__name__}: {error}"))
                    continue
                places.append((work, option))
        if not codes:
            return
        first, *more = dict.fromkeys(work.layer.name for work, _ in places)
        self._tell(f"building {len(codes)} candidates: {first}{f' and {len(more)} more' if more else ''}")
        objects = build_objects(codes, self.target, jobs=self.pool, cache=self.cache, folder=Path(self.bench))
        for (work, option), (symbol, code), files in zip(places, codes, objects, strict=True):
            digest = code_digest(code, symbol)
            if isinstance(files, BuildFailure):
                self._fail(work, option, Failure("build", files.message), digest)
            else:
                work.built[config_key(*option)] = Built(symbol, files, code.constants, digest)

    def _measure(self, work: _Work, options: Sequence[Option], budget_ms: float = BUDGET_MS) -> None:
        """Compare options with NumPy, time them if there is a budget, and keep what came out."""
        if not options:
            return
        kernels = [work.built[config_key(*option)] for option in options]
        results = measure_kernels(work.layer.problem, work.layer.weight, kernels, budget_ms=budget_ms)
        records = []
        for option, result in zip(options, results, strict=True):
            if isinstance(result, Failure):
                self._fail(work, option, result)
                continue
            work.checked.add(config_key(*option))
            if budget_ms:
                record = replace(self._record(work, option), median_ms=result.median_ms, min_ms=result.min_ms)
                work.records[config_key(*option)] = record
                records.append(record)
        self.log.append(records)

    def _settle(self, works: Sequence[_Work]) -> Iterator[tuple[_Work, ChosenKernel]]:
        """Decide, build and check; where the choice turns out to be bad, the next best takes its place."""
        pending = list(works)
        while pending:
            choice = {id(work): self._best(work) for work in pending}
            self._build([(work, [choice[id(work)]]) for work in pending])
            again = []
            for work in pending:
                option = choice[id(work)]
                key = config_key(*option)
                if self._changed(work, key):
                    if self.measure and not work.elsewhere:
                        self._measure(work, [option])
                    again.append(work)
                    continue
                if key in work.built and key not in work.checked and self.runs:
                    self._measure(work, [option], budget_ms=0)
                if key in work.built and work.records.get(key, self._record(work, option)).ok:
                    yield work, self._kernel(work, option)
                else:
                    again.append(work)
            pending = again

    def _changed(self, work: _Work, key: str) -> bool:
        """Whether the record of a kernel is of other code than what was emitted; then it counts no longer."""
        built, record = work.built.get(key), work.records.get(key)
        if built is None or record is None or not record.ok or record.code == built.code:
            return False
        del work.records[key]
        return True

    def _decide(self, work: _Work) -> Decision | None:
        """The best by what is known; where nothing may be measured, records of the nearest weight count too."""
        return work.decide(() if self.measure else work.offer.nearest)

    def _best(self, work: _Work) -> Option:
        decision = self._decide(work)
        if decision is None:
            keyed = [(option, work.records[config_key(*option)].error) for option in work.options]
            rows = [f"{name} {dict(config)}: {error}" for (name, config), error in keyed]
            raise CheckFailed(
                f"layer {work.layer.name}: every kernel for {describe(work.layer.problem)} failed on "
                f"{self.target.name}:\n  " + "\n  ".join(rows)
            )
        return decision.family, decision.config

    def _kernel(self, work: _Work, option: Option) -> ChosenKernel:
        decision = self._decide(work)
        assert decision is not None  # _best found one, and it did not fail
        if not self.runs and not decision.reason.startswith("measured"):
            decision = replace(decision, reason=f"{decision.reason} (this machine cannot run {self.target.name})")
        found, layer = work.offer, work.layer
        rows = candidate_rows(found.options, work.records, found.predicted, found.dense)
        parts = make_parts([*rows, *found.left_out], decision, layer.problem, layer.weight, work.task)
        built = work.built[config_key(*option)]
        work.built = {}
        return ChosenKernel(layer.name, parts, built.symbol, built.constants, built.objects, work.task.pattern.digest)

    def _record(self, work: _Work, option: Option) -> Record:
        built = work.built.get(config_key(*option))
        return Record(
            work.task, self.target.name, this_device(), option[0], dict(option[1]), None, None, versions=versions(),
            code="" if built is None else built.code,
        )  # fmt: skip

    def _fail(self, work: _Work, option: Option, failure: Failure, code: str = "") -> None:
        blank = self._record(work, option)
        record = replace(blank, ok=False, error=f"{failure.kind}: {failure.message}", code=blank.code or code)
        work.records[config_key(*option)] = record
        if failure.kind not in _PASSING:
            self.log.append([record])

    def _tell(self, text: str) -> None:
        self.progress(Event("kernels", self.done, self.total, text))


def _batches(items: Sequence[tuple[_Work, list[Option]]]) -> Iterator[list[tuple[_Work, list[Option]]]]:
    """Groups with at most _BATCH candidates to build, or one work that has more."""
    batch: list[tuple[_Work, list[Option]]] = []
    room = _BATCH
    for work, options in items:
        cost = max(1, len(options))
        if batch and cost > room:
            yield batch
            batch, room = [], _BATCH
        batch.append((work, options))
        room -= cost
    if batch:
        yield batch
