"""The picture of what propagation has found: sparsity and bits by layer, before and after."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesa.errors import UsageError
from tesa.report.picture import Picture
from tesa.report.plots import check_plot_path, new_figure
from tesa.report.propagation import Change, LayerChange, PropagationTable, propagation_table
from tesa.report.style import COLORS, neutral

if TYPE_CHECKING:
    from tesa.propagate import TesaModel

_BEFORE, _AFTER, _IN, _OUT, _FOLDED = COLORS[0], COLORS[1], COLORS[2], COLORS[3], COLORS[7]
_LABELS = 120  # with more layers than this, not every one is named
_WIDEST = 60.0  # inches


def plot_propagation(model: TesaModel | PropagationTable, path: str | os.PathLike[str] | None = None) -> Picture:
    """Draw two panels with all weight layers from left to right; path: where to write them (.png, .svg or .pdf).

    Above, the share of each weight that is zero before propagation (solid bar), after it (the bar behind) and after
    folding of constants (the next bar behind), with the share of the layer's input and output that is 0 or dead. Below,
    the bits of weights and inputs before and after. model: a TesaModel, or its propagation_table. Figures 16 and 17 of
    SparTA (Zheng et al., OSDI 2022) in one.

    Raises UsageError for a model without weights, for a path that cannot be written, and without matplotlib.
    """
    if path is not None:
        check_plot_path(path)
    table = model if isinstance(model, PropagationTable) else propagation_table(model)
    layers = [layer for layer in table.layers if layer.weight is not None]
    if not layers:
        raise UsageError("there is no layer to draw: the model has no convolution or matrix product with a constant")
    figure = new_figure(min(max(8.0, 1.5 + 0.17 * len(layers)), _WIDEST), 6.5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_sparsity(upper, layers)
    _draw_bits(lower, layers)
    step = -(-len(layers) // _LABELS)
    places = range(0, len(layers), step)
    lower.set_xticks(places, [layers[i].layer for i in places], rotation=90, parse_math=False)
    for axes, title in ((upper, f"{Path(table.source).name}: before and after propagation"), (lower, "")):
        axes.margins(x=0.01)
        _legend(axes)
        neutral(axes, title, pad=24)
    lower.tick_params(axis="x", labelsize=7)
    return Picture(figure, path)


def _draw_sparsity(axes: Any, layers: list[LayerChange]) -> None:
    places = range(len(layers))
    zeros = [_given(layer.zeros) for layer in layers]
    folded = [100 * (layer.folded or 0.0) for layer in layers]
    bars = (
        (folded, _FOLDED, "weight, constants folded"),
        ([100 * c.after for c in zeros], _AFTER, "weight, after"),
        ([100 * c.before for c in zeros], _BEFORE, "weight, before"),
    )
    for heights, color, label in bars:  # the tallest first, so that the others stand before it
        axes.bar(places, heights, width=0.85, color=color, label=label)
    for changes, color, marker, label in (
        ([_given(layer.input) for layer in layers], _IN, "<", "input, after"),
        ([layer.output for layer in layers], _OUT, ">", "output, after"),
    ):
        axes.plot(
            places, [100 * c.after for c in changes], marker, color=color, markersize=3.5, clip_on=False, label=label
        )
    axes.set_ylim(0, 104)
    axes.set_ylabel("zero or dead, % of elements")


def _draw_bits(axes: Any, layers: list[LayerChange]) -> None:
    places = range(len(layers))
    weights, inputs = [_given(layer.weight_bits) for layer in layers], [_given(layer.input_bits) for layer in layers]
    axes.bar(places, [c.before for c in weights], width=0.85, color=_BEFORE, alpha=0.45, label="weight, before")
    axes.bar(places, [c.after for c in weights], width=0.85, color=_AFTER, alpha=0.9, label="weight, after")
    hollow = {"color": _IN, "markersize": 5, "fillstyle": "none"}
    axes.plot(places, [c.before for c in inputs], "<", label="input, before", **hollow)
    axes.plot(places, [c.after for c in inputs], "<", color=_IN, markersize=3.5, label="input, after")
    axes.set_ylim(0, 4 * (max(c.before for c in (*weights, *inputs)) // 4 + 1))
    axes.set_ylabel("bits of the widest element")
    axes.set_xlabel("layer, in running order")


def _given(change: Change | None) -> Change:
    return change or Change(0, 0)


def _legend(axes: Any) -> None:
    """In one line above the axes."""
    look = {"fontsize": 8, "ncols": 5, "columnspacing": 1.0, "frameon": False, "borderaxespad": 0.2}
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), **look)
