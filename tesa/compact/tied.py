"""Weights that several layers share, as the table of an embedding that is also the last layer of a language model."""

from collections.abc import Mapping

import numpy as np

from tesa.attributes.attribute import Values
from tesa.compact.analysis import Analysis
from tesa.compact.cut import Use
from tesa.compact.index import Ids
from tesa.frontend.graph import Source


def copies(constants: Mapping[str, Values], sources: Mapping[str, Source]) -> bool:
    """True if one initializer of the file has become several constants of different numbers."""
    found: dict[str, Values] = {}
    for name, array in constants.items():
        source = sources.get(name)
        if source is None or array.ndim < 2:
            continue
        mine = array if source.axes is None else np.transpose(array, np.argsort(source.axes))
        first = found.setdefault(source.initializer, mine)
        if first.shape != mine.shape or not np.array_equal(first, mine):
            return True
    return False


def tie_weights(a: Analysis) -> None:
    """Let every weight that several layers share lose the same of each axis in all of them, in place."""
    for uses in _shared(a).values():
        ranks = {len(axes) for _, axes in uses}
        if len(ranks) > 1 or any(use in a.own_cuts for use, _ in uses):
            for use, _ in uses:
                _pin(a, use)
            continue
        for axis in range(ranks.pop()):
            found = [_along(a, use, axes.index(axis)) for use, axes in uses]
            first = next((ids for ids in found if ids is not None), None)
            for ids in found:
                if ids is not None and first is not None and any(other is None for other in found):
                    a.index.pin(ids)
                elif ids is not None and first is not None:
                    a.index.tie(ids, first)


def _shared(a: Analysis) -> dict[str, list[tuple[Use, tuple[int, ...]]]]:
    """By initializer the uses of it, each with how it was transposed, where there are several."""
    groups: dict[str, list[tuple[Use, tuple[int, ...]]]] = {}
    for i, node in enumerate(a.graph.nodes):
        for position, name in enumerate(node.input):
            array = a.constant(name)
            if array is None or array.ndim < 2:
                continue
            source = a.graph.sources.get(name, Source(name))
            axes = tuple(range(array.ndim)) if source.axes is None else source.axes
            groups.setdefault(source.initializer, []).append(((i, position), axes))
    return {name: uses for name, uses in groups.items() if len(uses) > 1}


def _along(a: Analysis, use: Use, axis: int) -> Ids | None:
    """The ids of a use along one of its axes; None where it stays, and where it is cut together with another one."""
    return next((part.ids for part in a.uses.get(use, ()) if part.axes == (axis,)), None)


def _pin(a: Analysis, use: Use) -> None:
    for part in a.uses.get(use, ()):
        for ids in (part.ids, *part.groups):
            a.index.pin(ids)
