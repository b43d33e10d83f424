"""Writes a model's own functions out, also those that are written for another opset than the model is."""

from typing import Any

import onnx
import onnx.inliner

from tesa.errors import UnsupportedError
from tesa.frontend.calls import check_calls
from tesa.frontend.control.inside import all_nodes
from tesa.frontend.graph import domain_of
from tesa.frontend.lift import differs

ALIAS = "ai.onnx"


def inline_functions(proto: Any, source: str) -> Any:
    """The model without functions of its own; the given one stays as it is.

    onnx leaves calls of functions of another opset as they are. Where all of their operators mean the same in both,
    the function is taken as one of the model's opset; else UnsupportedError.
    """
    if not proto.functions:
        return proto
    check_calls(proto, source)
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    other = [f for f in proto.functions if any(_is_other(o, opset) for o in f.opset_import)]
    if opset and other:
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        for function in changed.functions:
            for entry in function.opset_import:
                if _is_other(entry, opset):
                    _check(function, entry.version, opset, source)
                    entry.version = opset
        proto = changed
    return onnx.inliner.inline_local_functions(proto)


def with_plain_domains(proto: Any) -> Any:
    """The model with ONNX's own operators in the domain "", of which "ai.onnx" is another name; the given one stays."""
    if not any(_holds_alias(part) for part in (proto, *proto.functions)):
        return proto
    plain = onnx.ModelProto()
    plain.CopyFrom(proto)
    for part in (plain, *plain.functions):
        for node in all_nodes(part.graph.node if part is plain else part.node):
            node.domain = domain_of(node)
        for entry in part.opset_import:
            entry.domain = "" if entry.domain == ALIAS else entry.domain
    return plain


def _holds_alias(part: Any) -> bool:
    """part: a ModelProto or a FunctionProto."""
    nodes = part.graph.node if isinstance(part, onnx.ModelProto) else part.node
    return any(entry.domain == ALIAS for entry in part.opset_import) or any(n.domain == ALIAS for n in all_nodes(nodes))


def _is_other(entry: Any, opset: int) -> bool:
    return entry.domain in ("", "ai.onnx") and entry.version != opset


def _check(function: Any, old: int, opset: int, source: str) -> None:
    for node in all_nodes(function.node):
        if not domain_of(node) and differs(node.op_type, old, opset):
            raise UnsupportedError(
                f"{source}: function {function.name!r} of the model is written for opset {old} and the model for "
                f"opset {opset}, and {node.op_type} is another operator there. Export both with one opset"
            )
