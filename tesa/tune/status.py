"""The progress of a tuning job and its result, as plain data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesa.base.display import Displayed, picture
from tesa.decompose.candidates import Option


@dataclass(frozen=True)
class TunedLayer:
    """The result for a layer, or what is known of it so far. name: of the first of the layers that share the kernel.

    layers: how many these are. default: what an untuned compile chooses, best: what tuning found; None with its time
    where nothing ran. Times in milliseconds, of the last comparison where there was one: final says so. trials:
    candidates measured, failed ones among them, of total. Told at the end only: dense_ms: of the layer's dense self,
    given_up: candidates without a result, because again and again no device could run them, and curve: the time of each
    candidate when it was first measured, in that order, those of earlier jobs before; None for one that failed.
    """

    name: str
    layers: int
    trials: int
    failed: int
    total: int
    default: Option | None = None
    default_ms: float | None = None
    best: Option | None = None
    best_ms: float | None = None
    dense_ms: float | None = None
    final: bool = False
    given_up: int = 0
    curve: tuple[float | None, ...] = ()

    @property
    def gain(self) -> float | None:
        """default_ms / best_ms."""
        if not self.best_ms or self.default_ms is None:
            return None
        return self.default_ms / self.best_ms


@dataclass(frozen=True)
class Status:
    """The progress of a job. phase: "search", then "compare" for the last comparison.

    done of total measurements; known: those of them that were in the log before. seconds: since the start; left_s:
    expected until the end, None where it cannot be told yet. layer: at work now.
    """

    phase: str
    done: int
    total: int
    known: int
    failed: int
    seconds: float
    left_s: float | None
    layer: str
    layers: tuple[TunedLayer, ...]


Watch = Callable[[Status], None]
"""A function that a job calls after every step. It must be quick."""


def unseen(status: Status) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Tuned(Displayed):
    """The result of a job. measured: in this run; seconds: it took; compared: of the measurements, those that compared
    the best of each layer once more at the end, beyond the number of trials. notes: what was left out or went wrong.

    interrupted: by Ctrl-C. stopped: why it ended before its budget was used up, "" where it did not. unsaved: results
    that are not in the log, because it could not be written.
    """

    target: str
    threads: int
    device: dict[str, Any]
    layers: tuple[TunedLayer, ...]
    measured: int
    seconds: float
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    stopped: str = ""
    unsaved: int = 0
    compared: int = 0

    def plot(self, path: str | Path | None = None) -> Any:
        """The tuning curve of each layer: its best time after each measurement, as times as fast as untuned.

        path: where to write it (.png, .svg, .pdf). UsageError if nothing was measured, and without matplotlib.
        """
        return picture(self, path=path)
