"""Chooses the kernel of a layer for a GPU: by the static model of time, or measured where a GPU is at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tesa.build.cache import Cache
from tesa.build.gpu.images import build_images
from tesa.build.gpu.product import GpuProduct
from tesa.build.objects import BuildError, symbol_of
from tesa.choose.plan import Candidate, Part
from tesa.decompose.candidates import Option, candidates, dense_keys, predict
from tesa.errors import UnsupportedError
from tesa.layers.layer import Layer
from tesa.schedules.gpus import GpuCode
from tesa.schedules.registry import find
from tesa.schedules.types import config_key
from tesa.targets.target import Target

TRIED = 3
"""Configurations that are measured of each family."""

Measure = Callable[[Layer, GpuProduct, Target], float]
"""Milliseconds of a built kernel, after its result was checked. Raises CheckFailed where it is wrong or cannot run."""


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
    cache: Cache | None = None,
    jobs: int | None = None,
) -> GpuKernel:
    """The kernel of a layer. measure: times the best ones of each family by the model; None to trust the model.

    Raises UnsupportedError where no family applies, or none of those that do can be built, with each one's reason.
    """
    problem, weight = layer.problem, layer.weight
    found = candidates(problem, weight, target, families) if options is None else list(options)
    predicted = predict(found, problem, weight, target)
    fitting = [option for option in found if math.isfinite(predicted[config_key(*option)])]
    ranked = sorted(fitting, key=lambda option: predicted[config_key(*option)])
    tried = _first_of_each(ranked, TRIED if measure else 1)
    times: dict[str, float] = {}
    failures: dict[str, str] = {}
    built: dict[str, tuple[GpuCode, GpuProduct]] = {}
    for option in tried:
        key = config_key(*option)
        try:
            built[key] = _built(layer, option, target, cache, jobs)
            if measure is not None:
                times[key] = measure(layer, built[key][1], target)
        except (BuildError, ValueError) as error:
            failures[key] = str(error)
        if measure is None and key in built:
            break  # the one that is expected to be the fastest
    known = {key: predicted[key] for key in built} if measure is None else times
    if not known:
        raise UnsupportedError(f"layer {layer.name}: no kernel for {target.name} can be built: {_told(failures)}")
    best = min(known, key=lambda key: known[key])
    dense = dense_keys(found, weight, target.kind)
    rows = []
    for name, config in ranked:
        key = config_key(name, config)
        note = failures.get(key, "" if key in times else "not measured")
        rows.append(Candidate(name, dict(config), predicted[key], times.get(key), note, key in dense))
    name, config = next(option for option in found if config_key(*option) == best)
    facts = layer.statistics
    reason = _reason(ranked, known, predicted, bool(times))
    bits = 8 if problem.dtype == "int8" else 16 if problem.arithmetic != "float32" else 32
    part = Part(facts.kind, bits, facts.nonzeros, layer.digest, name, dict(config), tuple(rows), reason,
                arithmetic="" if problem.arithmetic == "float32" else problem.arithmetic)  # fmt: skip
    code, product = built[best]
    return GpuKernel(layer.name, (part,), product, code, layer.digest)


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


def _reason(ranked: Sequence[Option], known: dict[str, float], predicted: dict[str, float], measured: bool) -> str:
    best: dict[str, float] = {}
    times = known if measured else predicted
    for name, config in ranked:
        time = times.get(config_key(name, config))
        if time is not None:
            best[name] = min(best.get(name, time), time)
    said = ", ".join(f"{name} {time * 1e3:.3g} us" for name, time in sorted(best.items(), key=lambda item: item[1]))
    return f"{'measured' if measured else 'by the static model'}: {said}"


def _told(failures: dict[str, str]) -> str:
    return "; ".join(f"{key.partition('{')[0]}: {text}" for key, text in failures.items()) or "nothing was tried"
