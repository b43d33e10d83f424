"""The arrays of tensors in a file: dense ones, sparse ones, and those of Constant nodes."""

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tesa.attributes.attribute import Values
from tesa.errors import ModelError, UnsupportedError


def to_array(tensor: Any, source: str) -> Values:
    """The array of a TensorProto. source: the file, for messages. ModelError, UnsupportedError."""
    if tensor.data_type == onnx.TensorProto.STRING:
        raise UnsupportedError(f"{source}: tensor {tensor.name!r} holds strings; tesa compiles numbers only")
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        raise ModelError(
            f"{source}: the data of tensor {tensor.name!r} do not fill its shape {list(tensor.dims)}: the file is "
            f"truncated or damaged. Export or download the model again ({error})"
        ) from error


def densify(tensor: Any, source: str) -> Values:
    """A SparseTensorProto as an array. indices: (nnz, rank), or (nnz,) into the flattened tensor."""
    name, dims = tensor.values.name, tuple(tensor.dims)
    values, indices = to_array(tensor.values, source), to_array(tensor.indices, source).astype(np.int64)
    dense = np.zeros(dims, values.dtype)
    try:
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
    except (IndexError, ValueError) as error:
        raise ModelError(
            f"{source}: sparse tensor {name!r}: its indices of shape {list(indices.shape)} do not fit its "
            f"{values.size} values and its shape {list(dims)} ({error})"
        ) from error
    return dense


def constant_node(node: Any, source: str) -> Values:
    """The array that a Constant node holds."""
    attributes = {a.name: a for a in node.attribute}
    if "value" in attributes:
        return to_array(attributes["value"].t, source)
    if "sparse_value" in attributes:
        return densify(attributes["sparse_value"].sparse_tensor, source)
    for key, dtype in (("float", np.float32), ("int", np.int64)):
        if f"value_{key}" in attributes:
            return np.asarray(getattr(attributes[f"value_{key}"], key[0]), dtype)
        if f"value_{key}s" in attributes:
            return np.asarray(list(getattr(attributes[f"value_{key}s"], f"{key}s")), dtype)
    raise UnsupportedError(f"{source}: Constant node {node.output[0]!r} holds strings; tesa compiles numbers only")
