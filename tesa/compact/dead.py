"""The dead elements of the weights of an ONNX graph, as propagation found them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tesa.attributes.attribute import Values
from tesa.compact.cut import Use
from tesa.compact.index import Bools
from tesa.frontend.graph import attributes
from tesa.propagate import TesaModel, WeightFacts


def dead_elements(model: TesaModel) -> dict[Use, Bools]:
    """Masks of the dead elements of the weights, by node and input."""
    graph = model.imported.graph
    assert graph is not None
    nodes: dict[str, list[int]] = {}  # several, where one operator of the file was written out
    for i, node in enumerate(graph.nodes):
        nodes.setdefault(graph.layers.get(node.output[0], ""), []).append(i)
    found: dict[Use, Bools] = {}
    for uses in model.imported.weights.values():
        for use in uses:
            facts = model.weights.get(use.var)
            if facts is None or facts.argument != use.argument:
                continue
            for i in nodes.get(use.layer, ()):
                node = graph.nodes[i]
                array = graph.constants.get(node.input[use.argument]) if use.argument < len(node.input) else None
                zero = None if array is None else _dead_of(node, array, facts, use.argument)
                if zero is not None:
                    found[i, use.argument] = zero
    return found | _dead_factors(model, nodes)


def _dead_of(node: Any, array: Values, facts: WeightFacts, argument: int) -> Bools | None:
    """The dead elements of a node's weight as a mask of its array; None if there are none, or the array is another."""
    words = attributes(node)
    turned = node.op_type == "Gemm" and words.get(("transA", "transB")[argument], 0)
    weight, zero = (w.T if turned else w for w in (facts.weight, facts.effective_weight == 0))
    # the weight with a zero point, of an integer convolution, is no longer the array of the file: it stays
    scale = array.dtype.type(words.get("alpha", 1.0) if node.op_type == "Gemm" and argument == 1 else 1)
    same = weight.shape == array.shape and np.array_equal(weight, array * scale)
    return zero if same and (zero & (array != 0)).any() else None


def _dead_factors(model: TesaModel, nodes: Mapping[str, Sequence[int]]) -> dict[Use, Bools]:
    """Masks of the dead elements of einsums' weights, which are no layers but are leant on as well."""
    graph = model.imported.graph
    assert graph is not None
    found: dict[Use, Bools] = {}
    for key, effective in model.effective_constants().items():
        var, _, argument = key.partition("#")
        position = int(argument or 0)
        for i in nodes.get(model.imported.names.get(var, ""), ()):
            if graph.nodes[i].op_type != "Einsum" or position >= len(graph.nodes[i].input):
                continue
            array = graph.constants.get(graph.nodes[i].input[position])
            if array is not None and array.shape == effective.shape:
                found[i, position] = effective == 0
    return found
