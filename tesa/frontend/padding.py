"""The axes along which inputs may be filled up with zeros, and the outputs that are as long as these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesa.errors import TesaError, UsageError
from tesa.frontend.names import did_you_mean
from tesa.frontend.onnx import import_onnx
from tesa.frontend.sizes import Size, declared_axes


@dataclass(frozen=True)
class PaddedDimension:
    """A dimension by its name in the file, and its axes in the inputs and outputs of the model."""

    dim: str
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]


def padded_dimensions(
    model: str | Path | Any, names: Sequence[str], sizes: Sequence[Size], outputs: Mapping[str, tuple[int, ...]]
) -> tuple[PaddedDimension, ...]:
    """The dimensions that a user wants filled up. outputs: the shapes of the first of the sizes.

    An output is cut along the axes that are as long as the dimension is; that is found by importing the model in
    another size. Raises UsageError for a dimension that the model does not have, and for an output that depends on it
    in another way, as behind a stride: what of it belongs to the padding is not known.
    """
    axes = declared_axes(model)
    known = sorted({dim for dims in axes.values() for dim in dims.values()})
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no dimension {name!r} to fill up; the inputs of the model have "
                f"{', '.join(known) or 'none with a name'}. {did_you_mean(name, known)}".rstrip()
            )
    return tuple(_padded(model, name, axes, sizes, outputs) for name in dict.fromkeys(names))


def _padded(
    model: Any,
    name: str,
    axes: Mapping[str, Mapping[int, str]],
    sizes: Sequence[Size],
    outputs: Mapping[str, tuple[int, ...]],
) -> PaddedDimension:
    inputs = {
        port: tuple(axis for axis, dim in dims.items() if dim == name)
        for port, dims in axes.items()
        if name in dims.values()
    }
    found = [next(size.shapes[port][chosen[0]] for port, chosen in inputs.items()) for size in sizes]
    first = found[0]
    other = next((length for length in found if length != first), first - 1 or 2)
    shapes = {port: [*shape] for port, shape in sizes[0].shapes.items()}
    for port, chosen in inputs.items():
        for axis in chosen:
            shapes[port][axis] = other
    try:
        changed = {port.name: port.shape for port in import_onnx(model, shapes=shapes).outputs}
    except TesaError as error:
        raise UsageError(f"inputs cannot be filled up along {name!r}: with {name}={other}: {error}") from error
    cuts = {port: _cut(name, port, shape, changed[port], first, other) for port, shape in outputs.items()}
    return PaddedDimension(name, inputs, {port: chosen for port, chosen in cuts.items() if chosen})


def _cut(
    name: str, port: str, shape: tuple[int, ...], changed: tuple[int, ...], first: int, other: int
) -> tuple[int, ...]:
    """The axes of an output that are as long as the dimension, which is first in one shape and other in the other."""
    differ = [axis for axis, (one, two) in enumerate(zip(shape, changed, strict=True)) if one != two]
    for axis in differ:
        if (shape[axis], changed[axis]) != (first, other):
            raise UsageError(
                f"inputs cannot be filled up along {name!r}: output {port!r} has {shape[axis]} elements along its axis "
                f"{axis} where {name} is {first}, and {changed[axis]} where it is {other}; which of them belong to the "
                "zeros is not known. Compile the sizes that you need instead"
            )
    return tuple(differ)
