"""Tensors of whole numbers that no rounding of reals leads to: every engine that computes rightly has the same."""

from collections.abc import Mapping
from typing import Any

from onnx import AttributeProto, TensorProto, defs

INTEGERS = {
    code for name, code in TensorProto.DataType.items() if name.startswith(("INT", "UINT")) or name == "BOOL"
}  # fmt: skip
REAL_INSIDE = {"Resize", "Upsample", "ReduceMean", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "Pow", "Gemm"}
"""Operators that may compute with reals on the way from integers to integers."""

_NAMES = {f"tensor({name.lower()})": code for name, code in TensorProto.DataType.items()}


def whole_tensors(proto: Any) -> frozenset[str]:
    """The tensors of a ModelProto that standard operators make of integer inputs and constants alone, without reals.

    >>> from onnx import parser
    >>> text = '<ir_version: 8, opset_import: ["" : 17]> g (uint8[2, 3] x, float[2] r) => (int32[2, 3] y, int32[2] z)'
    >>> m = parser.parse_model(text + '{ w = Cast<to = 6>(x) y = Add(w, w) z = Cast<to = 6>(r) }')
    >>> sorted(whole_tensors(m))
    ['w', 'x', 'y']
    """
    codes = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    codes |= {value.name: value.type.tensor_type.elem_type for value in proto.graph.input if value.name not in codes}
    whole = {name: code for name, code in codes.items() if code in INTEGERS}
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    for node in proto.graph.node:
        whole |= _outputs(node, whole, opset)
    return frozenset(whole)


def _outputs(node: Any, whole: Mapping[str, int], opset: int) -> dict[str, int]:
    """The types of a node's outputs that are such tensors."""
    if node.domain not in ("", "ai.onnx") or node.op_type in REAL_INSIDE:
        return {}
    read = [name for name in node.input if name]
    inner = any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)
    shape = node.op_type in ("Shape", "Size")  # they ask for no number of their input
    if inner or not (shape or all(name in whole for name in read)):
        return {}
    if node.op_type == "Constant":
        code = _constant(node)
        return {node.output[0]: code} if code in INTEGERS else {}
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:  # a function of the model
        return {}
    found = {}
    for place, name in enumerate(node.output):
        formal = schema.outputs[min(place, len(schema.outputs) - 1)].type_str
        code = _type(node, formal, schema, whole)
        if name and code in INTEGERS:
            found[name] = code
    return found


def _constant(node: Any) -> int:
    """The type of a Constant, TensorProto.UNDEFINED where it is no tensor and no int."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return int(attribute.t.data_type)
        if attribute.name in ("value_int", "value_ints"):
            return int(TensorProto.INT64)
    return int(TensorProto.UNDEFINED)


def _type(node: Any, formal: str, schema: Any, whole: Mapping[str, int]) -> int:
    """The type of an output that the schema calls `formal`, TensorProto.UNDEFINED where it is not told."""
    if formal in _NAMES:
        return int(_NAMES[formal])
    for place, name in enumerate(node.input):
        same = schema.inputs[min(place, len(schema.inputs) - 1)].type_str == formal
        if name in whole and same:
            return whole[name]
    if node.op_type == "Cast":
        return next((int(a.i) for a in node.attribute if a.name == "to"), TensorProto.UNDEFINED)
    if node.op_type == "ConstantOfShape":
        return next((int(a.t.data_type) for a in node.attribute if a.name == "value"), TensorProto.UNDEFINED)
    allowed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == formal), ())
    codes = [_NAMES.get(text, TensorProto.UNDEFINED) for text in allowed]
    return int(codes[0] if len(codes) == 1 else TensorProto.UNDEFINED)
