"""The bytes of the kernels of a compiled model: code, values and indices of each layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from tesa.choose.plan import LayerPlan, Plan
from tesa.report.numbers import dims, footprint, percent, size
from tesa.report.table import FittedTable

_COLUMNS = ("layer", "shape", "pattern", "sparsity", "kernel", "code", "values", "indices", "bytes")
_NUMBERS = ("sparsity", "code", "values", "indices", "bytes")
_OPTIONAL = ("pattern", "shape", "sparsity")


def bytes_view(plans: Mapping[str, Plan], library: int | None) -> Iterator[RenderableType]:
    """A row for each layer with a kernel, and all together. plans: by the model's size; library: bytes of the file."""
    for at, plan in plans.items():
        title = f"Kernels for {plan.target}" + (f"; {at}" if at and len(plans) > 1 else "")
        rows = [_row(layer) for layer in plan.layers if layer.kind == "sparse"]
        yield FittedTable(_COLUMNS, rows, title=title, right=_NUMBERS, optional=_OPTIONAL)
        yield Text(f"kernels: {footprint(plan.footprint)}")
    if library is not None:
        yield Text(f"the library: {size(library)}")


def bytes_json(plans: Mapping[str, Plan], library: int | None) -> dict[str, Any]:
    """The same as plain data; of a model of several sizes the layers of each."""
    found = {at: _one(plan) for at, plan in plans.items()}
    whole = {"library": library}
    if len(found) == 1:
        return {**next(iter(found.values())), **whole}
    return {"sizes": [{"size": at, **data} for at, data in found.items()], **whole}


def _one(plan: Plan) -> dict[str, Any]:
    rows = [
        {"layer": layer.layer, "symbol": layer.symbol, "kernel": layer.kernel, **asdict(layer.footprint),
         "bytes": layer.footprint.total}
        for layer in plan.layers if layer.kind == "sparse"
    ]  # fmt: skip
    total = {**asdict(plan.footprint), "bytes": plan.footprint.total}
    return {"target": plan.target, "threads": plan.threads, "layers": rows, "kernels": total}


def _row(layer: LayerPlan) -> tuple[str, ...]:
    parts = layer.footprint
    numbers = (parts.code, parts.values, parts.indices, parts.total)
    return (
        layer.layer, dims(layer.shape), layer.pattern, percent(layer.sparsity), layer.kernel, *map(size, numbers),
    )  # fmt: skip
