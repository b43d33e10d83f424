"""The interfaces of building and measuring: a request for a kernel, a builder of kernels, a runner of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tesa.build.product import Product
from tesa.measure.failure import Failure
from tesa.measure.timing import Timing
from tesa.schedules.types import Config, FloatArray, Problem
from tesa.targets.target import Target


@dataclass(frozen=True)
class BuildRequest:
    """One candidate to generate and compile: a family with a configuration, for one layer and target. weight (m, k)."""

    problem: Problem
    weight: FloatArray
    target: Target
    family: str
    config: Config


class Builder(Protocol):
    """Generates code and compiles it: in this process's children, or on a cluster."""

    def build(self, requests: Sequence[BuildRequest], folder: Path) -> Iterator[tuple[int, Product | Failure]]:
        """Yield (index of the request, its kernel or why there is none) as each one is ready, in any order.

        Objects lie in folder. A Failure has the kind BUILD, and TIMEOUT where the compiler did not end. A candidate
        that kills its compiler fails alone. Closing the iterator early ends what still runs.
        """
        ...

    def close(self) -> None:
        """End all processes. May be called twice."""
        ...


class Runner(Protocol):
    """Compares kernels with NumPy on one device or several, and times those that are right."""

    def run(
        self, problem: Problem, weight: FloatArray, kernels: Sequence[Product], *, budget_ms: float
    ) -> list[Timing | Failure]:
        """The result of each kernel, in their order. budget_ms: time for one kernel; 0 only compares.

        A Failure has the kind DEVICE where no device could run a kernel.
        """
        ...

    def device(self) -> dict[str, Any]:
        """The device as records name it, at least its {"cpu": name} and {"system": "Linux x86_64"}."""
        ...

    def close(self) -> None:
        """Release devices and end processes. May be called twice."""
        ...
