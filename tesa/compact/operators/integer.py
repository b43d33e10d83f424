"""Ties of products of integers, and of what makes the integers at run time.

A code less its zero point is the number that is computed with, so a channel whose numbers are all 0 counts for nothing
in the product although its codes are no zeros, and may not even be known before the model runs.
"""

from typing import Any

from tesa.compact.analysis import Analysis, Contraction, Term, structure, ties
from tesa.compact.index import Structure
from tesa.compact.labels import Labels, tie_labels
from tesa.frontend.graph import attributes
from tesa.propagate.labels import matmul_axes

ZERO_POINT = {"MatMulInteger": 2, "MatMulInteger16": 2, "ConvInteger": 2, "DequantizeLinear": 2}
"""The input that is taken from input 0 by each operator that reads codes."""


@ties("DynamicQuantizeLinear")
def dynamic(a: Analysis, i: int, node: Any) -> Structure | None:
    """The range always has 0 in it, so numbers that are 0 may go without changing scale or zero point.

    All that reads the codes has to take the zero point from them.
    """
    name, codes, zero = node.input[0], node.output[0], node.output[2] if len(node.output) > 2 else ""
    readers = [reader for reader in a.graph.users().get(codes, []) if reader is not None]
    fits = all(
        ZERO_POINT.get(reader.op_type) and list(reader.input).count(codes) == 1 and reader.input[0] == codes
        and len(reader.input) > 2 and reader.input[2] == zero
        for reader in readers
    )  # fmt: skip
    if not zero or not fits or any(output.name == codes for output in a.graph.outputs):
        return None
    a.codes[codes] = name
    for reader in readers:
        if reader.op_type == "DequantizeLinear":
            a.codes[reader.output[0]] = name
    return a.of(name)


@ties("MatMulInteger", "MatMulInteger16")
def matmul_integer(a: Analysis, i: int, node: Any) -> Structure | None:
    """(a - a_zero) @ (b - b_zero): zero points of rows and columns go with them."""
    product = matmul_axes(a.shape(node.input[0]), a.shape(node.input[1]))
    labels: dict[int, Labels] = dict(enumerate(product.operands))
    for position, label in ((2, "m"), (3, "n")):
        if len(node.input) > position and node.input[position]:
            shape = a.shape(node.input[position])
            if len(shape) > 1 or (shape not in ((), (1,)) and a.constant(node.input[position]) is None):
                return None
            labels[position] = (label,) * len(shape)
    return tie_labels(a, i, labels, product.out)


@ties("ConvInteger")
def conv_integer(a: Analysis, i: int, node: Any) -> Structure | None:
    """Channels in and out; the pixels, the taps of the window, and what has groups, stay."""
    name = node.input[0]
    if int(attributes(node).get("group", 1)) != 1 or a.constant(node.input[1]) is None or a.constant(name) is not None:
        return None
    a.structures[name] = a.index.drop(a.of(name), range(2, len(a.shape(name))))
    ins, outs = a.channels(name), a.fresh(a.shape(node.output[0])[1])
    zero = node.input[3] if len(node.input) > 3 else ""
    if zero and a.constant(zero) is None:
        return None
    if zero and a.shape(zero) not in ((), (1,)):
        a.use(i, 3, (0, outs))
    a.use(i, 1, (0, outs), (1, ins))
    if ins is not None:
        a.contractions.append(Contraction(i, "", (Term(ins, {0: (1,)}),)))
    batch = next((part.ids for part in a.of(name) if part.axes == (0,)), None)
    return structure((0, batch), (1, outs))
