"""What there is to tell of a layer in a job, as plain data."""

from __future__ import annotations

import numpy as np

from tesa.tune.final import finalists, settled
from tesa.tune.layer import Layer
from tesa.tune.status import LayerStatus, TunedLayer


def density_of(layer: Layer) -> float:
    """The share of its weights that is not zero."""
    weight = layer.work.weight
    return float(np.count_nonzero(weight)) / max(int(weight.size), 1)


def status_of(layer: Layer) -> LayerStatus:
    """Where it stands while the job runs."""
    return LayerStatus(
        name=layer.work.name,
        layers=layer.layers,
        done=len(layer.records),
        failed=layer.failed,
        total=len(layer.space),
        default_ms=layer.time(layer.default),
        best_ms=layer.time(layer.best),
        best=layer.best[0] if layer.best else "",
    )


def tuned_of(layer: Layer) -> TunedLayer:
    """Its result."""
    return TunedLayer(
        name=layer.work.name,
        layers=layer.layers,
        trials=len(layer.records),
        failed=layer.failed,
        total=len(layer.space),
        default=layer.default,
        default_ms=layer.time(layer.default),
        best=layer.best,
        best_ms=layer.time(layer.best),
        dense_ms=layer.dense_ms,
        final=settled(layer) or not finalists(layer, set()),  # compared, or there is nobody to compare with
    )
