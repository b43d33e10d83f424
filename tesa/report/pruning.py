"""The effect of pruning on each layer of a model, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from tesa.report.numbers import percent
from tesa.report.table import table

if TYPE_CHECKING:
    from tesa.compress import Pruned


def pruning_view(pruned: Pruned, path: str | None = None) -> Iterator[RenderableType]:
    """A row for each pruned layer, the layers that stay dense and why, and what a user has to know."""
    data = any(row.error is not None for row in pruned.layers)
    columns = ["layer", "m x k", "pattern", "zeros", "kept l1"]
    if data:
        columns += ["error of the mask", "error"]
    rows = []
    for row in pruned.layers:
        cells = [row.name, f"{row.shape[0]}x{row.shape[1]}", row.pattern, percent(row.sparsity), percent(row.kept)]
        if data:
            cells += [_error(row.error_masked), _error(row.error)]
        rows.append(tuple(cells))
    if rows:
        yield table(tuple(columns), rows, title="Pruned", right=tuple(columns[3:]))
    else:
        yield Text("nothing was pruned")
    yield from (Text(f"{row.name}: {row.note}") for row in pruned.layers if row.note)
    yield from (Text(f"stays dense: {name}: {why}") for name, why in pruned.left)
    yield Text(f"zeros in the pruned layers: {percent(pruned.sparsity)}; magnitude kept: {percent(pruned.kept)}")
    if pruned.output_error is not None:
        yield Text(f"outputs on the calibration data: off by {percent(pruned.output_error)} of the dense ones")
    if pruned.score is not None:
        yield Text(f"metric: {pruned.dense_score:.6g} dense, {pruned.score:.6g} pruned")
    if pruned.arranged is not None and pruned.arranged.gains:
        found = pruned.arranged
        yield Text(
            f"rearranged: {percent(found.gain)} more is kept, {percent(found.gap)} of the way to single elements"
            + (f"; put back in order at {', '.join(found.gathers)}" if found.gathers else "")
        )
    yield from (Text(f"note: {line}") for line in pruned.warnings)
    if path is not None:
        yield Text(f"wrote {path}")


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
