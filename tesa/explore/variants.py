"""The weights that a layer has under each choice, and whole models put together from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed, kept
from tesa.base.progress import Event, Progress, silent
from tesa.compress.layers import Layer, find_layers
from tesa.compress.opened import opened
from tesa.compress.prune import prune
from tesa.compress.quantize.calibrated import Calibrated
from tesa.compress.quantize.settings import FLOAT, Settings
from tesa.compress.rules import impossible
from tesa.compress.samples import Samples
from tesa.compress.tensors import Tensors
from tesa.errors import UsageError
from tesa.explore.choices import Choice, Config
from tesa.explore.refit import LARGEST, Inputs, Moments, bias_shift, refit, repairable

Array = NDArray[Any]

EXPLORED = ("conv", "linear", "depthwise")
STAYS = Imposed.parse("0:unstructured")
"""Of a layer that stays dense between others that do not: it is solved for, too, on all of its weights."""


@dataclass(frozen=True)
class _Variant:
    """A layer's weight in the shape of its tensor, and what its bias gets in addition, None for nothing."""

    weight: Array
    shift: Array | None


class Variants:
    """A model's layers and, made once each and kept, what they become under every choice.

    layers: those that may be explored, in the model's order, by name. others: the rest, with reasons.
    """

    def __init__(self, model: Any, samples: Samples, *, repair: bool = True, progress: Progress = silent) -> None:
        self.work, self.samples = opened(model), samples
        if self.work.view is not self.work.proto:
            self.work = opened(self.work.view)
        self.source = self.work.source if not isinstance(model, str) else str(model)
        found = find_layers(self.work.view.graph, self.work.tensors)
        chosen = [layer for layer in found.layers if layer.op in EXPLORED and layer.codes is None]
        self.layers: dict[str, Layer] = {layer.name: layer for layer in chosen}
        self.others = [*found.others] + [
            (layer.name, f"{layer.op} layers are not explored")
            for layer in found.layers
            if layer.name not in self.layers
        ]
        if not self.layers:
            raise UsageError(f"{self.source}: there is no convolution and no matrix product with a float32 weight")
        self.inputs = self._moments(progress) if repair else {}
        self._made: dict[tuple[str, Choice], _Variant] = {}
        self._biases = {name: _bias_of(self.work, layer) for name, layer in self.layers.items()}
        self._codes: Calibrated | None = None

    def weight(self, name: str) -> Array:
        """(m, k): the dense weight of a layer."""
        return self.layers[name].numbers(self.work.tensors)

    def feasible(self, name: str, choice: Choice) -> bool:
        """True where a layer can have a pattern. Channels are those of the layer before depthwise filters."""
        if choice.imposed is None:
            return True
        layer = self.layers[name]
        return not impossible(choice.imposed, layer) and not (choice.channels and layer.op == "depthwise")

    def assembled(self, config: Config) -> Any:
        """The model (a new ModelProto) with every layer as the configuration has it."""
        proto = type(self.work.proto)()
        proto.CopyFrom(self.work.proto)
        tensors = Tensors(proto, self.source)
        for name, choice in config.items():
            if choice.imposed is None:
                continue
            layer, made = self.layers[name], self._variant(name, choice)
            tensors.set(layer.tensor, made.weight)
            if made.shift is not None:
                _add_bias(proto, tensors, layer, self._biases[name], made.shift)
        bits = {self.layers[name].tensor: choice.bits for name, choice in config.items() if choice.bits != FLOAT}
        return self._quantized(proto, bits) if bits else proto

    def whole(self, config: Config) -> Any:
        """The model with every layer as the configuration has it, repaired layer after layer where there are several.

        Each is repaired on the inputs that it has behind those that were pruned before it, which the variants are not,
        as they are made each for itself (on digits, all layers at 70 %: an error of 0.12 in place of 0.53); what stays
        dense among them is repaired as well. See tesa.compress.prune.
        """
        pruned = [name for name, choice in config.items() if choice.imposed is not None]
        if not self.inputs or (len(pruned) < 2 and self.inputs.keys() >= set(pruned)):
            return self.assembled(config)
        data = {
            name: np.concatenate([np.atleast_1d(feed[name]) for feed in self.samples.feeds])
            for name in self.samples.feeds[0]
        }
        rules = {name: config[name].imposed or STAYS if name in config else None for name in self.layers}
        made = prune(self.work.proto, "unstructured", 0.0, data=data, layers=rules, ends=True).proto
        bits = {self.layers[name].tensor: choice.bits for name, choice in config.items() if choice.bits != FLOAT}
        return self._quantized(made, bits) if bits else made

    def _quantized(self, proto: Any, bits: Mapping[str, int]) -> Any:
        if self._codes is None:
            self._codes = Calibrated(self.source, self.work.proto, self.samples, Settings(method="minmax"))
        by_layer = {row.name: bits.get(row.weight, FLOAT) for row in self._codes.layers}
        return self._codes.written(by_layer, proto)

    def _variant(self, name: str, choice: Choice) -> _Variant:
        plain = Choice(choice.imposed)
        if (name, plain) not in self._made:
            self._made[name, plain] = self._make(name, plain)
        return self._made[name, plain]

    def _make(self, name: str, choice: Choice) -> _Variant:
        assert choice.imposed is not None
        layer, weight = self.layers[name], self.weight(name)
        inputs = self.inputs.get(name)
        mask = np.asarray(kept(self._score(weight, inputs), choice.imposed))
        shift = None
        if inputs is None:
            made = np.where(mask, weight, np.float32(0))
        else:
            full = weight.astype(np.float64)
            made = refit(full, mask, inputs) if layer.k <= LARGEST else np.where(mask, full, 0.0)
            shift = bias_shift(full, made, inputs).astype(np.float32)
        made = np.where(mask, made, 0.0).astype(np.float32)
        return _Variant(np.ascontiguousarray(layer.stored(made)).astype(np.float32), shift)

    @staticmethod
    def _score(weight: Array, inputs: Inputs | None) -> Array:
        """Magnitudes, times the size of the input where that is known (Wanda: Sun et al., 2023)."""
        if inputs is None:
            return np.abs(weight)
        sizes = np.sqrt(np.maximum(np.diag(inputs.moments), 1e-20))
        score: Array = (np.abs(weight) * sizes).astype(np.float32)
        return score

    def _moments(self, progress: Progress) -> dict[str, Inputs]:
        """The inputs of each layer in the dense network, as moments."""
        wanted = {name: layer for name, layer in self.layers.items() if repairable(layer) and layer.k <= 4 * LARGEST}
        sums = {name: Moments(layer, len(self.samples.feeds)) for name, layer in wanted.items()}
        read = list(dict.fromkeys(layer.input for layer in wanted.values()))
        graph_inputs = set(self.samples.feeds[0])
        inner = [tensor for tensor in read if tensor not in graph_inputs]
        found = self.samples.each(self.work.proto, inner, name=self.source) if inner else iter(({},) * 10**9)
        for place, feed in enumerate(self.samples.feeds):
            progress(Event("inputs", place, len(self.samples.feeds)))
            arrays: dict[str, Array] = {**feed, **next(found)}
            for name, layer in wanted.items():
                sums[name].add(arrays[layer.input])
        return {name: moments.result() for name, moments in sums.items()}


@dataclass(frozen=True)
class _Bias:
    """The place of a layer's bias: a tensor of its own ("" for none yet), and which input of which node."""

    tensor: str
    node: int
    slot: int


def _bias_of(work: Any, layer: Layer) -> _Bias | None:
    """The bias that may be changed: the third input of the node, or of a product the sum behind it."""
    graph = work.proto.graph
    if layer.at < 0:
        return None
    if layer.node.op_type in ("Conv", "Gemm"):
        name = layer.node.input[2] if len(layer.node.input) > 2 else ""
        if layer.node.op_type == "Gemm" and any(a.name in ("alpha", "beta") and a.f != 1 for a in layer.node.attribute):
            return None
        array = work.tensors.get(name) if name else None
        if name and (array is None or array.size != layer.rows):
            return None
        return _Bias(name, layer.at, 2)
    readers = [(i, n) for i, n in enumerate(graph.node) if layer.node.output[0] in n.input]
    if len(readers) != 1 or readers[0][1].op_type != "Add":
        return None
    place, node = readers[0]
    slot = 1 - list(node.input).index(layer.node.output[0])
    array = work.tensors.get(node.input[slot])
    return None if array is None or array.shape != (layer.rows,) else _Bias(node.input[slot], place, slot)


def _add_bias(proto: Any, tensors: Tensors, layer: Layer, bias: _Bias | None, shift: Array) -> None:
    """Add to a layer's bias, in a tensor of its own: several layers may share one."""
    if bias is None:
        return
    old = tensors.get(bias.tensor) if bias.tensor else None
    made = shift if old is None else (old + shift.reshape(old.shape)).astype(old.dtype)
    name = tensors.add(f"{layer.name}.bias", made)
    node = proto.graph.node[bias.node]
    while len(node.input) <= bias.slot:
        node.input.append("")
    node.input[bias.slot] = name


def names_of(variants: Variants, wanted: Sequence[str] | None) -> list[str]:
    """The names of the layers to explore: all, or those that fit a name or pattern of names. UsageError for none."""
    from fnmatch import fnmatchcase

    names = list(variants.layers)
    if not wanted:
        return names
    found = [name for name in names if any(name == w or fnmatchcase(name, w) for w in wanted)]
    for text in wanted:
        if not any(name == text or fnmatchcase(name, text) for name in names):
            from tesa.frontend.names import did_you_mean

            raise UsageError(f"no layer that can be explored is called {text!r}. {did_you_mean(text, names)}".strip())
    return found
