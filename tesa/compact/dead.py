"""The dead elements of the weights of an ONNX graph, as propagation found them."""

from collections.abc import Mapping

import numpy as np

from tesa.compact.cut import Use
from tesa.compact.index import Bools
from tesa.frontend.graph import attributes
from tesa.propagate import TesaModel


def dead_elements(model: TesaModel) -> dict[Use, Bools]:
    """Masks of the dead elements of the weights, by node and input."""
    graph = model.imported.graph
    assert graph is not None
    nodes = {graph.layers[node.output[0]]: i for i, node in enumerate(graph.nodes) if node.output[0] in graph.layers}
    found: dict[Use, Bools] = {}
    for uses in model.imported.weights.values():
        for use in uses:
            facts, i = model.weights.get(use.var), nodes.get(use.layer)
            if facts is None or i is None or facts.argument != use.argument:
                continue
            node = graph.nodes[i]
            array, words = graph.constants[node.input[use.argument]], attributes(node)
            turned = node.op_type == "Gemm" and words.get(("transA", "transB")[use.argument], 0)
            weight, zero = (w.T if turned else w for w in (facts.weight, facts.effective_weight == 0))
            # the weight with a zero point, of an integer convolution, is no longer the array of the file: it stays
            scale = array.dtype.type(words.get("alpha", 1.0) if node.op_type == "Gemm" and use.argument == 1 else 1)
            same = weight.shape == array.shape and np.array_equal(weight, array * scale)
            if same and (zero & (array != 0)).any():
                found[i, use.argument] = zero
    return found | _dead_factors(model, nodes)


def _dead_factors(model: TesaModel, nodes: Mapping[str, int]) -> dict[Use, Bools]:
    """Masks of the dead elements of einsums' weights, which are no layers but are leant on as well."""
    graph = model.imported.graph
    assert graph is not None
    found: dict[Use, Bools] = {}
    for key, effective in model.effective_constants().items():
        var, _, argument = key.partition("#")
        i, position = nodes.get(model.imported.names.get(var, ""), -1), int(argument or 0)
        if i >= 0 and graph.nodes[i].op_type == "Einsum":
            array = graph.constants.get(graph.nodes[i].input[position])
            if array is not None and array.shape == effective.shape:
                found[i, position] = effective == 0
    return found
