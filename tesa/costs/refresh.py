"""Keeps a cost table in step with the families' estimates: where these changed, they are made again."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from tesa.costs.fingerprint import fingerprint
from tesa.costs.sample import Measured, Sample
from tesa.costs.table import CostTable
from tesa.schedules.registry import find
from tesa.schedules.types import Core


def refreshed(table: CostTable) -> CostTable:
    """The table with the estimates of this version of tesa; the table itself where they are the same.

    Weights are made again, which takes some seconds. Kernels of families that are gone, or with configurations
    that a family no longer has, and layers whose weight cannot be made again, are left out.
    """
    now = {name: fingerprint(name, table.core) for name in table.fingerprints}
    stale = {name for name, old in table.fingerprints.items() if now[name] != old}
    if not stale:
        return table
    layers = tuple(_estimated(layer, stale, table.core) for layer in table.layers)
    kept = {name: text for name, text in now.items() if text}
    changed = tuple(sorted({*table.changed, *stale & kept.keys()}))
    return replace(table, layers=layers, fingerprints=kept, changed=changed)


def _estimated(layer: Measured, stale: Collection[str], core: Core) -> Measured:
    if not any(sample.family in stale for sample in layer.samples):
        return layer
    weight = layer.source.weight() if layer.index >= 0 else None
    samples: list[Sample] = []
    for sample in layer.samples:
        if sample.family not in stale:
            samples.append(sample)
        elif weight is not None:
            with suppress(Exception):  # a family that is gone, or a configuration that it no longer has
                expected = float(find(sample.family, core.kind).estimate(layer.problem, weight, core, sample.config))
                samples.append(replace(sample, estimate_ms=expected))
    return replace(layer, samples=tuple(samples))
