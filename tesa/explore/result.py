"""The result of an exploration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tesa.base.display import Displayed, picture
from tesa.compact.saved import save
from tesa.explore.choices import Choice, Config


@dataclass(frozen=True)
class Point:
    """A configuration that was evaluated as a whole. ms: by the table, scaled; measured_ms: of the compiled model,
    where it was timed. flops: multiply-adds of the explored layers, as a share of the dense ones. by: what found it."""

    config: Config
    error: float
    score: float | None
    drop: float | None
    ms: float
    flops: float
    by: str
    measured_ms: float | None = None

    @property
    def time(self) -> float:
        """Milliseconds: measured where they are, else expected."""
        return self.ms if self.measured_ms is None else self.measured_ms

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "config": {name: str(choice) for name, choice in self.config.items()}, "error": self.error,
            "score": self.score, "drop": self.drop, "ms": self.ms, "measured_ms": self.measured_ms,
            "flops": self.flops, "by": self.by,
        }  # fmt: skip


@dataclass(frozen=True)
class LayerChoice:
    """The choice of a layer: its own milliseconds, dense and as chosen, and the error that it alone makes."""

    layer: str
    choice: Choice
    dense_ms: float
    ms: float
    error: float


@dataclass(frozen=True, eq=False)
class Explored(Displayed):
    """An exploration. chosen: the best configuration that keeps the budget; layers: its choices; proto: that model.

    points: all that was evaluated as a whole; front: those of them with the least error for their time. dense_ms: of
    the dense model, measured where it could be; budget_ms: what was asked for. evaluations: that were run, known: that
    the log had. notes: what is to be told. interrupted: by Ctrl-C; the best so far is chosen.
    """

    source: str
    target: str
    chosen: Point
    layers: tuple[LayerChoice, ...]
    points: tuple[Point, ...]
    proto: Any
    dense_ms: float
    budget_ms: float | None
    dense_score: float | None
    evaluations: int
    seconds: float
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    measured: bool = False
    metric: str = ""
    sensitivities: dict[str, dict[Choice, float]] = field(default_factory=dict)

    @property
    def front(self) -> tuple[Point, ...]:
        """The points that no other one beats in both time and error, the fastest first."""
        return pareto(self.points)

    def plot(self, path: str | Path | None = None) -> Any:
        """The error of all points against their time, with the front and what was chosen.

        path: where to write it (.png, .svg, .pdf). UsageError without matplotlib.
        """
        return picture(self, path=path)

    def save(self, path: str | Path) -> None:
        """Write the chosen model as an ONNX file, whole or not at all."""
        copy = type(self.proto)()
        copy.CopyFrom(self.proto)
        save(copy, Path(path))

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump."""
        return {
            "model": self.source, "target": self.target, "chosen": self.chosen.to_json(),
            "layers": [
                {"layer": row.layer, "choice": str(row.choice), "dense_ms": row.dense_ms, "ms": row.ms,
                 "error": row.error}
                for row in self.layers
            ],
            "front": [point.to_json() for point in self.front], "points": len(self.points),
            "dense_ms": self.dense_ms, "budget_ms": self.budget_ms, "dense_score": self.dense_score,
            "measured": self.measured, "evaluations": self.evaluations, "seconds": self.seconds,
            "notes": list(self.notes), "interrupted": self.interrupted,
        }  # fmt: skip


def pareto(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other one beats in both expected time and error, the fastest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.ms, p.error)):
        if not found or point.error < found[-1].error:
            found.append(point)
    return tuple(found)
