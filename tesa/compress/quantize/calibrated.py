"""A model whose activations were watched once, and which is then written with any bits of its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tesa.base.progress import Progress, silent
from tesa.compress.quantize.grids import Grid, Histogram, chosen_range
from tesa.compress.quantize.layers import QuantLayer, constants_of, quantizable
from tesa.compress.quantize.observe import observe, tied
from tesa.compress.quantize.settings import FLOAT, Settings
from tesa.compress.quantize.write import Writer, lifted
from tesa.compress.samples import Samples
from tesa.errors import UsageError


class Calibrated:
    """A model (ModelProto) with the ranges of its activations on samples; None where weights alone are quantized.

    layers: those that can be quantized. UsageError where there are none, or a name in the settings is none of theirs.
    """

    def __init__(
        self, source: str, model: Any, samples: Samples | None, settings: Settings, progress: Progress = silent
    ) -> None:  # fmt: skip
        self.model, self.settings = model, settings
        self.constants = constants_of(model.graph)
        self.layers = quantizable(model, self.constants)
        if not self.layers:
            raise UsageError(
                f"{source}: no convolution and no matrix product has a constant float32 weight: there is nothing to "
                "quantize (a model that is quantized already has codes in their place)"
            )
        settings.check_names([layer.name for layer in self.layers])
        self.groups: Mapping[str, str] = {}
        self.seen: Mapping[str, Histogram] = {}
        if settings.activations and samples is not None:
            self.groups = tied(model, [layer.x for layer in self.layers])
            floats = [name for name in self.groups if name not in self.constants]
            self.seen = observe(model, samples, floats, histograms=settings.method != "minmax", progress=progress)

    def written(self, bits: Mapping[str, int], model: Any = None) -> Any:
        """The model as QDQ with such bits of each layer. model: the same network with other weights."""
        model = lifted(self.model if model is None else model, self.settings, list(bits.values()))
        constants = constants_of(model.graph)
        layers = [layer for layer in quantizable(model, constants) if bits.get(layer.name, FLOAT) != FLOAT]
        writer = Writer(model, constants, self.settings)
        grids = self._grids(layers) if self.seen else {}
        for name, grid in grids.items():
            writer.activation(name, grid)
        for layer in layers:
            scales = writer.weight(layer, bits[layer.name])
            if layer.bias and layer.x in grids and scales.size:
                writer.bias(layer, scales, grids[layer.x])
        return writer.finish()

    def _grids(self, layers: Sequence[QuantLayer]) -> dict[str, Grid]:
        """The grid of each tensor that is to be codes: what the layers read, and what that is made of by moving."""
        wanted = {self.groups[layer.x] for layer in layers if layer.x in self.groups}
        ranges: dict[str, tuple[float, float]] = {}
        members = [name for name, root in self.groups.items() if root in wanted and name in self.seen]
        for name in members:
            low, high = chosen_range(self.seen[name], self.settings.method, self.settings.percentile)
            old = ranges.get(self.groups[name], (low, high))
            ranges[self.groups[name]] = min(low, old[0]), max(high, old[1])
        return {name: Grid.over(*ranges[self.groups[name]]) for name in members}
