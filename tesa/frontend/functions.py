"""Operators that ONNX itself defines as functions of simpler ones: the definitions that its schemas carry."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.defs
from onnx import AttributeProto, helper, numpy_helper

from tesa.frontend.graph import domain_of
from tesa.frontend.writer import Writer

SEQUENCES = ("Sequence", "Optional")
"""What the names of operators on sequences and optional values hold; tesa has tensors only."""


def has_body(operator: str, domain: str, opset: int) -> bool:
    """True if the schema of an operator says how it is made of others.

    >>> has_body("HannWindow", "", 18), has_body("Conv", "", 18)
    (True, False)
    """
    schema = _schema(operator, domain, opset)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def write_body(writer: Writer, node: Any) -> Sequence[str] | None:
    """Write a node out as its schema says; None where the schema has no body of tensors for it."""
    graph = writer.graph
    version = graph.domains.get(node.domain, 1) if domain_of(node) else graph.opset
    schema = _schema(node.op_type, domain_of(node), version)
    body = None if schema is None else _body(writer, schema, version)
    if body is None or any(_beyond(inner) for inner in body.node):
        return None
    names = dict(zip(body.input, [*node.input, *[""] * len(body.input)], strict=False)) | {"": ""}
    for inner in body.node:
        if inner.op_type == "Constant":
            names[inner.output[0]] = writer.constant(_value(inner, _attributes(schema, node)))
            continue
        inputs = [names[name] for name in inner.input]
        made = writer.node_like(inner, inputs, _bound(inner, _attributes(schema, node)))
        names |= dict(zip(inner.output, made, strict=True)) | {"": ""}
    return [names[name] for name in body.output[: len(node.output)]]


def _schema(operator: str, domain: str, opset: int) -> Any:
    try:
        return onnx.defs.get_schema(operator, opset, domain)
    except onnx.defs.SchemaError:
        return None


def _body(writer: Writer, schema: Any, opset: int) -> Any:
    """The FunctionProto of a schema, None if there is none for these inputs."""
    node = writer.node
    if schema.has_function:
        return _parsed(schema.get_function_with_opset_version(opset)) or schema.function_body
    if not schema.has_context_dependent_function:
        return None
    types = []
    for name in node.input:
        shape = writer.shape(name) if name else ()
        kind = helper.np_dtype_to_tensor_dtype(writer.dtype(name)) if name else 0
        types.append(helper.make_tensor_type_proto(kind, shape).SerializeToString())
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    for index, version in enumerate(schema.context_dependent_function_opset_versions):
        last = index + 1 == len(schema.context_dependent_function_opset_versions)
        if version <= opset and (last or schema.context_dependent_function_opset_versions[index + 1] > opset):
            found = schema.get_context_dependent_function_with_opset_version(version, plain.SerializeToString(), types)
            return _parsed(found)
    return None


def _parsed(data: bytes) -> Any:
    if not data:
        return None
    body = onnx.FunctionProto()
    body.ParseFromString(data)
    return body


def _beyond(node: Any) -> bool:
    """True for what is no operator on tensors alone."""
    inside = any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)
    return inside or node.op_type.startswith("Random") or any(part in node.op_type for part in SEQUENCES)


def _attributes(schema: Any, node: Any) -> dict[str, Any]:
    """The attributes of the node by name, with the defaults of the schema."""
    known = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}
    return known | {a.name: a for a in node.attribute}


def _bound(inner: Any, given: dict[str, Any]) -> list[Any]:
    """The attributes of a node of the body; those that refer to the operator's own take its values."""
    found = []
    for attribute in inner.attribute:
        source = given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if source is None:
            continue
        copy = AttributeProto()
        copy.CopyFrom(source)
        copy.name = attribute.name
        found.append(copy)
    return found


def _value(inner: Any, given: dict[str, Any]) -> Any:
    """The array of a Constant in the body."""
    (attribute,) = _bound(inner, given)
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value)
    return np.asarray(value, np.float32 if attribute.name.startswith("value_float") else np.int64)
