"""What a tuning job tells while it runs, and what it has found at its end. Plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tesa.decompose.candidates import Option


@dataclass(frozen=True)
class LayerStatus:
    """A layer on its way. layers: how many of the model share its kernel. Times in milliseconds, None where unknown.

    done, failed: candidates that were measured, and those of them that failed, of total in its space.
    default_ms: of what an untuned compile chooses; best_ms: of the best that is known, of the family best.
    """

    name: str
    layers: int
    done: int
    failed: int
    total: int
    default_ms: float | None = None
    best_ms: float | None = None
    best: str = ""


@dataclass(frozen=True)
class Status:
    """phase: "search", then "compare" for the last comparison. done of total measurements; known: of them in the log.

    seconds: since the start; left_s: expected until the end, None where it cannot be told yet. layer: at work now.
    """

    phase: str
    done: int
    total: int
    known: int
    failed: int
    seconds: float
    left_s: float | None
    layer: str
    layers: tuple[LayerStatus, ...]


Watch = Callable[[Status], None]
"""What a job calls after every step. It must be quick."""


def unseen(status: Status) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class TunedLayer:
    """The result for a layer. name is the first of the layers that share the kernel; layers counts them.

    default: what an untuned compile chooses, best: what tuning found; None with its time where nothing ran. Times in
    milliseconds, of the last comparison where there was one: final says so. trials: candidates measured, failed ones
    among them, of total; given_up: candidates without a result, because again and again no device could run them.
    dense_ms: of the layer's dense self.
    """

    name: str
    layers: int
    trials: int
    failed: int
    total: int
    default: Option | None
    default_ms: float | None
    best: Option | None
    best_ms: float | None
    dense_ms: float | None
    final: bool
    given_up: int = 0

    @property
    def gain(self) -> float | None:
        """default_ms / best_ms."""
        if not self.best_ms or self.default_ms is None:
            return None
        return self.default_ms / self.best_ms


@dataclass(frozen=True)
class Tuned:
    """What a job has found. measured: in this run; seconds: it took. notes: what was left out or went wrong, and why.

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
