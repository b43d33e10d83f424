"""Compares a compiled model with its source, output by output and, on request, layer by layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tesa.base.onnxruntime import reference_outputs
from tesa.base.tolerance import STEPS, SUMS, Precision, Tolerance, has_numbers, tolerance_of
from tesa.choose.plan import LayerPlan
from tesa.errors import TesaError
from tesa.runtime.bench import random_feeds
from tesa.runtime.comparison import Comparison, VerifyResult, compare, compare_within
from tesa.runtime.inputs import Array
from tesa.runtime.model import Model, Prepared
from tesa.runtime.reference import read_reference
from tesa.runtime.stored import unpacked
from tesa.runtime.trace import trace

__all__ = ["Comparison", "VerifyResult", "compare", "verify"]


def verify(
    model: Model,
    ref_onnx: str | Path,
    *,
    per_layer: bool = False,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
    feeds: Mapping[str, Array] | None = None,
    masks: str | Path | Mapping[str, Any] | None = None,
) -> VerifyResult:
    """Run the model and onnxruntime on the same inputs (random ones by default) and compare what comes out.

    The tolerance follows from the numbers that the network computes with and from onnxruntime's own noise, see
    tesa.base.tolerance; where atol or rtol is given it is atol + rtol * |expected|, with 1e-4 or 1e-3 for the
    other.
    per_layer also compares every weight layer with the tensor of the source model that it computes, without the
    channels that were removed and those that no output depends on: compiling is free to change these. masks: those
    that the model was compiled with. Of a model of several sizes each is compared on random inputs, and one that is
    filled up where the model takes such. Raises UsageError where the reference is another model.
    """
    found = {
        label: _verify(one, draws, ref_onnx, masks, per_layer and not shorter, atol, rtol)
        for label, one, draws, shorter in _runs(model, feeds, seed)
    }
    outputs, layers = (
        tuple(replace(row, name=row.name + label) for label, one in found.items() for row in getattr(one, side))
        for side in ("outputs", "layers")
    )
    return VerifyResult(outputs, layers)


_Feeds = Mapping[str, Array]


def _runs(model: Model, feeds: _Feeds | None, seed: int) -> Iterator[tuple[str, Model, list[dict[str, Array]], bool]]:
    """The runs to compare: a label for the rows, the model at one size, inputs, and whether they are shorter."""
    if feeds is not None:
        prepared = model.prepare(feeds)
        yield (
            _label(prepared) if prepared.lengths else "",
            model.at(prepared.size),
            [dict(feeds)],
            bool(prepared.lengths),
        )
        return
    drawn = [(model.at(size), _drawn(model.at(size), seed)) for size in model.sizes]
    _, largest = max(drawn, key=lambda run: sum(array.size for array in run[1][0].values()))
    shorter = [_shorter(model, arrays) for arrays in largest]
    fits = model.prepare(shorter[0])
    for one, draws in drawn:
        yield _label(one.prepare(draws[0])) if len(drawn) > 1 or fits.lengths else "", one, draws, False
    if fits.lengths:
        yield _label(fits), model.at(fits.size), shorter, True


def _shorter(model: Model, arrays: _Feeds) -> dict[str, Array]:
    """The arrays without their last row along each dimension that the model fills up."""
    found = dict(arrays)
    for padding in model.manifest.padding:
        for name, axes in padding.inputs.items():
            for axis in axes:
                found[name] = found[name].take(range(max(found[name].shape[axis] - 1, 1)), axis)
    return found


def _label(prepared: Prepared) -> str:
    lengths = ", ".join(f"{dim}={length}" for dim, length in prepared.lengths.items())
    return f" [{lengths} filled up to {prepared.size}]" if lengths else f" [{prepared.size}]"


def _verify(
    model: Model, draws: list[dict[str, Array]], ref_onnx: str | Path, masks: Any, per_layer: bool,
    atol: float | None, rtol: float | None,
) -> VerifyResult:  # fmt: skip
    """verify for one size, on the first of some inputs for which there are numbers."""
    reference = read_reference(ref_onnx, model, masks)
    layers = [layer for layer in model.plan.layers if per_layer and layer.kind == "sparse"]
    made = {name for node in reference.graph.node for name in node.output}
    tensors = [layer.tensor for layer in layers if layer.tensor in made]
    given = None
    if atol is not None or rtol is not None:
        given = Tolerance(1e-4 if atol is None else atol, 1e-3 if rtol is None else rtol, why="as given")
    for arrays in draws:
        prepared = model.prepare(arrays)
        theirs = _Reference(reference, arrays, tensors, given, str(ref_onnx), _rounding(model))
        if all(has_numbers(theirs.expected[info.name]) for info in model.outputs):
            break
    results = model.collect(model.execute(prepared), prepared)
    outputs = tuple(_compare_output(name, got, theirs) for name, got in results.items())
    inner = _results(model, prepared, {layer.layer for layer in layers}) if layers else []
    return VerifyResult(outputs, tuple(_compare_live(layer, got, theirs) for layer, got in inner))


def _drawn(model: Model, seed: int) -> list[dict[str, Array]]:
    """Random inputs, and the same without their signs for networks that compute numbers of positive ones alone."""
    first = random_feeds(model.inputs, seed)
    positive = {name: np.abs(array) if array.dtype.kind in "fV" else array for name, array in first.items()}
    return [first, positive]


def _rounding(model: Model) -> str:
    """The coarsest type of the real weights and the sums of the model, "" if that is float32."""
    parts = [part for layer in model.plan.layers for part in layer.parts]
    kinds = {part.storage for part in parts if part.storage} | {SUMS for part in parts if part.arithmetic}
    return max(kinds, key=STEPS.__getitem__, default="")


class _Reference:
    """onnxruntime's numbers for these inputs, and the tolerance for each of them. given: the user's own."""

    def __init__(
        self, proto: Any, feeds: Mapping[str, Array], tensors: Sequence[str], given: Tolerance | None, name: str,
        rounding: str,
    ) -> None:  # fmt: skip
        from tesa.frontend.precision import exact_outputs, precision_of

        self.proto, self.feeds, self.tensors, self.given = proto, feeds, tensors, given
        own = precision_of(proto)
        self.precision: Precision = replace(own, half=max(own.half, rounding, key=lambda name: STEPS.get(name, 0.0)))
        try:
            self.expected = reference_outputs(proto, feeds, tensors, name=name)
        except TesaError:
            if not own.half:
                raise
            # it has no kernels for such numbers; float32 is nearer to what the file means than they would be
            self.expected = exact_outputs(proto, feeds, tensors, name=name)
            self.precision = replace(own, half=rounding)
        self._noise: Mapping[str, Array] | None = None

    def noise(self, tensor: str) -> Array:
        """The noise of onnxruntime: other runs of it. They run when the first tensor does not agree."""
        if self._noise is None:
            from tesa.frontend.precision import noise_of

            self._noise = noise_of(self.proto, self.feeds, self.expected, self.tensors, self.precision)
        return self._noise[tensor]

    def judge(
        self, name: str, got: Array, expected: Array, noise: Callable[[], Array], precision: Precision
    ) -> Comparison:
        """Compare by what the tensor's numbers are; where that is not enough, by the noise of its engine, too.

        noise: the part of it that belongs to the part of the tensor that got and expected are.
        """
        if self.given is not None:
            return compare_within(name, got, expected, self.given)
        tolerance = tolerance_of(expected, precision)
        found = compare_within(name, got, expected, tolerance)
        if found.ok:
            return found
        if tolerance.exact:  # an index is right or wrong, unless another run of onnxruntime has another one, too
            sure = noise() == 0
            again = compare_within(name, got[sure], expected[sure], tolerance)
            return replace(again, ties=int((~sure).sum()))
        return compare_within(name, got, expected, tolerance_of(expected, precision, noise()))


def _compare_output(name: str, got: Array, theirs: _Reference) -> Comparison:
    expected = theirs.expected[name]
    if not has_numbers(expected):
        why = "the reference computes NaN everywhere; give inputs that it computes numbers for with -i in.npz"
        return replace(compare_within(name, got, expected, Tolerance(0.0, 0.0)), ok=False, why=why)
    if got.dtype.name in STEPS:
        expected = expected.astype(got.dtype)
    return theirs.judge(name, got, expected, lambda: theirs.noise(name), theirs.precision.at(name))


def _compare_live(layer: LayerPlan, got: Array, theirs: _Reference) -> Comparison:
    """Compare the channels of a layer's result that some output of the model depends on, in row-major layout."""
    expected = theirs.expected.get(layer.tensor)
    if layer.calls > 1:
        return Comparison(layer.layer, 0.0, 0.0, True, why=f"it is computed {layer.calls} times, in a loop")
    if expected is None:
        why = "its result has no counterpart in the reference, as where a constant was moved behind it"
        return Comparison(layer.layer, 0.0, 0.0, True, why=why)
    left = _left(layer, expected)
    got = unpacked(got, layer, left.shape)
    if got.shape != left.shape:
        why = f"its result is {list(got.shape)}, {list(left.shape)} in the reference: channels were removed"
        return Comparison(layer.layer, 0.0, 0.0, True, why=why)
    axis = layer.axis
    live = np.setdiff1d(np.arange(got.shape[axis]), layer.dead)
    found = theirs.judge(
        layer.layer,
        got.take(live, axis),
        left.take(live, axis),
        lambda: _left(layer, theirs.noise(layer.tensor)).take(live, axis),
        theirs.precision,
    )
    return replace(found, dead=len(layer.dead), channels=got.shape[axis])


def _left(layer: LayerPlan, array: Array) -> Array:
    """The part of a tensor of the reference that a layer computes: without the channels that compiling has removed."""
    for axis, indices in enumerate(layer.kept):
        if indices and axis < array.ndim and max(indices) < array.shape[axis]:
            array = array.take(indices, axis)
    if layer.piece:
        axis, start, stop = layer.piece
        array = array.take(range(start, min(stop, array.shape[axis])), axis)
    return array


def _results(model: Model, prepared: list[Any], names: set[str]) -> list[tuple[LayerPlan, Array]]:
    """The results of the wanted layers as they are stored, taken as each kernel returns."""

    def keep(layer: LayerPlan, tensor: Any) -> Array | None:
        # operators of the layer that are no kernel of its own, a reshape behind it, have its name too
        return np.array(np.from_dlpack(tensor)) if layer.kind == "sparse" and layer.layer in names else None

    (calls,) = trace(model, prepared, keep=keep)
    found = [(call.layer, call.result) for call in calls if call.layer is not None and call.result is not None]
    first: dict[int, tuple[LayerPlan, Array]] = {}  # of a loop the first step
    for layer, result in found:
        first.setdefault(id(layer), (layer, result))
    return list(first.values())
