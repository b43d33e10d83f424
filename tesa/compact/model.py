"""compact: the model without the channels, features and heads that no output depends on."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx

from tesa.compact import operators  # noqa: F401  (importing it registers the ties)
from tesa.compact.analysis import Analysis
from tesa.compact.cut import Cutter, Use
from tesa.compact.decide import NEEDED, REASONS, Decision, decide
from tesa.compact.facts import Facts, by_tensor
from tesa.compact.index import Bools
from tesa.compact.size import macs, parameters
from tesa.compact.write import write
from tesa.errors import UsageError
from tesa.frontend import import_onnx
from tesa.frontend.graph import Graph, attributes
from tesa.frontend.infer import infer_types
from tesa.propagate import TesaModel, propagate

SUMS = ("Add", "Sub", "Sum", "Concat")
"""Constant only where all that they read is."""

MIXES = (
    "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization",
)  # fmt: skip
"""Constant here and there although what they read is not."""

LAYERS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "Einsum", "MatMulInteger", "ConvInteger", "FusedMatMul",
)  # fmt: skip


Left = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Removal:
    """The shortening of one axis of a weight. tensor, axis: in the file; before, after: its lengths."""

    layer: str
    tensor: str
    axis: int
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.layer}: {self.tensor} axis {self.axis}: {self.before} -> {self.after}"


@dataclass(frozen=True, eq=False)
class Compacted:
    """The result of compaction. proto: the smaller model. removed: from which weights. kept: why indices had to stay.

    parameters: elements of all constants; macs: multiply-accumulates of the convolutions and matrix products of a run.
    left: of each activation that is smaller, for each axis the indices that are left, () for all of them. Missing is a
    tensor of which more went than whole slices.
    """

    proto: onnx.ModelProto = field(repr=False)
    removed: tuple[Removal, ...]
    kept: tuple[str, ...]
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    left: Mapping[str, Left] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return (
            f"{len(self.removed)} weights are smaller: {self.parameters_before} -> {self.parameters_after} parameters, "
            f"{self.macs_before} -> {self.macs_after} multiply-accumulates"
        )


def compact(model: TesaModel) -> Compacted:
    """Remove, over the whole network, every channel, feature or head that is dead or a known constant.

    Tensors that an operator joins are shrunk together or not at all. Constants are folded into the biases of what reads
    them. Weights have the dead elements that stay set to 0. Inputs and outputs keep names and shapes, nodes and weights
    their names, and the outputs their values up to rounding. No axis is removed wholly: one index stays.

    UsageError for a module that did not come from an ONNX file.

    >>> from importlib.resources import files
    >>> from tesa.frontend import import_onnx
    >>> from tesa.propagate import propagate
    >>> small = compact(propagate(import_onnx(str(files("tesa.models") / "digits.onnx"))))
    >>> small.parameters_after <= small.parameters_before
    True
    """
    found, again = _once(model)
    while again:  # a folded constant may have been all that kept something else alive
        more, again = _once(propagate(import_onnx(found.proto)))
        again = again and bool(more.removed)
        found = _joined(found, more) if more.removed else found
    return found


def _once(model: TesaModel) -> tuple[Compacted, bool]:
    """One pass of compaction, and True if another one may find more."""
    graph = model.imported.graph
    if graph is None:
        raise UsageError("compact needs a model that was imported with tesa.import_onnx; this module came another way")
    inferred, dtypes = infer_types(graph)
    shapes = {**{name: facts.shape for name, facts in by_tensor(model).items()}, **inferred}
    analysis = Analysis(graph, shapes)
    users = graph.users()
    unread = [name for node in graph.nodes for name in node.output if name and name not in users]
    facts = Facts(model, shapes, unread, analysis.codes)
    decision = decide(analysis, facts)
    cutter = Cutter(analysis, facts, decision.keep, dead_elements(model), dtypes)
    cutter.run()
    after = write(graph, cutter.nodes, cutter.constants, cutter.sources, cutter.quantization, shapes)
    new_shapes = {name: tuple(cutter.shape(name)) for name in shapes}
    new_shapes |= {name: new_shapes[old] for name, old in cutter.renamed.items() if old in new_shapes}
    result = Compacted(
        after,
        _removed(analysis, cutter),
        _kept(analysis, facts, decision),
        parameters(graph.constants),
        parameters(cutter.constants),
        macs(graph.nodes, shapes, graph.constants),
        macs(cutter.nodes, new_shapes, cutter.constants),
        {name: rows for name in analysis.structures for rows in [_left(analysis, decision, name)] if any(rows)},
    )
    unties = any(_unties(analysis, new_shapes, node) for node in graph.nodes)
    return result, unties or any(_frees(analysis, facts, decision, node) for node in graph.nodes)


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


def _chained(first: Mapping[str, Left], second: Mapping[str, Left]) -> dict[str, Left]:
    """Two removals one after the other, as one."""
    rows = dict(first)
    for name, after in second.items():
        before = first.get(name, ((),) * len(after))
        pairs = zip(before, after, strict=True)
        rows[name] = tuple(tuple(b[i] for i in a) if a and b else a or b for b, a in pairs)
    return rows


def _joined(first: Compacted, second: Compacted) -> Compacted:
    """Two passes as one."""
    rows = {(r.layer, r.tensor, r.axis): r for r in first.removed}
    for row in second.removed:
        key = (row.layer, row.tensor, row.axis)
        rows[key] = replace(row, before=rows[key].before) if key in rows else row
    return replace(
        second, removed=tuple(rows.values()), parameters_before=first.parameters_before, macs_before=first.macs_before,
        left=_chained(first.left, second.left),
    )  # fmt: skip


def dead_elements(model: TesaModel) -> dict[Use, Bools]:
    """Masks of the dead elements of the weights, by node and input."""
    graph = model.imported.graph
    assert graph is not None
    nodes = {graph.layers[node.output[0]]: i for i, node in enumerate(graph.nodes) if node.output[0] in graph.layers}
    found: dict[Use, Bools] = {}
    for uses in model.imported.weights.values():
        for use in uses:
            facts, i = model.weights.get(use.var), nodes.get(use.layer)
            if facts is None or i is None or facts.argument != use.argument:
                continue
            node = graph.nodes[i]
            array, words = graph.constants[node.input[use.argument]], attributes(node)
            turned = node.op_type == "Gemm" and words.get(("transA", "transB")[use.argument], 0)
            weight, zero = (w.T if turned else w for w in (facts.weight, facts.effective_weight == 0))
            # the weight with a zero point, of an integer convolution, is no longer the array of the file: it stays
            scale = array.dtype.type(words.get("alpha", 1.0) if node.op_type == "Gemm" and use.argument == 1 else 1)
            same = weight.shape == array.shape and np.array_equal(weight, array * scale)
            if same and (zero & (array != 0)).any():
                found[i, use.argument] = zero
    return found | _dead_factors(model, nodes)


def _dead_factors(model: TesaModel, nodes: Mapping[str, int]) -> dict[Use, Bools]:
    """Masks of the dead elements of einsums' weights, which are no layers but are leant on as well."""
    graph = model.imported.graph
    assert graph is not None
    found: dict[Use, Bools] = {}
    for key, effective in model.effective_constants().items():
        var, _, argument = key.partition("#")
        i, position = nodes.get(model.imported.names.get(var, ""), -1), int(argument or 0)
        if i >= 0 and graph.nodes[i].op_type == "Einsum":
            array = graph.constants.get(graph.nodes[i].input[position])
            if array is not None and array.shape == effective.shape:
                found[i, position] = effective == 0
    return found


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
