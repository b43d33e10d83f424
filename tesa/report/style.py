"""The style that all pictures share, and where labels stand that must not overlap."""

from collections.abc import Sequence
from typing import Any

GREY = "#808080"
"""What is written and drawn around the data: readable on white and on black, since no picture has a background."""

COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf")
"""Of lines and bars, in their order."""


def neutral(axes: Any, title: str, *, grid: str = "y", pad: float | None = None) -> None:
    """Give axes the style of all pictures: no background, grey text, a title. grid: "x", "y", "both".

    pad: points between the axes and the title, where a legend stands between them.
    """
    axes.figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.tick_params(colors=GREY, labelsize=8)
    axes.grid(axis=grid, color=GREY, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_color(GREY)
        spine.set_visible(side in ("left", "bottom"))
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(GREY)
        label.set_fontsize(9)
    axes.set_title(title, fontsize=10, color=GREY, loc="left", parse_math=False, pad=pad)
    legend = axes.get_legend()
    for text in legend.get_texts() if legend is not None else ():
        text.set_color(GREY)


def apart(places: Sequence[float], least: float) -> list[float]:
    """The places nearest to some that keep a distance, in the same order: for labels that must not overlap.

    Places that are too near are spread around their mean, groups that meet are joined (the method of pooled
    neighbours, Ayer et al., 1955).

    >>> apart([1.0, 1.1, 5.0], 1.0)
    [0.55, 1.55, 5.0]
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[tuple[float, int]] = []  # the mean of where they want to begin, and how many
    for position, index in enumerate(order):
        mean, count = places[index] - position * least, 1
        while groups and groups[-1][0] > mean:
            other, number = groups.pop()
            mean, count = (mean * count + other * number) / (count + number), count + number
        groups.append((mean, count))
    starts = [mean for mean, count in groups for _ in range(count)]
    found = [0.0] * len(places)
    for position, index in enumerate(order):
        found[index] = starts[position] + position * least
    return [round(value, 9) for value in found]
