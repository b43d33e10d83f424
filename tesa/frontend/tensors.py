"""The arrays of tensors in a file: dense ones, sparse ones, and those of Constant nodes."""

from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper

from tesa.attributes.attribute import Values
from tesa.errors import ModelError, UnsupportedError
from tesa.frontend.control.inside import sparse_tensors_of
from tesa.frontend.giants import ALLOW, GROWTH, check_size, largest, readable

_ITEM = 4  # bytes of an element, about
_KINDS = AttributeProto
CONSTANTS = {
    "value": _KINDS.TENSOR, "sparse_value": _KINDS.SPARSE_TENSOR, "value_float": _KINDS.FLOAT,
    "value_floats": _KINDS.FLOATS, "value_int": _KINDS.INT, "value_ints": _KINDS.INTS, "value_string": _KINDS.STRING,
    "value_strings": _KINDS.STRINGS,
}  # fmt: skip
"""The attributes of a Constant node, of which it has one, and their types."""


def to_array(tensor: Any, source: str) -> Values:
    """The array of a TensorProto. source: the file, for messages. ModelError, UnsupportedError."""
    if tensor.data_type == onnx.TensorProto.STRING:
        raise UnsupportedError(f"{source}: tensor {tensor.name!r} holds strings; tesa compiles numbers only")
    if min(tensor.dims, default=0) < 0:  # NumPy would take one of them for what is left
        raise ModelError(
            f"{source}: tensor {tensor.name!r} has the shape {list(tensor.dims)}; sizes are not below 0. Export it "
            "again"
        )
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        raise ModelError(
            f"{source}: the data of tensor {tensor.name!r} do not fill its shape {list(tensor.dims)}: the file is "
            f"truncated or damaged. Export or download the model again ({error})"
        ) from error


def densify(tensor: Any, source: str) -> Values:
    """A SparseTensorProto as an array. indices: (nnz, rank), or (nnz,) into the flattened tensor; in rising order."""
    name, dims = tensor.values.name, tuple(tensor.dims)
    values, indices = to_array(tensor.values, source), to_array(tensor.indices, source)
    if min(dims, default=0) < 0:
        raise ModelError(f"{source}: sparse tensor {name!r} has the shape {list(dims)}; sizes are not below 0")
    check_size(dims, values.dtype, f"{source}: sparse tensor {name!r}")
    flat = _flat(indices, values, dims, f"{source}: sparse tensor {name!r}")
    dense = np.zeros(dims, values.dtype)
    dense.reshape(-1)[flat] = values
    return dense


def check_sparse(graph: Any, source: str, size: int) -> None:
    """Raise a ModelError where the sparse tensors of a GraphProto, each of a size that may be, are giants together.

    size: the bytes of the file. What each is by itself is checked by densify.
    """
    total = 0
    for tensor in sparse_tensors_of(graph):
        dense = prod(map(int, tensor.dims)) * _ITEM
        total += dense if 0 < dense <= largest() else 0
    room = largest() + GROWTH * size
    if total > room:
        raise ModelError(
            f"{source}: its sparse tensors would take up to {readable(total)} with their zeros, and at most "
            f"{readable(room)} is allocated for them. Check their shapes; {ALLOW}"
        )


def _flat(indices: Values, values: Values, dims: tuple[int, ...], where: str) -> Values:
    """The places of the values in the flattened tensor. ModelError unless each is a place of its own, in order."""
    found, told = indices.astype(np.int64), f"{where}: its indices of shape {list(indices.shape)}"
    if values.ndim != 1 or indices.shape not in ((values.size,), (values.size, len(dims))) or indices.dtype.kind != "i":
        raise ModelError(
            f"{told} ({indices.dtype}) do not fit its values of shape {list(values.shape)} and its shape {list(dims)}; "
            "expected one whole number, or one for each axis, for each value"
        )
    sizes = dims if found.ndim == 2 else (prod(dims),)
    rows = found.reshape(len(found), len(sizes))
    bad = ((rows < 0) | (rows >= np.asarray(sizes, np.int64))).any(axis=1)
    if bad.any():
        raise ModelError(f"{told} hold {rows[bad][0].tolist()}, which is no place in its shape {list(dims)}")
    places: Values = np.asarray(np.ravel_multi_index(tuple(rows.T), sizes)) if rows.size else rows.reshape(-1)
    if (np.diff(places) <= 0).any():
        raise ModelError(f"{told} are not in rising order, or name a place twice. Export the model again")
    return places


def constant_node(node: Any, source: str) -> Values:
    """The array that a Constant node holds."""
    attributes = {a.name: a for a in node.attribute}
    if len(node.output) != 1 or not node.output[0] or len(node.attribute) != 1 or node.input:
        raise ModelError(
            f"{source}: Constant node {(node.name or next(iter(node.output), '?'))!r} has {len(node.input)} inputs, "
            f"{len(node.attribute)} attributes and {len(node.output)} outputs, expected none, one and one"
        )
    ((name, attribute),) = attributes.items()
    if name not in CONSTANTS or attribute.type not in (0, CONSTANTS[name]) or attribute.ref_attr_name:
        raise ModelError(
            f"{source}: Constant node {node.output[0]!r} has the attribute {name!r} of type {attribute.type}; expected "
            f"one of {', '.join(CONSTANTS)}"
        )
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
