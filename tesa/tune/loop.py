"""The loop of all measuring: candidates are built, compared with NumPy and timed. Compiling, tuning and calibrating use
it alike; what they do with the results is theirs.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tesa.build.product import Product
from tesa.decompose.candidates import Option
from tesa.errors import TesaError
from tesa.layers.layer import Layer
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.interfaces import Builder, BuildRequest, Runner
from tesa.measure.timing import Timing
from tesa.schedules.types import config_key
from tesa.targets.target import Target


@dataclass(frozen=True)
class Batch:
    """Candidates of one layer that are measured together."""

    layer: Layer
    options: tuple[Option, ...]


@dataclass(frozen=True)
class BuiltBatch:
    """A batch with the kernel of each option, or why there is none. folder: where the objects lie, if it could be made.

    fault: why the builder ended early, "" where it did not.
    """

    batch: Batch
    kernels: tuple[Product | Failure, ...]
    folder: Path | None = None
    fault: str = ""

    @property
    def pairs(self) -> list[tuple[Option, Product | Failure]]:
        """The options, each with its kernel or the reason why it has none."""
        return list(zip(self.batch.options, self.kernels, strict=True))

    @property
    def built(self) -> list[tuple[Option, Product]]:
        """The options that can be run."""
        return [(option, kernel) for option, kernel in self.pairs if isinstance(kernel, Product)]

    @property
    def failed(self) -> list[tuple[Option, Timing | Failure]]:
        """The options that could not be built, with the reason."""
        return [(option, kernel) for option, kernel in self.pairs if isinstance(kernel, Failure)]

    @property
    def codes(self) -> dict[str, str]:
        """The digest of what was emitted, by config_key; "" where nothing was."""
        return {config_key(*option): kernel.code for option, kernel in self.pairs}


def build(
    batches: Sequence[Batch],
    target: Target,
    builder: Builder,
    home: Path,
    *,
    halted: Callable[[], bool] = lambda: False,
) -> list[BuiltBatch]:
    """Have the kernels of some batches built, all at once, in a new folder in home.

    halted() says that nobody wants them any more. A builder that ends with an error which is none of tesa's (no room on
    the disk, a defect) costs what it had not built yet: failures that do not blame the kernels.
    TesaError passes on.
    """
    found, folder, fault = dict[int, Product | Failure](), None, ""
    requests = [
        BuildRequest(batch.layer.problem, batch.layer.weight, target, name, config)
        for batch in batches
        for name, config in batch.options
    ]
    try:
        folder = Path(tempfile.mkdtemp(dir=home))
        results = builder.build(requests, folder)
        with ExitStack() as stack:  # what ends the loop ends what a generator still runs
            stack.callback(getattr(results, "close", lambda: None))
            for index, kernel in results:
                found[index] = kernel
                if halted():
                    break
    except TesaError:
        raise
    except Exception as error:
        fault = first_line(error)
    lost = Failure(FailureKind.DEVICE, fault or "the builder gave no result")
    kernels = iter([found.get(index, lost) for index in range(len(requests))])
    return [BuiltBatch(batch, tuple(next(kernels) for _ in batch.options), folder, fault) for batch in batches]


def run(built: BuiltBatch, runner: Runner, budget_ms: float) -> tuple[list[tuple[Option, Timing | Failure]], str]:
    """Compare the kernels of a batch with NumPy and time those that are right, each for about budget_ms.

    With budget_ms=0 they are only compared. The results are those of all options, the ones without a kernel first; the
    text says what went wrong with the runner, "" for nothing. TesaError passes on.
    """
    ready, layer = built.built, built.batch.layer
    if not ready:
        return built.failed, ""
    try:
        kernels = [kernel for _, kernel in ready]
        results, fault = runner.run(layer.problem, layer.weight, kernels, budget_ms=budget_ms), ""
    except TesaError:
        raise
    except Exception as error:  # a defect of the runner, or no memory for this layer: the others go on
        fault = first_line(error)
        results = [Failure(FailureKind.DEVICE, fault)] * len(ready)
    return built.failed + list(zip((option for option, _ in ready), results, strict=True)), fault


def first_line(error: Exception) -> str:
    """An error in one line.

    >>> first_line(MemoryError("16 GiB"))
    'MemoryError: 16 GiB'
    """
    return f"{type(error).__name__}: {error}".splitlines()[0]
