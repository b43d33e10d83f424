"""Times of a model, of its peers and of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from tesa.report.numbers import NOTHING, footprint, milliseconds, percent, ratio, size
from tesa.report.operators import short_operator
from tesa.report.table import FittedTable, table

if TYPE_CHECKING:
    from tesa.runtime import BenchResult

_LAYERS = ("layer", "function", "median ms", "share", "code", "values", "indices")
_TIMES = ("median ms", "min ms", "p90 ms", "spread ms", "calls", "tesa is faster by")

PROFILE = 100
"""Columns that the times of the layers take at most."""

NOISY = 0.15
"""A spread of more than this share of the median is told."""


def bench_view(result: BenchResult, at: str = "") -> Iterator[RenderableType]:
    """A row for the model and each peer, then one per layer where they were timed, the slowest first.

    at: the size of the inputs, where there are several.
    """
    title = f"{at}; " if at else ""
    where = f" on {result.device}" if result.device else ""
    title += f"{result.threads} thread{'s' if result.threads != 1 else ''}{where}; spread is the inter-quartile range"
    rows = []
    for times in (result.model, *result.peers):
        gain = "" if times is result.model else ratio(times.median_ms / result.model.median_ms)
        numbers = (times.median_ms, times.min_ms, times.p90_ms, times.iqr_ms)
        rows.append((times.name, *map(milliseconds, numbers), str(times.calls), gain))
    columns = _TIMES if result.peers else _TIMES[:-1]
    yield table(("engine", *columns), [row[: len(columns) + 1] for row in rows], title=title, right=columns)
    if result.note:
        yield Text(result.note, style="yellow")
    for times in (result.model, *result.peers):
        if times.iqr_ms > NOISY * times.median_ms:
            share = percent(times.iqr_ms / times.median_ms)
            yield Text(
                f"noisy: the spread of {times.name} is {share} of its median, ratios mean little", style="yellow"
            )
    if result.kernels:
        library = f"; the library: {size(result.library)}" if result.library else ""
        yield Text(f"kernels: {footprint(result.footprint)}{library}")
    if result.layers:
        slowest = sorted(result.layers, key=lambda x: -x.median_ms)
        kernels = {(kernel.layer, kernel.symbol): kernel for kernel in result.kernels}
        layers = []
        for x in slowest:
            kernel = kernels.get((x.layer, x.symbol))
            parts = [NOTHING] * 3 if kernel is None else map(size, (kernel.code, kernel.values, kernel.indices))
            name = short_operator(x.symbol, x.layer)
            layers.append((x.layer, name, milliseconds(x.median_ms), percent(x.share), *parts))
        yield ""
        yield FittedTable(
            _LAYERS, layers, right=_LAYERS[2:], optional=("indices", "values", "code", "function"), most=PROFILE
        )
