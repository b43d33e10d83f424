"""The predicted cost of a model as a table: each time with the range it lies in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from tesa.report.numbers import NOTHING, dims, milliseconds, percent, ratio
from tesa.report.table import FittedTable

if TYPE_CHECKING:
    from tesa.analyze.analysis import AnalysedLayer, Analysis
    from tesa.analyze.breakeven import BreakEven
    from tesa.costs.prediction import Prediction

_COLUMNS = ("layer", "op", "m x k x n", "pattern", "sparsity", "dense ms", "sparse ms", "family", "saved ms", "gain",
            "pays from")  # fmt: skip
_NUMBERS = ("sparsity", "dense ms", "sparse ms", "saved ms", "gain", "pays from")
_OPTIONAL = ("op", "family", "saved ms", "m x k x n", "pattern")  # the first goes first where a terminal is narrow


def analysis_view(analysis: Analysis) -> Iterator[RenderableType]:
    """The cost table in use, a row per layer, and the sums."""
    threads = f"{analysis.threads} thread{'s' if analysis.threads > 1 else ''}"
    yield Text(f"{Path(analysis.source).name}: predicted for {analysis.target}, {threads}", style="bold")
    yield FittedTable(_COLUMNS, [_row(layer) for layer in analysis.layers], right=_NUMBERS, optional=_OPTIONAL)
    yield Text(
        "ranges hold four of five real times; ~ is a bare estimate; pays from: the least sparsity of the pattern that "
        "is faster than dense",
        style="dim",
    )
    yield Text("decompositions of a weight into several kernels, which may be faster still, are not tried", style="dim")
    yield Text(_total(analysis))
    if analysis.gpu:
        yield Text(
            f"by the static model of time, which knows a nominal {analysis.target} from data sheets: good to compare "
            "layers; where the GPU is, measure with: tesa tune",
            style="yellow",
        )
    elif analysis.table:
        yield Text(f"by the cost table of {analysis.table}")
    else:
        yield Text(
            f"no cost table fits {analysis.target} with {threads}: these are bare estimates of a nominal core, good to "
            "compare layers and no more; make a table on the device with: tesa calibrate"
            + (f" --threads {analysis.threads}" if analysis.threads > 1 else ""),
            style="yellow",
        )
    yield from (Text(note) for note in analysis.notes)


def _row(layer: AnalysedLayer) -> tuple[str, ...]:
    sparse = "gone" if layer.sparse is None else _time(layer.sparse)
    return (
        layer.layer,
        layer.op,
        dims(layer.shape),
        layer.pattern,
        percent(layer.sparsity),
        _time(layer.dense),
        sparse,
        layer.sparse_form or NOTHING,
        _saved(layer),
        gain(layer.gain, layer.gain_range),
        pays_from(layer.break_even),
    )


def _saved(layer: AnalysedLayer) -> str:
    """The time that the zeros save, with its range; nothing where they change nothing."""
    if layer.same:
        return "0"
    low, high = layer.saved_range_ms
    return f"{milliseconds(layer.saved_ms)} ({milliseconds(low)} - {milliseconds(high)})"


def gain(found: float | None, limits: tuple[float, float] | None) -> str:
    """A speed-up with the range it lies in; the bare number where both ends are the same.

    >>> gain(2.0, (1.5, 3.0)), gain(1.0, (1.0, 1.0))
    ('2.00x (1.50x - 3.00x)', '1.00x')
    """
    if limits is None or limits[0] == limits[1]:
        return ratio(found)
    return f"{ratio(found)} ({ratio(limits[0])} - {ratio(limits[1])})"


def _time(prediction: Prediction) -> str:
    mark = "~" if prediction.source == "estimate" else ""
    low, high = milliseconds(prediction.low_ms), milliseconds(prediction.high_ms)
    return f"{mark}{milliseconds(prediction.ms)} ({low} - {high})"


def pays_from(found: BreakEven | None) -> str:
    """The share of zeros from which on a layer is faster, with the range it lies in."""
    if found is None or found.sparsity is None:
        return "never"
    low, high = found.least if found.low is None else found.low, found.high
    if high == found.sparsity == found.least:
        return _share(high, found.least)  # whatever is tried
    ends = (_share(low, found.least), "never" if high is None else _share(high, found.least))
    return f"{_share(found.sparsity, found.least)} ({' - '.join(ends)})"


def _share(value: float, least: float) -> str:
    """A share as a percentage; the smallest that was tried stands for all below it."""
    return f"{'<= ' if value <= least else ''}{100 * value:.0f} %"


def _total(analysis: Analysis) -> str:
    dense, sparse = (
        f"{milliseconds(mean)} ms ({milliseconds(low)} - {milliseconds(high)})"
        for mean, low, high in (analysis.dense_ms, analysis.sparse_ms)
    )
    (mean, low, high), (less, least, most) = analysis.dense_ms, analysis.sparse_ms
    better = gain(mean / less, (low / most, high / least)) if less else NOTHING
    count = len(analysis.layers)
    return f"all {count} weight layers: dense {dense}, sparse {sparse}, gain {better}; other operators apart"
