"""The search itself: sensitivities, a latency table, a dynamic programme, and annealing on joint evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tesa.base.progress import Event, Progress, silent
from tesa.errors import UsageError
from tesa.explore.anneal import anneal
from tesa.explore.choices import DENSE, Choice, Config, key_of
from tesa.explore.evaluate import Evaluation, Evaluator
from tesa.explore.latency import Latencies
from tesa.explore.program import Costs, Solved, solve
from tesa.explore.result import Point
from tesa.explore.weigh import Factors, learn, weighed

METHODS = ("program", "anneal", "both")
CLOSE = 0.02
"""Of a budget: how near the time of the whole lowered model has to come to it."""

_HOPELESS = 1.0  # an error at which nothing is left of the outputs: sharper levels of that pattern are not tried
_LOWERINGS = 7


@dataclass
class Search:
    """One exploration at work. scale: milliseconds of the target for one that is expected.

    by: "latency" or "flops", what the programme spends. aware: budgets are held against the whole model as it is
    lowered, with all that follows from zeros, instead of the sum of the layers. factors: how much the errors of layers
    count, as far as that was learned.
    """

    evaluator: Evaluator
    latencies: Latencies
    by: str = "latency"
    aware: bool = True
    scale: float = 1.0
    seed: int = 0
    progress: Progress = silent
    points: dict[str, Point] = field(default_factory=dict)
    errors: dict[str, dict[Choice, float]] = field(default_factory=dict)
    lowered: dict[str, float] = field(default_factory=dict)
    factors: Factors = field(default_factory=dict)

    def point(self, config: Config, by: str) -> Point:
        """Evaluate a configuration as a whole."""
        key = key_of(config)
        if key not in self.points:
            found: Evaluation = self.evaluator(config)
            flops = self.latencies.total(config, "flops") / max(self.latencies.total({}, "flops"), 1e-12)
            ms = self.scale * self.expected(config)
            self.points[key] = Point(dict(config), found.error, found.score, found.drop, ms, flops, by)
        return self.points[key]

    def energy(self, config: Config, by: str) -> float:
        """The energy of a whole configuration, which a search makes small."""
        return self.energy_of(self.point(config, by))

    @staticmethod
    def energy_of(point: Point) -> float:
        """The same of a point."""
        return Evaluation(point.error, point.score, point.drop).energy

    def sensitivities(self) -> None:
        """The error that each layer makes alone, under each choice, the mildest level of a pattern first."""
        total = sum(len(self.latencies.choices(name)) for name in self.latencies.names)
        done = 0
        for name in self.latencies.names:
            rows: dict[Choice, float] = {}
            lost: set[tuple[str, int]] = set()
            for choice in sorted(self.latencies.choices(name), key=lambda c: c.sparsity):
                self.progress(Event("sensitivity", done, total, f"{name} {choice}"))
                done += 1
                kind = "" if choice.imposed is None else choice.imposed.text, choice.bits
                if kind in lost:
                    continue
                rows[choice] = 0.0 if choice == DENSE else self.evaluator({name: choice}).error
                if rows[choice] > _HOPELESS:
                    lost.add(kind)
            self.errors[name] = {choice: error for choice, error in rows.items() if math.isfinite(error)}
        self.progress(Event("sensitivity", total, total))

    def least_ms(self) -> float:
        """The least time that any configuration takes."""
        return self.scale * (
            self.latencies.fixed
            + sum(min(row[c] for c in self.errors[name]) for name, row in self.latencies.ms.items())
        )

    def programmed(self, budget_ms: float, aware: bool | None = None) -> tuple[dict[str, Choice], float]:
        """(configuration, what it may spend): by the programme, with errors added up, their squares, and these with
        what was learned about layers; the best.

        Where one level for all layers is better still, as it may be behind a repair that goes from layer to layer, it
        is that. UsageError for a budget that nothing keeps, with the least one that can be kept.
        """
        tables = [weighed(self.errors, {}, power) for power in (1, 2)]
        tables += [weighed(self.errors, self.factors, 2)] if self.factors else []
        held = self.aware if aware is None else aware
        found = [self._fitting(solve(self.costs, table), budget_ms, held) for table in tables]
        best = min(found, key=lambda one: self.energy(one[0], "programme"))
        plain = self.uniform(budget_ms)
        if plain is not None and self.energy(plain, "uniform") < self.energy(best[0], "programme"):
            return plain, best[1]
        return best

    @property
    def costs(self) -> Costs:
        """The table of what is spent."""
        return self.latencies.ms if self.by == "latency" else self.latencies.flops

    def learned(
        self, start: Config, spend: float, evaluations: int, budget_ms: float = math.inf,
        enough: Callable[[Point], bool] = lambda _: False,
    ) -> dict[str, Choice]:  # fmt: skip
        """The best of so many evaluations of what the programme gives for other factors of the layers' errors.

        spend: what each may cost in sum; budget_ms: and how long it may take. enough: a point that ends it.
        """
        fixed = self.latencies.fixed if self.by == "latency" else 0.0
        limit = min(budget_ms, math.inf if self.by == "flops" else self.scale * spend) * (1 + 1e-9)
        last: list[Point] = []
        done = 0

        def proposed(factors: Factors) -> dict[str, Choice] | None:
            config = solve(self.costs, weighed(self.errors, factors, 2)).at(spend - fixed)
            return config if config is not None and self.scale * self.expected(config) <= limit else None

        def energy(config: Config) -> float:
            nonlocal done
            self.progress(Event("weigh", done, evaluations, f"least error {self.best_text()}"))
            done += 1
            last[:] = [self.point(config, "programme")]
            return self.energy_of(last[0])

        factors, found = learn(
            self.latencies.names, self.factors, proposed, energy, self.energy(start, "programme"), evaluations,
            seed=self.seed, enough=lambda: enough(last[0]),
        )  # fmt: skip
        self.factors = factors if found is not None else self.factors
        return dict(start) if found is None else found

    def _fitting(self, solved: Solved, budget_ms: float, aware: bool) -> tuple[dict[str, Choice], float]:
        """The configuration for the largest spending whose time keeps the budget."""
        fixed = self.latencies.fixed if self.by == "latency" else 0.0
        wanted = budget_ms / self.scale
        if self.by == "latency" and not aware:
            config = solved.at(wanted - fixed)
            return (config, wanted) if config is not None else self._fastest_within(budget_ms)
        low, high = 0.0, solved.step * (len(solved.errors) - 1)
        if self.by == "latency" and (near := solved.at(wanted - fixed)) is not None:
            ms = self.expected(near)
            if wanted * (1 - CLOSE) <= ms <= wanted:
                return near, wanted
            low, high = (wanted - fixed, high) if ms <= wanted else (0.0, wanted - fixed)
        best: tuple[dict[str, Choice], float] | None = None
        whole = solved.at(high)
        if whole is not None and self.expected(whole) <= wanted:
            return whole, high + fixed
        for _ in range(_LOWERINGS if aware else 24):
            middle = (low + high) / 2
            config = solved.at(middle)
            ms = -1.0 if config is None else self.expected(config)
            if config is not None and ms <= wanted:
                best, low = (config, middle + fixed), middle
                if ms >= wanted * (1 - CLOSE):
                    break
            elif config is None:
                low = middle
            else:
                high = middle
        if best is None:
            near = solved.at(low) if low else None
            if near is None or self.expected(near) > wanted:
                return self._fastest_within(budget_ms)
            best = near, low + fixed
        return best

    def expected(self, config: Config) -> float:
        """Expected milliseconds of a configuration, not scaled: of the lowered model where layers are not each for
        themselves, and that is asked for."""
        if not self.aware or not self._mixed(config):
            return self.latencies.total(config)
        key = key_of(config)
        if key not in self.lowered:
            self.lowered[key] = self.latencies.predictor.model(self.evaluator.variants.assembled(config))
        return self.lowered[key]

    def _mixed(self, config: Config) -> bool:
        """True where layers are not each for itself: channels, and codes."""
        return any(choice.channels or choice.bits != DENSE.bits for choice in config.values())

    def impossible(self, budget_ms: float) -> UsageError:
        return UsageError(
            f"no configuration of these levels is expected to take {budget_ms:.4g} ms: the fastest takes "
            f"{self.least_ms():.4g} ms, the dense model {self.scale * self.latencies.dense_ms:.4g} ms; ask for that, "
            "or give sharper levels (--level 0.98)"
        )

    def annealed(
        self, start: Config, spend: float, evaluations: int, by: str = "annealing", budget_ms: float = math.inf
    ) -> dict[str, Choice]:  # fmt: skip
        """The best of so many evaluations from a configuration on, none of which spends more."""
        levels = {}
        for name in self.latencies.names:
            costs = row_of(self, name)
            known = self.errors.get(name) or costs
            levels[name] = sorted((choice for choice in costs if choice in known), key=costs.__getitem__, reverse=True)
        count = 0

        def energy(config: Mapping[str, Choice]) -> float:
            nonlocal count
            self.progress(Event("anneal", min(count, evaluations), evaluations, f"least error {self.best_text()}"))
            count += 1
            return self.energy(config, by)

        def cost(config: Mapping[str, Choice]) -> float:
            if self.by == "flops" and self.scale * self.latencies.total(config) > budget_ms * (1 + 1e-9):
                return math.inf  # multiply-adds are spent, but the time is what was asked for
            return self.latencies.total(config, self.by)

        return anneal(start, levels, cost, spend * (1 + 1e-9), energy, evaluations, seed=self.seed)

    def uniform(self, budget_ms: float) -> dict[str, Choice] | None:
        """One level for all layers that keeps the budget, the one with the least error in sum; None where none does."""
        rows = []
        for choice in dict.fromkeys(c for name in self.latencies.names for c in self.latencies.choices(name)):
            config = {n: choice if choice in self.latencies.ms[n] else DENSE for n in self.latencies.names}
            errors = [self.errors.get(name, {}).get(config[name], math.inf) for name in config]
            if choice != DENSE and self.scale * self.expected(config) <= budget_ms:
                rows.append((sum(errors), choice.sparsity, config))
        return min(rows, key=lambda row: row[:2])[2] if rows else None

    def fastest(self) -> dict[str, Choice]:
        """The configuration that takes the least time, of those whose layers each leave something of the outputs."""
        table = self.latencies.ms
        return {name: min(self.errors.get(name) or row, key=row.__getitem__) for name, row in table.items()}

    def _fastest_within(self, budget_ms: float) -> tuple[dict[str, Choice], float]:
        """The fastest configuration and what it spends, where the steps of the programme are too coarse for it.

        UsageError where it does not keep the budget either.
        """
        config = self.fastest()
        if self.scale * self.expected(config) > budget_ms * (1 + 1e-9):
            raise self.impossible(budget_ms)
        return config, self.latencies.total(config, self.by)

    def best_text(self) -> str:
        """The least error so far, for the display."""
        found = [p.error for p in self.points.values() if any(c != DENSE for c in p.config.values())]
        return f"{min(found):.3g}" if found else "none yet"

    def noted(self, point: Point, measured_ms: float) -> Point:
        """The point with its measured time."""
        made = replace(point, measured_ms=measured_ms)
        self.points[key_of(point.config)] = made
        return made


def row_of(search: Search, name: str) -> Mapping[Choice, float]:
    """The costs of a layer's choices, by what the search spends."""
    return (search.latencies.ms if search.by == "latency" else search.latencies.flops)[name]
