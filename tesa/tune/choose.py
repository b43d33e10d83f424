"""Chooses a kernel for every layer: tuning with the shortest list.

The way of one layer: competitors() names the candidates; what the log does not know of them is built, compared with
NumPy and timed; pick() says which is the fastest, where a sparse kernel must beat the dense one by more than the noise.
What is chosen has been compared with NumPy in this run, wherever the code can run, whatever a log says.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tesa.base.hostinfo import crowded
from tesa.base.progress import Event, Progress, silent
from tesa.base.scratch import Scratch
from tesa.build.objects import compilers
from tesa.build.product import FUNCTION, PRODUCTS
from tesa.choose.chosen import ChosenKernel
from tesa.choose.competitors import competitors
from tesa.choose.parts import candidate_rows, make_parts
from tesa.choose.pick import Decision
from tesa.choose.predict import source_of
from tesa.choose.shortlist import INSTRUCTIONS
from tesa.choose.storage import faster
from tesa.costs.table import CostTable
from tesa.decompose.candidates import Option, describe
from tesa.errors import CheckFailed, UsageError
from tesa.layers.layer import Layer
from tesa.measure.failure import Failure
from tesa.measure.interfaces import Builder, Runner
from tesa.measure.local import BUDGET_MS, LocalRunner
from tesa.measure.runners import checker_for, lacking, runner_for
from tesa.measure.timing import Timing
from tesa.records.log import Log, Task
from tesa.schedules.registry import find
from tesa.schedules.types import config_key
from tesa.targets.target import Target, host_cpu
from tesa.tune.backend import shared_builder
from tesa.tune.loop import Batch, BuiltBatch, build, run
from tesa.tune.recorder import Recorder
from tesa.tune.shrink import Ways, shrunk
from tesa.tune.work import Work, groups


def choose(
    layers: Sequence[Layer],
    target: Target,
    *,
    log: str | Path | Log | None = None,
    measure: bool = True,
    builder: Builder | None = None,
    runner: Runner | None = None,
    jobs: int | None = None,
    families: Sequence[str] | None = None,
    options: Sequence[Option] | None = None,
    instructions: int = INSTRUCTIONS,
    table: CostTable | None = None,
    progress: Progress = silent,
    folder: Path | None = None,
    max_bytes: int | None = None,
    contests: Sequence[Sequence[int]] | None = None,
) -> list[ChosenKernel]:
    """A kernel for each layer, in their order. Layers with equal problem and weight share one.

    log: a folder of records, or a Log; it is read first, and what is measured is added to it. measure=False decides
    without measuring where the log does not know the very weight: by the fastest record of the nearest weight, else by
    what is expected; and so it is for a target whose code nothing here can run. builder, runner: what compiles and what
    measures, by default child processes of this one. jobs: compiler processes of the default builder, by default one
    for each CPU as far as there is memory for them. families: only these compete; options: only these, each a family
    with its configuration. instructions: of straight-line code that the measured candidates of a layer may have
    together, about 10 microseconds of compile time and 8 bytes each; what a log already knows competes whatever its
    size, and the plan names what was left out. table: of costs, for what is expected and for the prices of blocks; see
    tesa.choose.predict.table_for. progress gets Events of phase "kernels". folder: where the objects of the chosen
    kernels are written, by default a temporary one that lasts as long as this process. max_bytes: of the code and the
    constants of all kernels together; smaller ones take the place of the fastest where these have more, and the plan
    says which was given up. contests: places of layers of which the model needs one, by default each on its own; where
    kernels have to be smaller, the one that remains stands for all of a contest.

    The same layers, target and table with a log that knows all candidates give the same kernels, byte by byte.

    Raises UnsupportedError for a layer that no family applies to, UsageError for an unknown family or a log that cannot
    be written or too few max_bytes, CheckFailed if every candidate of a layer is wrong or cannot be built.
    """
    if runner is None:
        runner = checker_for(target) if lacking(target) else runner_for(target)
    device = {"cpu": host_cpu()} if runner is None else runner.device()
    cpu = str(device["cpu"])
    if log is not None and not isinstance(log, Log):
        log = Log.load(log, device=cpu)
    log = Log() if log is None else log
    cpus = tuple(dict.fromkeys([target.cpu, *([] if device.get("emulated") else [cpu])]))
    works: dict[tuple[Any, ...], Work] = {}
    mine: list[Work] = []
    for layer in layers:
        task = Task.of(layer.problem, layer.weight)
        key = (task.key, layer.problem.x_shape, layer.problem.y_shape)
        if key not in works:
            found = competitors(
                layer, target, log, cpus=cpus, families=families, options=options, instructions=instructions,
                table=table,
            )  # fmt: skip
            works[key] = Work(layer, task, found, source_of(table))
        mine.append(works[key])
    note = ""
    if builder is None:
        count, note = (jobs, "") if jobs else compilers()
        builder = shared_builder(count)
    home = _lasting_folder() if folder is None else folder
    measures = measure and runner is not None and not device.get("emulated")
    chooser = _Chooser(target, log, builder, runner, measures, progress, cpu, home)
    threads = max((layer.problem.threads for layer in layers), default=1)
    local = measures and isinstance(runner, LocalRunner)
    checks = f"chosen kernels are compared with NumPy on {cpu}, and not timed" if device.get("emulated") else ""
    lacks = lacking(target) if measure and runner is None and target.portable else ""
    notes = [text for text in (note, crowded(threads) if local else "", checks, lacks) if text]
    if notes:
        progress(Event("kernels", 0, len(works), "; ".join(notes)))
    contested = [[mine[place] for place in places] for places in contests or [[i] for i in range(len(layers))]]
    kernels = chooser.run(list(works.values()), contested, max_bytes)
    chosen = [kernels[id(work)] for work in mine]
    for places in contests or ():
        winner = chooser.winners.get(tuple(id(mine[place]) for place in places))
        for place in places:
            chosen[place] = chosen[place] if winner is None else kernels[winner]
    return [replace(kernel, layer=layer.name) for kernel, layer in zip(chosen, layers, strict=True)]


def _lasting_folder() -> Path:
    _LASTING.append(Scratch())
    return Path(_LASTING[-1].name)


_LASTING: list[Scratch] = []
"""Folders that last as long as the process."""


def _fastest(forms: Sequence[ChosenKernel]) -> ChosenKernel:
    """The kernel of a layer's forms that a model takes: the first, or the one in 16 bits that is faster."""
    return forms[1] if len(forms) > 1 and faster(forms[1], forms[0]) else forms[0]


class _Chooser:
    def __init__(
        self, target: Target, log: Log, builder: Builder, runner: Runner | None, measures: bool, progress: Progress,
        cpu: str, home: Path,
    ) -> None:  # fmt: skip
        self.target, self.log, self.builder, self.runner, self.measures = target, log, builder, runner, measures
        self.progress, self.cpu, self.home = progress, cpu, home
        self.device = {"cpu": cpu} if runner is None else runner.device()
        self.recorder = Recorder(log, target, self.device)
        self.done, self.total = 0, 0
        self.winners: dict[tuple[int, ...], int] = {}

    def run(
        self, works: Sequence[Work], contests: Sequence[Sequence[Work]], room: int | None
    ) -> dict[int, ChosenKernel]:
        """The kernel of every work, by the work's id. The candidates' objects do not outlive this.

        room: bytes for one kernel of each contest. Where that takes others than the fastest, self.winners tells for the
        works of each contest the one that remains.
        """
        self.total = len(works)
        kernels: dict[int, ChosenKernel] = {}
        with Scratch() as name:
            self.bench = Path(name)
            for work, kernel in self._choose(works):
                kernels[id(work)] = self._kept(kernel)
            if room is not None:
                kernels |= {id(work): self._kept(kernel) for work, kernel in self._shrink(contests, kernels, room)}
        return kernels

    def _kept(self, kernel: ChosenKernel) -> ChosenKernel:
        """The kernel with its objects where they last."""
        objects = tuple(Path(shutil.copy(path, self.home)) for path in kernel.product.objects)
        return replace(kernel, product=replace(kernel.product, objects=objects))

    def _shrink(
        self, contests: Sequence[Sequence[Work]], kernels: Mapping[int, ChosenKernel], room: int
    ) -> Iterator[tuple[Work, ChosenKernel]]:
        """The kernels that take the place of others, so that one of each contest fits into `room` bytes together."""
        counts = Counter(tuple(map(id, contest)) for contest in contests)
        each = {tuple(map(id, contest)): contest for contest in contests}
        fastest = [_fastest([kernels[key] for key in keys]) for keys in each]
        if sum(kernel.product.footprint.total for kernel in fastest) <= room:
            return
        self._weigh([work for contest in each.values() for work in contest])
        while True:
            ways = [
                [self._ways(work, kernels[id(work)], counts[keys]) for work in contest]
                for keys, contest in each.items()
            ]
            others = []
            for (keys, contest), (place, decision) in zip(each.items(), shrunk(ways, room), strict=True):
                self.winners[keys], contest[place].given = keys[place], decision
                if decision is not None:
                    others.append(contest[place])
            try:
                yield from list(self._settle(others))
            except CheckFailed:  # of what was chosen: it has a failed record now, and competes no more
                continue
            return

    def _weigh(self, works: Sequence[Work]) -> None:
        """Build what was not built in this run, to know its size."""
        lacking = [
            (work, [option for option in work.found.options if config_key(*option) not in work.sizes]) for work in works
        ]
        for group in groups([(work, options) for work, options in lacking if options]):
            for (work, _), batch in zip(group, self._build(group), strict=True):
                for option, _ in batch.built:
                    work.changed(config_key(*option))
                work.built = {}
                if batch.folder is not None:
                    shutil.rmtree(batch.folder, ignore_errors=True)

    def _ways(self, work: Work, kernel: ChosenKernel, times: int) -> Ways:
        chosen = config_key(kernel.part.family, kernel.part.config)
        found = work.found
        return Ways(found.options, work.records, found.predicted, work.sizes, chosen, kernel.part.reason, times)

    def _choose(self, works: Sequence[Work]) -> Iterator[tuple[Work, ChosenKernel]]:
        for work in works:
            self._recall(work)
        for group in groups([(work, self._unknown(work)) for work in works]):
            built = self._build([(work, options) for work, options in group if options])
            for (work, _), batch in zip([item for item in group if item[1]], built, strict=True):
                self._tell(f"{work.layer.name}: measuring {len(batch.kernels)} candidates")
                self._measure(work, batch, BUDGET_MS)
            for work, kernel in self._settle([work for work, _ in group]):
                self.done += 1
                self._tell(f"{work.layer.name}: {kernel.part.family}")
                yield work, kernel
            for batch in built:
                if batch.folder is not None:
                    shutil.rmtree(batch.folder, ignore_errors=True)

    def _recall(self, work: Work) -> None:
        """Take over what the log knows. Times of another CPU than the one that measures are never compared with its."""
        found = work.found.records
        known = {config_key(record.family, record.config): record for record in found}
        by = {record.cpu for record in found}
        if self.measures and by and by != {self.cpu}:
            missing = any(config_key(*option) not in known for option in work.found.options)
            work.elsewhere = by == {self.target.cpu} and any(record.ok for record in found)
            if missing and not work.elsewhere:
                return
        work.records.update(known)

    def _unknown(self, work: Work) -> list[Option]:
        """The options to measure: what the log does not know, and with it the best that it knows, to compare."""
        options = work.found.options
        missing = [option for option in options if config_key(*option) not in work.records]
        if not missing or not self.measures or work.elsewhere:
            return []
        best = work.pick() if len(missing) < len(options) else None
        known = [(best.family, best.config)] if best and best.reason.startswith("measured") else []
        return known + missing

    def _build(self, wanted: Sequence[tuple[Work, Sequence[Option]]]) -> list[BuiltBatch]:
        """Build options of several layers at once; what fails becomes a failed record."""
        if not wanted:
            return []
        batches = [Batch(work.layer, tuple(options)) for work, options in wanted]
        first, *more = dict.fromkeys(batch.layer.name for batch in batches)
        count = sum(len(batch.options) for batch in batches)
        self._tell(f"building {count} candidates: {first}{f' and {len(more)} more' if more else ''}")
        built = build(batches, self.target, self.builder, self.bench)
        for (work, _), batch in zip(wanted, built, strict=True):
            work.built.update({config_key(*option): kernel for option, kernel in batch.built})
            work.sizes.update({config_key(*option): kernel.footprint.total for option, kernel in batch.built})
            self._keep(work, batch.failed, batch.codes, timed=True)
        return built

    def _measure(self, work: Work, batch: BuiltBatch, budget_ms: float) -> None:
        """Compare the kernels with NumPy, time them if there is a budget, and keep what came out."""
        assert self.runner is not None
        results, _ = run(batch, self.runner, budget_ms)
        self._keep(work, results[len(batch.failed) :], batch.codes, timed=budget_ms > 0)

    def _keep(
        self, work: Work, results: Sequence[tuple[Option, Timing | Failure]], codes: Mapping[str, str], timed: bool
    ) -> None:
        """Record results; a kernel that was only compared, and is right, has none to record."""
        right = {config_key(*option) for option, result in results if isinstance(result, Timing)}
        work.checked |= right
        told = [(o, result) for o, result in results if timed or isinstance(result, Failure)]
        if self.device.get("emulated"):  # what an emulator cannot do is no fault of a kernel
            told = [(o, r) for o, r in told if not isinstance(r, Failure) or r.kind.blames_kernel]
        entered = self.recorder.enter(work.task, told, codes)
        if self.recorder.fault:
            raise UsageError(self.recorder.fault)
        known = {config_key(record.family, record.config): record for record in entered}
        for option, result in told:
            key = config_key(*option)
            work.records[key] = known.get(key) or self.recorder.record(work.task, option, result, codes)

    def _settle(self, works: Sequence[Work]) -> Iterator[tuple[Work, ChosenKernel]]:
        """Pick, build and check; where the choice turns out to be bad, the next best takes its place."""
        pending = list(works)
        while pending:
            choice = {id(work): self._best(work) for work in pending}
            lacking = [(w, [choice[id(w)]]) for w in pending if config_key(*choice[id(w)]) not in w.built]
            built = {id(work): batch for (work, _), batch in zip(lacking, self._build(lacking), strict=True)}
            again = []
            for work in pending:
                option = choice[id(work)]
                key = config_key(*option)
                changed = work.changed(key)
                times = changed and self.measures and not work.elsewhere
                if key in work.built and self.runner is not None and (times or key not in work.checked):
                    batch = built.get(id(work)) or BuiltBatch(Batch(work.layer, (option,)), (work.built[key],))
                    self._measure(work, batch, BUDGET_MS if times else 0)
                if changed:
                    again.append(work)
                elif key in work.built and (key not in work.records or work.records[key].ok):
                    yield work, self._kernel(work, option)
                else:
                    again.append(work)
            pending = again

    def _pick(self, work: Work) -> Decision | None:
        """The best by what is known; where nothing may be measured, records of the nearest weight count too."""
        return work.pick(() if self.measures else work.found.nearest)

    def _best(self, work: Work) -> Option:
        decision = self._pick(work)
        if decision is None:
            keyed = [(option, work.records.get(config_key(*option))) for option in work.found.options]
            rows = [f"{name} {dict(config)}: {r.error}" for (name, config), r in keyed if r is not None and not r.ok]
            raise CheckFailed(
                f"layer {work.layer.name}: every kernel for {describe(work.layer.problem)} failed on "
                f"{self.target.name}:\n  " + "\n  ".join(rows)
            )
        return decision.family, decision.config

    def _kernel(self, work: Work, option: Option) -> ChosenKernel:
        decision = self._pick(work)
        assert decision is not None  # _best found one, and it did not fail
        timeless = self.runner is None or bool(self.device.get("emulated"))  # whether it was compared here is no reason
        if timeless and not decision.reason.startswith("measured"):
            decision = replace(decision, reason=f"{decision.reason} (this machine cannot run {self.target.name})")
        found, layer = work.found, work.layer
        rows = candidate_rows(
            found.options, work.records, found.predicted, found.dense, work.sizes if work.given else {}
        )
        parts = make_parts([*rows, *found.left_out], decision, layer)
        product = work.built[config_key(*option)]
        work.built = {}
        family, config = option
        made = find(family, self.target.kind).emit
        emit = partial(made, layer.problem, layer.weight, self.target.core, config, product.symbol)
        if PRODUCTS[self.target.kind] == FUNCTION:
            product = product.inside(emit())
        return ChosenKernel(layer.name, parts, product, layer.digest, emit)

    def _tell(self, text: str) -> None:
        self.progress(Event("kernels", self.done, self.total, text))
