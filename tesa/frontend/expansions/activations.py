"""Activations that are short formulas of others."""

from collections.abc import Sequence
from typing import Any

from tesa.frontend.expand import Writer, expands


@expands("Celu")
def celu(writer: Writer, node: Any) -> Sequence[str]:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1)), alpha 1 if it is not given."""
    x = node.input[0]
    alpha, zero, one = (writer.constant(v, writer.dtypes[x]) for v in (writer.options.get("alpha", 1.0), 0.0, 1.0))
    grown = writer.add("Sub", writer.add("Exp", writer.add("Div", x, alpha)), one)
    below = writer.add("Min", zero, writer.add("Mul", alpha, grown))
    return [writer.add("Add", writer.add("Relu", x), below)]
