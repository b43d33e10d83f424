"""The sizes that a model is compiled for: of its inputs by name, or of the dimensions that the file leaves open."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tesa.errors import ModelError, UnsupportedError, UsageError
from tesa.frontend.file import read_model
from tesa.frontend.giants import check_size
from tesa.frontend.names import did_you_mean

DIMENSION = "dim:"
"""In front of a name: that of a dimension, where an input has the same name."""

_NO_NAMES = ("none", "null", "unknown")
"""What exporters write for a dimension that has no name; two of these need not be equal."""

Declared = tuple[int | str, ...]
"""Dimensions as a file declares them: a size above 0, or the name or number that stands for an open one."""


@dataclass(frozen=True)
class Size:
    """One size of a model: the shape of each input, and the sizes of the dimensions that were named for it.

    >>> str(Size({"ids": (1, 16)}, {"tokens": 16}))
    'tokens=16'
    """

    shapes: Mapping[str, tuple[int, ...]]
    dims: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.dims:
            return ", ".join(f"{name}={size}" for name, size in self.dims.items())
        return ", ".join(f"{name}={','.join(map(str, shape))}" for name, shape in self.shapes.items())


def sizes_of(model: str | Path | Any, shapes: Mapping[str, Any] | None = None) -> tuple[Size, ...]:
    """The sizes that `shapes` gives a model (a path or a ModelProto), in their order, each once.

    A key of shapes is an input, with its shape or several ([1, 16], or [[1, 16], [1, 64]]); or a dimension by its name
    in the file, with its size or several (16, or [16, 64]). An input goes first where both have the name, "dim:NAME" is
    the dimension. Every size of one dimension is combined with every size of the others; the shapes of several inputs
    go together in their order. A size that is given for one input holds for every dimension of that name.

    Raises UsageError where something is unknown, does not fit, or is left open; UnsupportedError for an input that is
    no tensor; and as read_model.

    >>> from importlib.resources import files
    >>> [str(size) for size in sizes_of(str(files("tesa.models") / "digits.onnx"))]
    ['image=1,1,64,64']
    """
    source, inputs = _inputs(model)
    return resolve(source, inputs, shapes or {})


def declared_axes(model: str | Path | Any) -> dict[str, dict[int, str]]:
    """The names of the axes of each input that have one; as sizes_of reads a model."""
    declared = {value.name: declared_of(value) or () for value in _inputs(model)[1]}
    return {name: {axis: str(dim) for axis, dim in enumerate(dims) if is_name(dim)} for name, dims in declared.items()}


def _inputs(model: str | Path | Any) -> tuple[str, list[Any]]:
    """The name of a model in messages, and its inputs."""
    source, proto = read_model(model)
    constants = {tensor.name for tensor in proto.graph.initializer}
    constants |= {tensor.values.name for tensor in proto.graph.sparse_initializer}
    return source, [value for value in proto.graph.input if value.name not in constants]


def fix_sizes(source: str, inputs: Sequence[Any], shapes: Mapping[str, Any]) -> None:
    """Write the sizes of all inputs into them (ValueInfoProto). Errors as sizes_of; more than one size is one, too."""
    sizes = resolve(source, inputs, shapes)
    if len(sizes) > 1:
        raise UsageError(
            f"{source}: the shapes give {len(sizes)} sizes ({'; '.join(map(str, sizes))}), and one is expected here; "
            "give one of them"
        )
    for value in inputs:
        tensor = value.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        check_size(sizes[0].shapes[value.name], dtype, f"{source}: input {value.name!r}")
        tensor.shape.ClearField("dim")  # names are gone with it, and a shape that was missing is there
        tensor.shape.SetInParent()
        for n in sizes[0].shapes[value.name]:
            tensor.shape.dim.add().dim_value = n


def open_negative(outputs: Iterable[Any]) -> None:
    """Leave the dimensions of outputs open that a file declares with a number below 0."""
    for value in outputs:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 0:
                dim.Clear()


def declared_of(value: Any) -> Declared | None:
    """The dimensions of an input or output as the file declares them, None where it does not tell how many there are.

    Numbers below 0 and names that say nothing stand for an open dimension, as 0 does; they are kept for messages.
    """
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in tensor.shape.dim)


def is_fixed(dim: int | str) -> bool:
    """True for a dimension whose size is in the file."""
    return isinstance(dim, int) and dim > 0


def is_name(dim: int | str) -> bool:
    """True for an open dimension with a name of its own; equal names are equal sizes.

    >>> [is_name(dim) for dim in ("tokens", "?", "None", "-1", -1, 3)]
    [True, False, False, False, False, False]
    """
    return isinstance(dim, str) and bool(re.search(r"[^\W\d_]", dim)) and dim.lower() not in _NO_NAMES


def resolve(source: str, inputs: Sequence[Any], shapes: Mapping[str, Any]) -> tuple[Size, ...]:
    """sizes_of for the inputs of a graph."""
    for value in inputs:
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.elem_type:
            kind = (value.type.WhichOneof("value") or "value").removesuffix("_type").replace("tensor", "value")
            raise UnsupportedError(
                f"{source}: input {value.name!r} is no tensor but of the kind {kind!r}; tesa compiles tensors only. "
                "Export the model with tensors as its inputs"
            )
        if value.type.tensor_type.elem_type not in TensorProto.DataType.values():
            raise ModelError(
                f"{source}: input {value.name!r} is declared with the element type {value.type.tensor_type.elem_type}, "
                "which ONNX has not. Export the model again"
            )
        if value.type.tensor_type.elem_type == TensorProto.STRING:
            raise UnsupportedError(
                f"{source}: input {value.name!r} holds text; tesa compiles numbers only. Cut the model off behind the "
                "operators on text, and do their work outside"
            )
    asked = _Asked(source, {value.name: declared_of(value) for value in inputs})
    for key, given in shapes.items():
        asked.add(key, given)
    found: dict[tuple[Any, ...], Size] = {}
    for size in asked.sizes():
        found.setdefault(tuple(size.shapes.values()), size)
    return tuple(found.values())


class _Asked:
    """The sizes that a user has asked for. inputs: the shapes of each, dims: the sizes of each."""

    def __init__(self, source: str, declared: Mapping[str, Declared | None]) -> None:
        self.source, self.declared = source, declared
        self.names = {dim: None for dims in declared.values() for dim in dims or () if is_name(dim)}
        self.inputs: dict[str, list[tuple[int, ...]]] = {}
        self.dims: dict[str, tuple[int, ...]] = {}

    def add(self, key: str, given: Any) -> None:
        """Take one entry of the user's mapping."""
        name = key.removeprefix(DIMENSION)
        rows = _rows(given)
        if rows is None:
            raise UsageError(
                f"{self.source}: {key!r} is given as {given!r}; expected whole numbers, as in [1, 16], or several "
                "shapes, as in [[1, 16], [1, 64]]"
            )
        if key in self.declared:
            self.inputs[key] = rows
        elif name in self.names:
            self.dims[name] = tuple(n for row in rows for n in row)
            if not self.dims[name] or min(self.dims[name]) < 1:
                raise UsageError(f"{self.source}: dimension {name!r} is given the sizes {given}; sizes are above 0")
        else:
            self._unknown(name)

    def _unknown(self, name: str) -> None:
        dims = f" and no dimension; its dimensions: {', '.join(map(str, self.names))}" if self.names else ""
        near = did_you_mean(name, [*self.declared, *map(str, self.names)])
        raise UsageError(
            f"{self.source}: a shape is given for {name!r}, but the model has no such input{dims}. "
            f"Its inputs: {', '.join(self.declared)}. {near}".rstrip()
        )

    def sizes(self) -> Iterable[Size]:
        """Every combination."""
        counts = {name: len(rows) for name, rows in self.inputs.items() if len(rows) > 1}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} for {name}" for name, count in counts.items())
            raise UsageError(f"{self.source}: shapes of several inputs go together, but there are {told}")
        for place in range(max(counts.values(), default=1)):
            rows = {name: rows[place if len(rows) > 1 else 0] for name, rows in self.inputs.items()}
            for combination in product(*self.dims.values()):
                yield self._size(rows, dict(zip(self.dims, combination, strict=True)))

    def _size(self, rows: Mapping[str, tuple[int, ...]], dims: Mapping[str, int]) -> Size:
        for name, row in rows.items():
            self._check(name, row, dims)
        known = {**self._implied(rows), **dims}
        shapes = {
            name: rows[name] if name in rows else self._filled(name, declared, known)
            for name, declared in self.declared.items()
        }
        return Size(shapes, dims)

    def _check(self, name: str, row: tuple[int, ...], dims: Mapping[str, int]) -> None:
        declared = self.declared[name]
        if 0 in row:
            self._empty(name, declared or row, row)
        fits = declared is None or len(row) == len(declared)
        kept = all(n == d for n, d in zip(row, declared or (), strict=False) if is_fixed(d))
        if min(row, default=1) < 1 or not fits or not kept:
            also = f"; for the dimension of that name write {DIMENSION}{name}" if name in self.names else ""
            shown = "any" if declared is None else list(declared)
            raise UsageError(
                f"{self.source}: shape {list(row)} is given for input {name!r}, but the model declares {shown}. "
                f"Give as many positive sizes as it has dimensions and keep the fixed ones{also}"
            )
        for n, dim in zip(row, declared or (), strict=False):
            if dim in dims and dims[str(dim)] != n:
                raise UsageError(
                    f"{self.source}: shape {list(row)} is given for input {name!r}, whose dimension {dim!r} is {n} "
                    f"there, but {dims[str(dim)]} is given for {dim!r}; give one of the two"
                )

    def _implied(self, rows: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """The sizes of named dimensions that follow from the shapes of inputs; none where two shapes contradict."""
        found: dict[str, set[int]] = {}
        for name, row in rows.items():
            for n, dim in zip(row, self.declared[name] or (), strict=False):
                if is_name(dim):
                    found.setdefault(str(dim), set()).add(n)
        return {dim: sizes.pop() for dim, sizes in found.items() if len(sizes) == 1}

    def _filled(self, name: str, declared: Declared | None, known: Mapping[str, int]) -> tuple[int, ...]:
        dims = [d if is_fixed(d) else known.get(str(d), d) if is_name(d) else d for d in declared or ()]
        if declared is not None and all(is_fixed(d) for d in dims):
            return tuple(int(d) for d in dims)
        if 0 in dims:
            self._empty(name, tuple(dims), None)
        what = "its number of dimensions"
        if declared is not None:
            what = f"dimension {', '.join(f'{i} ({d!r})' for i, d in enumerate(dims) if not is_fixed(d))} of {dims}"
        example = ",".join(str(d) if is_fixed(d) else "1" for d in dims) or "1,3,224,224"
        named = [str(d) for d in dims if is_name(d)]
        also = f", or --shape {named[0]}=1 by the name of a dimension" if named else ""
        raise UsageError(
            f"{self.source}: the size of input {name!r} is not fixed: {what} has no size; tesa compiles for fixed "
            f"sizes. Give one, for example --shape {name}={example}{also}"
        )

    def _empty(self, name: str, declared: Declared, row: tuple[int, ...] | None) -> None:
        """Raise a UsageError for an input of size 0, which in the file stands for one that is left open."""
        sizes = list(declared if row is None else row)
        said = f"the model declares {list(declared)}"
        text = said if row is None else f"shape {sizes} is given, {said}"
        example = ",".join(str(d) if is_fixed(d) else "1" for d in declared)
        raise UsageError(
            f"{self.source}: input {name!r} has size 0 in dimension {sizes.index(0)} ({text}); tensors without "
            f"elements are not supported. Give positive sizes, for example --shape {name}={example}"
        )


def _rows(given: Any) -> list[tuple[int, ...]] | None:
    """16 -> [(16,)], [1, 16] -> [(1, 16)], [[1, 16], [1, 64]] -> both; None for what is no whole numbers."""
    try:
        if _is_whole(given):
            return [(int(given),)]
        rows = list(given)
        if all(_is_whole(n) for n in rows):
            return [tuple(int(n) for n in rows)]
        if all(not isinstance(row, str) and all(_is_whole(n) for n in row) for row in rows):
            return [tuple(int(n) for n in row) for row in rows]
    except TypeError:
        pass
    return None


def _is_whole(number: Any) -> bool:
    if isinstance(number, bool | float | str | list | tuple) or np.ndim(number):
        return False
    try:
        index(number)
    except TypeError:
        return False
    return True
