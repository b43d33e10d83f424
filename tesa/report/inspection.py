"""What a model is made of, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from tesa.report.numbers import NOTHING, dims, percent, size
from tesa.report.table import table

if TYPE_CHECKING:
    from tesa.inspect import Inspection

_COLUMNS = ("layer", "op", "weight", "output", "sparsity", "pattern", "bits", "bytes", "note")
_NUMBERS = ("sparsity", "bits", "bytes")
