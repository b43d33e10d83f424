"""Explores the sparsity, the pattern and the precision of every layer of a model, for a budget of time or of error."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tesa.base.keywords import helpful
from tesa.base.numbers import whole
from tesa.base.progress import Event, Progress, automatic, shows_progress, silent
from tesa.compress.metric import Metric, read_metric
from tesa.compress.samples import Data, Samples
from tesa.errors import TesaError, UsageError
from tesa.explore.choices import DEFAULT, DENSE, FLOAT, parsed
from tesa.explore.evaluate import Evaluator, subject_of
from tesa.explore.finalists import Place
from tesa.explore.goals import for_error, for_time
from tesa.explore.journal import Journal
from tesa.explore.latency import METRICS, Latencies, Predictor
from tesa.explore.result import Explored, LayerChoice, Point
from tesa.explore.search import METHODS, Search
from tesa.explore.variants import Variants, names_of
from tesa.frontend.file import read_model
from tesa.measure.runners import tracker_address
from tesa.targets.target import parse_target, refuse_gpu

FRONT = (0.95, 0.85, 0.75, 0.65, 0.55, 0.45, 0.35)
"""Budgets, as shares of the way from the fastest configuration to the dense model, that the front is made of."""


@helpful("explore")
@shows_progress
def explore(
    model: str | Path | Any,
    *,
    data: Data,
    latency_ms: float | None = None,
    max_error: float | None = None,
    max_drop: float | None = None,
    metric: str | Path | Metric | Callable[..., float] | None = None,
    levels: Sequence[str] = DEFAULT,
    bits: Sequence[int] = (FLOAT,),
    layers: Sequence[str] | None = None,
    shapes: Mapping[str, Any] | None = None,
    target: Any = None,
    threads: int = 1,
    by: str = "latency",
    aware: bool = True,
    method: str = "both",
    evaluations: int = 48,
    evaluator: str = "onnxruntime",
    repair: bool = True,
    finalists: int = 3,
    measure: bool = True,
    journal: str | Path | None = None,
    log: str | Path | None = None,
    rpc: str | None = None,
    key: str | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = automatic,
) -> Explored:
    """Choose for each layer of an ONNX file how many of its weights go, in which pattern, and in how many bits.

    data: inputs to evaluate on, an .npz or arrays by name, see tesa.compress.samples.Samples.of; with a metric also
    what that reads. One of: latency_ms, the time that a run may take, for the least error; max_error, of the outputs,
    relative, or max_drop, of the metric, for the least time. levels: patterns with their share, as "0.9", "2:4",
    "0.3:block=16x1", "0.5:channel"; bits: 32, and 8 for codes. layers: names or patterns of names, by default all.
    shapes: as in tesa.compile, of one size.

    Each layer alone is pruned to each level, its other weights repaired by least squares (repair), for the error that
    this makes; the cost table of the target tells the time (by="flops": multiply-adds, to compare with). A dynamic
    programme chooses, and annealing goes on from its choice with whole evaluations (method: "program" or "anneal" is
    one of them alone). aware: budgets are held against the model as it is compiled, with all that follows from zeros.
    evaluator: "compiled" runs compiled models on the data. finalists: so many are compiled and timed, on the target's
    device (rpc, key; cluster, jobs and log as in tesa.compile); measure=False times nothing.

    progress: by default a bar in a terminal or notebook; None for silence.

    journal: a file of JSON lines; the same call with the same file goes on from it. Ctrl-C ends with the best so far.

    Raises errors of tesa.errors: data of another shape, NaN in it, a metric that raises, a budget that cannot be kept,
    with the nearest that can be.
    """
    progress = progress or silent
    started, where = time.perf_counter(), parse_target(target)
    refuse_gpu(where, "tesa explore")
    _check(latency_ms, max_error, max_drop, metric, by, method)
    tracker_address(rpc, key, where, measures=False)
    source, proto = read_model(model)
    scorer, choices = read_metric(metric), parsed(levels, bits)
    samples = Samples.of(proto, data, limit=limit, extra=scorer is not None)
    variants = Variants(proto, samples, repair=repair, progress=progress)
    names = names_of(variants, layers)
    known = Journal(None if journal is None else Path(journal), subject_of(variants, samples, scorer, evaluator))
    judge = Evaluator(variants, samples, scorer, known, evaluator, shapes)
    predictor = Predictor(where, whole("threads", threads), log, shapes)
    place = Place(where, threads, log, rpc, key, cluster, jobs, shapes)
    latencies = Latencies(variants, names, choices, predictor, progress)
    search = Search(judge, latencies, by, aware, seed=seed, progress=progress)
    job = _Job(search, place, source, measure and finalists > 0)
    job.notes += [f"{name}: {why}" for name, why in variants.others if layers is None]
    job.notes += [f"{name}: has no kernel of its own; it stays dense" for name in latencies.missing]
    try:
        job.scale_by_dense()
        search.sensitivities()
        job.choose(latency_ms, max_error, max_drop, method, evaluations)
        job.front()
        job.reconsider(latency_ms)
        job.measure(latency_ms, finalists, max_error, max_drop)
    except KeyboardInterrupt:
        job.interrupted = True
    return job.result(latency_ms, max_error, max_drop, time.perf_counter() - started)


def _check(
    latency_ms: float | None, max_error: float | None, max_drop: float | None, metric: Any, by: str, method: str
) -> None:
    goals = {"latency_ms": latency_ms, "max_error": max_error, "max_drop": max_drop}
    given = {name: value for name, value in goals.items() if value is not None}
    if len(given) != 1:
        raise UsageError(f"give one goal: {', '.join(goals)}; got {', '.join(given) or 'none'}")
    ((name, value),) = given.items()
    if not (math.isfinite(value) and (value > 0 if name == "latency_ms" else value >= 0)):
        raise UsageError(f"{name} must be a number above 0, got {value}")
    if max_drop is not None and metric is None:
        raise UsageError("max_drop is of the metric: give a file with one (--metric accuracy.py)")
    for what, found, all_ in (("measure", by, METRICS), ("method", method, METHODS)):
        if found not in all_:
            raise UsageError(f"there is no {what} {found!r} to explore by; there are {', '.join(all_)}")


class _Job:
    """The steps of an exploration, with what they found so far."""

    def __init__(self, search: Search, place: Place, source: str, measures: bool) -> None:
        self.search, self.place, self.source, self.measures = search, place, source, measures
        self.notes: list[str] = []
        self.interrupted = self.timed = False
        self.chosen: Point | None = None
        self.dense_ms = search.latencies.dense_ms

    def scale_by_dense(self) -> None:
        """Time the dense model, for what the table does not know: operators without weights, this very machine."""
        if self.measures and (why := self.place.lacking):
            self.notes.append(f"nothing was timed: {why}; give devices with --rpc and --key")
            self.measures = False
        if not self.measures:
            return
        self.search.progress(Event("time", 0, 1, "the dense model"))
        self.dense_ms = self.place.time(self.search.evaluator.variants.work.proto)
        self.search.scale = self.dense_ms / max(self.search.latencies.dense_ms, 1e-12)
        self.timed = True

    def choose(
        self, latency_ms: float | None, max_error: float | None, max_drop: float | None, method: str, evaluations: int
    ) -> None:
        """The configuration for the goal."""
        if latency_ms is not None:
            for_time(self.search, latency_ms, method, evaluations, self._note)
        else:
            for_error(self.search, lambda p: keeps(p, max_error, max_drop), method, evaluations, self._note)

    def _note(self, point: Point) -> None:
        self.chosen = point

    def front(self) -> None:
        """Evaluate the programme's choices for other budgets, so that what a millisecond costs can be seen."""
        search = self.search
        least, dense = search.least_ms(), search.scale * search.latencies.dense_ms
        search.point(dict.fromkeys(search.latencies.names, DENSE), "dense")
        for number, share in enumerate(FRONT):
            search.progress(Event("front", number, len(FRONT)))
            with suppress(UsageError):
                search.programmed(least + share * (dense - least), aware=False)

    def reconsider(self, budget_ms: float | None) -> None:
        """Take a point of another budget's search where it is the better one for this budget, too."""
        if budget_ms is None or self.chosen is None:
            return
        limit = max(budget_ms, self.chosen.ms)
        within = [point for point in self.search.points.values() if point.ms <= limit]
        self.chosen = min([self.chosen, *within], key=self.search.energy_of)

    def measure(self, budget_ms: float | None, count: int, max_error: float | None, max_drop: float | None) -> None:
        """Time the best few, and choose again by what was measured."""
        if not self.measures or self.chosen is None:
            return
        search = self.search
        fits = [
            point for point in search.points.values()
            if (point.ms <= budget_ms * 1.001 if budget_ms is not None else keeps(point, max_error, max_drop))
        ]  # fmt: skip
        fits.sort(key=(lambda p: p.error) if budget_ms is not None else (lambda p: p.ms))
        timed = []
        rivals = [self.chosen, *(point for point in fits if point.config != self.chosen.config)]
        for number, point in enumerate(rivals[:count]):
            search.progress(Event("time", number, count, "finalists"))
            try:
                timed.append(search.noted(point, self.place.time(search.evaluator.variants.whole(point.config))))
            except TesaError as error:
                self.notes.append(f"a finalist could not be timed: {error}")
        if not timed:
            return
        if budget_ms is None:
            self.chosen = min(timed, key=lambda p: p.time)
            return
        within = [p for p in timed if p.time <= budget_ms]
        self.chosen = min(within, key=lambda p: p.error) if within else min(timed, key=lambda p: p.time)
        if not within:
            self.notes.append(
                f"no finalist was measured within {budget_ms:.4g} ms, the fastest took {self.chosen.time:.4g} ms; ask "
                "for less, or run it again on a quiet machine"
            )

    def result(
        self, latency_ms: float | None, max_error: float | None, max_drop: float | None, seconds: float
    ) -> Explored:
        """All that was found."""
        search = self.search
        names = search.latencies.names
        chosen = self.chosen
        if chosen is None:
            chosen = search.point(dict.fromkeys(names, DENSE), "dense")
        judge = search.evaluator
        rows = tuple(
            LayerChoice(
                name, chosen.config[name], search.scale * search.latencies.ms[name][DENSE],
                search.scale * search.latencies.ms[name][chosen.config[name]],
                search.errors.get(name, {}).get(chosen.config[name], math.nan),
            )
            for name in names
        )  # fmt: skip
        journal = judge.journal
        if journal.others:
            self.notes.append(f"{journal.path}: {journal.others} lines are of another model, data or metric")
        return Explored(
            self.source, self.place.target.name, chosen, rows, tuple(search.points.values()),
            judge.variants.whole(chosen.config), self.dense_ms, latency_ms, judge.dense_score, judge.count, seconds,
            tuple(dict.fromkeys(self.notes)), self.interrupted, self.timed, "" if judge.metric is None else
            judge.metric.name, search.errors,
        )  # fmt: skip


def keeps(point: Point, max_error: float | None, max_drop: float | None) -> bool:
    """True for a point that is good enough."""
    if max_error is not None:
        return point.error <= max_error
    return max_drop is None or (point.drop is not None and point.drop <= max_drop + 1e-12)
