"""What a model is made of: its layers with their shapes, zeros, patterns, bits and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tesa.attribute import FULL_BITS, TeSA, Values
from tesa.frontend import ImportedModel, Port, import_onnx
from tesa.pattern import classify, weight_matrix
from tesa.propagate import TesaModel, WeightFacts, propagate
from tesa.propagate.network import Node


@dataclass(frozen=True)
class InspectedLayer:
    """One operator of the model file.

    op: "conv2d", "depthwise", "linear", or the operator's name in Relax. weight, output: shapes; a linear weight is
    (k, out). sparsity: the share of zeros in the weight, masks included; propagated: with all that propagation proves
    to be dead as well. pattern, bits (of a stored element) and bytes (stored dense) are the weight's. All None without
    a weight. note: what else there is to know.
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
    note: str = ""


@dataclass(frozen=True)
class Inspection:
    """A model at a glance. weights: the weight of each layer that has one, as in its row. unruled: see TesaModel."""

    source: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    layers: tuple[InspectedLayer, ...]
    weights: Mapping[str, Values] = field(default_factory=dict, repr=False, compare=False)
    unruled: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump; the weights' content is left out."""
        rows = [asdict(layer) for layer in self.layers]
        ports = {name: [asdict(p) for p in getattr(self, name)] for name in ("inputs", "outputs")}
        return {"source": self.source, **ports, "layers": rows, "unruled": dict(self.unruled)}

    def layer(self, name: str) -> InspectedLayer:
        """The layer of that name. KeyError if there is none."""
        return {layer.layer: layer for layer in self.layers}[name]


def inspect_model(
    path: str | Path | Any,
    shapes: Mapping[str, Sequence[int]] | None = None,
    masks: str | Path | Mapping[str, Any] | None = None,
) -> Inspection:
    """Import a model, propagate its facts and describe each layer, in running order. Errors as import_onnx.

    >>> from importlib.resources import files
    >>> layer = inspect_model(str(files("tesa.models") / "digits.onnx")).layer("block1.pointwise")
    >>> layer.op, layer.weight, layer.pattern
    ('conv2d', (64, 32, 1, 1), 'unstructured')
    """
    imported = import_onnx(path, shapes=shapes, masks=masks)
    model = propagate(imported)
    groups: dict[str, list[Node]] = {}
    for node in model.network.nodes:
        groups.setdefault(node.operator.layer, []).append(node)
    layers = tuple(_layer(name, nodes, model) for name, nodes in groups.items())
    weights = {facts.layer: facts.weight for facts in model.weights.values()}
    return Inspection(imported.source, imported.inputs, imported.outputs, layers, weights, model.unruled)


def _layer(name: str, nodes: Sequence[Node], model: TesaModel) -> InspectedLayer:
    output = nodes[-1].operator.outputs[0]
    weighty = [model.weights[node.var] for node in nodes if node.var in model.weights]
    if not weighty:
        note = "no propagation rule" if name in model.unruled else ""
        return InspectedLayer(name, _main(nodes), output, note=note)
    facts = weighty[0]
    tesa = model.tesa[facts.tensor]
    return InspectedLayer(
        name,
        _kind(facts, nodes),
        output,
        weight=facts.weight.shape,
        sparsity=facts.given_sparsity,
        propagated=facts.sparsity,
        pattern=str(classify(weight_matrix(facts.op, facts.weight))),
        bits=int(tesa.bits.max(initial=0)) or FULL_BITS,
        bytes=_bytes(facts, tesa),
        note=_note(facts, tesa, model.imported),
    )


def _main(nodes: Sequence[Node]) -> str:
    return nodes[-1].operator.op.removeprefix("relax.").removeprefix("nn.")


def _kind(facts: WeightFacts, nodes: Sequence[Node]) -> str:
    if facts.op == "relax.matmul":
        return "linear"
    groups = next(int(n.operator.attrs["groups"]) for n in nodes if n.var == facts.var)
    return "depthwise" if groups > 1 and facts.weight.shape[1] == 1 else "conv2d"


def _bytes(facts: WeightFacts, tesa: TeSA) -> int:
    bits = int(tesa.bits.max(initial=0)) or FULL_BITS
    return -(-facts.weight.size * min(bits, facts.weight.dtype.itemsize * 8) // 8)


def _note(facts: WeightFacts, tesa: TeSA, imported: ImportedModel) -> str:
    notes = []
    if any(use.var == facts.var and name in imported.masks for name, uses in imported.weights.items() for use in uses):
        notes.append("masked by the user")
    if facts.sparsity > facts.given_sparsity:
        notes.append(f"{facts.sparsity:.1%} after propagation")
    if tesa.quantization is not None:
        notes.append(f"stored as {tesa.quantization}")
    return ", ".join(notes)
