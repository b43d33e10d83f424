"""Tables, pictures and plain data out of what the other parts found. Changes nothing and decides nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {"propagation_table": "tesa.report.propagation", "plot_propagation": "tesa.report.propagation_plot"}
__all__ = ["plot_propagation", "propagation_table"]

if TYPE_CHECKING:
    from tesa.report.propagation import propagation_table
    from tesa.report.propagation_plot import plot_propagation


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tesa.report' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
