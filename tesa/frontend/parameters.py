"""Inputs of operators that have to be constants: sizes, axes and steps, which a shape is made of."""

from collections.abc import Iterable
from typing import Any

from tesa.frontend.graph import Graph, domain_of

PARAMETERS: dict[str, tuple[int, ...]] = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "Slice": (1, 2, 3, 4), "Squeeze": (1,), "Unsqueeze": (1,),
    "TopK": (1,), "Split": (1,), "SplitToSequence": (1,), "Pad": (1, 3), "ConstantOfShape": (0,), "Range": (0, 1, 2),
    "OneHot": (1, 2), "CumSum": (1,), "CumProd": (1,), "Resize": (1, 2, 3), "Upsample": (1,), "AffineGrid": (1,),
    "HannWindow": (0,),
    "HammingWindow": (0,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "MaxUnpool": (2,),
    "Trilu": (1,), "EyeLike": (), "DFT": (1, 2), "STFT": (1, 3), "MelWeightMatrix": (0, 1, 2, 3, 4),
    "NonMaxSuppression": (2,), "GroupQueryAttention": (6,),
    **{f"Reduce{kind}": (1,) for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum",
                                          "SumSquare")},
}  # fmt: skip
"""The numbers of these inputs, by operator."""


def open_parameter(graph: Graph, nodes: Iterable[Any]) -> str:
    """The parameter that is no constant of the first of these nodes that has one, in words; "" if there is none."""
    inputs = {value.name for value in graph.inputs}
    for node in nodes:
        for index in () if domain_of(node) not in ("", "com.microsoft") else PARAMETERS.get(node.op_type, ()):
            name = node.input[index] if index < len(node.input) else ""
            if not name or name in graph.constants:
                continue
            origin = "is an input of the model" if name in inputs else "is computed while the model runs"
            return (
                f"its input {name!r} {origin}, and has to be a constant; tesa compiles for fixed sizes. "
                "Make it an initializer, or export the model with fixed sizes"
            )
    return ""
