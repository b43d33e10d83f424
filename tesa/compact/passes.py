"""One pass of compaction: what goes is decided and cut, and the smaller model written in the smallest form."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesa.compact import operators  # noqa: F401  (importing it registers the ties)
from tesa.compact.analysis import Analysis
from tesa.compact.cut import Cutter
from tesa.compact.dead import dead_elements
from tesa.compact.decide import NEEDED, REASONS, Decision, decide
from tesa.compact.facts import Facts, by_tensor
from tesa.compact.restore import CutGraph, restored
from tesa.compact.result import NAMES, Compacted, Left, Removal
from tesa.compact.size import macs
from tesa.compact.tied import copies, tie_weights
from tesa.compact.write import write
from tesa.errors import UsageError
from tesa.frontend.given import file_size, parameters
from tesa.frontend.graph import Graph
from tesa.frontend.infer import infer_types
from tesa.propagate import TesaModel

SUMS = ("Add", "Sub", "Sum", "Concat")
"""Constant only where all that they read is."""

MIXES = (
    "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization",
)  # fmt: skip
"""Constant here and there although what they read is not."""

LAYERS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "Einsum", "MatMulInteger", "ConvInteger", "FusedMatMul",
)  # fmt: skip

LARGE = 24
"""An operator that is written out as so many nodes may be smaller in the file if nothing is cut from it."""


@dataclass(frozen=True, eq=False)
class Pass:
    """The result of a pass. again: another one may find more. copied: a weight of several layers is there twice.

    large: layers that the file has as one operator, and that were cut as many nodes.
    """

    result: Compacted
    again: bool
    copied: bool
    large: frozenset[str]


def smallest(model: TesaModel) -> Pass:
    """The pass of the smallest file: shared weights cut alike or not, nothing cut from large operators or something."""
    first = best = one_pass(model)
    tied = first.copied and bool(first.result.removed)
    if tied:
        best = _smaller(best, one_pass(model, tied=True))
    if first.large:
        best = _smaller(best, one_pass(model, tied=tied and best is not first, whole=first.large))
    return best


def _smaller(first: Pass, second: Pass) -> Pass:
    """The one of fewer bytes; where names make the difference, the one of fewer weights."""
    a, b = first.result, second.result
    if abs(a.size_after - b.size_after) < NAMES:
        return second if b.parameters_after < a.parameters_after else first
    return second if b.size_after < a.size_after else first


def one_pass(model: TesaModel, *, tied: bool = False, whole: Collection[str] = (), file: bool = True) -> Pass:
    """One pass. tied: what several layers share is cut alike for all; whole: layers from which nothing is cut.

    file: write back as it was what was not cut, where that is smaller.
    """
    graph = model.imported.graph
    if graph is None:
        raise UsageError("compact needs a model that was imported with tesa.import_onnx; this module came another way")
    inferred, dtypes = infer_types(graph)
    shapes = {**{name: facts.shape for name, facts in by_tensor(model).items()}, **inferred}
    analysis = Analysis(graph, shapes, whole)
    if tied:
        tie_weights(analysis)
    users = graph.users()
    unread = [name for node in graph.nodes for name in node.output if name and name not in users]
    facts = Facts(model, shapes, unread, analysis.codes)
    decision = decide(analysis, facts, fast=not file)
    cutter = Cutter(analysis, facts, decision.keep, dead_elements(model), dtypes)
    cutter.run()
    new_shapes = {name: tuple(cutter.shape(name)) for name in shapes}
    new_shapes |= {name: new_shapes[old] for name, old in cutter.renamed.items() if old in new_shapes}
    changed = {name for name, shape in shapes.items() if new_shapes[name] != shape} | cutter.shifted
    cut = CutGraph(cutter.nodes, cutter.constants, cutter.sources, cutter.quantization, frozenset(changed))
    found = restored(graph, cut) if file else cut
    after = write(graph, found.nodes, found.constants, found.sources, found.quantization, shapes)
    result = Compacted(
        after,
        _removed(analysis, cutter),
        _kept(analysis, facts, decision),
        graph.given.parameters,
        parameters(after),
        macs(graph.nodes, shapes, graph.constants),
        macs(cutter.nodes, new_shapes, cutter.constants),
        {name: rows for name in analysis.structures for rows in [_left(analysis, decision, name)] if any(rows)},
        graph.given.size,
        file_size(after),
    )
    again = any(_unties(analysis, new_shapes, node) for node in graph.nodes)
    again = again or any(_frees(analysis, facts, decision, node) for node in graph.nodes)
    return Pass(
        result,
        again,
        file and (cutter.copied or copies(found.constants, found.sources)),
        _large(graph, found.nodes) if file else frozenset(),
    )


def _large(graph: Graph, nodes: Collection[Any]) -> frozenset[str]:
    """The layers that the file has as one operator, and that these nodes have as many."""
    counts = Counter(graph.layers.get(node.output[0], "") for node in nodes)
    return frozenset(layer for layer, count in counts.items() if layer and count >= LARGE)


def _unties(a: Analysis, shapes: Mapping[str, tuple[int, ...]], node: Any) -> bool:
    """True if an axis that a reshape merges or splits has one index left: then the axis beside it is free."""
    if node.op_type not in ("Reshape", "Flatten"):
        return False
    tensors = [name for name in (node.input[0], node.output[0]) if name in shapes and name in a.shapes]
    return any(m > 1 and n == 1 for name in tensors for m, n in zip(a.shapes[name], shapes[name], strict=True))


def _frees(a: Analysis, facts: Facts, decision: Decision, node: Any) -> bool:
    """True if constants were taken out of the output of a node that needs inputs that are not constant for them."""
    inputs = [name for name in node.input if name and a.constant(name) is None]
    if node.op_type in SUMS or (len(inputs) < 2 and node.op_type not in MIXES):
        return False
    tensors = [name for name in node.output if name in a.structures]
    parts = [(name, part) for name in tensors for part in a.of(name)]
    return any((facts.constant(n, p.axes) & ~decision.keep[p.ids]).any() for n, p in parts)


def _left(a: Analysis, decision: Decision, tensor: str) -> Left:
    """The indices left on each axis of a tensor."""
    rows: list[tuple[int, ...]] = [()] * len(a.shape(tensor))
    for part in a.of(tensor):
        keep = decision.keep[part.ids]
        if len(part.axes) == 1 and not keep.all():
            rows[part.axes[0]] = tuple(int(i) for i in np.flatnonzero(keep))
    return tuple(rows)


def _layer(graph: Graph, node: Any) -> str:
    return str(graph.layers.get(node.output[0], node.name or node.output[0]))


def _removed(a: Analysis, cutter: Cutter) -> tuple[Removal, ...]:
    rows: dict[Removal, None] = {}
    for i, node in enumerate(a.graph.nodes):
        for position, name in enumerate(node.input) if node.op_type in LAYERS else ():
            array = a.constant(name)
            if array is None or array.ndim < 2:
                continue
            left = cutter.left.get((i, position), array.shape)
            source = a.graph.sources.get(name)
            axes = range(array.ndim) if source is None or source.axes is None else source.axes
            for axis, (m, n) in enumerate(zip(array.shape, left, strict=True)):
                if m != n:
                    tensor = name if source is None else source.initializer
                    rows[Removal(_layer(a.graph, node), tensor, axes[axis], m, n)] = None
    return tuple(rows)


def _kept(a: Analysis, facts: Facts, decision: Decision) -> tuple[str, ...]:
    """For the output of each layer how many indices could go by themselves, and why they stay."""
    lines = []
    for node in a.graph.nodes:
        output = node.output[0]
        if node.op_type not in LAYERS or a.constant(output) is not None:
            continue
        for part in a.of(output):
            stay = facts.removable(output, part.axes) & decision.keep[part.ids]
            whys: Counter[str] = Counter()
            for reason, held in zip(decision.reason[part.ids][stay], decision.held[part.ids][stay], strict=True):
                named = reason == NEEDED and held >= 0
                whys[a.held[held][1] if named else REASONS.get(int(reason), REASONS[NEEDED])] += 1
            for what, count in whys.items():
                lines.append(f"{_layer(a.graph, node)}: {count} of {stay.size} stay on axis {part.axes[-1]}: {what}")
    return tuple(lines)
