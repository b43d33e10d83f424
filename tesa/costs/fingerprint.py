"""Keeps a table in step with the families' estimates: when these change, what the table learnt from them is redone."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tesa.attributes.impose import Imposed
from tesa.base.files import cache_dir, write_text
from tesa.base.installed import source_digest
from tesa.costs.grid import GridLayer, grid_layer
from tesa.costs.sample import Measured, Sample
from tesa.errors import UsageError
from tesa.schedules.registry import find
from tesa.schedules.types import Core, Problem

if TYPE_CHECKING:
    from tesa.costs.table import CostTable

_PROBES = (0, 3, 6, 7, 9, 14, 21)  # small layers of every class of the grid
_SEED = 4
_SOURCES = ("tesa.schedules", "tesa.attributes", "tesa.decompose", "tesa.costs")  # what estimates are made of
_MIXED = GridLayer(
    Problem("linear", 128, 128, 64, (1, 128, 64), (1, 128, 64)), Imposed("block", 0.7, block=(32, 32)), 0.0, 1, 0.02
)  # what decompositions are for
_COLD = GridLayer(
    Problem("linear", 256, 4096, 1, (1, 4096, 1), (1, 256, 1)), Imposed("unstructured", 0.8), 0.0, _SEED
)  # a weight that comes from memory


def fingerprint(name: str, core: Core) -> str:
    """16 hexadecimal digits that change when a family's estimates do; "" for a family that is gone."""
    importlib.import_module("tesa.decompose")  # registers them, and the plain families
    try:
        family = find(name)
    except KeyError:
        return ""
    hasher = hashlib.sha256()
    for layer in (*(_small(grid_layer(index, _SEED)) for index in _PROBES), _MIXED, _COLD):
        weight = layer.weight()
        for config in list(family.space(layer.problem, weight, core))[:3]:
            expected = family.estimate(layer.problem, weight, core, config)
            hasher.update(f"{sorted(config.items())} {expected:.6g}\n".encode())
    return hasher.hexdigest()[:16]


def current_fingerprints(table: CostTable) -> dict[str, str]:
    """The fingerprints of today, of the families that the table has measured; remembered, since they take a second."""
    key = f"{table.core} {sorted(table.fingerprints)} {source_digest(*_SOURCES)}"
    path = cache_dir() / "fingerprints" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError):  # not there yet, or damaged
        known = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(known, dict) and known.keys() == table.fingerprints.keys():
            return known
    made = {name: fingerprint(name, table.core) for name in table.fingerprints}
    with suppress(UsageError, OSError):  # a cache that cannot be written costs a second the next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(made))
    return made


def refreshed(table: CostTable) -> CostTable:
    """The table with the estimates of this version of tesa; the table itself where they are the same.

    The weights are made again, which takes some seconds. Kernels of families that are gone, or with configurations
    that a family no longer has, and layers whose weight cannot be made again, are left out.
    """
    now = current_fingerprints(table)
    stale = {name for name, old in table.fingerprints.items() if now[name] != old}
    if not stale:
        return table
    layers = tuple(_estimated(layer, stale, table.core) for layer in table.layers)
    kept = {name: text for name, text in now.items() if text}
    return replace(table, layers=layers, fingerprints=kept)


def _small(layer: GridLayer) -> GridLayer:
    """With at most 256 rows, so that a fingerprint takes milliseconds."""
    problem = layer.problem
    if problem.op == "depthwise" or problem.m <= 256:
        return layer
    shape = tuple(256 if axis == problem.y_shape.index(problem.m) else s for axis, s in enumerate(problem.y_shape))
    return replace(layer, problem=replace(problem, m=256, y_shape=shape))


def _estimated(layer: Measured, stale: Collection[str], core: Core) -> Measured:
    if not any(sample.family in stale for sample in layer.samples):
        return layer
    weight = layer.source.weight() if layer.index >= 0 else None
    samples: list[Sample] = []
    for sample in layer.samples:
        if sample.family not in stale:
            samples.append(sample)
            continue
        if weight is None:
            continue
        try:
            expected = float(find(sample.family).estimate(layer.problem, weight, core, sample.config))
        except Exception:  # a family that is gone, or a configuration that it no longer has
            continue
        samples.append(replace(sample, estimate_ms=expected))
    return replace(layer, samples=tuple(samples))
