"""A quantized model as a table: the bits of each layer, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from tesa.report.numbers import error as error_text
from tesa.report.numbers import percent
from tesa.report.table import table

if TYPE_CHECKING:
    from tesa.compress.quantize import Quantized


def quantization_view(made: Quantized, path: str | None = None) -> Iterator[RenderableType]:
    """A row for each layer, the bytes of all weights, and the error of the outputs on the data."""
    rows = [
        (
            row.layer, "x".join(map(str, row.shape)), "float32" if row.bits == 32 else str(row.bits),
            percent(row.zeros_before), percent(row.zeros), error_text(row.error),
        )
        for row in made.layers
    ]  # fmt: skip
    columns = ("layer", "weight", "bits", "zeros before", "zeros", "weight error")
    yield table(columns, rows, title="Quantized", right=columns[2:])
    yield Text(f"bytes of these weights: {made.bytes_before} -> {made.bytes}")
    if made.error is None:
        yield Text("outputs were not compared: there was no data")
    else:
        yield Text(f"outputs on the data: relative error {error_text(made.error)}")
    if made.score is not None and made.dense_score is not None:
        yield Text(f"metric: {made.dense_score:.4g} -> {made.score:.4g}")
    if path is not None:
        yield Text(f"wrote {path}")
