"""The findings of propagation, layer by layer: sparsity and bits before and after.

The table and the picture of SparTA (Zheng et al., OSDI 2022), figures 16 and 17, for any model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from tesa.attributes.attribute import FULL_BITS, share
from tesa.report.html import page_part
from tesa.report.numbers import NOTHING, dims, percent
from tesa.report.plain import plain
from tesa.report.table import FittedTable
from tesa.report.unruled import dropped_lines, unruled_lines
from tesa.report.written import written

if TYPE_CHECKING:
    from tesa.propagate import TesaModel, WeightFacts
    from tesa.propagate.bits.layer_bits import LayerBits
    from tesa.propagate.network import Node

_COLUMNS = (
    "layer", "op", "weight", "zero before", "after", "folded", "input gone", "output gone", "constant", "bits",
    "bits after",
)  # fmt: skip
_OPTIONAL = ("op", "constant", "weight", "bits after", "bits", "output gone", "folded")


@dataclass(frozen=True)
class Change:
    """A quantity before and after propagation."""

    before: float
    after: float


@dataclass(frozen=True)
class LayerChange:
    """The changes that propagation made at one layer.

    weight: the shape; zeros: the share of the weight that is zero, and with what is dead as well; folded: with the
    columns, too, whose input is a constant that moves into the bias. All None without a weight. input, output: the
    share of the activation that is 0 or dead. constant: the share of the output that is a known constant but not 0.
    weight_bits, input_bits, output_bits: of the widest element as it is stored, see tesa.propagate.bits.layer_bits.
    """

    layer: str
    op: str
    weight: tuple[int, ...] | None
    zeros: Change | None
    folded: float | None
    input: Change | None
    output: Change
    constant: float
    weight_bits: Change | None
    input_bits: Change | None
    output_bits: Change | None


@dataclass(frozen=True)
class PropagationTable:
    """All layers of a model before and after propagation; prints as a table, in a notebook too.

    parameters: the elements of all weights; zeros: how many of them are 0 before and after. unruled, scrambled,
    notes: see TesaModel. dropped, unused: see ImportedModel. overflows: integer sums that may leave their type.
    """

    source: str
    layers: tuple[LayerChange, ...]
    parameters: int
    zeros: Change
    unruled: Mapping[str, str] = field(default_factory=dict)
    scrambled: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    overflows: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump."""
        return dict(plain(self))

    def layer(self, name: str) -> LayerChange:
        """The layer of that name. KeyError if there is none."""
        return {layer.layer: layer for layer in self.layers}[name]

    def view(self, plot: str | None = None) -> Iterator[RenderableType]:
        """The parts that the command line prints. plot: where the picture of it was written."""
        bits = any(min(c.before, c.after) < FULL_BITS for layer in self.layers for c in _bits_of(layer))
        columns = [c for c in _COLUMNS if bits or c not in ("bits", "bits after")]
        rows = [_cells(layer)[: len(columns)] for layer in self.layers]
        right = [c for c in columns if c not in ("layer", "op", "weight")]
        title = f"{Path(self.source).name}: facts by layer"
        yield FittedTable(columns, rows, title=title, right=right, optional=_OPTIONAL)
        legend = "folded: zeros of the weight once known constants are in biases; gone: known to be 0, or dead"
        yield Text(legend + "; bits: of weight, input and output" * bits, style="dim")
        yield Text(self.totals())
        yield from map(Text, unruled_lines(self.unruled, self.scrambled, self.notes))
        yield from map(Text, dropped_lines(self.dropped, self.unused))
        yield from map(Text, self.overflows)
        if plot is not None:
            yield Text(f"wrote {plot}")

    def totals(self) -> str:
        """All weights together, in a sentence."""
        size = max(self.parameters, 1)
        before, after = percent(self.zeros.before / size), percent(self.zeros.after / size)
        return f"{self.parameters} weights: {before} zero as given, {after} zero or dead after propagation"

    def __str__(self) -> str:
        return written(self.view())

    def _repr_html_(self) -> str:
        return page_part(self.view())


def propagation_table(model: TesaModel, *, every: bool = False) -> PropagationTable:
    """Sparsity and bits of each layer before and after propagation, in running order.

    every: layers without a weight as well.

    >>> from tesa.frontend import import_onnx
    >>> from tesa.models import digits_path
    >>> from tesa.propagate import propagate
    >>> table = propagation_table(propagate(import_onnx(digits_path())))
    >>> table.layer("block2.pointwise").weight, round(table.layer("block2.pointwise").zeros.before, 2)
    ((128, 64, 1, 1), 0.9)
    """
    from tesa.propagate.bits.layer_bits import layer_bits
    from tesa.propagate.bits.ranges import ranges

    bits = {found.var: found for found in layer_bits(model)}
    groups: dict[str, list[Node]] = {}
    for node in model.network.nodes:
        groups.setdefault(node.operator.layer, []).append(node)
    layers = [row for name, nodes in groups.items() for row in _rows(model, name, nodes, bits) if every or row.weight]
    weights = model.weights.values()
    return PropagationTable(
        model.imported.source or "model",
        tuple(layers),
        sum(facts.weight.size for facts in weights),
        Change(sum(_zeros(f.weight) for f in weights), sum(_zeros(f.effective_weight) for f in weights)),
        dict(model.unruled),
        dict(model.scrambled),
        dict(model.notes),
        model.imported.dropped,
        model.imported.unused,
        tuple(map(str, ranges(model.network, model.tesa)[1])),
    )


def _zeros(weight: Any) -> int:
    return int(weight.size) - int(np.count_nonzero(weight))


def _rows(model: TesaModel, name: str, nodes: Sequence[Node], bits: Mapping[str, LayerBits]) -> Iterator[LayerChange]:
    """One row for each weight of a layer; one row if it has none."""
    weighty: list[WeightFacts | None] = [model.weights[node.var] for node in nodes if node.var in model.weights]
    output = model.tesa[nodes[-1].outputs[0]]
    for facts in weighty or [None]:
        read = facts.input if facts is not None else _activation(model, nodes)
        source = None if read is None else model.tesa[read]
        yield LayerChange(
            name,
            (facts.op if facts is not None else nodes[-1].operator.op).removeprefix("relax.").removeprefix("nn."),
            None if facts is None else tuple(facts.weight.shape),
            None if facts is None else Change(facts.given_sparsity, facts.sparsity),
            None if facts is None else _folded(model, facts),
            None if source is None else Change(0.0, source.sparsity),
            Change(0.0, output.sparsity),
            share(output.known & (output.value != 0), output.shape),
            *_bit_changes(None if facts is None else bits.get(facts.var)),
        )


def _activation(model: TesaModel, nodes: Sequence[Node]) -> str | None:
    written = {name for node in nodes for name in node.outputs}
    read = (name for node in nodes for name in node.inputs)
    return next((n for n in read if n not in written and n not in model.network.constants), None)


def _folded(model: TesaModel, facts: WeightFacts) -> float:
    folded = model.fold(facts.var)
    if folded is None:
        return facts.sparsity
    return 1 - np.count_nonzero(folded.weight) / max(facts.weight.size, 1)


def _bit_changes(found: LayerBits | None) -> tuple[Change | None, Change | None, Change | None]:
    if found is None:
        return None, None, None
    return (
        Change(found.weight_before, found.weight_after),
        Change(found.input_before, found.input_after),
        Change(found.output_before, found.output_after),
    )


def _bits_of(layer: LayerChange) -> list[Change]:
    return [c for c in (layer.weight_bits, layer.input_bits, layer.output_bits) if c is not None]


def _cells(layer: LayerChange) -> tuple[str, ...]:
    zeros, bits = layer.zeros, _bits_of(layer)
    return (
        layer.layer,
        layer.op,
        NOTHING if layer.weight is None else dims(layer.weight),
        percent(None if zeros is None else zeros.before),
        percent(None if zeros is None else zeros.after),
        percent(layer.folded),
        percent(None if layer.input is None else layer.input.after),
        percent(layer.output.after),
        percent(layer.constant),
        "/".join(f"{c.before:.0f}" for c in bits) or NOTHING,
        "/".join(f"{c.after:.0f}" for c in bits) or NOTHING,
    )
