"""Holds each node against the schema of its operator: inputs, outputs, attributes and types, before any is converted.

TVM's converters trust that a node is valid; one whose inputs are blank brings some of them down with the whole process.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.defs
from onnx import AttributeProto, TensorProto, helper

from tesa.errors import ModelError, UnsupportedError
from tesa.frontend.control.bodies import CONTROL, OPEN
from tesa.frontend.control.inside import all_nodes, graphs_of
from tesa.frontend.equations import check_equation
from tesa.frontend.graph import Graph, attributes, domain_of

SHORT = ("tensor(float16)", "tensor(bfloat16)")
"""Real numbers that exporters write wherever float32 may stand, whatever the opset allows; they become float32 here."""
AGAIN = "Export the model again"


def opset_of(proto: Any, source: str) -> int:
    """The version of ONNX's own operators that a model is written for; 1 where it does not say. ModelError."""
    found = {o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")}
    if len(found) > 1 or min(found, default=1) < 1:
        raise ModelError(
            f"{source}: it is written for opset {', '.join(map(str, sorted(found)))}, expected one above 0"
        )
    opset, newest = max(found, default=1), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise UnsupportedError(
            f"{source}: it is written for opset {opset}, and onnx {onnx.__version__} knows them up to {newest}. Export "
            "it with an older one, or install a newer onnx"
        )
    return int(opset)


def check_nodes(graph: Graph) -> None:
    """Raise a ModelError for the first node, also of a body, that its operator's schema does not allow."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = onnx.IR_VERSION, {"": graph.opset, "ai.onnx": graph.opset}
    for node in all_nodes(graph.nodes):
        domain = domain_of(node)
        _check_plain(graph, node)
        if domain or node.op_type == "Constant" or _schema(node.op_type, graph.opset) is None:
            continue  # those that nobody knows are listed together, see checks.py
        if _schema(node.op_type, graph.opset).deprecated:  # as GroupNormalization of opset 18, which files have
            _check_counts(graph, node)
            continue
        try:
            onnx.checker.C.check_node(_without_bodies(node).SerializeToString(), context, _scope())
        except onnx.checker.ValidationError as error:
            text = str(error).strip().splitlines()[0].rstrip(".")
            unknown = re.search(r"Unrecognized attribute: (\S*)", text)
            if unknown is not None:
                raise UnsupportedError(
                    f"{_where(graph, node)}: attribute {unknown[1]} is none that the operator has in opset "
                    f"{graph.opset}; without it other numbers would come out. {AGAIN}"
                ) from error
            raise ModelError(f"{_where(graph, node)}: not valid ONNX: {text[:300]}. {AGAIN}") from error
        _check_blanks(graph, node)
        # before shapes are inferred: of two dots ONNX finds no end, and it writes beyond the parts that are told
        if node.op_type == "Einsum":
            check_equation(node, {}, _where(graph, node))
        if node.op_type == "Split":
            _check_parts(graph, node)


def _scope() -> Any:
    return onnx.checker.C.LexicalScopeContext()


def _where(graph: Graph, node: Any) -> str:
    return f"{graph.source}: node {node.name or next(iter(node.output), '?')!r} ({node.op_type})"


@cache
def _schema(operator: str, opset: int) -> Any:
    try:
        return onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return None


def _check_plain(graph: Graph, node: Any) -> None:
    """Check what holds for the nodes of every domain: something comes out, and an attribute is there once."""
    if not any(node.output):
        raise ModelError(f"{_where(graph, node)}: it has no output. {AGAIN}")
    for name, times in Counter(attribute.name for attribute in node.attribute).items():
        if times > 1:
            raise ModelError(f"{_where(graph, node)}: its attribute {name!r} is there {times} times. {AGAIN}")
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            raise ModelError(
                f"{_where(graph, node)}: its attribute {attribute.name!r} refers to {attribute.ref_attr_name!r} of a "
                f"function, and there is none around it. {AGAIN}"
            )
        if attribute.type == AttributeProto.UNDEFINED:
            raise ModelError(f"{_where(graph, node)}: its attribute {attribute.name!r} has no type. {AGAIN}")


def _without_bodies(node: Any) -> Any:
    """The node with an empty graph in place of each body: bodies are gone through node by node."""
    if not any(True for _ in graphs_of(node)):
        return node
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    for attribute in plain.attribute:
        for body in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
            body.Clear()
            body.name = "body"
    return plain


def _check_counts(graph: Graph, node: Any) -> None:
    """The numbers of inputs and outputs alone, and that none is left out that has to be there."""
    schema = _schema(node.op_type, graph.opset)
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    needed = [formal.option == single for formal in schema.inputs]
    present = [*map(bool, node.input), *[False] * len(needed)]
    counts = schema.min_input <= len(node.input) <= schema.max_input and len(node.output) <= schema.max_output
    if not counts or any(must and not there for must, there in zip(needed, present, strict=False)):
        raise ModelError(
            f"{_where(graph, node)}: not valid ONNX: it has the inputs {list(node.input)} and {len(node.output)} "
            f"outputs, and {len(schema.inputs)} inputs are expected. {AGAIN}"
        )


def _check_blanks(graph: Graph, node: Any) -> None:
    """One of several inputs of a kind, as those of a Concat, cannot be left out; onnx lets it be."""
    formals = _schema(node.op_type, graph.opset).inputs
    if not formals or formals[-1].option != onnx.defs.OpSchema.FormalParameterOption.Variadic:
        return
    first = len(formals) - 1
    if node.op_type != "Loop" and "" in list(node.input)[first:]:
        place = list(node.input).index("", first)
        raise ModelError(f"{_where(graph, node)}: its input {place} is left out, which it needs. {AGAIN}")


def check_written(opset: int, nodes: Iterable[Any], where: str) -> None:
    """Raise a ModelError for nodes that took the place of another one and lack an input that they need.

    Operators of ONNX Runtime have no schema here: what such a node leaves out is seen in what it is written out as.
    """
    for node in nodes:
        if not domain_of(node) and node.op_type not in OPEN and _lacks(node, _schema(node.op_type, opset)):
            raise ModelError(f"{where}: an input that it needs, of its {node.op_type}, is left out. {AGAIN}")


def _lacks(node: Any, schema: Any) -> bool:
    """True where an input that a schema requires, or one of several of a kind, is left out."""
    if schema is None:
        return False
    given, kinds = list(node.input), onnx.defs.OpSchema.FormalParameterOption
    formals = enumerate(_formals(node.op_type, schema.since_version))
    return len(given) < schema.min_input or any(
        (kind == kinds.Single and "" in given[place : place + 1]) or (kind == kinds.Variadic and "" in given[place:])
        for place, kind in formals
    )


@cache
def _formals(operator: str, version: int) -> tuple[Any, ...]:
    return tuple(formal.option for formal in _schema(operator, version).inputs)


def _check_parts(graph: Graph, node: Any) -> None:
    told = attributes(node).get("num_outputs", len(node.output))
    if told != len(node.output):
        raise ModelError(
            f"{_where(graph, node)}: its num_outputs is {told}, and it has {len(node.output)} outputs. {AGAIN}"
        )


def check_types(graph: Graph, shapes: Mapping[str, Any], dtypes: Mapping[str, Any]) -> None:
    """Raise a ModelError for a node whose inputs have types that its schema does not allow, where they are known."""
    known = {name: _kind(array.dtype) for name, array in graph.constants.items()}
    known |= {name: _kind(dtype) for name, dtype in dtypes.items()}
    for node in graph.nodes:
        schema = None if domain_of(node) or node.domain == CONTROL else _schema(node.op_type, graph.opset)
        if schema is None or not schema.inputs:
            continue
        bound: dict[str, tuple[str, str]] = {}
        for i, name in enumerate(node.input):
            formal = schema.inputs[min(i, len(schema.inputs) - 1)]
            if name in known:
                _check_type(graph, node, formal, name, known[name], bound)
        if node.op_type == "Einsum":
            constants = {name: array.shape for name, array in graph.constants.items() if name in node.input}
            check_equation(node, {**shapes, **constants}, _where(graph, node))


def _check_type(graph: Graph, node: Any, formal: Any, name: str, kind: str, bound: dict[str, tuple[str, str]]) -> None:
    """bound: the tensor that has decided what each type variable of the schema is, and that type."""
    short = kind in SHORT and "tensor(float)" in formal.types
    if kind not in formal.types and not short:
        allowed = ", ".join(sorted(t.removeprefix("tensor(").removesuffix(")") for t in formal.types))
        raise ModelError(f"{_where(graph, node)}: its input {name!r} is a {kind}, expected one of {allowed}. {AGAIN}")
    if formal.type_str == kind or not formal.is_homogeneous:
        return
    other, decided = bound.setdefault(formal.type_str, (name, kind))
    if decided != kind:
        raise ModelError(
            f"{_where(graph, node)}: its inputs {other!r} and {name!r} are a {decided} and a {kind}, expected one "
            f"type. {AGAIN}"
        )


@cache
def _kind(dtype: Any) -> str:
    """The type of a tensor as schemas spell it.

    >>> _kind(np.dtype("float32"))
    'tensor(float)'
    """
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return f"tensor({TensorProto.DataType.Name(code).lower()})"
