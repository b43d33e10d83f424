"""Holds every imported tensor against ONNX's own shape inference: a net under all converters, tesa's and TVM's."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, tirx

from tesa.attributes.attribute import Shape
from tesa.errors import UnsupportedError
from tesa.frontend.giants import check_possible
from tesa.frontend.graph import Graph
from tesa.frontend.infer import infer_types


@dataclass(frozen=True)
class Expected:
    """The types that ONNX infers for the tensors of a graph, as far as it can, from its nodes and inputs alone."""

    shapes: dict[str, Shape]
    dtypes: dict[str, Any]

    def check_sizes(self, node: Any, where: str) -> None:
        """Raise a ModelError if a tensor that a node makes would be too large, before it is converted."""
        for name in node.output:
            if name in self.shapes and name in self.dtypes:
                check_possible(self.shapes[name], self.dtypes[name], f"{where}: tensor {name!r}")

    def check(self, node: Any, value: Any, where: str = "") -> None:
        """Raise an UnsupportedError if a tensor that a node makes is not what ONNX says.

        value: the Relax expression, or the tuple of them, that the node has become. where: the file and the node, for a
        tensor that is too large.
        """
        whole = getattr(value, "ty", None)
        fields = [getattr(x, "ty", None) for x in value.fields] if isinstance(value, relax.Tuple) else None
        for name, ty in zip(node.output, fields or getattr(whole, "fields", None) or [whole], strict=False):
            if not name or not isinstance(ty, relax.TensorType) or ty.shape is None:
                continue
            found = [int(n) if isinstance(n, tirx.IntImm) else None for n in ty.shape]
            shape, dtype = self.shapes.get(name), self.dtypes.get(name)
            if None not in found:
                check_possible([int(n) for n in ty.shape], dtype or np.float32, f"{where}: tensor {name!r}")
            sized = shape is None or None in found or tuple(found) == shape
            typed = dtype is None or str(ty.dtype) == np.dtype(dtype).name
            if not sized or not typed:
                expected = f"{'any type' if dtype is None else np.dtype(dtype).name}{list(shape or found)}"
                raise UnsupportedError(
                    f"tensor {name!r} would be imported as {ty.dtype}{found}, but ONNX infers {expected} for it; "
                    "the numbers would be wrong. Export this operator in another way, and report it to tesa"
                )


def expected(graph: Graph) -> Expected:
    """The types that ONNX infers for a graph; what the file declares of its outputs does not count."""
    return Expected(*infer_types(graph, trusting=False))
