"""The tuning curve: how good the best kernel of a layer was after each measurement."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from tesa.errors import UsageError
from tesa.report.numbers import counted, ratio
from tesa.report.picture import Picture
from tesa.report.plots import new_figure
from tesa.report.style import COLORS, GREY, apart, neutral
from tesa.tune.status import Tuned, TunedLayer

_LAYERS = 12
"""Layers that are drawn: those that take the most time."""


def plot_tuned(tuned: Tuned, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw the best so far over the measurements of each layer: in milliseconds for one, else against the untuned.

    A step down is a faster kernel, the dashed line what an untuned compile would take. Measurements of earlier jobs in
    the log come first. UsageError if nothing was measured.
    """
    layers = [layer for layer in tuned.layers if any(time is not None for time in layer.curve)]
    if not layers:
        raise UsageError("there is no tuning curve to draw: no layer has a time")
    layers = sorted(layers, key=lambda layer: layer.layers * (layer.best_ms or 0.0), reverse=True)[:_LAYERS]
    single = len(layers) == 1
    figure = new_figure(7.2, 4.0)
    axes = figure.add_subplot()
    ends, right = [], max(len(layer.curve) for layer in layers)
    for number, layer in enumerate(layers):
        base = 1.0 if single else untuned(layer)
        counts, times = zip(*best_so_far(layer.curve), strict=True)
        times = tuple(time / base for time in times)
        color = COLORS[number % len(COLORS)]
        axes.step([*counts, right], [*times, times[-1]], where="post", color=color, linewidth=1.6)
        ends.append((f"{layer.name} {ratio(layer.gain)}", times[-1], color))
    axes.axhline(untuned(layers[0]) if single else 1.0, color=GREY, linewidth=1, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.set_xlim(1, max(right, 2))
    low, high = axes.get_ylim()
    places = apart([place for _, place, _ in ends], (high - low) / 20)
    for (name, end, color), place in zip(ends, places, strict=True):
        axes.annotate(
            name, (right, end), xytext=(right + 0.02 * max(right - 1, 1), place), color=color, fontsize=8, va="center",
            parse_math=False, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlabel("measurements of the layer")
    axes.set_ylabel("best time, ms" if single else "best time, share of the untuned one")
    left = len(tuned.layers) - len(layers)
    more = f", {counted(left, 'layer')} left out" if left else ""
    neutral(axes, f"Tuned for {tuned.target}, {counted(tuned.threads, 'thread')}{more}; dashed: untuned")
    return Picture(figure, path)


def untuned(layer: TunedLayer) -> float:
    """Milliseconds of a layer without tuning; of its first kernel that ran where the untuned one has no time."""
    return layer.default_ms or next(time for time in layer.curve if time is not None)


def best_so_far(curve: Sequence[float | None]) -> Iterator[tuple[int, float]]:
    """(number of the measurement from 1, least time until then), from the first that has a time.

    >>> list(best_so_far([None, 0.5, 0.7, 0.4]))
    [(2, 0.5), (3, 0.5), (4, 0.4)]
    """
    best: float | None = None
    for number, time in enumerate(curve, 1):
        if time is not None:
            best = time if best is None else min(best, time)
        if best is not None:
            yield number, best
