"""The description of a model that is being compiled: its inputs and outputs, and the dimensions that are padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tesa.frontend.graph import Graph
from tesa.frontend.limits import index_bounds, input_limits
from tesa.frontend.padding import padded_dimensions
from tesa.frontend.sizes import Size
from tesa.runtime.manifest import Padding, TensorInfo


def ports(infos: Sequence[Any], graph: Graph | None = None) -> tuple[TensorInfo, ...]:
    """The frontend's inputs or outputs as the runtime describes them. graph: tells what may stand in an index."""
    limits, bounds = ({}, {}) if graph is None else (input_limits(graph), index_bounds(graph))
    return tuple(TensorInfo(i.name, tuple(i.shape), i.dtype, limits.get(i.name), bounds.get(i.name)) for i in infos)


def function_names(sizes: Sequence[Any]) -> list[str]:
    """The name of the function of each size in the library: main, main_1, ...

    >>> function_names([1, 2, 3])
    ['main', 'main_1', 'main_2']
    """
    return ["main", *(f"main_{number}" for number in range(1, len(sizes)))]


def padding_of(
    model: Any, pad: str | Sequence[str], sizes: Sequence[Size], outputs: Sequence[Any]
) -> tuple[Padding, ...]:
    """The dimensions that a user lets calls fall short of. outputs: of the first size, as the frontend has them."""
    if not pad:
        return ()
    shapes: Mapping[str, tuple[int, ...]] = {port.name: port.shape for port in outputs}
    names = [pad] if isinstance(pad, str) else pad
    return tuple(
        Padding(found.dim, found.inputs, found.outputs) for found in padded_dimensions(model, names, sizes, shapes)
    )


def padding_notes(padding: Sequence[Padding]) -> list[str]:
    """The sentences by which a user is told what padding means."""
    return [
        f"shorter inputs are filled up with zeros along {item.dim}, and the model computes with these: what it makes "
        "of the others stays right only where it masks them (give a mask input), or works on each alone"
        for item in padding
    ]
