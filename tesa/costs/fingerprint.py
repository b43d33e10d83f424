"""Fingerprints of the families' estimates: what a table learnt from estimates is worthless when these change."""

import hashlib
from dataclasses import replace

import tesa.decompose  # noqa: F401  registers its families, and the plain ones
from tesa.attributes.impose import Imposed
from tesa.base.installed import source_digest
from tesa.costs.grid import GridLayer, grid_layer
from tesa.schedules.registry import find
from tesa.schedules.types import Core, Problem

_PROBES = (0, 3, 6, 7, 9, 13, 14, 21)  # small layers of every class of the grid
_SEED = 4
_MIXED = GridLayer(
    Problem("linear", 128, 128, 64, (1, 128, 64), (1, 128, 64)), Imposed.parse("0.7:block=32x32"), 0.0, 1, 0.02
)  # what decompositions are for
_COLD = GridLayer(
    Problem("linear", 256, 4096, 1, (1, 4096, 1), (1, 256, 1)), Imposed.parse("0.8"), 0.0, _SEED
)  # a weight that comes from memory


def fingerprint(name: str, core: Core) -> str:
    """16 hexadecimal digits that change when a family's estimates do; "" for a family that is gone."""
    try:
        family = find(name, core.kind)
    except KeyError:
        return ""
    hasher = hashlib.sha256()
    for layer in (*(_small(grid_layer(index, _SEED)) for index in _PROBES), _MIXED, _COLD):
        weight = layer.weight()
        for config in list(family.space(layer.problem, weight, core))[:3]:
            expected = family.estimate(layer.problem, weight, core, config)
            hasher.update(f"{sorted(config.items())} {expected:.6g}\n".encode())
    return hasher.hexdigest()[:16]


def _small(layer: GridLayer) -> GridLayer:
    """The layer with at most 256 rows, so that a fingerprint takes milliseconds."""
    problem = layer.problem
    if problem.op == "depthwise" or problem.m <= 256:
        return layer
    shape = tuple(256 if axis == problem.y_shape.index(problem.m) else s for axis, s in enumerate(problem.y_shape))
    return replace(layer, problem=replace(problem, m=256, y_shape=shape))


def code_digest() -> str:
    """16 hexadecimal digits of all files that estimates come from: where these are equal, so are all fingerprints.

    >>> len(code_digest())
    16
    """
    return source_digest("tesa.schedules", "tesa.decompose")[:16]
