"""The type that a layer's weight is kept in, and that of its sums, where the user allows another one than float32.

A kernel for a few columns waits for its weight. Kept in 16 bits it is read twice as fast, and widened on the way into a
register; where the weight lies in a cache anyway, widening costs more than it gains. Sums of float16, where a CPU has
them, are twice as many to a register. So all forms of a layer compete, by their times.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from tesa.attributes.rounding import STORAGES, rounded
from tesa.choose.chosen import ChosenKernel
from tesa.choose.gpu import GpuKernel
from tesa.choose.pick import milliseconds
from tesa.errors import UnsupportedError, UsageError
from tesa.layers.layer import Layer
from tesa.schedules.gpus import Gpu
from tesa.schedules.types import Core
from tesa.targets.target import Target

Kernel = TypeVar("Kernel", ChosenKernel, GpuKernel)

ARITHMETICS = ("float32", "float16", "bfloat16", "tfloat32")
"""The types that products may be made of. Of tfloat32, a float32, a GPU's matrix unit takes 10 bits of fraction."""

COLUMNS = 16
"""Columns of the activation up to which a family keeps weights in 16 bits."""

LARGE = 1 << 18
"""Bytes of a weight from which on an exact form in 16 bits is tried without being asked for."""

MARGIN = 0.97
"""Times the time of the float32 kernel: what the other one has to beat, because two measurements are never equal."""


def check_arithmetic(arithmetic: str, storage: str, target: Target) -> None:
    """UsageError for an arithmetic that there is not, UnsupportedError where the target has not got it."""
    if arithmetic not in ARITHMETICS:
        raise UsageError(f"unknown arithmetic {arithmetic!r}; expected one of {', '.join(ARITHMETICS)}")
    if arithmetic == "float32":
        return
    if storage not in ("float32", kept_as(arithmetic)):
        raise UsageError(f"arithmetic {arithmetic!r} takes weights of {kept_as(arithmetic)}, not of {storage}")
    if not _multiplies(target.machine, arithmetic):
        if arithmetic != "float16" or isinstance(target.machine, Gpu):
            raise UnsupportedError(
                f"target {target.name} does not multiply {arithmetic}; arithmetic={arithmetic!r} needs one that does, "
                "such as cuda:sm_80"
            )
        raise UnsupportedError(
            f"target {target.name}: the CPU does not compute in float16; arithmetic='float16' needs one that does, "
            "such as aarch64:cortex-a76"
        )


def kept_as(arithmetic: str) -> str:
    """The storage of a weight whose products are of that arithmetic.

    >>> kept_as("float16"), kept_as("tfloat32")
    ('float16', 'float32')
    """
    return "float32" if arithmetic == "tfloat32" else arithmetic


def _multiplies(machine: Core | Gpu, arithmetic: str) -> bool:
    if isinstance(machine, Gpu) and machine.matrix(arithmetic) is not None:
        return True
    if arithmetic == "bfloat16":
        return isinstance(machine, Gpu) and machine.bfloats
    return arithmetic == "float16" and machine.halves


class StorageContest:
    """The layers to choose kernels for: each as it is and, where that may pay, in 16 bits.

    storage: "float16" or "bfloat16" by the user's leave, which rounds the weight. Weights that are such numbers as they
    stand, as those of a float16 model, compete in that form in any case. arithmetic: "float16" by the user's leave,
    which rounds the weight, X and sums on the way.

    >>> from tesa.schedules.types import Problem
    >>> layer = Layer("fc", Problem("linear", 8, 8, 1, (8, 1), (8, 1)), np.full((8, 8), 0.1, np.float32))
    >>> [found.problem.storage for found in StorageContest([layer], "float16").layers]
    ['float32', 'float16']
    """

    def __init__(self, layers: Sequence[Layer], storage: str = "float32", arithmetic: str = "float32") -> None:
        if storage not in STORAGES:
            raise UsageError(f"unknown storage {storage!r}; expected one of {', '.join(STORAGES)}")
        self._given = tuple(layers)
        self._other: list[tuple[int, Layer]] = []
        for i, layer in enumerate(layers):
            for other in (_stored(layer, storage), _summed(layer, arithmetic)):
                self._other += [] if other is None else [(i, other)]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The given layers, then those in 16 bits."""
        return (*self._given, *(other for _, other in self._other))

    @property
    def contests(self) -> tuple[tuple[int, ...], ...]:
        """The places in self.layers of the forms of each given layer."""
        places: list[list[int]] = [[i] for i in range(len(self._given))]
        for number, (i, _) in enumerate(self._other, len(self._given)):
            places[i].append(number)
        return tuple(map(tuple, places))

    def best(self, kernels: Sequence[Kernel]) -> list[Kernel]:
        """The faster kernel of each given layer. kernels: of self.layers, in their order."""
        given = kernels[: len(self._given)]
        found = list(given)
        narrow: list[Kernel] = list(kernels[len(self._given) :])
        for number, (i, layer) in enumerate(self._other):
            other: Kernel = narrow[number]
            if faster(other, found[i]):
                wide, problem = milliseconds(time_of(given[i]) or 0.0), layer.problem
                summed = problem.arithmetic != "float32"
                form = f"summed in {problem.arithmetic}" if summed else f"kept in {problem.storage}"
                said = f"{other.part.reason}; {form}, {wide} in float32"
                found[i] = replace(other, parts=(replace(other.parts[0], reason=said), *other.parts[1:]))
        return found


def faster(narrow: ChosenKernel | GpuKernel, wide: ChosenKernel | GpuKernel) -> bool:
    """True where the kernel that keeps its weight in 16 bits takes the place of the one in float32."""
    mine, other = time_of(narrow), time_of(wide)
    return mine is not None and other is not None and mine < MARGIN * other


def _stored(layer: Layer, storage: str) -> Layer | None:
    """The layer with its weight in 16 bits; None where no family keeps it so, or a number is too large for that."""
    problem = layer.problem
    if problem.dtype != "float32" or problem.storage != "float32" or problem.n * problem.batch > COLUMNS:
        return None
    types = [storage] if storage != "float32" else [t for t in STORAGES[1:] if layer.weight.nbytes >= LARGE]
    for kind in types:
        weight = rounded(layer.weight, kind)
        exact = np.array_equal(weight, layer.weight)
        if exact or (storage != "float32" and np.isfinite(weight).all()):
            return Layer(layer.name, replace(problem, storage=kind), weight, layer.facts)
    return None


def _summed(layer: Layer, arithmetic: str) -> Layer | None:
    """The layer with sums of that type; None where they are float32's, or a weight is too large for another one."""
    problem = layer.problem
    storage = kept_as(arithmetic)
    if arithmetic == "float32" or problem.dtype != "float32" or problem.storage not in ("float32", storage):
        return None
    weight = rounded(layer.weight, storage)
    if not np.isfinite(weight).all():
        return None
    return Layer(layer.name, replace(problem, storage=storage, arithmetic=arithmetic), weight, layer.facts)


def time_of(kernel: ChosenKernel | GpuKernel) -> float | None:
    """Milliseconds of the kernel: as measured, else as expected."""
    chosen = (kernel.part.family, dict(kernel.part.config))
    times = [
        row.predicted_ms if row.measured_ms is None else row.measured_ms
        for row in kernel.part.candidates
        if (row.family, dict(row.config)) == chosen
    ]
    return times[0] if times else None
