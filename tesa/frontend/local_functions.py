"""Writes a model's own functions out, also those that are written for another opset than the model is."""

from collections.abc import Iterable
from typing import Any

import onnx
import onnx.inliner
from onnx import AttributeProto

from tesa.errors import UnsupportedError
from tesa.frontend.graph import domain_of
from tesa.frontend.lift import differs


def inline_functions(proto: Any, source: str) -> Any:
    """The model without functions of its own; the given one stays as it is.

    onnx leaves calls of functions of another opset as they are. Where all of their operators mean the same in both,
    the function is taken as one of the model's opset; else UnsupportedError.
    """
    if not proto.functions:
        return proto
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


def _is_other(entry: Any, opset: int) -> bool:
    return entry.domain in ("", "ai.onnx") and entry.version != opset


def _check(function: Any, old: int, opset: int, source: str) -> None:
    for node in _all(function.node):
        if not domain_of(node) and differs(node.op_type, old, opset):
            raise UnsupportedError(
                f"{source}: function {function.name!r} of the model is written for opset {old} and the model for "
                f"opset {opset}, and {node.op_type} is another operator there. Export both with one opset"
            )


def _all(nodes: Iterable[Any]) -> Iterable[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _all(attribute.g.node)
