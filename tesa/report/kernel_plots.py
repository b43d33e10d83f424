"""Pictures of kernels: a mask, the forms of a weight, a sweep, some side by side, one under its roof."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.errors import UsageError
from tesa.kernels.comparison import KernelComparison
from tesa.kernels.compiled import Kernel
from tesa.kernels.forms import Forms
from tesa.kernels.roofline import Roofline
from tesa.kernels.sweep import Sweep
from tesa.report.kernels import form_name, problem_words
from tesa.report.numbers import dims, milliseconds, percent
from tesa.report.picture import Picture
from tesa.report.plots import density, new_figure
from tesa.report.style import COLORS, GREY, apart, neutral

Path = str | os.PathLike[str] | None
_SIDE = 4.0  # inches of the longer side of a mask


def plot_mask(kernel: Kernel, path: Path = None) -> Picture:
    """The weight of a kernel, black where it is not zero; a pixel that covers several elements is grey."""
    weight = kernel.weight
    rows, columns = weight.shape
    scale = _SIDE / max(rows, columns)
    figure = new_figure(max(1.6, columns * scale) + 0.8, max(0.8, rows * scale) + 0.9)
    axes = figure.add_subplot()
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    axes.imshow(density(weight), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", extent=extent, aspect="equal")
    zeros = percent(1 - np.count_nonzero(weight) / weight.size)
    neutral(axes, f"{kernel.plan.pattern}, {zeros} zeros; black: not zero")
    axes.grid(visible=False)
    axes.set_xlabel(f"columns of W {dims(weight.shape)}")
    axes.set_ylabel("rows")
    return Picture(figure, path)


def plot_sweep(sweep: Sweep, path: Path = None) -> Picture:
    """Times as fast as dense against the share of zeros: a line for each pattern, named at its end, and break-evens."""
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    ends: list[tuple[str, float, str]] = []
    for color, pattern in zip(_colors(len(sweep.patterns)), sweep.patterns, strict=True):
        points = sweep.of(pattern)
        zeros, gains = [100 * point.sparsity for point in points], [point.speedup for point in points]
        axes.plot(zeros, gains, "o-", color=color, markersize=4, linewidth=1.6)
        ends.append((pattern, gains[-1], color))
        share = sweep.break_even(pattern)
        if share is not None and share > points[0].sparsity:
            axes.plot([100 * share], [1.0], "D", color=color, markersize=6, fillstyle="none")
    axes.axhline(1.0, color=GREY, linewidth=1, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.04)
    right = max(100 * point.sparsity for point in sweep)
    low, high = axes.get_ylim()
    places = apart([gain for _, gain, _ in ends], (high - low) / 22)
    for (pattern, gain, color), place in zip(ends, places, strict=True):
        last = 100 * sweep.of(pattern)[-1].sparsity
        axes.annotate(
            pattern, (last, gain), xytext=(right + 2.0, place), color=color, fontsize=8, va="center", parse_math=False,
            annotation_clip=False, arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.5, "alpha": 0.6},
        )  # fmt: skip
    axes.set_xlabel("zeros, %; a diamond: the break-even")
    axes.set_ylabel("times as fast as dense")
    neutral(axes, f"{problem_words(sweep.problem)}, {sweep.target}")
    return Picture(figure, path)


def plot_forms(found: Forms, path: Path = None) -> Picture:
    """A bar for each family that applies, the fastest above: its best configuration; grey is what keeps the zeros.

    Measured times where there are some, else estimates. UsageError where no family applies.
    """
    measured = any(form.measured_ms is not None for form in found)
    best: dict[str, tuple[float, bool]] = {}
    for form in found:
        time = form.measured_ms if measured else form.predicted_ms
        if time is not None and time < best.get(form_name(form), (float("inf"), False))[0]:
            best[form_name(form)] = (time, form.dense)
    if not best:
        raise UsageError("there is nothing to draw: no family that was asked for applies")
    rows = [(name, time, GREY if dense else COLORS[0]) for name, (time, dense) in best.items()]
    words = f"{problem_words(found.problem)}; {found.pattern}, {percent(found.sparsity)} zeros; {found.target}"
    source = "measured" if measured else "estimated"
    axis = f"ms of one call, {source}, the best configuration of each; grey: computes with the zeros"
    return _bars(sorted(rows, key=lambda row: row[1]), words, axis, path)


def plot_comparison(found: KernelComparison, path: Path = None) -> Picture:
    """A bar for each kernel, in the order in which they were given: its least time."""
    rows = [(row.kernel, row.timing.min_ms, COLORS[0]) for row in found]
    return _bars(rows, "kernels, timed in turn", "ms of one call, the least time", path)


def _bars(rows: Sequence[tuple[str, float, str]], title: str, axis: str, path: Path) -> Picture:
    """Horizontal bars of (name, ms, colour), the first above."""
    figure = new_figure(7.2, 1.2 + 0.3 * len(rows))
    axes = figure.add_subplot()
    places = range(len(rows))
    bars = axes.barh(places, [time for _, time, _ in rows], color=[color for *_, color in rows], height=0.7)
    axes.bar_label(bars, [milliseconds(time) for _, time, _ in rows], padding=3, fontsize=8, color=GREY)
    axes.set_yticks(places, [name for name, *_ in rows], parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(axis)
    neutral(axes, title, grid="x")
    return Picture(figure, path)


def plot_roofline(found: Roofline, path: Path = None) -> Picture:
    """The kernel as a point under the roof of its machine, useful operations against the bytes that are moved."""
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    top, slope = found.most, found.peak.gbytes * found.threads
    knee = top / slope
    left, right = min(knee, found.intensity) / 8, max(knee, found.intensity) * 8
    axes.plot([left, knee, right], [left * slope, top, top], color=GREY, linewidth=1.6)
    axes.plot([found.intensity], [found.gflops], "o", color=COLORS[0], label="non-zeros")
    dense = found.dense_flops / found.ms / 1e6
    axes.plot([found.intensity], [dense], "o", color=COLORS[1], fillstyle="none", label="zeros counted, too")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"operations for each byte moved, {found.operation}/B")
    axes.set_ylabel(found.unit)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    neutral(axes, f"{top:.3g} {found.unit}, {slope:.3g} GB/s; bound by {found.bound}", grid="both")
    return Picture(figure, path)


def _colors(count: int) -> list[Any]:
    return [COLORS[index % len(COLORS)] for index in range(count)]
