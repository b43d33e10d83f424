"""The types of results that ONNX cannot infer: of operators of other domains, by the converter that they have."""

from typing import Any

import numpy as np
import tvm
from onnx import TensorProto, helper
from tvm import relax

from tesa.attributes.attribute import Shape
from tesa.base.quiet import quiet
from tesa.frontend.expressions import constant
from tesa.frontend.graph import Graph, attributes, domain_of
from tesa.frontend.names import identifier
from tesa.frontend.registry import find_converter


def custom_types(graph: Graph, shapes: dict[str, Shape], dtypes: dict[str, Any]) -> list[Any]:
    """Declarations of results that are missing in `shapes` but follow from the converter of their operator.

    Only those whose inputs are known: what follows from the new ones is found in the next call.
    """
    found: list[Any] = []
    for node in graph.nodes:
        converter = find_converter(node.op_type, domain_of(node)) if domain_of(node) else None
        wanted = [name for name in node.output if name and name not in shapes]
        known = all(name in shapes or name in graph.constants for name in node.input if name)
        if converter is None or not wanted or not known:
            continue
        for name, ty in zip(node.output, _types(graph, node, converter, shapes, dtypes), strict=False):
            if name in wanted and (value := _declaration(name, ty)) is not None:
                found.append(value)
    return found


def _types(graph: Graph, node: Any, converter: Any, shapes: dict[str, Shape], dtypes: dict[str, Any]) -> list[Any]:
    """The Relax types of the results of a node; none where its converter fails, which the import reports."""
    bb = relax.BlockBuilder()
    inputs = [_input(graph, name, shapes, dtypes) if name else None for name in node.input]
    params = [x for x in inputs if isinstance(x, relax.Var)]
    given = {**attributes(node), "tvm_custom": {"name": node.name, "num_outputs": len(node.output)}}
    with quiet():
        try:
            with bb.function("types", params):
                value = converter(bb, inputs, given)
                ty = None if value is None else bb.normalize(value).ty
                bb.emit_func_output(relax.const(0))
        except Exception:  # a user's converter may fail in any way
            return []
    return list(ty.fields) if isinstance(ty, relax.TupleType) else [ty]


def _input(graph: Graph, name: str, shapes: dict[str, Shape], dtypes: dict[str, Any]) -> Any:
    if name in graph.constants:
        return constant(graph.constants[name])
    return relax.Var(identifier(name), relax.TensorType(shapes[name], str(np.dtype(dtypes[name]))))


def _declaration(name: str, ty: Any) -> Any:
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        return None
    if not all(isinstance(n, tvm.tirx.IntImm) for n in ty.shape):
        return None
    kind = TensorProto.BOOL if ty.dtype == "bool" else helper.np_dtype_to_tensor_dtype(np.dtype(str(ty.dtype)))
    return helper.make_tensor_value_info(name, kind, [int(n) for n in ty.shape])
