"""Finds the size of a model that takes given arrays, and fills them up with zeros where the model allows that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tesa.errors import UsageError
from tesa.runtime.inputs import Array
from tesa.runtime.manifest import Padding, SizeInfo, TensorInfo

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Fit:
    """A size that takes some arrays, and how long these are along the padded dimensions where they are shorter."""

    size: SizeInfo
    lengths: Mapping[str, int]

    @property
    def exact(self) -> bool:
        """True where nothing has to be filled up."""
        return not self.lengths


def fitting(sizes: Sequence[SizeInfo], padding: Sequence[Padding], shapes: Shapes) -> Fit:
    """The size for arrays of these shapes, by the names of the inputs: the one that is theirs, else the smallest one
    that they can be filled up to. UsageError, with the sizes that there are, where there is none.

    >>> from tesa.choose.plan import Plan
    >>> sizes = [
    ...     SizeInfo("main", (TensorInfo("ids", (1, n), "int64"),), (), Plan("x86", 1, ()), {"tokens": n})
    ...     for n in (16, 64)
    ... ]
    >>> padding = [Padding("tokens", {"ids": (1,)}, {})]
    >>> str(fitting(sizes, padding, {"ids": (1, 20)}).size), fitting(sizes, padding, {"ids": (1, 20)}).lengths
    ('tokens=64', {'tokens': 20})
    """
    for size in sizes:
        if all(shapes[info.name] == info.shape for info in size.inputs):
            return Fit(size, {})
    fits = [fit for size in sizes if (fit := _filled(size, padding, shapes)) is not None]
    if fits:
        return min(fits, key=lambda fit: sum(prod(info.shape) for info in fit.size.inputs))
    given = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    known = "; ".join(f"{size}: {_shapes(size.inputs)}" for size in sizes)
    raise UsageError(
        f"no size of the model takes inputs of the shapes {given}. It was compiled for {known}. Give one of these, or "
        f"compile it for this one too; {_advice(padding)}"
    )


def filled(array: Array, shape: tuple[int, ...]) -> Array:
    """The array with zeros behind it along each axis, up to a shape."""
    larger = np.zeros(shape, array.dtype)
    larger[tuple(map(slice, array.shape))] = array
    return larger


def cut(array: Array, name: str, padding: Sequence[Padding], lengths: Mapping[str, int]) -> Array:
    """An output without what belongs to the padding."""
    stops = [*array.shape]
    for item in padding:
        for axis in item.outputs.get(name, ()):
            stops[axis] = lengths.get(item.dim, stops[axis])
    return array if stops == [*array.shape] else np.ascontiguousarray(array[tuple(map(slice, stops))])


def _filled(size: SizeInfo, padding: Sequence[Padding], shapes: Shapes) -> Fit | None:
    """The fit of arrays that are as long as a size, or shorter along padded dimensions; None where they are not."""
    lengths: dict[str, int] = {}
    for name, axis, wanted, given in _axes(size, shapes):
        dim = next((item.dim for item in padding if axis in item.inputs.get(name, ())), None)
        if dim is None and given != wanted:
            return None
        if dim is not None and (not 0 < given <= wanted or lengths.setdefault(dim, given) != given):
            return None
    return Fit(size, lengths) if lengths and len(shapes) == len(size.inputs) and _ranks(size, shapes) else None


def _axes(size: SizeInfo, shapes: Shapes) -> Iterator[tuple[str, int, int, int]]:
    for info in size.inputs:
        for axis, pair in enumerate(zip(info.shape, shapes[info.name], strict=False)):
            yield info.name, axis, *pair


def _ranks(size: SizeInfo, shapes: Shapes) -> bool:
    return all(len(info.shape) == len(shapes[info.name]) for info in size.inputs)


def _shapes(infos: Sequence[TensorInfo]) -> str:
    return ", ".join(f"{info.name} {list(info.shape)}" for info in infos)


def _advice(padding: Sequence[Padding]) -> str:
    if padding:
        return f"shorter ones are filled up along {', '.join(item.dim for item in padding)} only"
    return "where zeros behind the inputs do no harm, compile it with --pad DIMENSION"
