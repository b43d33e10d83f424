"""Compares a compiled model with its source, output by output and, on request, layer by layer."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tesa.base.compare import largest_difference, magnitude
from tesa.base.onnxruntime import reference_outputs
from tesa.choose.plan import LayerPlan
from tesa.errors import UsageError
from tesa.runtime.bench import random_feeds
from tesa.runtime.inputs import Array
from tesa.runtime.model import Model
from tesa.runtime.reference import read_reference
from tesa.runtime.stored import unpacked
from tesa.runtime.trace import trace


@dataclass(frozen=True)
class Comparison:
    """The difference of one tensor from the reference.

    max_abs: the largest |got - expected|, where equal infinities and two NaN differ by 0, and anything else that is
    not finite by infinity. max_rel: max_abs / largest finite |expected| of the whole tensor, not element by element.
    ok: |got - expected| <= atol + rtol * |expected| for every element. dead, channels, of a layer: how many output
    features were left out because they have elements that no output of the model depends on, and how many there are.
    why: the reason why nothing was compared, which is ok.
    """

    name: str
    max_abs: float
    max_rel: float
    ok: bool
    dead: int = 0
    channels: int = 0
    why: str = ""

    @property
    def compared(self) -> bool:
        """False where there was nothing to hold the tensor against."""
        return not self.why and not (self.dead and self.dead == self.channels)

    @property
    def note(self) -> str:
        """A sentence about what was left out, "" if nothing was."""
        if self.why:
            return f"not compared: {self.why}"
        if not self.dead:
            return ""
        if self.dead == self.channels:
            return f"not compared: all {self.channels} channels have dead elements"
        return f"{self.dead} of {self.channels} channels are dead, not compared"


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
        """Plain dicts and lists, ready for json.dump; an infinite difference is None, which JSON writes as null."""
        sides = {"outputs": self.outputs, "layers": self.layers}
        return {"ok": self.ok, **{side: [_row(item) for item in items] for side, items in sides.items()}}


def verify(
    model: Model,
    ref_onnx: str | Path,
    *,
    per_layer: bool = False,
    atol: float = 1e-4,
    rtol: float = 1e-3,
    seed: int = 0,
    feeds: Mapping[str, Array] | None = None,
    masks: str | Path | Mapping[str, Any] | None = None,
) -> VerifyResult:
    """Run the model and onnxruntime on the same inputs (random ones by default) and compare what comes out.

    per_layer also compares every weight layer with the tensor of the source model that it computes, without the
    channels that were removed and those that no output depends on: compiling is free to change these. masks: those
    that the model was compiled with. Raises UsageError where the reference is another model.
    """
    arrays = dict(feeds) if feeds is not None else random_feeds(model.inputs, seed)
    reference = read_reference(ref_onnx, model, masks)
    prepared = model.prepare(arrays)
    layers = [layer for layer in model.plan.layers if per_layer and layer.kind == "sparse"]
    made = {name for node in reference.graph.node for name in node.output}
    tensors = [layer.tensor for layer in layers if layer.tensor in made]
    expected = reference_outputs(reference, arrays, tensors, name=str(ref_onnx))
    results = model.collect(model.execute(prepared))
    outputs = tuple(compare(name, got, expected[name], atol, rtol) for name, got in results.items())
    inner = _results(model, prepared, {layer.layer for layer in layers}) if layers else []
    compared = tuple(_compare_live(layer, got, expected.get(layer.tensor), atol, rtol) for layer, got in inner)
    return VerifyResult(outputs, compared)


def compare(name: str, got: Array, expected: Array, atol: float, rtol: float) -> Comparison:
    """Compare two arrays; a NaN or an infinity in one of them alone is never ok.

    UsageError for another shape.

    >>> compare("y", np.array([1.0, np.inf]), np.array([1.5, np.inf]), 1e-4, 1e-3)
    Comparison(name='y', max_abs=0.5, max_rel=0.3333333333333333, ok=False, dead=0, channels=0, why='')
    """
    if got.shape != expected.shape:
        raise UsageError(f"{name}: shape {list(got.shape)} against {list(expected.shape)} of the reference")
    largest, scale = largest_difference(got, expected), magnitude(expected) or 1.0
    pair = got.astype(np.float64), expected.astype(np.float64)
    ok = bool(np.isclose(*pair, rtol=rtol, atol=atol, equal_nan=True).all())
    return Comparison(name, largest, largest / scale, ok)


def _compare_live(layer: LayerPlan, got: Array, expected: Array | None, atol: float, rtol: float) -> Comparison:
    """Compare the channels of a layer's result that some output of the model depends on, in row-major layout."""
    if expected is None:
        why = "its result has no counterpart in the reference, as where a constant was moved behind it"
        return Comparison(layer.layer, 0.0, 0.0, True, why=why)
    for axis, indices in enumerate(layer.kept):  # the channels that compiling did not remove
        if indices and axis < expected.ndim and max(indices) < expected.shape[axis]:
            expected = expected.take(indices, axis)
    got = unpacked(got, layer, expected.shape)
    if got.shape != expected.shape:
        why = f"its result is {list(got.shape)}, {list(expected.shape)} in the reference: channels were removed"
        return Comparison(layer.layer, 0.0, 0.0, True, why=why)
    axis = layer.axis
    live = np.setdiff1d(np.arange(got.shape[axis]), layer.dead)
    found = compare(layer.layer, got.take(live, axis), expected.take(live, axis), atol, rtol)
    return Comparison(found.name, found.max_abs, found.max_rel, found.ok, len(layer.dead), got.shape[axis])


def _row(item: Comparison) -> dict[str, Any]:
    row = asdict(item)
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def _results(model: Model, prepared: list[Any], names: set[str]) -> list[tuple[LayerPlan, Array]]:
    """The results of the wanted layers as they are stored, taken as each kernel returns."""

    def keep(layer: LayerPlan, tensor: Any) -> Array | None:
        return np.array(np.from_dlpack(tensor)) if layer.layer in names else None

    (calls,) = trace(model, prepared, keep=keep)
    return [(call.layer, call.result) for call in calls if call.layer is not None and call.layer.layer in names]
