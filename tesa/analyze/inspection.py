"""Describes the layers of a model: their shapes, zeros, patterns, bits and bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tesa.attributes.attribute import FULL_BITS, Quantization, Values
from tesa.attributes.denormals import subnormals
from tesa.attributes.patterns import classify, weight_matrix
from tesa.base.display import Displayed, picture
from tesa.base.keywords import helpful
from tesa.frontend import ImportedModel, Port, import_onnx
from tesa.frontend.cells import parts_of
from tesa.propagate import TesaModel, WeightFacts, propagate
from tesa.propagate.network import Node


@dataclass(frozen=True)
class InspectedLayer:
    """One operator of the model file.

    op: "conv2d", "depthwise", "linear", or the operator's name in Relax. weight, output: shapes; a linear weight is
    (k, out). sparsity: the share of zeros in the weight, masks included; propagated: with all that propagation proves
    to be dead as well. pattern, bits (of a stored element) and bytes (stored dense) are the weight's; initializer: its
    name in the file, which a mask is given by; of a recurrent cell's layer that of both directions. All None without a
    weight, or for a weight that no initializer of the file holds. note: what else there is to know. subnormal: elements
    of the weight below 1.2e-38, but not 0.
    """

    layer: str
    op: str
    output: tuple[int, ...]
    weight: tuple[int, ...] | None = None
    sparsity: float | None = None
    propagated: float | None = None
    pattern: str | None = None
    bits: int | None = None
    bytes: int | None = None
    initializer: str | None = None
    note: str = ""
    subnormal: int = 0


@dataclass(frozen=True)
class Inspection(Displayed):
    """A model at a glance. weights: the weight of each layer that has one, as in its row.

    unruled, scrambled, notes: what became of operators without a propagation rule, see TesaModel. dropped, unused: what
    no output of the model depends on, see ImportedModel.
    """

    source: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    layers: tuple[InspectedLayer, ...]
    weights: Mapping[str, Values] = field(default_factory=dict, repr=False, compare=False)
    unruled: Mapping[str, str] = field(default_factory=dict)
    scrambled: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump; the weights' content is left out."""
        rows = [asdict(layer) for layer in self.layers]
        ports = {name: [asdict(p) for p in getattr(self, name)] for name in ("inputs", "outputs")}
        without = {name: dict(getattr(self, name)) for name in ("unruled", "scrambled", "notes")}
        left_out = {"dropped": list(self.dropped), "unused": list(self.unused)}
        return {"source": self.source, **ports, "layers": rows, **without, **left_out}

    def layer(self, name: str) -> InspectedLayer:
        """The layer of that name. KeyError if there is none."""
        return {layer.layer: layer for layer in self.layers}[name]

    def plot(self, path: str | Path | None = None) -> Any:
        """A picture of all weights to scale, black where they are not zero. path: where to write it (.png, .svg, .pdf).

        UsageError for a model without weights, and without matplotlib.
        """
        return picture(self, path=path)


@helpful("tesa.inspect_model")
def inspect_model(
    path: str | Path | Any,
    shapes: Mapping[str, Any] | None = None,
    masks: str | Path | Mapping[str, Any] | None = None,
    flush_denormals: bool = False,
) -> Inspection:
    """Import a model, propagate its facts and describe each layer, in running order. Errors as import_onnx.

    >>> from importlib.resources import files
    >>> layer = inspect_model(str(files("tesa.models") / "digits.onnx")).layer("block1.pointwise")
    >>> layer.op, layer.weight, layer.pattern
    ('conv2d', (64, 32, 1, 1), 'unstructured')
    """
    imported = import_onnx(path, shapes=shapes, masks=masks, flush_denormals=flush_denormals)
    model = propagate(imported)
    groups: dict[str, list[Node]] = {}
    for node in model.network.nodes:
        groups.setdefault(node.operator.layer, []).append(node)
    layers = tuple(_layer(name, nodes, model) for name, nodes in groups.items())
    weights = {facts.layer: facts.weight for facts in model.weights.values()}
    rest = (model.unruled, model.scrambled, model.notes, imported.dropped, imported.unused)
    return Inspection(imported.source, imported.inputs, imported.outputs, layers, weights, *rest)


def _layer(name: str, nodes: Sequence[Node], model: TesaModel) -> InspectedLayer:
    output = nodes[-1].operator.outputs[0]
    weighty = [model.weights[node.var] for node in nodes if node.var in model.weights]
    if not weighty:
        note = "no propagation rule" if name in model.unruled else "scrambled" if name in model.scrambled else ""
        return InspectedLayer(name, nodes[-1].operator.op.removeprefix("relax.").removeprefix("nn."), output, note=note)
    facts = weighty[0]
    stored = model.imported.quantization.get((facts.var, facts.argument))
    initializer = _initializer(facts, model.imported)
    # in the file; propagation may find that fewer do
    bits = stored.bits if stored is not None else 16 if initializer in model.imported.halves else FULL_BITS
    return InspectedLayer(
        name,
        _kind(facts, nodes),
        output,
        weight=facts.weight.shape,
        sparsity=facts.given_sparsity,
        propagated=facts.sparsity,
        pattern=str(classify(_matrix(facts))),
        bits=bits,
        bytes=-(-facts.weight.size * min(bits, facts.weight.dtype.itemsize * 8) // 8),
        initializer=initializer,
        note=_note(facts, stored, bits, model),
        subnormal=subnormals(facts.weight),
    )


def _kind(facts: WeightFacts, nodes: Sequence[Node]) -> str:
    if facts.op == "relax.matmul":
        return "linear"
    groups = next(int(n.operator.attrs["groups"]) for n in nodes if n.var == facts.var)
    depthwise = facts.op == "relax.nn.conv2d" and groups > 1 and facts.weight.shape[1] == 1
    return "depthwise" if depthwise else facts.op.removeprefix("relax.nn.")


def _matrix(facts: WeightFacts) -> Values:
    """The weight as (outputs, all else)."""
    if facts.op == "relax.matmul":
        return weight_matrix(facts.op, facts.weight)
    outputs = 1 if facts.op.endswith("_transpose") else 0
    moved = np.moveaxis(facts.weight, outputs, 0)
    return moved.reshape(moved.shape[0], -1)


def _initializer(facts: WeightFacts, imported: ImportedModel) -> str | None:
    place = (facts.var, facts.argument)
    found = next((n for n, uses in imported.weights.items() if place in [(u.var, u.argument) for u in uses]), None)
    parts = parts_of(imported.cells, facts.layer) if found is None else ()
    return parts[0].initializer if parts else found


def _is_masked(facts: WeightFacts, imported: ImportedModel) -> bool:
    """True if the user has masked the weight; of a layer of a recurrent cell, if its part of the mask prunes any."""
    for part in parts_of(imported.cells, facts.layer)[:1]:
        if part.initializer in imported.masks and not part.of(imported.masks[part.initializer]).all():
            return True
    return any(u.var == facts.var and name in imported.masks for name, uses in imported.weights.items() for u in uses)


def _note(facts: WeightFacts, stored: Quantization | None, bits: int, model: TesaModel) -> str:
    notes, imported = [], model.imported
    if _is_masked(facts, imported):
        notes.append("masked by the user")
    if count := subnormals(facts.weight):
        notes.append(f"{count:,} subnormal")
    if facts.sparsity > facts.given_sparsity:
        notes.append(f"{facts.sparsity:.1%} after propagation")
    enough = model.tesa[facts.tensor].bits.max(initial=0)
    if stored is not None:
        notes.append(f"stored as {stored}")
    if enough < bits:
        notes.append(f"{enough} bits are enough")
    return ", ".join(notes)
