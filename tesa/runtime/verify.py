"""Compares a compiled model with its source, output by output and, on request, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tesa.errors import UsageError
from tesa.plan import LayerPlan
from tesa.runtime.bench import random_feeds
from tesa.runtime.model import Array, Model
from tesa.runtime.peers import reference_outputs
from tesa.runtime.trace import trace


@dataclass(frozen=True)
class Comparison:
    """Largest absolute and relative difference of one tensor. ok: |got - expected| <= atol + rtol * |expected|."""

    name: str
    max_abs: float
    max_rel: float
    ok: bool


@dataclass(frozen=True)
class VerifyResult:
    """All comparisons of a run."""

    outputs: tuple[Comparison, ...]
    layers: tuple[Comparison, ...] = ()

    @property
    def ok(self) -> bool:
        """True where every tensor agrees."""
        return all(item.ok for item in (*self.outputs, *self.layers))

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, ready for json.dump."""
        return {"ok": self.ok, **asdict(self)}


def verify(
    model: Model,
    ref_onnx: str | Path,
    *,
    per_layer: bool = False,
    atol: float = 1e-4,
    rtol: float = 1e-3,
    seed: int = 0,
    feeds: Mapping[str, Array] | None = None,
) -> VerifyResult:
    """Run the model and onnxruntime on the same inputs (random ones by default) and compare what comes out.

    per_layer also compares every weight layer with the tensor of the source model that it computes.
    Raises UsageError where the reference has other outputs than the model.
    """
    arrays = dict(feeds) if feeds is not None else random_feeds(model.inputs, seed)
    layers = [layer for layer in model.plan.layers if per_layer and layer.tensor]
    expected = reference_outputs(Path(ref_onnx), arrays, [layer.tensor for layer in layers])
    missing = [info.name for info in model.outputs if info.name not in expected]
    if missing:
        raise UsageError(f"{ref_onnx}: has no output {', '.join(missing)}; is it the model this was compiled from?")
    results = model(arrays)
    outputs = tuple(compare(name, got, expected[name], atol, rtol) for name, got in results.items())
    inner = _results(model, arrays, {layer.layer for layer in layers}) if layers else []
    compared = tuple(compare(layer.layer, got, expected[layer.tensor], atol, rtol) for layer, got in inner)
    return VerifyResult(outputs, compared)


def compare(name: str, got: Array, expected: Array, atol: float, rtol: float) -> Comparison:
    """Compare two arrays; a different shape or a NaN in one of them alone is never ok."""
    if got.shape != expected.shape:
        raise UsageError(f"{name}: shape {list(got.shape)} against {list(expected.shape)} of the reference")
    wide, reference = got.astype(np.float64), expected.astype(np.float64)
    difference = np.abs(wide - reference)
    scale = float(np.abs(reference).max(initial=0.0)) or 1.0
    ok = bool(np.allclose(wide, reference, rtol=rtol, atol=atol, equal_nan=True))
    largest = float(difference.max(initial=0.0))
    return Comparison(name, largest, largest / scale, ok)


def _results(model: Model, arrays: Mapping[str, Array], names: set[str]) -> list[tuple[LayerPlan, Array]]:
    """The results of the wanted layers in row-major layout, taken as each kernel returns."""

    def copy(tensor: Any) -> Array:
        return np.array(np.from_dlpack(tensor))

    (calls,) = trace(model, model.prepare(arrays), keep=lambda layer: copy if layer.layer in names else None)
    wanted = [(call.layer, call.result) for call in calls if call.layer is not None and call.layer.layer in names]
    return [(layer, np.ascontiguousarray(result.transpose(_back(layer.layout)))) for layer, result in wanted]


def _back(layout: tuple[int, ...]) -> tuple[int, ...]:
    """The transpose that undoes a layout."""
    return tuple(int(axis) for axis in np.argsort(layout))
