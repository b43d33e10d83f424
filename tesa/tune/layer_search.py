"""One layer in a tuning job: its candidates, what is known of them, and what to measure next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tesa.choose.pick import pick
from tesa.choose.predict import expected
from tesa.choose.shortlist import shortlist
from tesa.costs.table import CostTable
from tesa.decompose.candidates import Option, candidates, dense_keys, predict
from tesa.layers.layer import Layer
from tesa.records.emitted import EmittedByFamilies
from tesa.records.log import Log, Record, Task
from tesa.records.validity import valid
from tesa.schedules.types import config_key
from tesa.targets.target import Target
from tesa.tune.search import Experience, Lessons, Mode, Scene, Space, Table, tabulate
from tesa.tune.search.experience import LEAST
from tesa.tune.search.features import Wide

NOISE = 0.01
"""A gain of less than this is none."""

_RETRIES = 2  # of a candidate that no device could run


@dataclass(eq=False)
class LayerSearch:
    """The search over one layer. layers: how many of the model share the kernel. records: the last of each option, by
    key. curve: the first time of each, in the order of measuring; None for one that failed.

    table: of costs, by which a compile would choose what to measure. The search itself goes by bare estimates, because
    it learns from logs of other machines how far those are off.

    taken: keys that are being built or measured now. stale: turns since the layer became faster. fresh: something was
    measured in this run. best, default: what a compile would choose from all records, and an untuned one; None where
    there is no time yet.
    """

    work: Layer
    target: Target
    layers: int = 1
    table: CostTable | None = None
    records: dict[str, Record] = field(default_factory=dict)
    curve: dict[str, float | None] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    put_off: dict[str, int] = field(default_factory=dict)
    stale: int = 0
    fresh: bool = False
    best: Option | None = None
    default: Option | None = None

    @cached_property
    def task(self) -> Task:
        """The key of the log."""
        return Task.of(self.work.problem, self.work.weight)

    @cached_property
    def space(self) -> Space:
        """Every option, in the order of candidates(). UnsupportedError if there is none."""
        return Space(candidates(self.work.problem, self.work.weight, self.target, prices=self.table))

    @cached_property
    def predicted(self) -> dict[str, float]:
        """Estimated milliseconds by key."""
        return predict(self.space.options, self.work.problem, self.work.weight, self.target)

    @cached_property
    def expected(self) -> dict[str, float]:
        """The times that a compile expects, in milliseconds by key."""
        work = self.work
        return expected(self.space.options, work.problem, work.weight, self.target, self.table)

    @cached_property
    def dense(self) -> frozenset[str]:
        """The keys of the options that compute with the zeros."""
        return dense_keys(self.space.options, self.work.weight, self.target.kind)

    @cached_property
    def short(self) -> tuple[Option, ...]:
        """The options that an untuned compile measures, the layer's dense self among them."""
        work = self.work
        return tuple(shortlist(self.space.options, self.expected, work.problem, work.weight, self.target.machine))

    @cached_property
    def estimates(self) -> Wide:
        """predicted, by index."""
        return np.array([self.predicted[key] for key in self.space.keys])

    @cached_property
    def features(self) -> Table:
        """The numbers that the cost model sees of each option."""
        problem, weight = self.work.problem, self.work.weight
        return tabulate(problem, weight, self.target.machine, self.space.options, self.estimates.tolist())

    def recall(self, log: Log, cpu: str | None = None) -> None:
        """Take over what a log knows of the options, where their code is that of today: others are measured again.

        cpu: of the devices that measure, whose records alone count; None: of any.
        """
        work = self.work
        emitted = EmittedByFamilies(work.problem, work.weight, self.target, self.task.pattern.digest)
        found = [r for r in log.all_records(self.task, self.target.name) if cpu in (None, r.cpu)]
        for record in valid(found, emitted):
            key = config_key(record.family, record.config)
            if key in self.space.index:
                self.records[key] = record
                self.curve.setdefault(key, record.median_ms if record.ok else None)
        self._decide()

    @property
    def done(self) -> int:
        """Options with a result, and those at work."""
        return len(self.records.keys() | self.taken)

    @property
    def open(self) -> int:
        """Options that may be measured yet."""
        return len(self.space) - int(self._closed().sum())

    @property
    def failed(self) -> int:
        """Options that do not work."""
        return sum(not record.ok for record in self.records.values())

    def time(self, option: Option | None) -> float | None:
        """The measured milliseconds of an option."""
        record = None if option is None else self.records.get(config_key(*option))
        return record.median_ms if record is not None and record.ok else None

    @property
    def dense_ms(self) -> float | None:
        """The best time of the layer's dense self."""
        return self.time(self.dense_best)

    @property
    def dense_best(self) -> Option | None:
        """The fastest option that computes with the zeros; None where there is no time yet."""
        times = {key: self.time(self.space.option(key)) for key in self.dense}
        known = sorted((time, key) for key, time in times.items() if time is not None)
        return self.space.option(known[0][1]) if known else None

    @property
    def cost_ms(self) -> float:
        """Milliseconds of all layers that share the kernel: by the best time, or by the least estimate."""
        time = self.time(self.best)
        return self.layers * (float(self.estimates.min()) if time is None else time)

    def next(self, mode: Mode, count: int, experience: Experience, seed: int) -> list[Option]:
        """Up to count options to measure now: what an untuned compile measures comes first, all at once."""
        first = self.first()
        if first:
            return first
        closed = self._closed()
        # The same whether or not the job was interrupted before: it depends on what is known only.
        rng = np.random.default_rng([seed, int(self.task.key, 16), self.done])
        scene = Scene(
            self.space, self.estimates, self.times(), closed, lambda: self.features,
            experience.without(self.task.key), seed,
        )  # fmt: skip
        return [self.space.options[i] for i in mode.propose(scene, min(count, self.open), rng)]

    def first(self) -> list[Option]:
        """The options that an untuned compile measures and that have no result yet."""
        closed = self._closed()
        return [option for option in self.short if not closed[self.space.index[config_key(*option)]]]

    def lessons(self) -> Lessons | None:
        """The measurements that other layers can learn from."""
        if sum(record.ok for record in self.records.values()) < LEAST:
            return None
        return Lessons.of(self.features, self.estimates, self.times())

    def keep(self, records: Iterable[Record]) -> None:
        """Add results, the later ones count, and see whether the layer became faster."""
        before = self.time(self.best)
        for record in records:
            key = config_key(record.family, record.config)
            self.records[key] = record
            self.curve.setdefault(key, record.median_ms if record.ok else None)
            self.fresh = True
        self._decide()
        after = self.time(self.best)
        faster = after is not None and (before is None or after < (1 - NOISE) * before)
        self.stale = 0 if faster else self.stale + 1

    def leave(self, options: Sequence[Option]) -> None:
        """Put off options that no device could run: they may come again, but not for ever."""
        for option in options:
            key = config_key(*option)
            self.put_off[key] = self.put_off.get(key, 0) + 1

    def times(self) -> Wide:
        """Milliseconds by index: NaN where not measured, infinite where it failed."""
        times = np.full(len(self.space), np.nan)
        for key, record in self.records.items():
            times[self.space.index[key]] = np.inf if not record.ok or record.median_ms is None else record.median_ms
        return times

    def _closed(self) -> NDArray[np.bool_]:
        gone = self.records.keys() | self.taken | {key for key, count in self.put_off.items() if count >= _RETRIES}
        return np.array([key in gone for key in self.space.keys], bool)

    def _decide(self) -> None:
        self.best, self.default = self._decided(self.space.options), self._decided(self.short)

    def _decided(self, options: Sequence[Option]) -> Option | None:
        found = pick(options, self.records, self.expected, self.dense)
        if found is None or not found.reason.startswith("measured"):
            return None
        return found.family, found.config
