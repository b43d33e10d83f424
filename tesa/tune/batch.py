"""One turn of a job: some candidates of a layer, their kernels, and what goes wrong on the way to them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tesa.decompose.candidates import Option
from tesa.errors import TesaError
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.interfaces import Builder, BuildRequest
from tesa.measure.local import Built
from tesa.targets.target import Target
from tesa.tune.layer_search import LayerSearch


@dataclass(frozen=True)
class Turn:
    """What is measured together."""

    layer: LayerSearch
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Kernels:
    """The kernel of each option, or why there is none. folder: where they lie, if it could be made.

    trouble: why the builder ended early, "" where it did not.
    """

    built: tuple[tuple[Option, Built | Failure], ...]
    folder: Path | None = None
    trouble: str = ""


def build(turn: Turn, target: Target, builder: Builder, home: Path, halted: Callable[[], bool]) -> Kernels:
    """Have the turn's kernels built in a folder of their own in home, until halted() says that nobody wants them.

    A builder that ends with an error which is none of tesa's (no room on the disk, a defect) costs what it had not
    built yet: "device" failures, since they say nothing about the kernels. TesaError passes on.
    """
    work, found, folder, trouble = turn.layer.work, dict[int, Built | Failure](), None, ""
    requests = [BuildRequest(work.problem, work.weight, target, name, config) for name, config in turn.options]
    try:
        folder = Path(tempfile.mkdtemp(dir=home))
        with _closing(builder.build(requests, folder)) as results:
            for index, built in results:
                found[index] = built
                if halted():
                    break
    except TesaError:
        raise
    except Exception as error:
        trouble = first_line(error)
    lost = Failure(FailureKind.DEVICE, trouble or "the builder gave no result")
    return Kernels(tuple((option, found.get(i, lost)) for i, option in enumerate(turn.options)), folder, trouble)


def first_line(error: Exception) -> str:
    """An error in one line.

    >>> first_line(MemoryError("16 GiB"))
    'MemoryError: 16 GiB'
    """
    return f"{type(error).__name__}: {error}".splitlines()[0]


@contextmanager
def _closing(results: Iterator[tuple[int, Built | Failure]]) -> Iterator[Iterator[tuple[int, Built | Failure]]]:
    """Close a generator at the end of the block, whatever ends it: that ends what it still runs."""
    try:
        yield results
    finally:
        close = getattr(results, "close", None)
        if close is not None:
            close()
