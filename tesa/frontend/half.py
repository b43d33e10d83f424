"""Computes in float32 what a file computes in float16 or bfloat16.

Engines do so on CPUs: sums in 16 bits would lose three of ten bits over a thousand terms. Weights become float32
constants, so that a layer gets the kernels of a float32 one; inputs and outputs of the model keep the type of the file.
Rounded to 16 bits is what leaves the model, and what the file casts: a Cast of other numbers to 16 bits, and a Cast of
16-bit numbers to integers, give what they give in the file. In between nothing is, as in onnxruntime on a CPU, so that
what overflows 16 bits there becomes an infinity at an output of the model only.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tesa.attributes.attribute import Values
from tesa.errors import UnsupportedError
from tesa.frontend.checks import check_finite
from tesa.frontend.graph import Graph, domain_of
from tesa.frontend.infer import infer_types
from tesa.frontend.names import Unique

HALVES: dict[int, Any] = {TensorProto.FLOAT16: np.dtype(np.float16), TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16)}
"""The 16-bit types of real numbers by ONNX's code."""

_CODES = {dtype: code for code, dtype in HALVES.items()}
_TYPE_ATTRIBUTES = {
    "dtype", "output_dtype", "output_datatype", "output_type", "stash_type", "softmax_precision", "precision",
}  # fmt: skip


def widen_halves(graph: Graph) -> None:
    """Make every 16-bit real number inside the graph a float32 one, in place.

    graph.halves: the initializers that the file has in 16 bits; graph.widened: the file's name of each tensor that
    stands for an output of the model before it is rounded.
    """
    if not _has_halves(graph):
        return
    work = _Widening(graph)
    graph.nodes = work.nodes(graph.nodes)
    work.constants()
    check_finite(graph)  # NumPy does not know the infinities of bfloat16
    front, back = work.inputs(), work.outputs()
    graph.nodes = [*front, *graph.nodes, *back]


def half_type(array: Values) -> str:
    """ "float16" or "bfloat16" for an array of that type, else "".

    >>> half_type(np.zeros(2, np.float16)), half_type(np.zeros(2))
    ('float16', '')
    """
    return str(array.dtype.name) if array.dtype in _CODES else ""


def _has_halves(graph: Graph) -> bool:
    ports = (value.type.tensor_type.elem_type for value in (*graph.inputs, *graph.outputs))
    arrays = (_CODES.get(array.dtype) for array in graph.constants.values())
    return any(code in HALVES for code in (*ports, *arrays)) or any(_mentions(node) for node in graph.nodes)


def _mentions(node: Any) -> bool:
    """True if an attribute of a node, or of a node of a graph in it, may name a 16-bit type or hold such numbers."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.INT and attribute.i in HALVES and _names_type(node, attribute.name):
            return True
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type in HALVES:
            return True
        for body in _bodies(attribute):
            if any(_mentions(inner) for inner in body.node) or any(t.data_type in HALVES for t in body.initializer):
                return True
    return False


def _names_type(node: Any, attribute: str) -> bool:
    return attribute in _TYPE_ATTRIBUTES or (attribute == "to" and node.op_type == "Cast")


def _bodies(attribute: Any) -> Sequence[Any]:
    """The graphs that an attribute holds: the branches of an If, the body of a Loop."""
    if attribute.type == AttributeProto.GRAPH:
        return [attribute.g]
    return list(attribute.graphs) if attribute.type == AttributeProto.GRAPHS else []


class _Widening:
    """types: of the file's tensors, as ONNX's code, as far as they are known. dropped: results of needless Casts."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types: dict[str, int] = {
            name: helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for name, dtype in infer_types(graph)[1].items()
        }
        arrays = graph.constants.items()
        self.types |= {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays}
        names = {name for node in graph.nodes for name in (*node.input, *node.output)}
        self.names = Unique(node.name for node in graph.nodes)
        self.dropped: set[str] = set()
        self.unique = Unique({*names, *graph.constants, *(value.name for value in graph.inputs)})

    def constants(self) -> None:
        """Widen the constants. What a float32 holds exactly stays exact."""
        for name, array in self.graph.constants.items():
            if half_type(array):
                source = self.graph.sources.get(name)
                self.graph.halves[name if source is None else source.initializer] = half_type(array)
                self.graph.constants[name] = array.astype(np.float32)

    def inputs(self) -> list[Any]:
        """A Cast behind each 16-bit input, for all that read it."""
        halves = [value.name for value in self.graph.inputs if value.type.tensor_type.elem_type in HALVES]
        casts = [node for node in self.graph.nodes if node.output[0] in self.dropped and node.input[0] in halves]
        for node in casts:  # the file has such a Cast itself
            node.op_type = "Cast"
            node.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        new = {name: self.unique(f"{name}#float32") for name in halves}
        known = {id(node) for node in casts}
        others = [node for node in self.graph.nodes if id(node) not in known]
        _rename_reads(others, new)
        reads = _reads(others)
        wanted = [item for item in new.items() if item[1] in reads]
        return [_cast(name, wide, TensorProto.FLOAT, self.names(f"{name}.float32")) for name, wide in wanted]

    def outputs(self) -> list[Any]:
        """A Cast before each 16-bit output that a node or a constant makes."""
        inputs = {value.name for value in self.graph.inputs}
        casts, new = [], {}
        makers = {node.output[0]: node for node in self.graph.nodes if node.op_type == "Cast"}
        reads = _reads(self.graph.nodes)
        superfluous: set[int] = set()
        for value in self.graph.outputs:
            code = value.type.tensor_type.elem_type or self.types.get(value.name, 0)
            short = code in HALVES and value.name not in inputs
            if short and not _rounds(value.name, code, makers, reads, superfluous):
                new[value.name] = wide = self.unique(f"{value.name}#float32")
                casts.append(_cast(wide, value.name, code, self.names(f"{value.name}.{HALVES[code].name}")))
        self.graph.nodes = [node for node in self.graph.nodes if id(node) not in superfluous]
        _rename_reads(self.graph.nodes, new)
        for node in self.graph.nodes:
            node.output[:] = [new.get(name, name) for name in node.output]
        for old, wide in new.items():
            self.graph.widened[wide] = old
            if old in self.graph.constants:
                self.graph.constants[wide] = self.graph.constants.pop(old)
            if old in self.graph.sources:
                self.graph.sources[wide] = self.graph.sources.pop(old)
        return casts

    def nodes(self, nodes: Iterable[Any]) -> list[Any]:
        """The nodes as they are on float32 numbers."""
        return [made for node in nodes for made in self._node(node)]

    def _node(self, node: Any) -> list[Any]:
        self._learn(node)
        if node.op_type in ("Cast", "CastLike") and not domain_of(node):
            return self._cast(node)
        if node.op_type == "BitCast" and any(self.types.get(n) in HALVES for n in (*node.input, *node.output)):
            raise UnsupportedError(
                f"{self.graph.source}: node {node.name or node.output[0]!r} (BitCast) reads or makes the bits of "
                "16-bit reals, which tesa computes in float32. Export it without the operator"
            )
        for attribute in node.attribute:
            self._attribute(node, attribute)
        return [node]

    def _learn(self, node: Any) -> None:
        """Results are what the first real input is, where ONNX infers no type: those of another domain's operators."""
        reals = (TensorProto.FLOAT, TensorProto.DOUBLE, *HALVES)
        found = next((self.types[n] for n in node.input if self.types.get(n) in reals), None)
        for name in node.output:
            if name and found is not None:
                self.types.setdefault(name, found)

    def _attribute(self, node: Any, attribute: Any) -> None:
        if attribute.type == AttributeProto.INT and attribute.i in HALVES and _names_type(node, attribute.name):
            attribute.i = TensorProto.FLOAT
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type in HALVES:
            attribute.t.CopyFrom(_widened(attribute.t))
        for body in _bodies(attribute):
            self._body(body)

    def _body(self, body: Any) -> None:
        for tensor in body.initializer:
            self.types[tensor.name] = tensor.data_type
            if tensor.data_type in HALVES:
                tensor.CopyFrom(_widened(tensor))
        for value in (*body.input, *body.output, *body.value_info):
            code = value.type.tensor_type.elem_type
            self.types.setdefault(value.name, code)
            if code in HALVES:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        nodes = self.nodes([_copied(node) for node in body.node])
        del body.node[:]
        body.node.extend(nodes)

    def _cast(self, node: Any) -> list[Any]:
        """A Cast to or from 16 bits: to them it rounds and widens again, from them to integers it rounds first."""
        source, target = self.types.get(node.input[0]), self._target(node)
        self.types[node.output[0]] = target or self.types.get(node.output[0], 0)
        if target is None or not (source in HALVES or target in HALVES):
            return [node]
        options = {a.name: a.i for a in node.attribute if a.name == "saturate"}
        x, y, name = node.input[0], node.output[0], node.name
        if target in HALVES and source != target:
            low = self.unique(f"{y}#half")
            return [
                _cast(x, low, target, self.names(f"{name or y}.round"), **options),
                _cast(low, y, TensorProto.FLOAT, name),
            ]
        if target in HALVES or target in (TensorProto.FLOAT, TensorProto.DOUBLE):
            if target == TensorProto.DOUBLE:
                return [_cast(x, y, target, name)]
            self.dropped.add(y)
            return [helper.make_node("Identity", [x], [y], name)]
        low = self.unique(f"{y}#half")
        assert source is not None
        return [_cast(x, low, source, self.names(f"{name or y}.round")), _cast(low, y, target, name, **options)]

    def _target(self, node: Any) -> int | None:
        if node.op_type == "CastLike":
            return self.types.get(node.input[1])
        return next((int(a.i) for a in node.attribute if a.name == "to"), None)


def _rounds(name: str, code: int, makers: dict[str, Any], reads: Collection[str], superfluous: set[int]) -> bool:
    """Let the Cast of the file that rounds to an output make it, where nobody else reads it. False without one.

    makers: the Casts by their outputs; reads: what nodes read. superfluous: gets the id of the node that goes.
    """
    last = makers.get(name)
    first = makers.get(last.input[0]) if last is not None else None
    if last is None or first is None or [a.i for a in first.attribute if a.name == "to"] != [code] or name in reads:
        return False
    del makers[last.input[0]]
    first.output[:], first.name = [name], last.name
    makers[name] = first
    superfluous.add(id(last))
    return True


def _cast(x: str, y: str, to: int, name: str = "", **options: Any) -> Any:
    return helper.make_node("Cast", [x], [y], name, to=to, **options)


def _widened(tensor: Any) -> Any:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _copied(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _rename_reads(nodes: Iterable[Any], new: dict[str, str]) -> None:
    _each(nodes, lambda node: node.input.__setitem__(slice(None), [new.get(name, name) for name in node.input]))


def _reads(nodes: Iterable[Any]) -> set[str]:
    found: set[str] = set()
    _each(nodes, lambda node: found.update(node.input))
    return found


def _each(nodes: Iterable[Any], change: Callable[[Any], object]) -> None:
    """Call change on each node, and on those of the graphs in it, which read tensors of the graph around them."""
    for node in nodes:
        change(node)
        for attribute in node.attribute:
            for body in _bodies(attribute):
                _each(body.node, change)
