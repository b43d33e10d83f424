"""Carries out a decision: cuts every constant and rewrites the nodes that name sizes or indices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper

from tesa.attributes.attribute import Quantization, Values
from tesa.compact.analysis import Analysis, Contraction
from tesa.compact.border_table import tabulate
from tesa.compact.correction import correction
from tesa.compact.facts import Facts
from tesa.compact.index import AxisIds, Bools, Ids, Structure, cut_array, cut_shape
from tesa.frontend.graph import Source, attributes
from tesa.frontend.names import Unique

Use = tuple[int, int]


class Cutter:
    """Builds the smaller graph: nodes, constants, sources and quantization as in Graph.

    keep: by id. dead: for a use of a constant where its elements are dead, to be set to 0. dtypes: of
    activations. shifted: activations without a constant that is added later. copied: some weight was cut in two ways.
    """

    def __init__(
        self, a: Analysis, facts: Facts, keep: Bools, dead: Mapping[Use, Bools], dtypes: Mapping[str, Any]
    ) -> None:
        self.a, self.facts, self.keep, self.dead, self.dtypes = a, facts, keep, dead, dtypes
        graph = a.graph
        self.nodes: list[Any] = []
        self.constants: dict[str, Values] = {}
        self.sources: dict[str, Source] = {}
        self.quantization: dict[str, Quantization] = {}
        names = {n for node in graph.nodes for n in (*node.input, *node.output)}
        self.unique = Unique(names | set(graph.constants) | {value.name for value in graph.inputs})
        self.users: dict[str, list[int]] = {}
        for i, node in enumerate(graph.nodes):
            for name in node.input:
                self.users.setdefault(name, []).append(i)
        self.outputs = {output.name for output in graph.outputs}
        self.added: dict[Use, Values] = {}
        self.renamed: dict[str, str] = {}
        self.left: dict[Use, tuple[int, ...]] = {}
        self.shifted: set[str] = set()
        self.copied = False

    def run(self) -> None:
        """Cut everything."""
        contractions = {c.node: c for c in self.a.contractions}
        self.constants |= {name: self.a.graph.constants[name] for name in self.outputs & set(self.a.graph.constants)}
        for i, old in enumerate(self.a.graph.nodes):
            node = type(old)()
            node.CopyFrom(old)
            for position, name in enumerate(old.input):
                if name in self.a.graph.constants and (i, position) not in self.a.own_cuts:
                    self._cut_use(i, position, node)
            edit = self.a.edits.get(i)
            nodes = (edit(self, node) if edit is not None else None) or [node]
            self.nodes += nodes
            if i in contractions:
                self._compensate(contractions[i], node)

    # The operations of Editor, which the edits of the operators are written with.

    def constant(self, i: int, position: int) -> Values:
        """A constant of the old graph as node i uses it: dead elements are 0, nothing is cut."""
        array = self.a.graph.constants[self.a.graph.nodes[i].input[position]]
        dead = self.dead.get((i, position))
        return array if dead is None else np.where(dead, array.dtype.type(0), array)

    def shape(self, tensor: str) -> list[int]:
        """The new shape of an activation."""
        return list(cut_shape(self.a.shape(tensor), self.a.of(tensor), self.keep))

    def set_weight(self, i: int, node: Any, position: int, array: Values, rows: Ids) -> None:
        """Give a use of a constant its new numbers. rows: ids along its first axis, which scales may lie on as well."""
        quantization = self.a.graph.quantization.get(self.a.graph.nodes[i].input[position])
        if quantization is not None:
            per_row = quantization.scale.size in (1, len(rows)) and quantization.scale.shape[:1] != (1,)
            whole = quantization.scale.size == 1
            cut = _cut_quantization(quantization, (AxisIds((0,), rows),), self.keep)
            quantization = cut if per_row or whole else None
        self._store(i, node, position, array, quantization)

    def set_input(self, node: Any, position: int, array: Values) -> None:
        """Make a new constant the input of a node."""
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = self._new_constant(f"{node.name or node.output[0]}/input{position}", array)

    def set_sizes(self, node: Any, position: int, tensor: str) -> None:
        """Make the new shape of a tensor the input of a node, if it is not the old one."""
        sizes = self.shape(tensor)
        if sizes != list(self.a.shape(tensor)):
            self.set_input(node, position, np.asarray(sizes, np.int64))
            self.drop_attributes(node, "allowzero")

    def set_attribute(self, node: Any, name: str, value: Any) -> None:
        """Replace an attribute."""
        self.drop_attributes(node, name)
        node.attribute.append(helper.make_attribute(name, value))

    def drop_attributes(self, node: Any, *names: str) -> None:
        """Remove attributes."""
        stay = [x for x in node.attribute if x.name not in names]
        del node.attribute[:]
        node.attribute.extend(stay)

    def picks(self, node: Any, picks: Mapping[int, Values]) -> list[Any]:
        """Nodes that pick these indices along each axis and stand for `node`: Slice for a stretch, Gather otherwise."""
        made, source, todo = [], node.input[0], list(picks.items())
        for number, (axis, places) in enumerate(todo):
            last = number == len(todo) - 1
            base = node.name or node.output[0]
            output = node.output[0] if last else self.unique(f"{node.output[0]}/axis{axis}")
            name = node.name if last else f"{base}/axis{axis}"
            new = helper.make_node("Gather", [source], [output], name, axis=axis)
            if len(places) and (np.diff(places) == 1).all():
                new = helper.make_node("Slice", [source], [output], name)
                for position, value in enumerate((places[0], places[-1] + 1, axis), start=1):
                    self.set_input(new, position, np.asarray([value], np.int64))
            else:
                self.set_input(new, 1, np.asarray(places, np.int64))
            made.append(new)
            source = output
        return made

    # Constants.

    def _cut_use(self, i: int, position: int, node: Any) -> None:
        name = node.input[position]
        parts = self.a.uses.get((i, position), ())
        quantization = self.a.graph.quantization.get(name)
        array = cut_array(self.constant(i, position), parts, self.keep)
        extra = self.added.get((i, position))
        if extra is not None:
            array, quantization = (array + extra).astype(array.dtype), None
        elif quantization is not None:
            quantization = _cut_quantization(quantization, parts, self.keep)
        self._store(i, node, position, array, quantization)

    def _store(self, i: int, node: Any, position: int, array: Values, quantization: Quantization | None) -> None:
        old = self.a.graph.nodes[i].input[position]
        self.left[i, position] = array.shape
        name = old
        stored = self.constants.get(name)
        if stored is not None and (stored.shape != array.shape or not (stored == array).all()):
            layer = node.name or node.output[0]
            name = node.input[position] if node.input[position] != old else self.unique(f"{layer}/{old}")
            self.copied |= array.ndim > 1
        elif node.input[position] != old:
            self.constants.pop(node.input[position], None)
        node.input[position] = name
        self.constants[name] = array
        source = self.a.graph.sources.get(old)
        if source is not None and name == old:
            self.sources[name] = source
        if quantization is not None:
            self.quantization[name] = quantization
        else:
            self.quantization.pop(name, None)

    # Constants that were taken out of a sum.

    def _compensate(self, contraction: Contraction, node: Any) -> None:
        i = contraction.node
        found = correction(self.a, self.facts, contraction, self.keep, lambda position: self.constant(i, position))
        if found is None:
            return
        tensor = self.a.graph.nodes[i].output[0]
        extra = _cut_constant(found, self.a.of(tensor), self.a.shape(tensor), self.keep)
        extra = extra.astype(self.dtypes.get(tensor, np.dtype(np.float32)))
        if extra.any() and not self._into_bias(node, extra) and not self._into_next(tensor, extra):
            self._behind(node, extra)

    def _into_bias(self, node: Any, extra: Values) -> bool:
        """Add it to the bias of a convolution or Gemm."""
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm"):
            return False
        old = node.input[2] if len(node.input) > 2 else ""
        bias = self.constants.get(old) if old else None
        scale = float(attributes(node).get("beta", 1.0))
        if (old and bias is None) or (scale == 0.0 and bias is not None):
            return False
        if node.op_type == "Gemm":
            extra = extra.reshape(-1) if extra.shape[0] == 1 else extra
            width = cut_shape(self.a.shape(node.output[0]), self.a.of(node.output[0]), self.keep)[1]
            extra = np.broadcast_to(extra, (*extra.shape[:-1], width))
        elif extra.size != extra.shape[1] or extra.shape[0] != 1:
            return False
        else:
            extra = extra.reshape(-1)
        total = extra if bias is None else (bias + extra / scale).astype(bias.dtype)
        if bias is None:
            self.drop_attributes(node, "beta")
        while len(node.input) <= 2:
            node.input.append("")
        name = old if old and len(self.users.get(old, [])) == 1 else self.unique(f"{node.name or node.output[0]}/bias")
        self.constants[name] = np.ascontiguousarray(total)
        self.quantization.pop(name, None)
        node.input[2] = name
        return True

    def _into_next(self, tensor: str, extra: Values) -> bool:
        """Add it to the constant that the only reader adds."""
        users = self.users.get(tensor, [])
        if len(users) != 1 or tensor in self.outputs:
            return False
        node = self.a.graph.nodes[users[0]]
        if node.op_type != "Add" or list(node.input).count(tensor) != 1:
            return False
        position = 1 - list(node.input).index(tensor)
        if node.input[position] not in self.a.graph.constants or (users[0], position) in self.added:
            return False
        if len(self.a.shape(node.input[position])) > len(self.a.shape(tensor)):
            return False
        self.added[users[0], position] = _thin(extra)
        self.shifted.add(tensor)
        return True

    def _behind(self, node: Any, extra: Values) -> None:
        """Add it with a node of its own."""
        output, base = node.output[0], node.name or node.output[0]
        node.output[0] = self.unique(f"{output}/left")
        self.renamed[node.output[0]] = output
        thin = _thin(extra)
        name = self.unique(f"{base}/constants")
        made = tabulate(thin, name, name, self._new_constant, range(1, thin.ndim) if thin.ndim > 2 else ())
        if not made:
            self.constants[name] = thin
        add = helper.make_node("Add", [node.output[0], name], [output], f"{base}/add_constants")
        self.nodes += [*made, add]

    def _new_constant(self, name: str, array: Values) -> str:
        name = self.unique(name)
        self.constants[name] = array
        return name


def _thin(array: Values) -> Values:
    """Without leading axes of length 1."""
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array


def _cut_constant(array: Values, parts: Structure, full: Sequence[int], keep: Bools) -> Values:
    """Cut an array that broadcasts to the shape `full`."""
    fitting: list[AxisIds] = []
    for part in parts:
        short = [axis for axis in part.axes if array.shape[axis] == 1]
        if len(part.axes) > 1 and 0 < len(short) < len(part.axes):
            wide = [full[x] if x in part.axes else n for x, n in enumerate(array.shape)]
            array, short = np.broadcast_to(array, wide), []
        if not short:
            fitting.append(part)
    return cut_array(array, tuple(fitting), keep)


def _cut_quantization(q: Quantization, parts: Structure, keep: Bools) -> Quantization:
    scale, zero = (cut_array(v, tuple(p for p in parts if all(v.shape[x] > 1 for x in p.axes)), keep) if v.ndim else v
                   for v in (np.asarray(q.scale), np.asarray(q.zero_point)))  # fmt: skip
    return Quantization(q.bits, q.signed, scale, zero)
