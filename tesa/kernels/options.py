"""The families and the one configuration that a caller of tesa.kernel asks for, held against what is offered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tesa.decompose.candidates import Option, candidates
from tesa.decompose.prices import Prices
from tesa.errors import UsageError
from tesa.kernels.problem import known
from tesa.schedules.types import Config, FloatArray, Problem
from tesa.targets.target import Target

_SHOWN = 24
"""Configurations that an error message lists."""


def families_of(family: str | Sequence[str] | None) -> list[str] | None:
    """The names of the families that compete; None means all."""
    if family is None:
        return None
    names = [family] if isinstance(family, str) else list(family) if isinstance(family, list | tuple) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise UsageError(
            f"family is the name of a kernel family, or a list of one or more, got {family!r}; leave it out to let all "
            "compete (`tesa list families` shows them)"
        )
    return names


def one_option(
    problem: Problem,
    weight: FloatArray,
    target: Target,
    families: Sequence[str] | None,
    config: Config,
    prices: Prices | None,
) -> list[Option]:
    """The one candidate that family and config name. UsageError if the family does not offer the configuration.

    The configurations of a decomposition have different parameters: each those of the kernels of its pieces.
    """
    if families is None or len(families) != 1:
        raise UsageError("config belongs to one family: give family as well")
    family = families[0]
    # "dense" stands for what computes with the zeros in other families too: their configurations come after its own
    options = sorted(candidates(problem, weight, target, families, prices), key=lambda option: option[0] != family)
    offered = [dict(config) for _, config in options]
    if not isinstance(config, Mapping):
        raise UsageError(f"config of {family} is a dictionary such as {offered[0]}, not {type(config).__name__}")
    for name in config:
        known(name, sorted({key for one in offered for key in one}), f"parameter of {family}")
    if dict(config) in offered and not any(isinstance(value, bool) for value in config.values()):
        return [(options[offered.index(dict(config))][0], {name: int(value) for name, value in config.items()})]
    alike = [one for one in offered if set(one) == set(config)]
    if alike:
        raise UsageError(f"config of {family}: {dict(config)} is not one for this weight and target; {_offer(alike)}")
    nearest = min(offered, key=lambda one: (len(set(one) ^ set(config)), offered.index(one)))
    lacking, extra = sorted(set(nearest) - set(config)), sorted(set(config) - set(nearest))
    words = [f"{', '.join(names)} {what}" for names, what in ((lacking, "missing"), (extra, "too much")) if names]
    raise UsageError(f"config of {family}: {' and '.join(words)}; {_offer(offered)}")


def _offer(offered: Sequence[Config]) -> str:
    more = f" and {len(offered) - _SHOWN} more" if len(offered) > _SHOWN else ""
    return f"valid are {', '.join(str(dict(one)) for one in offered[:_SHOWN])}{more}"
