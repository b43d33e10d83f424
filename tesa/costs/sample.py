"""Measured layers, as a cost table keeps them: plain data with JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from tesa.attributes.impose import Imposed
from tesa.base.typed import reader, typed
from tesa.costs.facts import SHAPES, Facts
from tesa.costs.grid import GridLayer
from tesa.records.task import plain
from tesa.schedules.types import Config, Problem


@dataclass(frozen=True)
class Sample:
    """One kernel of a layer. Times in milliseconds; estimate_ms is what its family expected on a nominal core.

    iqr_ms: distance of the quartiles; dense: it computes with the zeros of the weight.
    """

    family: str
    config: Config
    estimate_ms: float
    ms: float
    iqr_ms: float = 0.0
    dense: bool = False


@dataclass(frozen=True)
class Measured:
    """A layer with all kernels of it that were measured together. failed: (family, configuration, why) of others.

    index: its place in the grid of the table's seed; -1 for a layer that came from elsewhere.
    """

    index: int
    problem: Problem
    facts: Facts
    samples: tuple[Sample, ...]
    imposed: Imposed | None = None
    spread: float = 0.0
    seed: int = 0
    failed: tuple[tuple[str, Config, str], ...] = field(default=())
    scattered: float = 0.0

    @property
    def source(self) -> GridLayer:
        """The layer of the grid, which its weight can be made of again."""
        return GridLayer(self.problem, self.imposed, self.spread, self.seed, self.scattered)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists. A sample is [family, configuration, estimate, time, quartiles' distance, dense]."""
        return {
            "index": self.index,
            "problem": problem_to_json(self.problem),
            "imposed": None if self.imposed is None else str(self.imposed),
            "spread": self.spread,
            "scattered": self.scattered,
            "seed": self.seed,
            "facts": plain(asdict(self.facts)),
            "samples": [
                [s.family, dict(s.config), _short(s.estimate_ms), _short(s.ms), _short(s.iqr_ms), int(s.dense)]
                for s in self.samples
            ],
            "failed": [[name, dict(config), why] for name, config, why in self.failed],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Measured:
        """The inverse of to_json. KeyError, TypeError or ValueError for anything else."""
        facts = typed(Facts, data["facts"], "facts")
        if len(facts.live) != len(SHAPES):
            raise ValueError(f"{len(facts.live)} shares of blocks, expected {len(SHAPES)}")
        seed, spread = typed(int, data["seed"], "seed"), typed(float, data["spread"], "spread")
        if seed < 0 or not 0 <= spread < _MOST_SPREAD:
            raise ValueError(f"no seed and spread of a layer: {seed}, {spread}")
        return Measured(
            index=typed(int, data["index"], "index"),
            problem=_bounded(problem_from_json(data["problem"])),
            facts=facts,
            samples=_samples(data["samples"]),
            imposed=None if data["imposed"] is None else _imposed(typed(str, data["imposed"], "imposed")),
            spread=spread,
            seed=seed,
            failed=typed(tuple[tuple[str, Config, str], ...], data["failed"], "failed"),
            scattered=typed(float, data.get("scattered", 0.0), "scattered"),
        )


_ROW = reader(tuple[str, Config, float, float, float, int | bool])
_CONFIG = reader(Config)
_TEXTS, _NUMBERS, _FLAGS = frozenset({str}), frozenset({int, float}), frozenset({int, bool})
_MOST_MS = 1e15
_MOST_SPREAD = 20.0
_MOST_PLACES = 1 << 32  # elements of X, W or Y of a layer that was measured


def _samples(rows: Sequence[Sequence[Any]]) -> tuple[Sample, ...]:
    """The samples of a layer: columns are looked at as a whole, and row by row where one is not right."""
    try:
        names, configs, *times, dense = zip(*rows, strict=True)
        estimates, ms, iqr = times
    except (TypeError, ValueError):
        return tuple(_sample(row) for row in rows)
    right = (
        _TEXTS.issuperset(map(type, names))
        and all(_NUMBERS.issuperset(map(type, column)) and 0 <= sum(column) < _MOST_MS for column in times)
        and min(min(estimates), min(ms)) > 0 <= min(iqr)
        and _FLAGS.issuperset(map(type, dense))
    )
    if not right:
        return tuple(_sample(row) for row in rows)
    known = map(_CONFIG, configs)
    return tuple(map(Sample, names, known, map(float, estimates), map(float, ms), map(float, iqr), map(bool, dense)))


def _sample(row: Sequence[Any]) -> Sample:
    name, config, estimate, ms, iqr, dense = _ROW(row)
    if not (estimate > 0 and ms > 0 and iqr >= 0):
        raise ValueError(f"a time of {ms} ms, expected {estimate} ms")
    return Sample(name, config, estimate, ms, iqr, bool(dense))


_imposed = lru_cache(maxsize=1024)(Imposed.parse)


def _bounded(problem: Problem) -> Problem:
    """The problem, if a machine can have measured it. ValueError otherwise."""
    window = problem.window
    if window is not None and min(window.height, window.width, *window.kernel, *window.stride, *window.dilation) < 1:
        raise ValueError("no convolution has the window of a layer")
    sizes = (problem.m, problem.k, problem.n, problem.batch, problem.threads, *problem.x_shape, *problem.y_shape)
    m, k, n = problem.m, problem.k, problem.n * problem.batch
    if min(sizes) < 1 or max(m * k, k * n, m * n) > _MOST_PLACES or problem.threads > _MOST_PLACES:
        raise ValueError(f"no layer that was measured: m={m}, k={k}, n={n}")
    return problem


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """A problem as plain data; what is as usual is left out."""
    usual = asdict(Problem("linear", 0, 0, 0, (), ()))
    return {name: plain(value) for name, value in asdict(problem).items() if value != usual[name] or name in "mkn"}


def problem_from_json(data: Mapping[str, Any]) -> Problem:
    """The inverse of problem_to_json. ValueError for anything else.

    >>> from tesa.schedules.types import Epilogue
    >>> problem = Problem("linear", 8, 12, 16, (1, 12, 16), (1, 8, 16), epilogue=Epilogue(bias=True))
    >>> problem_from_json(problem_to_json(problem)) == problem
    True
    """
    return typed(Problem, {"op": "linear", "x_shape": (), "y_shape": (), **data}, "problem")


def _short(value: float) -> float:
    """Five significant digits: more than a clock knows."""
    return float(f"{value:.5g}")
