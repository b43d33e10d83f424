"""Picks the best kernel of a layer, given what is known of the times of those that compete."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tesa.decompose.candidates import Option
from tesa.records.log import Record
from tesa.schedules.types import Config, config_key

GAIN = 0.02
"""The share that a sparse kernel must win over the dense one: less is noise."""


@dataclass(frozen=True)
class Decision:
    """The chosen family and configuration, and why, in words."""

    family: str
    config: Config
    reason: str


@dataclass(frozen=True)
class Nearest:
    """An option that was the fastest for a weight like this one, and in words which, for the plan."""

    option: Option
    reason: str


def pick(
    options: Sequence[Option],
    records: Mapping[str, Record],
    predicted: Mapping[str, float],
    dense: Collection[str] = (),
    *,
    source: str = "",
    nearest: Sequence[Nearest] = (),
) -> Decision | None:
    """The fastest option by the records, by config_key. None if all failed.

    Where none has a time, the first of nearest that has not failed, then the one that is predicted to be the fastest.

    dense: the options that are the layer's dense self. A sparse one has to be faster than the best of them by GAIN.
    source: whose predictions they are, for the reason.
    """
    keyed = {config_key(*option): option for option in options}
    times = {key: records[key].median_ms for key in keyed if key in records and records[key].ok}
    known = {key: time for key, time in times.items() if time is not None}
    failed = {key for key in keyed if key in records and not records[key].ok}
    word = "measured" if known else f"estimated{source}"
    if not known:
        for near in nearest:
            if config_key(*near.option) not in failed:
                return Decision(*near.option, near.reason)
        known = {key: predicted[key] for key in keyed if key not in failed}
    if not known:
        return None
    best: dict[str, str] = {}  # of each family, and of its dense configurations
    for key, time in known.items():
        name = keyed[key][0]
        if key in dense and name != "dense":
            name = f"dense {name}"
        if name not in best or time < known[best[name]]:
            best[name] = key
    ranking = sorted(best, key=lambda name: known[best[name]])
    winner = ranking[0]
    rival = next((name for name in ranking if best[name] in dense), winner)
    if known[best[winner]] > (1 - GAIN) * known[best[rival]]:
        winner = rival
    text = ", ".join(f"{name} {milliseconds(known[best[name]])}" for name in ranking)
    if winner != ranking[0]:
        text += f": {ranking[0]} gains less than {GAIN:.0%}"
    return Decision(*keyed[best[winner]], f"{word}: {text}")


def milliseconds(time: float) -> str:
    """A time in milliseconds, with the unit in which it reads best."""
    return f"{time:.3g} ms" if time >= 0.1 else f"{time * 1e3:.3g} us"
