"""The layers, inputs and outputs of a model as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from tesa.attributes.denormals import told_of
from tesa.report.numbers import NOTHING, dims, percent, size
from tesa.report.table import FittedTable
from tesa.report.unruled import dropped_lines, unruled_lines

if TYPE_CHECKING:
    from tesa.analyze.inspection import InspectedLayer, Inspection

_COLUMNS = ("layer", "op", "weight", "output", "sparsity", "pattern", "bits", "bytes", "initializer", "note")
_NUMBERS = ("sparsity", "bits", "bytes")
# the first goes first where a terminal is narrow
_OPTIONAL = ("note", "initializer", "bits", "op", "output", "bytes", "weight")


def inspection_view(inspection: Inspection, plot: str | None = None) -> Iterator[RenderableType]:
    """Inputs and outputs, a row per layer, and what all weights come to together. plot: where they were drawn."""
    inputs, outputs = (
        ", ".join(f"{port.name} {port.dtype} {dims(port.shape)}" for port in ports)
        for ports in (inspection.inputs, inspection.outputs)
    )
    yield Text(f"{Path(inspection.source).name}: {inputs} -> {outputs}", style="bold")
    yield FittedTable(_COLUMNS, [_row(layer) for layer in inspection.layers], right=_NUMBERS, optional=_OPTIONAL)
    total = sum(weight.size for weight in inspection.weights.values())
    zeros = sum(int((weight == 0).sum()) for weight in inspection.weights.values())
    share = f", {percent(zeros / total)} of them zero" if total else ""
    if any(layer.initializer for layer in inspection.layers):
        yield Text("--mask takes the names of the layers, or those in the column initializer", style="dim")
    stored = sum(layer.bytes or 0 for layer in inspection.layers)
    yield Text(f"{len(inspection.weights)} weights with {total} elements{share}; {size(stored)} stored dense")
    small = [layer for layer in inspection.layers if layer.subnormal]
    if small:
        yield Text(_subnormal(small))
    yield from map(Text, unruled_lines(inspection.unruled, inspection.scrambled, inspection.notes))
    yield from map(Text, dropped_lines(inspection.dropped, inspection.unused))
    if plot is not None:
        yield Text(f"wrote {plot}")


def _subnormal(layers: Sequence[InspectedLayer]) -> str:
    names = ", ".join(layer.layer for layer in layers[:5]) + (f" and {len(layers) - 5} more" if layers[5:] else "")
    said = told_of(sum(layer.subnormal for layer in layers), sum(math.prod(layer.weight or ()) for layer in layers))
    return f"{said}: {names}; --flush-denormals takes them for zeros"


def _row(layer: InspectedLayer) -> tuple[str, ...]:
    return (
        layer.layer,
        layer.op,
        NOTHING if layer.weight is None else dims(layer.weight),
        dims(layer.output),
        percent(layer.sparsity),
        layer.pattern or NOTHING,
        NOTHING if layer.bits is None else str(layer.bits),
        size(layer.bytes),
        layer.initializer or NOTHING,
        layer.note,
    )
