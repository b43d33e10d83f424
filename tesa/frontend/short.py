"""Reals of 8 bits and fewer: weights may be stored as them, activations are not rounded to them."""

import re
from typing import Any

from onnx import TensorProto

from tesa.errors import UnsupportedError
from tesa.frontend.expressions import at

SHORT = re.compile(r"float[468]_?e", re.IGNORECASE)
"""How the names of such types begin, in ONNX and in NumPy."""
LIKE = {"Cast": None, "CastLike": 1, "QuantizeLinear": 2}
"""The operators that round, and the input whose type they round to."""


def check_rounding(node: Any, inputs: Any, attrs: dict[str, Any]) -> None:
    """Raise an UnsupportedError for a node that rounds what the model computes to such a type.

    TVM would leave the rounding out, so that the numbers would be other ones.
    """
    if node.op_type not in LIKE:
        return
    index = LIKE[node.op_type]
    like = None if index is None else at(inputs, index)
    code = int(attrs.get("to", 0) or attrs.get("output_dtype", 0))
    kind = TensorProto.DataType.Name(code).lower() if code else "" if like is None else str(like.ty.dtype)
    if SHORT.match(kind):
        raise UnsupportedError(
            f"it rounds to {kind} when the model runs; tesa reads weights of that type, but computes activations in "
            "float32. Quantize activations to int8, or take the rounding out of the model"
        )
