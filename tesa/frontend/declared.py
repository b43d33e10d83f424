"""The names and types that a file declares beside its nodes, held against what is so."""

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tesa.attributes.attribute import Shape
from tesa.errors import ModelError
from tesa.frontend.control.inside import graphs_of
from tesa.frontend.graph import Graph
from tesa.frontend.sizes import declared_of, is_fixed


def check_names(graph: Any, source: str) -> None:
    """Raise a ModelError where initializers or inputs of a GraphProto, or of a body in it, have one name, or none."""
    initializers = [tensor.name for tensor in graph.initializer]
    initializers += [tensor.values.name for tensor in graph.sparse_initializer]
    ports = (("input", [value.name for value in graph.input]), ("output", [value.name for value in graph.output]))
    for what, names in (("initializer", initializers), *ports):
        for name, times in Counter(names).items():
            if (times > 1 and what != "output") or not name:  # of outputs, see check_outputs
                told = f"there are {times} {what}s called {name!r}" if name else f"an {what} has no name"
                raise ModelError(f"{source}: {told}; each has a name of its own. Export the model again")
    for node in graph.node:
        for body in graphs_of(node):
            check_names(body, source)


def check_element_types(source: str, values: Any) -> None:
    """Raise a ModelError for an input or output of a type that ONNX does not have."""
    for value in values:
        kind = value.type.tensor_type.elem_type
        if value.type.HasField("tensor_type") and kind not in TensorProto.DataType.values():
            raise ModelError(f"{source}: {value.name!r} is declared with the element type {kind}, which ONNX has not")


def trust_outputs(graph: Graph, shapes: Mapping[str, Shape], dtypes: Mapping[str, Any]) -> None:
    """Leave open what the file declares of outputs and is not so, with a warning, as onnxruntime does.

    shapes, dtypes: of the tensors that are known without what is declared.
    """
    for output in graph.outputs:
        declared, shape, dtype = declared_of(output), shapes.get(output.name), dtypes.get(output.name)
        kind = None if dtype is None else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        wrong_shape = declared is not None and shape is not None and not _fits(declared, shape)
        wrong_type = kind is not None and output.type.tensor_type.elem_type not in (0, kind)
        if wrong_shape:
            warnings.warn(
                f"{graph.source}: output {output.name!r} is declared with the shape {list(declared or ())}, and it has "
                f"{list(shape or ())}; the file is wrong there, and what is computed counts",
                stacklevel=2,
            )
            output.type.tensor_type.ClearField("shape")
        if wrong_type:
            output.type.tensor_type.elem_type = kind


def _fits(declared: tuple[int | str, ...], shape: Shape) -> bool:
    sized = all(n == d for d, n in zip(declared, shape, strict=False) if is_fixed(d))
    return len(declared) == len(shape) and sized
