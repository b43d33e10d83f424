"""Checks that tesa can compile a graph: operators that it knows, finite weights, outputs with a name of their own."""

from collections import Counter
from typing import Any

import numpy as np

from tesa.errors import ModelError, UnsupportedError
from tesa.frontend.control.bodies import CONTROL, OPEN
from tesa.frontend.control.inside import all_nodes
from tesa.frontend.control.sequences import OPERATORS as SEQUENCE_OPERATORS
from tesa.frontend.graph import Graph, domain_of
from tesa.frontend.importer import importable

INFINITY_ALLOWED = {
    "Add", "Clip", "Where", "Max", "Min", "Less", "Greater", "Expand", "Slice", "Reshape", "Unsqueeze", "Squeeze",
    "Trilu", "Concat", "Transpose", "Gather", "Tile", "Identity", "Cast", "Pad", "ScatterND", "ConstantOfShape",
    "Attention",
}  # fmt: skip
RESOLVED = {*OPEN, *SEQUENCE_OPERATORS, "Constant"}
"""Operators that are resolved at import; what cannot be is refused there."""
HOW_TO_ADD = (
    "Replace the operator when exporting (another opset, or a plain composition of other operators); an operator of a "
    "domain of its own can be given a converter, see tesa.frontend.converter"
)
KINDS = {
    "ai.onnx.ml::": "is an operator of classical machine learning (trees, encoders of features), which has no weights "
    "to compile; tesa compiles neural networks. Run this part with onnxruntime, and compile the network before or "
    "behind it",
    "ai.onnx.preview.training::": "trains; tesa compiles models for inference. Export the model without its training",
}
TEXT = "works on text; tesa compiles numbers only. Cut the model off behind this operator, and do its work outside"
TEXT_OPERATORS = ("String", "Regex", "TfIdf", "Tokenizer")
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}


def check_operators(graph: Graph, inside: bool = False) -> None:
    """Raise an UnsupportedError that lists all operators that cannot be imported, or one that draws random numbers.

    inside: look into the bodies of branches and loops as well, of which none can be left out any more.
    """
    bad: dict[str, list[str]] = {}
    for node in all_nodes(graph.nodes) if inside else graph.nodes:
        _check_deterministic(graph, node)
        domain = domain_of(node)
        opset = graph.domains.get(domain, 1) if domain else graph.opset
        resolved = domain == CONTROL or (not domain and node.op_type in RESOLVED)
        if resolved or importable(node.op_type, domain, opset):
            continue
        kind = f"{domain + '::' if domain else ''}{node.op_type}"
        bad.setdefault(kind, []).append(node.name or (node.output[0] if node.output else "?"))
    _refuse_kinds(graph, bad)
    if bad:
        rows = "; ".join(f"{op} ({len(n)}x, first at node {n[0]!r})" for op, n in sorted(bad.items()))
        raise UnsupportedError(
            f"{graph.source} (opset {graph.opset}): no import for the operator{'s' if len(bad) > 1 else ''} {rows}. "
            + HOW_TO_ADD
        )


def _refuse_kinds(graph: Graph, bad: dict[str, list[str]]) -> None:
    """Raise an UnsupportedError that says why, for operators of a kind that tesa does not compile at all."""
    for kind, names in sorted(bad.items()):
        reason = next((why for known, why in KINDS.items() if kind.startswith(known)), "")
        reason = reason or (TEXT if any(part in kind for part in TEXT_OPERATORS) else "")
        if reason:
            raise UnsupportedError(f"{graph.source}: node {names[0]!r} ({kind}): {reason}")


def _check_deterministic(graph: Graph, node: Any) -> None:
    """Raise an UnsupportedError for a node that draws random numbers, as Dropout does in training mode."""
    training = len(node.input) > 2 and node.op_type == "Dropout" and not domain_of(node)
    off = training and node.input[2] in graph.constants and not graph.constants[node.input[2]].any()
    if (node.op_type in RANDOM and not domain_of(node)) or (training and node.input[2] and not off):
        raise UnsupportedError(
            f"{graph.source}: node {node.name or node.output[0]!r} ({node.op_type}) draws random numbers; tesa "
            "compiles models whose outputs depend on their inputs alone. Export the model for inference"
        )


def check_outputs(graph: Graph) -> None:
    """Raise a ModelError if two outputs of the model have one name."""
    for name, times in Counter(output.name for output in graph.outputs).items():
        if times > 1:
            raise ModelError(
                f"{graph.source}: {name!r} is an output of the model {times} times; an output has one name of its own. "
                "Drop the copy, or give it a name with an Identity node"
            )


def check_scales(graph: Graph) -> None:
    """Raise a ModelError for codes on a grid without a step: what is divided by 0 has no code."""
    for node in graph.nodes:
        scale = graph.constants.get(node.input[1]) if node.op_type == "QuantizeLinear" else None
        if scale is not None and bool((scale == 0).any()):
            raise ModelError(
                f"{graph.source}: node {node.name or node.output[0]!r} (QuantizeLinear): its scale {node.input[1]!r} "
                "is 0, and a scale is what numbers are divided by. Quantize the model again"
            )


def check_finite(graph: Graph) -> None:
    """Raise a ModelError if a weight has NaN, or infinities where they make no sense."""
    users = graph.users()
    for name, array in graph.constants.items():
        if array.dtype.kind != "f" or bool(np.isfinite(array).all()) or (array.size == 1 and np.isinf(array)):
            continue
        nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
        operators = {node.op_type for node in users.get(name, []) if node is not None}
        if operators <= (INFINITY_ALLOWED if not nan else {"Where", "Expand"} if nan == array.size else set()):
            continue
        layers = ", ".join(node.name or node.op_type for node in users.get(name, [])[:3] if node is not None)
        raise ModelError(
            f"{graph.source}: tensor {name!r} (used by {layers or 'no node'}) has {nan} NaN and {infinite} infinite "
            f"of {array.size} values. Repair the weights: training has diverged, or the file is damaged"
        )
