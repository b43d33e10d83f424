"""The tuning job: proposes candidates, has them built and measured, and keeps every result at once.

A turn is a batch of candidates of one layer. What it found is in the log before the next turn starts, so that a job
that is killed loses the turn at work and nothing else; the next job reads the log and goes on from there.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tesa.base.scratch import Scratch
from tesa.costs.table import CostTable
from tesa.decompose.candidates import Option
from tesa.errors import TesaError, UnsupportedError
from tesa.layers.layer import Layer
from tesa.measure.failure import Failure
from tesa.measure.interfaces import Builder, Runner
from tesa.measure.local import BUDGET_MS
from tesa.measure.timing import Timing
from tesa.records.log import Log
from tesa.schedules.types import config_key
from tesa.targets.target import Target
from tesa.tune.budget import Budget, Share, next_layer
from tesa.tune.comparison import ROUNDS, finalists
from tesa.tune.layer_search import LayerSearch
from tesa.tune.loop import Batch, BuiltBatch, build, run
from tesa.tune.outcome import beyond, density_of, failures, given_up, lost, status_of, tuned_of
from tesa.tune.recorder import Recorder
from tesa.tune.search import Experience, Mode, find_mode
from tesa.tune.search.elsewhere import learn
from tesa.tune.status import Status, Tuned, Watch, unseen
from tesa.tune.stopwatch import Stopwatch

BATCH = 8
"""Candidates of a turn: few, so that the model learns soon and a crash costs little."""

FINAL = 3.0
"""Times the budget of a candidate: what each gets in the last comparison."""

_IDLE = 3  # turns in a row in which nothing could be measured at all: then the job ends


@dataclass(frozen=True)
class JobOptions:
    """The settings of a tuning job.

    mode: of search. batch: candidates of a turn. budget_ms: time for one candidate on the device. overlap: build the
    next turn while this one is measured, which is right only where the measuring happens on other machines. table: of
    costs, by which an untuned compile would choose.
    """

    budget: Budget = field(default_factory=Budget)
    mode: str = "model"
    seed: int = 0
    batch: int = BATCH
    budget_ms: float = BUDGET_MS
    overlap: bool = False
    table: CostTable | None = None


def tune_layers(
    layers: Sequence[Layer],
    target: Target,
    *,
    log: Log,
    builder: Builder,
    runner: Runner,
    options: JobOptions | None = None,
    watch: Watch = unseen,
    clock: Callable[[], float] = time.monotonic,
) -> Tuned:
    """Measure candidates of each layer until the budget is used up, and compare the best of each once more at the end.

    Layers with equal problem and weight are one. The candidates that an untuned compile measures come first, so that
    no layer ends up slower than untuned. What the log knows is not measured again. The builder and the runner are left
    open, but for a job that ends early with options.overlap: that ends the builder's processes. Ctrl-C ends the job
    with the best that is known, and so does a runner that no longer works: the result says so.

    Raises UsageError for an unknown mode or one that lacks a package, and an error of the runner or the builder
    (TesaError) if nothing at all was measured before it.
    """
    options = options or JobOptions()
    mode = find_mode(options.mode)
    mode.ready()
    stopwatch = Stopwatch(clock, options.budget.minutes)
    with Scratch() as home:
        job = _Job(target, log, builder, runner, options, mode, watch, stopwatch, Path(home))
        return job.run(layers)


class _Stop(Exception):
    """The job cannot go on. The text says why."""


class _Job:
    def __init__(
        self, target: Target, log: Log, builder: Builder, runner: Runner, options: JobOptions, mode: Mode, watch: Watch,
        stopwatch: Stopwatch, home: Path,
    ) -> None:  # fmt: skip
        self.target, self.log, self.builder, self.runner = target, log, builder, runner
        self.options, self.mode, self.watch, self.stopwatch, self.home = options, mode, watch, stopwatch, home
        given = options.budget.trials is not None or options.budget.minutes is not None
        self.trials = options.budget.trials if given else mode.trials
        self.recorder = Recorder(log, target, runner.device())
        self.layers: list[LayerSearch] = []
        self.notes: dict[str, None] = {}  # each once, in order
        self.excuses: dict[str, str] = {}  # of devices that could not run a layer's candidates, by its name
        self.first: dict[str, int] = {}  # candidates of an untuned compile that were measured, by name of the layer
        self.experience = Experience()
        self.measured = self.known = self.idle = self.compared = 0
        self.halted, self.phase, self.settled = False, "search", 0

    def run(self, works: Sequence[Layer]) -> Tuned:
        """The whole job."""
        interrupted, stopped = False, ""
        try:
            self._open(works)
            (self._search_ahead if self.options.overlap else self._search)()
            self._compare()
        except KeyboardInterrupt:
            interrupted = True
        except (TesaError, _Stop) as error:
            if isinstance(error, TesaError) and not self.measured:
                raise
            stopped = str(error)
        finally:
            self.recorder.save()
        if not (interrupted or stopped):
            self.notes |= dict.fromkeys(self._beyond())
        self.notes |= dict.fromkeys(lost(layer, self.excuses) for layer in self.layers if given_up(layer))
        self.notes |= dict.fromkeys(text for layer in self.layers for text in failures(layer))
        if self.recorder.unsaved:
            self.notes[f"{self.recorder.unsaved} results are not in the log: {self.recorder.fault}"] = None
        return Tuned(
            target=self.target.name,
            threads=works[0].problem.threads if works else 1,
            device=self.recorder.device,
            layers=tuple(tuned_of(layer) for layer in self.layers),
            measured=self.measured,
            compared=self.compared,
            seconds=self.stopwatch.seconds,
            notes=tuple(self.notes),
            interrupted=interrupted,
            stopped=stopped,
            unsaved=self.recorder.unsaved,
        )

    def _open(self, works: Sequence[Layer]) -> None:
        """Find the candidates of every layer, and what the log knows of them and of layers like them."""
        cpu, found = self.recorder.device.get("cpu"), dict[tuple[Any, ...], LayerSearch]()
        for work in works:
            layer = LayerSearch(work, self.target, table=self.options.table)
            same = found.setdefault((layer.task.key, work.problem.x_shape, work.problem.y_shape), layer)
            if same is not layer:
                same.layers += 1
                continue
            try:
                layer.recall(self.log, cpu)
            except UnsupportedError as error:
                self.notes[f"{work.name}: left out: {error}"] = None
                continue
            self.layers.append(layer)
            self.experience.learn(layer.task.key, layer.lessons())
            self.known += layer.done
            self._tell(layer)
        about = [(layer.work.problem, density_of(layer)) for layer in self.layers]
        others = learn(self.log, self.target, about, {layer.task.key for layer in self.layers}, cpu)
        self.experience.lessons.update(others.lessons)
        self.stopwatch.begin()

    def _search(self) -> None:
        """One turn after another: a device that is this machine must be left alone while it measures."""
        while (turn := self._next()) is not None:
            layer, batch = turn
            self._measure(layer, self._build(batch))

    def _search_ahead(self) -> None:
        """While a turn is measured, the next one is built in a thread."""
        with ThreadPoolExecutor(1) as thread:
            waiting: tuple[LayerSearch, Future[BuiltBatch]] | None = None
            try:
                while True:
                    turn = self._next()
                    ahead = None if turn is None else (turn[0], thread.submit(self._build, turn[1]))
                    if waiting is not None:
                        self._measure(waiting[0], waiting[1].result())
                    elif ahead is None:
                        return
                    waiting = ahead
            except BaseException:
                self.halted = True
                self.builder.close()  # ends what the thread waits for
                raise

    def _next(self) -> tuple[LayerSearch, Batch] | None:
        """The layer whose turn it is, and what of it is measured; its candidates count as taken from now on."""
        left = self.stopwatch.left
        if left is not None and left <= self.stopwatch.reserve(self._uncompared()):  # the last comparison's share
            return None
        # The candidates of an untuned compile are measured whatever the number of trials is.
        layer = next((layer for layer in self.layers if layer.first()), None)
        first = layer is not None
        if layer is None:
            shares = [Share(layer.done, layer.open, layer.cost_ms, layer.stale) for layer in self.layers]
            place = next_layer(shares, self.trials)
            if place is None:
                return None
            layer = self.layers[place]
        room = self.options.batch
        if self.trials is not None:
            room = min(room, max(1, self.trials * len(self.layers) - sum(item.done for item in self.layers)))
        options = tuple(layer.next(self.mode, room, self.experience, self.options.seed))
        if not options:
            raise _Stop(
                f"the mode {self.mode.name!r} named nothing of {layer.work.name}, although {layer.open} are left"
            )
        if first:
            self.first[layer.work.name] = self.first.get(layer.work.name, 0) + len(options)
        layer.taken |= {config_key(*option) for option in options}
        self._tell(layer)
        return layer, Batch(layer.work, options)

    def _build(self, batch: Batch) -> BuiltBatch:
        (built,) = build([batch], self.target, self.builder, self.home, halted=lambda: self.halted)
        return built

    def _measure(self, layer: LayerSearch, built: BuiltBatch, factor: float = 1.0) -> None:
        """Run what could be built, and keep all results at once. The kernels are gone after that."""
        name = layer.work.name
        results, fault = run(built, self.runner, factor * self.options.budget_ms)
        for what, why in (("built", built.fault), ("measured", fault)):
            if why:
                self.notes[f"{name}: a batch could not be {what}: {why}"] = None
        self._keep(layer, results, built.codes)
        if built.folder is not None:
            shutil.rmtree(built.folder, ignore_errors=True)
        self._tell(layer)

    def _keep(
        self, layer: LayerSearch, results: Sequence[tuple[Option, Timing | Failure]], codes: Mapping[str, str]
    ) -> None:
        records = self.recorder.enter(layer.task, results, codes)
        if self.recorder.fault:
            self.notes[f"the log could not be written for a while: {self.recorder.fault}"] = None
        layer.keep(records)
        passing = {config_key(*o): r for o, r in results if isinstance(r, Failure) and not r.kind.blames_kernel}
        layer.leave([option for option, _ in results if config_key(*option) in passing])
        self.excuses.update((layer.work.name, failure.message) for failure in passing.values())
        layer.taken -= {config_key(*option) for option, _ in results}
        self.experience.learn(layer.task.key, layer.lessons())
        self.measured += len(records)
        self.stopwatch.lap(len(records))
        self.idle = 0 if records else self.idle + 1
        if self.idle >= _IDLE:
            why = next(result.message for _, result in results if isinstance(result, Failure))
            raise _Stop(f"nothing could be measured in {_IDLE} turns: {why}")

    def _compare(self) -> None:
        """The last comparison of every layer that needs one."""
        self.phase = "compare"
        for place, layer in enumerate(self.layers):
            self.settled = sum(item.fresh for item in self.layers[:place])
            compared: set[str] = set()
            for _ in range(ROUNDS):
                options = finalists(layer, compared)
                left = self.stopwatch.left
                if not options or (left is not None and left <= 0):
                    break
                self._tell(layer)
                before = self.measured
                self._measure(layer, self._build(Batch(layer.work, tuple(options))), FINAL)
                self.compared += self.measured - before
                compared |= {config_key(*option) for option in options}

    def _beyond(self) -> Iterator[str]:
        """The reason why more was measured than was asked for, of each layer with more than its share."""
        if self.trials is None or sum(len(item.records) for item in self.layers) <= self.trials * len(self.layers):
            return
        for layer in self.layers:
            count = self.first.get(layer.work.name, 0)
            if count and len(layer.records) > self.trials:
                yield beyond(layer, count, self.trials)

    def _uncompared(self) -> int:
        """Layers that the last comparison has yet to come to."""
        return sum(layer.fresh for layer in self.layers) - self.settled

    def _tell(self, layer: LayerSearch) -> None:
        rows = tuple(status_of(item) for item in self.layers)
        done, total = sum(row.trials for row in rows), sum(row.total for row in rows)
        if self.trials is not None:
            sure = sum(item.done + len(item.first()) for item in self.layers)  # whatever the number of trials is
            total = max(sure, min(total, self.trials * len(rows)))
        missing = total - done if self.phase == "search" else 0
        expected = self.stopwatch.expected(missing, self._uncompared())
        failed = sum(row.failed for row in rows)
        seconds, name = self.stopwatch.seconds, layer.work.name
        self.watch(Status(self.phase, done, total, self.known, failed, seconds, expected, name, rows))
