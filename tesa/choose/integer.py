"""Decides which layers of a network of codes are computed on integers: those for which that takes less time.

A layer between codes has two ways: int8 kernels on the codes as they lie, and a float32 kernel, for which they are
turned into numbers in another layout, and back. Where the expected times are far apart, they decide. Else both are
given kernels, and what was chosen for them decides, by the times that are known then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tesa.attributes.zeros import zeros_of
from tesa.choose.chosen import ChosenKernel
from tesa.choose.pick import milliseconds
from tesa.choose.predict import expected
from tesa.choose.storage import time_of
from tesa.costs.table import CostTable
from tesa.decompose.candidates import candidates, plain_candidates
from tesa.errors import UnsupportedError
from tesa.layers.codes_layers import Kernel, Precisions
from tesa.layers.layer import Layer
from tesa.layers.network import Network
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.target import Target

CLOSE = 2.0
"""Both ways are measured where neither is expected to take more than so many times the time of the other."""

CONVERSION = 4.0
"""Cycles by lanes of a vector in which an element is turned into a number, or back, and moved."""

_BYTES = 5  # of a code and a number

IN_FLOAT = " in float32"
"""Behind the name of a layer, for its float32 form."""

Key = tuple[Problem, str]


@dataclass
class _Way:
    """A layer in question. real: the float32 form, its time to be measured; extra: of its conversions, milliseconds."""

    real: Layer
    extra: float


class IntegerContest:
    """The layers of networks that may be computed on integers: `decide` is for lowering, see layers.function.lower.

    families: only these compete. measure: of the ways that are close, both get kernels: those of float32 are `rivals`;
    when all have kernels, `settle` takes the faster ways.
    """

    def __init__(
        self, target: Target, table: CostTable | None = None, families: Sequence[str] | None = None,
        measure: bool = True,
    ) -> None:  # fmt: skip
        self._target, self._table, self._families, self._measure = target, table, families, measure
        self._decided: dict[tuple[Key, ...], tuple[bool, str]] = {}
        self._open: dict[tuple[Key, ...], _Way] = {}

    @property
    def rivals(self) -> tuple[Layer, ...]:
        """The float32 forms of layers that are on integers as long as nothing is known of them."""
        return tuple(way.real for way in self._open.values())

    def decide(self, ways: Precisions) -> bool:
        """True for a layer that is computed on integers, by what is known now."""
        key = tuple(_key(*kernel) for kernel in (*ways.integers, ways.real))
        if key not in self._decided:
            self._decided[key] = self._by_estimate(key, ways)
        return self._decided[key][0]

    def _by_estimate(self, key: tuple[Key, ...], ways: Precisions) -> tuple[bool, str]:
        """The way that is expected to be faster; integers, for now, where the ways are close."""
        found = [self._expected(kernel) for kernel in ways.integers]
        if None in found:
            return False, ""
        integers, extra = sum(ms for ms in found if ms is not None), self._conversion(ways)
        if integers <= self._least(*ways.real) + extra:
            return True, ""
        real = self._expected(ways.real)
        if real is None:
            return True, ""
        real += extra
        if self._measure and ways.alone and len(found) == 1 and real < CLOSE * integers and integers < CLOSE * real:
            self._open[key] = _Way(Layer(ways.layer + IN_FLOAT, *ways.real), extra)
            return True, ""
        said = f"{milliseconds(integers)} on integers and {milliseconds(real)} in float32 are expected"
        return integers <= real, said

    def _expected(self, kernel: Kernel) -> float | None:
        """The least time that is expected; None where there is no kernel."""
        problem, weight = kernel
        try:
            if self._families is None:
                options = plain_candidates(problem, weight, self._target)
            else:
                options = candidates(problem, weight, self._target, self._families, prices=self._table)
        except UnsupportedError:
            return None
        return min(expected(options, problem, weight, self._target, self._table).values())

    def _least(self, problem: Problem, weight: FloatArray) -> float:
        """Milliseconds in which a kernel could multiply the weights that are not 0, if nothing else took time."""
        if self._target.gpu is not None:
            return 0.0
        rates = self._target.core.rates
        products = zeros_of(weight).nonzeros * problem.n * problem.batch
        cycles = products / (self._target.core.lanes * rates.fmas) * rates.product
        return cycles / rates.cycles_per_ms / problem.threads

    def _conversion(self, ways: Precisions) -> float:
        """Milliseconds in which the codes become numbers, and back."""
        if (gpu := self._target.gpu) is not None:  # a kernel of its own reads codes and writes numbers, or back
            return ways.elements * _BYTES / (gpu.rates.l2_gbs * 1e6) + gpu.rates.graph_us / 1e3
        core = self._target.core
        cycles = ways.elements * CONVERSION / core.lanes
        return cycles / core.rates.cycles_per_ms / ways.real[0].threads

    def settle(
        self, networks: Sequence[Network], kernels: Sequence[ChosenKernel]
    ) -> tuple[list[Network], list[ChosenKernel]]:
        """The networks in which every layer has its faster way, and the kernels of their layers.

        kernels: of all layers of the networks, and then of the rivals.
        """
        layers = [layer for network in networks for layer in network.layers]
        known = {_key(layer.problem, layer.weight): kernel for layer, kernel in zip(layers, kernels, strict=False)}
        for (keys, way), kernel in zip(self._open.items(), kernels[len(layers) :], strict=True):
            mine, other = time_of(known[keys[0]]), time_of(kernel)
            on = mine is None or other is None or mine <= other + way.extra
            said = ""
            if mine is not None and other is not None:
                said = f"{milliseconds(mine)} on integers, {milliseconds(other + way.extra)} in float32"
            self._decided[keys] = on, said
            known[_key(way.real.problem, way.real.weight)] = kernel
        stays = all(self._decided[key][0] for key in self._open)
        settled = list(networks) if stays else [network.again(self.decide) for network in networks]
        words_of = {one: words for key, (_, words) in self._decided.items() if words for one in key}
        chosen = []
        for layer in (layer for network in settled for layer in network.layers):
            key = _key(layer.problem, layer.weight)
            chosen.append(_named(known[key], layer.name, words_of.get(key, "")))
        return settled, chosen


def _named(kernel: ChosenKernel, layer: str, said: str) -> ChosenKernel:
    """The kernel as that of a layer. said: for its reason."""
    if not said:
        return replace(kernel, layer=layer)
    reason = f"{kernel.part.reason}; {said}" if kernel.part.reason else said
    return replace(kernel, layer=layer, parts=(replace(kernel.parts[0], reason=reason), *kernel.parts[1:]))


def _key(problem: Problem, weight: FloatArray) -> Key:
    return problem, zeros_of(weight).digest
