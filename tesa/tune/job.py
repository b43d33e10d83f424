"""The tuning job: proposes candidates, has them built and measured, and keeps every result at once.

A turn is a batch of candidates of one layer. What it found is in the log before the next turn starts, so that a job
that is killed loses the turn at work and nothing else; the next job reads the log and goes on from there.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesa.decompose.candidates import Option
from tesa.errors import TesaError, UnsupportedError
from tesa.layers.layer import Layer
from tesa.measure.interfaces import Builder, Runner
from tesa.measure.local import BUDGET_MS, Built
from tesa.measure.timing import Failure, Timing
from tesa.records.log import Log
from tesa.schedules.types import config_key
from tesa.targets.target import Target
from tesa.tune.batch import Kernels, Turn, build, first_line
from tesa.tune.budget import Budget, Share, next_layer
from tesa.tune.comparison import ROUNDS, finalists
from tesa.tune.layer_search import LayerSearch
from tesa.tune.outcome import density_of, given_up, lost, status_of, tuned_of
from tesa.tune.recorder import PASSING, Ledger
from tesa.tune.search import Experience, Mode, find_mode
from tesa.tune.search.elsewhere import learn
from tesa.tune.status import Status, Tuned, Watch, unseen
from tesa.tune.stopwatch import Pace

if TYPE_CHECKING:
    from tesa.costs.table import CostTable

BATCH = 8
"""Candidates of a turn: few, so that the model learns soon and a crash costs little."""

FINAL = 3.0
"""Times the budget of a candidate: what each gets in the last comparison."""

_IDLE = 3  # turns in a row in which nothing could be measured at all: then the job ends


@dataclass(frozen=True)
class Plan:
    """How a job goes about it.

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
    plan: Plan | None = None,
    watch: Watch = unseen,
    clock: Callable[[], float] = time.monotonic,
) -> Tuned:
    """Measure candidates of each layer until the budget is used up, and compare the best of each once more at the end.

    Layers with equal problem and weight are one. The candidates that an untuned compile measures come first, so that
    no layer ends up slower than untuned. What the log knows is not measured again. The builder and the runner are left
    open, but for a job that ends early with plan.overlap: that ends the builder's processes. Ctrl-C ends the job with
    the best that is known, and so does a runner that no longer works: the result says so.

    Raises UsageError for an unknown mode or one that lacks a package, and an error of the runner or the builder
    (TesaError) if nothing at all was measured before it.
    """
    plan = plan or Plan()
    mode = find_mode(plan.mode)
    mode.ready()
    pace = Pace(clock, plan.budget.minutes)
    with tempfile.TemporaryDirectory(prefix="tesa-", ignore_cleanup_errors=True) as home:
        job = _Job(target, log, builder, runner, plan, mode, watch, pace, Path(home))
        return job.run(layers)


class _Stop(Exception):
    """The job cannot go on. The text says why."""


class _Job:
    def __init__(
        self, target: Target, log: Log, builder: Builder, runner: Runner, plan: Plan, mode: Mode, watch: Watch,
        pace: Pace, home: Path,
    ) -> None:  # fmt: skip
        self.target, self.log, self.builder, self.runner = target, log, builder, runner
        self.plan, self.mode, self.watch, self.pace, self.home = plan, mode, watch, pace, home
        given = plan.budget.trials is not None or plan.budget.minutes is not None
        self.trials = plan.budget.trials if given else mode.trials
        self.ledger = Ledger(log, target, runner.device())
        self.layers: list[LayerSearch] = []
        self.notes: dict[str, None] = {}  # each once, in order
        self.excuses: dict[str, str] = {}  # of devices that could not run a layer's candidates, by its name
        self.experience = Experience()
        self.measured = self.known = self.idle = 0
        self.halted, self.phase, self.settled = False, "search", 0

    def run(self, works: Sequence[Layer]) -> Tuned:
        """The whole job."""
        interrupted, stopped = False, ""
        try:
            self._open(works)
            (self._search_ahead if self.plan.overlap else self._search)()
            self._compare()
        except KeyboardInterrupt:
            interrupted = True
        except (TesaError, _Stop) as error:
            if isinstance(error, TesaError) and not self.measured:
                raise
            stopped = str(error)
        finally:
            self.ledger.save()
        self.notes |= dict.fromkeys(lost(layer, self.excuses) for layer in self.layers if given_up(layer))
        if self.ledger.unsaved:
            self.notes[f"{self.ledger.unsaved} results are not in the log: {self.ledger.trouble}"] = None
        return Tuned(
            target=self.target.name,
            threads=works[0].problem.threads if works else 1,
            device=self.ledger.device,
            layers=tuple(tuned_of(layer) for layer in self.layers),
            measured=self.measured,
            seconds=self.pace.seconds,
            notes=tuple(self.notes),
            interrupted=interrupted,
            stopped=stopped,
            unsaved=self.ledger.unsaved,
        )

    def _open(self, works: Sequence[Layer]) -> None:
        """Find the candidates of every layer, and what the log knows of them and of layers like them."""
        cpu, found = self.ledger.device.get("cpu"), dict[tuple[Any, ...], LayerSearch]()
        for work in works:
            layer = LayerSearch(work, self.target, table=self.plan.table)
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
        self.pace.begin()

    def _search(self) -> None:
        """One turn after another: a device that is this machine must be left alone while it measures."""
        while (turn := self._next()) is not None:
            self._measure(turn, self._build(turn))

    def _search_ahead(self) -> None:
        """While a turn is measured, the next one is built in a thread."""
        with ThreadPoolExecutor(1) as thread:
            waiting: tuple[Turn, Future[Kernels]] | None = None
            try:
                while True:
                    turn = self._next()
                    ahead = None if turn is None else (turn, thread.submit(self._build, turn))
                    if waiting is not None:
                        self._measure(waiting[0], waiting[1].result())
                    elif ahead is None:
                        return
                    waiting = ahead
            except BaseException:
                self.halted = True
                self.builder.close()  # ends what the thread waits for
                raise

    def _next(self) -> Turn | None:
        """Whose turn it is, and what of it is measured; its candidates count as taken from now on."""
        left = self.pace.left
        if left is not None and left <= self._reserve():
            return None
        # The candidates of an untuned compile are measured whatever the number of trials is.
        layer = next((layer for layer in self.layers if layer.first()), None)
        if layer is None:
            shares = [Share(layer.done, layer.open, layer.cost_ms, layer.stale) for layer in self.layers]
            place = next_layer(shares, self.trials)
            if place is None:
                return None
            layer = self.layers[place]
        room = self.plan.batch
        if self.trials is not None:
            room = min(room, max(1, self.trials * len(self.layers) - sum(item.done for item in self.layers)))
        options = tuple(layer.next(self.mode, room, self.experience, self.plan.seed))
        if not options:
            raise _Stop(
                f"the mode {self.mode.name!r} named nothing of {layer.work.name}, although {layer.open} are left"
            )
        layer.taken |= {config_key(*option) for option in options}
        self._tell(layer)
        return Turn(layer, options)

    def _build(self, turn: Turn) -> Kernels:
        return build(turn, self.target, self.builder, self.home, lambda: self.halted)

    def _measure(self, turn: Turn, kernels: Kernels, factor: float = 1.0) -> None:
        """Run what could be built, and keep all results at once. The kernels are gone after that."""
        if kernels.trouble:
            self.notes[f"{turn.layer.work.name}: a turn could not be built: {kernels.trouble}"] = None
        ready = [(option, kernel) for option, kernel in kernels.built if isinstance(kernel, Built)]
        results: list[tuple[Option, Timing | Failure]] = [(o, k) for o, k in kernels.built if isinstance(k, Failure)]
        if ready:
            results += zip((option for option, _ in ready), self._run(turn.layer, ready, factor), strict=True)
        self._keep(turn.layer, results, {config_key(*option): kernel.code for option, kernel in ready})
        if kernels.folder is not None:
            shutil.rmtree(kernels.folder, ignore_errors=True)
        self._tell(turn.layer)

    def _run(
        self, layer: LayerSearch, ready: Sequence[tuple[Option, Built]], factor: float
    ) -> Sequence[Timing | Failure]:
        work, kernels = layer.work, [kernel for _, kernel in ready]
        try:
            return self.runner.run(work.problem, work.weight, kernels, budget_ms=factor * self.plan.budget_ms)
        except TesaError:
            raise
        except Exception as error:  # a defect of the runner, or no memory for this layer: the others go on
            text = first_line(error)
            self.notes[f"{work.name}: a turn could not be measured: {text}"] = None
            return [Failure("device", text)] * len(ready)

    def _keep(
        self, layer: LayerSearch, results: Sequence[tuple[Option, Timing | Failure]], codes: Mapping[str, str]
    ) -> None:
        records = self.ledger.enter(layer.task, results, codes)
        if self.ledger.trouble:
            self.notes[f"the log could not be written for a while: {self.ledger.trouble}"] = None
        layer.keep(records)
        passing = {config_key(*o): r for o, r in results if isinstance(r, Failure) and r.kind in PASSING}
        layer.leave([option for option, _ in results if config_key(*option) in passing])
        self.excuses.update((layer.work.name, failure.message) for failure in passing.values())
        layer.taken -= {config_key(*option) for option, _ in results}
        self.experience.learn(layer.task.key, layer.lessons())
        self.measured += len(records)
        self.pace.turn(len(records))
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
                left = self.pace.left
                if not options or (left is not None and left <= 0):
                    break
                self._tell(layer)
                turn = Turn(layer, tuple(options))
                self._measure(turn, self._build(turn), FINAL)
                compared |= {config_key(*option) for option in options}

    def _reserve(self) -> float:
        """Seconds that the last comparison will need."""
        return self.pace.reserve(self._uncompared())

    def _uncompared(self) -> int:
        """Layers that the last comparison has yet to come to."""
        return sum(layer.fresh for layer in self.layers) - self.settled

    def _tell(self, layer: LayerSearch) -> None:
        rows = tuple(status_of(item) for item in self.layers)
        done, total = sum(row.done for row in rows), sum(row.total for row in rows)
        if self.trials is not None:
            total = max(done, min(total, self.trials * len(rows)))
        missing = total - done if self.phase == "search" else 0
        expected = self.pace.expected(missing, self._uncompared())
        failed = sum(row.failed for row in rows)
        self.watch(
            Status(
                self.phase, done, total, self.known, failed, self.pace.seconds, expected, layer.work.name, rows
            )
        )  # fmt: skip
