"""The last comparison of a layer: the best and the default once more, together and for longer.

The least of many noisy times is too low: whoever is first was also lucky. So those that lead are measured again, in
turns, and only these times count; who seems faster then, by a time of before, has to come in as well.

That is so on this machine. Devices of a tracker time each candidate alone, and several of them share a comparison:
then it is close in time only, and between boards that are alike as far as their CPU's name says.
"""

from tesa.decompose.candidates import Option
from tesa.schedules.types import config_key
from tesa.tune.layer_search import LayerSearch

ROUNDS = 4
"""Comparisons of a layer at most."""

_FIRST = 4  # of the fastest, beside the default and the dense self
_MORE = 6  # in each round after that
_NEAR = 1.05  # times the best: who is slower is not worth a second look


def finalists(layer: LayerSearch, compared: set[str]) -> list[Option]:
    """The options that have to be measured together now; none where the order is certain.

    compared: keys that have been in such a comparison of this run.
    """
    if layer.best is None or not (layer.fresh or not settled(layer)):
        return []
    times = {key: record.median_ms for key, record in layer.records.items() if record.ok and record.median_ms}
    ranked = sorted(times, key=lambda key: (times[key], key))
    anchors = [config_key(*option) for option in (layer.best, layer.default, layer.dense_best) if option is not None]
    if not compared:
        bound = _NEAR * times[ranked[0]]
        chosen = [*anchors, *(key for key in ranked[:_FIRST] if times[key] <= bound)]
    else:
        bound = min((times[key] for key in compared if key in times), default=float("inf"))
        rivals = [key for key in ranked if key not in compared and times[key] < bound]
        chosen = [*anchors, *rivals[:_MORE]] if rivals else []
    unique = list(dict.fromkeys(chosen))
    return [layer.space.option(key) for key in unique] if len(unique) > 1 else []


def settled(layer: LayerSearch) -> bool:
    """True where the newest records of the layer are a comparison that has the best and the default in it."""
    if layer.best is None:
        return True
    newest = max(record.time for record in layer.records.values())
    wanted = [layer.best, *([layer.default] if layer.default is not None else [])]
    return all(layer.records[config_key(*option)].time == newest for option in wanted)
