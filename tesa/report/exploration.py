"""An exploration: the choice of each layer, the front of error and time, and its picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from tesa.report.numbers import NOTHING, milliseconds, percent, ratio
from tesa.report.numbers import error as error_text
from tesa.report.picture import Picture
from tesa.report.plots import check_plot_path, new_figure
from tesa.report.style import COLORS, GREY, neutral
from tesa.report.table import table

if TYPE_CHECKING:
    from tesa.explore import Explored, Point


def exploration_view(found: Explored, output: str | None = None, plot: str | None = None) -> Iterator[RenderableType]:
    """A row for each layer, one for each point of the front, and what was chosen."""
    rows = [
        (row.layer, str(row.choice), milliseconds(row.dense_ms), milliseconds(row.ms),
         NOTHING if math.isnan(row.error) else error_text(row.error))
        for row in found.layers
    ]  # fmt: skip
    yield table(("layer", "choice", "dense ms", "ms", "error alone"), rows, title=f"Explored for {found.target}",
                right=("dense ms", "ms", "error alone"))  # fmt: skip
    columns = ("expected ms", "measured ms", "error", "metric", "multiply-adds", "levels", "by")
    yield table(columns, [_point(point) for point in found.front], title="Front", right=columns[:5])
    chosen = found.chosen
    said = "measured" if chosen.measured_ms is not None else "expected"
    time = milliseconds(chosen.time)
    yield Text(
        f"chosen: {time} {said}, dense {milliseconds(found.dense_ms)} ({ratio(found.dense_ms / chosen.time)}), "
        f"relative error of the outputs {error_text(chosen.error)}"
    )
    if chosen.score is not None and found.dense_score is not None:
        yield Text(f"metric: {found.dense_score:.4g} -> {chosen.score:.4g}")
    yield Text(f"{found.evaluations} evaluations in {found.seconds:.0f} s")
    for note in found.notes:
        yield Text(note)
    for path in (output, plot):
        if path is not None:
            yield Text(f"wrote {path}")


def _point(point: Point) -> tuple[str, ...]:
    return (
        milliseconds(point.ms), milliseconds(point.measured_ms), error_text(point.error),
        NOTHING if point.score is None else f"{point.score:.4g}", percent(point.flops), _levels(point.config), point.by,
    )  # fmt: skip


def _levels(config: Mapping[str, Any]) -> str:
    """The levels of a configuration, the most frequent first: "5 x 0.7:unstructured, 4 x dense"."""
    counted = Counter(map(str, config.values())).most_common(3)
    more = ", ..." if len(set(map(str, config.values()))) > 3 else ""
    return ", ".join(f"{count} x {name}" for name, count in counted) + more


def plot_exploration(found: Explored, path: str | PathLike[str]) -> None:
    """Draw error over time and write it to path. Errors as check_plot_path."""
    check_plot_path(path)
    plot_explored(found, path)


def plot_explored(found: Explored, path: str | PathLike[str] | None = None) -> Picture:
    """Draw error over time: all points, the front, what was measured, and the choice."""
    figure = new_figure(7.0, 4.5)
    axes = figure.add_subplot()
    points = [point for point in found.points if math.isfinite(point.error)]
    axes.scatter([p.ms for p in points], [p.error for p in points], s=12, color=GREY, alpha=0.5, label="evaluated")
    front = [point for point in found.front if math.isfinite(point.error)]
    axes.plot([p.ms for p in front], [p.error for p in front], color=COLORS[0], marker=".", label="front")
    timed = [point for point in points if point.measured_ms is not None]
    if timed:
        axes.scatter(
            [p.measured_ms for p in timed], [p.error for p in timed], marker="x", color=COLORS[1], label="measured"
        )
    axes.scatter(
        [found.chosen.time], [found.chosen.error], s=80, facecolors="none", edgecolors=COLORS[3], label="chosen"
    )
    if found.budget_ms is not None:
        axes.axvline(found.budget_ms, color=GREY, linestyle="--", linewidth=1, label="budget")
    axes.set_xlabel(f"milliseconds on {found.target}")
    axes.set_ylabel("relative error of the outputs")
    axes.legend(fontsize=8, frameon=False)
    neutral(axes, f"{Path(found.source).name or 'the model'}: error against time", grid="both")
    return Picture(figure, path)
