"""The cost table of a device: the kernels that were measured on it, and predictions for all others."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property, lru_cache

import numpy as np

from tesa.costs.facts import Facts
from tesa.costs.family import FamilyModel, Query
from tesa.costs.kriging import Shape
from tesa.costs.prediction import Prediction, Priced
from tesa.costs.prices import price
from tesa.costs.sample import Measured
from tesa.decompose import describe_pieces, is_composite
from tesa.decompose.candidates import Option, candidates, dense_keys, plain_candidates, predict
from tesa.schedules.registry import find as find_family
from tesa.schedules.types import Config, Core, Epilogue, FloatArray, Gpu, Problem, config_key
from tesa.targets.target import parse_target

UNKNOWN = 0.5
"""Deviation of the logarithm of a time where there is nothing but a family's own estimate."""

SPLIT_LAYERS = 40
"""Layers on which a decomposition must have been measured to be predicted by itself."""


@dataclass(frozen=True, eq=False)
class CostTable:
    """The kernels that were measured on one device with one number of threads.

    device: LLVM's name of its CPU; cpu: the CPU as it calls itself; target: what code was made for; shapes: of the
    families, as learnt; versions: of tesa and TVM; started, updated: when, in ISO format; seconds: of measuring;
    fingerprints: of the families' estimates, see fingerprint.py, and code: of the files that they were taken from, ""
    if unknown; changed: the families that have other estimates now than when they were measured.

    >>> table = CostTable("znver5", "AMD EPYC", "x86:haswell", 1)
    >>> problem = Problem("linear", 32, 64, 128, (1, 64, 128), (1, 32, 128))
    >>> table.pick(problem, np.eye(32, 64, dtype=np.float32)).prediction.source
    'estimate'
    """

    device: str
    cpu: str
    target: str
    threads: int
    seed: int = 0
    layers: tuple[Measured, ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    updated: str = ""
    seconds: float = 0.0
    code: str = ""
    changed: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """The number of kernels that were measured."""
        return sum(len(layer.samples) for layer in self.layers)

    @property
    def age_days(self) -> float | None:
        """Days since the last kernel was measured; None for a table without a date."""
        if not self.updated:
            return None
        return (datetime.now(timezone.utc) - datetime.fromisoformat(self.updated)).total_seconds() / 86400

    @property
    def described(self) -> str:
        """The table and its age, in a line."""
        age = self.age_days
        old = "" if age is None else f", {_age(age)} old"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        now = f", from before {', '.join(self.changed)} changed" if self.changed else ""
        return f"{self.cpu} ({self.device}), {threads}, {self.samples} kernels of {len(self.layers)} layers{old}{now}"

    @cached_property
    def core(self) -> Core:
        """The core that the kernels were made for, of a CPU."""
        return parse_target(self.target).core

    @cached_property
    def machine(self) -> Core | Gpu:
        """The machine that the kernels were made for."""
        return parse_target(self.target).machine

    @cached_property
    def families(self) -> dict[str, FamilyModel]:
        """The families that were measured on enough layers, by name. Of a decomposition its pieces tell more than a few
        layers of its own."""
        known = sorted({sample.family for layer in self.layers for sample in layer.samples})
        made = {name: FamilyModel.of(name, self.core, self.layers, self.shapes.get(name)) for name in known}
        return {
            name: family
            for name, family in made.items()
            if family.enough and (not is_composite(name) or len(set(family.layers)) >= SPLIT_LAYERS)
        }

    def predict(
        self,
        problem: Problem,
        weight: FloatArray | Facts,
        family: str,
        config: Config,
        estimate_ms: float | None = None,
    ) -> Prediction:
        """The time of one kernel for a weight (m, k), of which its Facts are enough where the estimate is given too.

        estimate_ms: what the family itself expects. Raises ValueError where neither it nor the weight is given,
        KeyError for an unknown family.
        """
        facts = weight if isinstance(weight, Facts) else Facts.of(weight)
        dense = family == "dense"
        if not isinstance(weight, Facts):
            estimate_ms = (
                find_family(family, self.machine.kind).estimate(problem, weight, self.machine, config)
                if estimate_ms is None
                else estimate_ms
            )
            dense = bool(dense_keys([(family, config)], weight, self.machine.kind))
        if estimate_ms is None:
            raise ValueError(f"the time of {family} is predicted from its weight, or from facts and an estimate")
        return self._predict(family, [Query(problem, facts, config, estimate_ms, dense)])[0]

    def rank(self, problem: Problem, weight: FloatArray, options: Sequence[Option] | None = None) -> list[Priced]:
        """Every option, by default all candidates, with its predicted time: the fastest first. weight: (m, k)."""
        target = parse_target(self.target)
        found = list(candidates(problem, weight, target) if options is None else options)
        expected, dense = predict(found, problem, weight, target), dense_keys(found, weight, target.kind)
        facts = Facts.of(weight)
        queries: dict[str, list[Query]] = {}
        for name, config in found:
            key = config_key(name, config)
            queries.setdefault(name, []).append(Query(problem, facts, config, expected[key], key in dense))
        rows: list[Priced] = []
        for name, mine in queries.items():
            for query, made in zip(mine, self._predict(name, mine), strict=True):
                split = None if name in self.families else self._of_pieces(problem, weight, name, query)
                rows.append(Priced((name, query.config), split or made, query.dense))
        return sorted(rows, key=lambda row: row.prediction.ms)

    def rank_plain(self, problem: Problem, weight: FloatArray) -> list[Priced]:
        """rank() of all candidates that are no decompositions."""
        return self.rank(problem, weight, plain_candidates(problem, weight, parse_target(self.target)))

    def pick(self, problem: Problem, weight: FloatArray, options: Sequence[Option] | None = None) -> Priced:
        """The kernel that should be the fastest, without measuring. Errors as candidates."""
        return self.rank(problem, weight, options)[0]

    def block_price(self, problem: Problem, block: tuple[int, int], density: float) -> float:
        """Milliseconds that one more live block of rows x columns costs in a weight of this problem's shape.

        density: share of the blocks that are live. (1, 1) is one scattered non-zero.
        """
        return self._prices(problem, block, round(math.log2(max(density, 1e-4)) * 4) / 4)

    @cached_property
    def _prices(self) -> Callable[[Problem, tuple[int, int], float], float]:
        return lru_cache(maxsize=4096)(lambda problem, block, level: price(self.rank_plain, problem, block, 2.0**level))

    @cached_property
    def _bias(self) -> float:
        """The error of the estimates of all families, taken together, as a logarithm."""
        ratios = [math.log(s.ms / s.estimate_ms) for layer in self.layers for s in layer.samples]
        return float(np.median(ratios)) if ratios else 0.0

    def _of_pieces(self, problem: Problem, weight: FloatArray, name: str, query: Query) -> Prediction | None:
        """The time of a decomposition: its estimate is as far off as those of its pieces' kernels, taken together.

        None where the name is none, or a piece has a kernel that was not measured.
        """
        pieces = describe_pieces(problem, weight, name, query.config)
        estimated, predicted = 0.0, 0.0
        for piece in pieces:
            if piece.family not in self.families:
                return None
            dtype = problem.dtype if problem.dtype != "mixed" else "int8" if piece.piece.bits <= 8 else "float32"
            own, facts = replace(problem, dtype=dtype, epilogue=Epilogue()), Facts.of(piece.piece.weight)
            family = find_family(piece.family, self.machine.kind)
            expected = float(family.estimate(own, piece.piece.weight, self.machine, piece.config))
            estimated += expected
            predicted += self._predict(piece.family, [Query(own, facts, piece.config, expected)])[0].ms
        if not estimated:
            return None
        return Prediction.of(math.log(query.estimate_ms * predicted / estimated), UNKNOWN / 2, "table")

    def _predict(self, name: str, queries: Sequence[Query]) -> list[Prediction]:
        family = self.families.get(name)
        if family is None:
            return [Prediction.of(math.log(q.estimate_ms) + self._bias, UNKNOWN, "estimate") for q in queries]
        times, deviations = family.predict(queries)
        return [Prediction.of(float(t), float(d), "table") for t, d in zip(times, deviations, strict=True)]


def _age(days: float) -> str:
    return f"{days:.0f} days" if days >= 2 else f"{max(days * 24, 0):.0f} hours"
