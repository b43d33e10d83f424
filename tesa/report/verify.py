"""What a verification compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType

from tesa.report.numbers import error
from tesa.report.table import table, verdict

if TYPE_CHECKING:
    from tesa.runtime import VerifyResult


def verify_view(result: VerifyResult) -> Iterator[RenderableType]:
    """A row per output, then one per layer where they were compared."""
    for heading, items in (("output", result.outputs), ("layer", result.layers)):
        if items:
            rows = [(item.name, error(item.max_abs), error(item.max_rel), verdict(item.ok)) for item in items]
            yield table((heading, "largest difference", "relative", ""), rows, right=("largest difference", "relative"))
