"""Quantizes a model after training: ranges of activations from calibration data, codes for weights, QDQ out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tesa.base.display import Displayed
from tesa.base.keywords import helpful
from tesa.base.progress import Event, Progress, automatic, shows_progress, silent
from tesa.compact.saved import save
from tesa.compress.metric import Metric, read_metric
from tesa.compress.quantize.calibrated import Calibrated
from tesa.compress.quantize.layers import QuantLayer
from tesa.compress.quantize.mixed import Budget, mixed_bits
from tesa.compress.quantize.settings import FLOAT, Settings
from tesa.compress.quantize.write import Writer
from tesa.compress.samples import Data, Samples, relative_error
from tesa.errors import UsageError
from tesa.frontend.file import read_model

Array = NDArray[Any]


@dataclass(frozen=True)
class LayerBits:
    """A quantized layer. bits: of its weight, 32 where it stays real. zeros: the share of zeros, before and after.

    error: of the weight, the norm of what rounding changes by its own norm.
    """

    layer: str
    weight: str
    shape: tuple[int, ...]
    bits: int
    zeros_before: float
    zeros: float
    error: float


@dataclass(frozen=True, eq=False)
class Quantized(Displayed):
    """A quantized model. proto: as QDQ. layers: in its order. left: layers that stay float32, each with the reason.

    error: of the outputs on the calibration data, relative, see tesa.compress.samples.relative_error; None without
    data. score, dense_score: what the metric makes of both models, where there is one. bytes: of all weights that could
    be quantized, before and after.
    """

    proto: Any
    layers: tuple[LayerBits, ...]
    left: tuple[str, ...]
    error: float | None
    score: float | None
    dense_score: float | None
    bytes_before: int
    bytes: int

    def save(self, path: str | Path) -> None:
        """Write the quantized model as an ONNX file, whole or not at all."""
        copy = type(self.proto)()
        copy.CopyFrom(self.proto)
        save(copy, Path(path))


@helpful("quantize")
@shows_progress
def quantize(
    model: str | Path | Any,
    *,
    data: Data | None = None,
    settings: Settings | None = None,
    metric: str | Path | Metric | None = None,
    budget: Budget | None = None,
    limit: int | None = None,
    progress: Progress | None = automatic,
) -> Quantized:
    """Quantize an ONNX file or ModelProto. Weights that are 0 stay exactly 0, so that every sparsity pattern stays.

    data: inputs to calibrate on, an .npz or arrays by name; see tesa.compress.samples.Samples.of. settings: bits,
    methods, exceptions. metric: a file with a function metric(outputs, data), or the function. budget: with it the bits
    of each layer are chosen, as few as the budget allows, by how much each layer bears (settings.bits are then the
    fewest, and names with bits of their own keep them). limit: take only so many samples. progress:
    by default a bar in a terminal or notebook; None for silence.

    Raises errors of tesa.errors: data of another shape, NaN in it, no data where activations are quantized, a metric
    that raises, a budget that even the model in float32 misses.

    >>> from tesa.models import digits_images, digits_path
    >>> made = quantize(digits_path(), data={"image": digits_images()[:8]})
    >>> made.layers[1].bits, made.layers[2].zeros == made.layers[2].zeros_before, made.error < 0.1
    (8, True, True)
    """
    settings, progress = settings or Settings(), progress or silent
    source, given = read_model(model)
    if data is None and (settings.activations or budget is not None):
        raise UsageError(
            f"{source}: the ranges of activations are found on data: give some inputs (--data calib.npz), or quantize "
            "the weights alone (--weights-only)"
        )
    job = _Job(source, given, data, settings, read_metric(metric), limit, progress)
    bits = {layer.name: settings.bits_of(layer.name) for layer in job.layers}
    if budget is not None:
        fixed = [name for name in bits if replace(settings, bits=FLOAT).bits_of(name) != FLOAT]
        bits = mixed_bits(job.measure, job.weights_of, bits, fixed, budget, progress)
    proto = job.calibrated.written(bits)
    return job.result(proto, bits)


class _Job:
    """A model that is being quantized: read, calibrated once, written for any choice of bits."""

    def __init__(
        self, source: str, given: Any, data: Data | None, settings: Settings, metric: Metric | None,
        limit: int | None, progress: Progress,
    ) -> None:  # fmt: skip
        self.source, self.settings, self.metric, self.progress = source, settings, metric, progress
        model = onnx.inliner.inline_local_functions(given) if given.functions else given
        extra = metric is not None
        self.samples = None if data is None else Samples.of(model, data, limit=limit, extra=extra)
        self.calibrated = Calibrated(source, model, self.samples, settings, progress)
        self.constants, self.layers = self.calibrated.constants, self.calibrated.layers
        self.wanted = None if self.samples is None else self.samples.run(model, name=source)
        self.dense_score = self.score_of(self.wanted)

    def score_of(self, outputs: Mapping[str, Array] | None) -> float | None:
        """The metric of outputs; None without one."""
        if self.metric is None or outputs is None or self.samples is None:
            return None
        return self.metric(outputs, self.samples.extra)

    def weights_of(self, name: str) -> int:
        """The number of weights of a layer."""
        return sum(self.constants[layer.weight].size for layer in self.layers if layer.name == name)

    def measure(self, bits: Mapping[str, int]) -> tuple[float, float | None, float | None]:
        """The error, the score and the score of the dense model for such bits of all layers."""
        assert self.samples is not None
        assert self.wanted is not None
        found = self.samples.run(self.calibrated.written(bits), name=f"{self.source}, quantized")
        return relative_error(found, self.wanted), self.score_of(found), self.dense_score

    def result(self, proto: Any, bits: Mapping[str, int]) -> Quantized:
        """The quantized model with what is to be told of it."""
        error = score = None
        if self.samples is not None and self.wanted is not None:
            self.progress(Event("check", 0, 1))
            found = self.samples.run(proto, name=f"{self.source}, quantized")
            error, score = relative_error(found, self.wanted), self.score_of(found)
            self.progress(Event("check", 1, 1))
        rows = tuple(self._row(layer, bits[layer.name]) for layer in self.layers)
        size = sum(self.constants[layer.weight].size for layer in self.layers)
        after = sum(row.bits * int(np.prod(row.shape)) for row in rows) // 8
        left = tuple(f"{row.layer}: stays float32, as asked" for row in rows if row.bits == FLOAT)
        return Quantized(proto, rows, left, error, score, self.dense_score, 4 * size, after)

    def _row(self, layer: QuantLayer, bits: int) -> LayerBits:
        weight = self.constants[layer.weight]
        found = weight
        if bits != FLOAT:
            writer = Writer(onnx.ModelProto(graph=self.calibrated.model.graph), self.constants, self.settings)
            found = writer.dequantized(layer, bits)
        norm = float(np.linalg.norm(weight))
        return LayerBits(
            layer.name, layer.weight, weight.shape, bits, float(np.mean(weight == 0)), float(np.mean(found == 0)),
            float(np.linalg.norm(found - weight)) / norm if norm else 0.0,
        )  # fmt: skip
