"""Chooses the kernel of a layer for a GPU: by the static model of time, or measured where a GPU is at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tesa.attributes.patterns import digest
from tesa.build.cache import Cache
from tesa.build.gpu.images import build_images
from tesa.build.gpu.product import GpuProduct
from tesa.build.objects import BuildError, symbol_of
from tesa.choose.plan import Candidate, Part
from tesa.decompose import describe_pieces
from tesa.decompose.candidates import Option, candidates, dense_keys, predict
from tesa.errors import UnsupportedError
from tesa.layers.layer import Layer
from tesa.records.record import Record
from tesa.schedules.gpus import GpuCode
from tesa.schedules.registry import find
from tesa.schedules.types import config_key
from tesa.targets.target import Target

TRIED = 3
"""Configurations that are measured of each family."""

Measure = Callable[[Layer, Option, GpuCode, GpuProduct], float]
"""Milliseconds of a built kernel, after its result was checked. Raises BuildError where it is wrong or cannot run."""


@dataclass(frozen=True)
class GpuKernel:
    """The chosen kernel of a layer: its parts for the plan, its code and what that became. digest: of the weight."""

    layer: str
    parts: tuple[Part, ...]
    product: GpuProduct
    code: GpuCode = field(repr=False)
    digest: str = ""

    @property
    def part(self) -> Part:
        """The one part: it has the candidates and the reason."""
        return self.parts[0]


def choose_gpu(
    layer: Layer,
    target: Target,
    *,
    families: Sequence[str] | None = None,
    options: Sequence[Option] | None = None,
    measure: Measure | None = None,
    known: Sequence[Record] = (),
    cache: Cache | None = None,
    jobs: int | None = None,
) -> GpuKernel:
    """The kernel of a layer. measure: times the best ones of each family by the model; None to trust the model.

    known: what was measured before, of one device. Its options are not measured again, and where nothing is measured
    the fastest of them is taken, or the model's, of those that have not failed.

    Raises UnsupportedError where no family applies, or none of those that do can be built, with each one's reason.
    """
    problem, weight = layer.problem, layer.weight
    found = candidates(problem, weight, target, families) if options is None else list(options)
    predicted = predict(found, problem, weight, target)
    fitting = [option for option in found if math.isfinite(predicted[config_key(*option)])]
    ranked = sorted(fitting, key=lambda option: predicted[config_key(*option)])
    trial = _Trial(layer, target, cache, jobs)
    trial.recall(known, predicted)
    remembered = len(trial.times)
    tried = _first_of_each([one for one in ranked if config_key(*one) not in trial.failures], TRIED if measure else 1)
    if measure is not None:
        trial.measure(tried, measure)
    timed = [option for option in ranked if config_key(*option) in trial.times]
    timed.sort(key=lambda option: trial.times[config_key(*option)])
    best = trial.first(timed if measure is not None else [*timed, *(one for one in tried if one not in timed)])
    if best is None:
        raise UnsupportedError(f"layer {layer.name}: no kernel for {target.name} can be built: {_told(trial.failures)}")
    code, product = trial.built[config_key(*best)]
    hopes = {key: time for key, time in predicted.items() if key not in trial.failures}
    reason = _reason(ranked, trial.times or hopes, bool(trial.times))
    if remembered:
        reason += " (from the log)" if remembered == len(trial.times) else " (some from the log)"
    dense = dense_keys(found, weight, target.kind)
    parts = _parts(layer, best, [trial.row(option, predicted, dense) for option in ranked], reason)
    return GpuKernel(layer.name, parts, product, code, layer.digest)


@dataclass
class _Trial:
    """The candidates of a layer as far as something is known of them, by config_key."""

    layer: Layer
    target: Target
    cache: Cache | None
    jobs: int | None
    times: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    built: dict[str, tuple[GpuCode, GpuProduct]] = field(default_factory=dict)

    def recall(self, known: Sequence[Record], options: Container[str]) -> None:
        """Take over what records say of these options."""
        for record in known:
            key = config_key(record.family, record.config)
            if key in options and record.ok and record.median_ms is not None:
                self.times[key] = record.median_ms
            elif key in options and not record.ok:
                self.failures[key] = record.error

    def measure(self, options: Sequence[Option], measure: Measure) -> None:
        """Build and time the options of which nothing is known."""
        for option in options:
            key = config_key(*option)
            if key in self.times or not self.build(option):
                continue
            try:
                self.times[key] = measure(self.layer, option, *self.built[key])
            except BuildError as error:
                self.failures[key] = str(error)

    def first(self, options: Sequence[Option]) -> Option | None:
        """The first of the options that can be built."""
        return next((option for option in options if self.build(option)), None)

    def build(self, option: Option) -> bool:
        """Build an option, if it is not built yet; True where that goes well."""
        key = config_key(*option)
        if key in self.built:
            return True
        try:
            self.built[key] = _built(self.layer, option, self.target, self.cache, self.jobs)
        except (BuildError, ValueError) as error:
            self.failures[key] = str(error)
            self.times.pop(key, None)
            return False
        return True

    def row(self, option: Option, predicted: Mapping[str, float], dense: Container[str]) -> Candidate:
        """The line of the plan about an option."""
        key = config_key(*option)
        note = self.failures.get(key, "" if key in self.times else "not measured")
        return Candidate(option[0], dict(option[1]), predicted[key], self.times.get(key), note, key in dense)


def _parts(layer: Layer, option: Option, rows: Sequence[Candidate], reason: str) -> tuple[Part, ...]:
    """A part for each piece of a decomposition, else one for the whole weight; the first has the candidates."""
    problem, facts, (name, config) = layer.problem, layer.statistics, option
    bits = 8 if problem.dtype == "int8" else 16 if problem.arithmetic != "float32" else 32
    arithmetic = "" if problem.arithmetic == "float32" else problem.arithmetic
    pieces = describe_pieces(problem, layer.weight, name, config)
    if not pieces:
        return (Part(facts.kind, bits, facts.nonzeros, layer.digest, name, dict(config), tuple(rows), reason,
                     arithmetic=arithmetic),)  # fmt: skip
    first: dict[str, Any] = {"candidates": tuple(rows), "reason": reason}
    return tuple(
        Part(
            one.piece.pattern, one.piece.bits if problem.dtype == "mixed" else bits, one.piece.nonzeros,
            digest(one.piece.weight), name, dict(config), kernel=one.family, arithmetic=arithmetic,
            **(first if number == 0 else {}),
        )
        for number, one in enumerate(pieces)
    )  # fmt: skip


def _first_of_each(ranked: Sequence[Option], count: int) -> list[Option]:
    """The best ones of each family by the model, in their order; all others behind them stay out."""
    seen: dict[str, int] = {}
    chosen = []
    for name, config in ranked:
        seen[name] = seen.get(name, 0) + 1
        if seen[name] <= count:
            chosen.append((name, config))
    return chosen


def _built(
    layer: Layer, option: Option, target: Target, cache: Cache | None, jobs: int | None
) -> tuple[GpuCode, GpuProduct]:
    name, config = option
    symbol = symbol_of(layer.problem, layer.weight, target, name, config, layer.digest)
    code: GpuCode = find(name, target.kind).emit(layer.problem, layer.weight, target.machine, config, symbol)
    return code, build_images(symbol, code, target, cache, jobs)


def _reason(ranked: Sequence[Option], times: Mapping[str, float], measured: bool) -> str:
    best: dict[str, float] = {}
    for name, config in ranked:
        time = times.get(config_key(name, config))
        if time is not None:
            best[name] = min(best.get(name, time), time)
    said = ", ".join(f"{name} {time * 1e3:.3g} us" for name, time in sorted(best.items(), key=lambda item: item[1]))
    return f"{'measured' if measured else 'by the static model'}: {said}"


def _told(failures: dict[str, str]) -> str:
    return "; ".join(f"{key.partition('{')[0]}: {text}" for key, text in failures.items()) or "nothing was tried"
