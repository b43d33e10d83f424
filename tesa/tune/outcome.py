"""The state and the result of a layer in a tuning job, as plain data and in sentences."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from tesa.tune.comparison import finalists, settled
from tesa.tune.layer_search import LayerSearch
from tesa.tune.status import TunedLayer

_REASONS, _LONG = 3, 200  # reasons that are told of a layer, and characters of each


def density_of(layer: LayerSearch) -> float:
    """The share of a layer's weights that is not zero."""
    weight = layer.work.weight
    return float(np.count_nonzero(weight)) / max(int(weight.size), 1)


def status_of(layer: LayerSearch) -> TunedLayer:
    """The state of a layer while the job runs."""
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
    )


def tuned_of(layer: LayerSearch) -> TunedLayer:
    """The result of a layer, final where it was compared or there is nothing to compare it with."""
    final = settled(layer) or not finalists(layer, set())
    curve = tuple(layer.curve.values())
    return replace(status_of(layer), dense_ms=layer.dense_ms, final=final, given_up=given_up(layer), curve=curve)


def given_up(layer: LayerSearch) -> int:
    """Candidates that are not tried any more, although nothing is known of them: no device could run them."""
    return len(layer.space) - layer.open - layer.done


def lost(layer: LayerSearch, excuses: Mapping[str, str]) -> str:
    """A sentence about the candidates that were given up. excuses: what a device said last, by name of the layer."""
    why = excuses.get(layer.work.name, "no device could run them")
    count = given_up(layer)
    return f"{layer.work.name}: given up, without a result: {count} candidate{'s' if count > 1 else ''} ({why})"


def beyond(layer: LayerSearch, count: int, trials: int) -> str:
    """A sentence about a layer of which more was measured than was asked for: count of what an untuned compile does."""
    return (
        f"{layer.work.name}: {count} measured, more than the {trials} that were asked for: an untuned compile measures "
        "these, and tuning must not end with less"
    )


def failures(layer: LayerSearch) -> Iterator[str]:
    """A sentence about each reason why candidates failed, the most frequent first; those in the log count as well."""
    why = Counter((record.family, record.error) for record in layer.records.values() if not record.ok)
    for (schedule, error), count in why.most_common(_REASONS):
        text = (error.strip().splitlines() or ["no reason is known"])[0]
        text = text if len(text) <= _LONG else f"{text[:_LONG]} ..."
        yield f"{layer.work.name}: {count} candidate{'s' if count > 1 else ''} of {schedule} failed: {text}"
    if len(why) > _REASONS:
        yield f"{layer.work.name}: more failed for other reasons; `tesa logs show --failed` has them"
