"""The kernels that a layer could have: every family that applies, decompositions too, and its configurations."""

from collections.abc import Sequence
from difflib import get_close_matches

import tesa.schedules.gpu  # noqa: F401  registers the families of GPUs
from tesa.attributes.zeros import frozen
from tesa.decompose.composite import space_of
from tesa.decompose.prices import Prices
from tesa.decompose.registry import is_composite
from tesa.errors import UnsupportedError, UsageError
from tesa.schedules import registry
from tesa.schedules.refusal import reason_of
from tesa.schedules.registry import Family, find
from tesa.schedules.types import Config, FloatArray, Problem, config_key
from tesa.targets.target import Target

Option = tuple[str, Config]
"""Name of a kernel family and one configuration of it."""


def candidates(
    problem: Problem,
    weight: FloatArray,
    target: Target,
    families: Sequence[str] | None = None,
    prices: Prices | None = None,
) -> list[Option]:
    """Every family that applies with every configuration worth trying: dense first, and of each the default first.

    Decompositions (tesa.decompose) are families like the others. weight is (m, k). families: names of those to try,
    by default all; "dense" also stands for the configurations of the others that compute with the zeros. prices: of
    blocks, which decompositions depend on: a cost table, by default the families' estimates.

    Raises UsageError for an unknown family, UnsupportedError if none applies.
    """
    known, weight = _families(target), frozen(weight)
    names = list(known) if families is None else list(families)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"unknown kernel family {name!r}; {hint}there are {', '.join(known)}")
    ordered = sorted(known, key=lambda name: name != "dense")  # stable: the rest in the order of registration
    found: list[Option] = []
    for name in ordered:
        if name in names or "dense" in names:
            options = [(name, config) for config in space_of(known[name], problem, weight, target.machine, prices)]
            dense = dense_keys(options, weight, target.kind)
            found += [option for option in options if name in names or config_key(*option) in dense]
    if not found:
        tried = [f"{name}: {why}" for name, why in reasons(problem, weight, target, names, prices).items()]
        raise UnsupportedError(
            f"no kernel family applies to {describe(problem)} on {target.name}; {'; '.join(tried)}"
            + ("" if families is None else "; give others or name none")
        )
    return found


def reasons(
    problem: Problem,
    weight: FloatArray,
    target: Target,
    families: Sequence[str] | None = None,
    prices: Prices | None = None,
) -> dict[str, str]:
    """The reason why each of some families, by default all, does not apply, by name; "" for one that does.

    >>> import numpy as np
    >>> from tesa.targets.target import parse_target
    >>> problem = Problem("linear", 2, 2, 64, (2, 64), (2, 64))
    >>> found = reasons(problem, np.eye(2, dtype=np.float32), parse_target("x86"), ["dense", "vector"])
    >>> found["dense"], found["vector"]
    ('', 'it computes 1 to 16 columns, and this has 64')
    """
    known, weight = _families(target), frozen(weight)
    names = known if families is None else families
    return {name: _reason(known[name], problem, weight, target, prices) for name in names}


def _reason(family: Family, problem: Problem, weight: FloatArray, target: Target, prices: Prices | None) -> str:
    told = family.refusal(problem, weight, target.machine) if family.refusal is not None else ""
    return told or reason_of(space_of(family, problem, weight, target.machine, prices))


def plain_families(target: Target) -> list[str]:
    """The names of the families that are no decompositions: each computes a whole weight."""
    return [name for name in _families(target) if not is_composite(name)]


def plain_candidates(problem: Problem, weight: FloatArray, target: Target) -> list[Option]:
    """The candidates of a layer that are no decompositions, which are not even tried. Errors as candidates."""
    names, weight = plain_families(target), frozen(weight)
    found: list[Option] = []
    for name in sorted(names, key=lambda name: name != "dense"):  # stable, the order of candidates
        found += [(name, config) for config in find(name, target.kind).space(problem, weight, target.machine)]
    return found or candidates(problem, weight, target, names)


def predict(options: Sequence[Option], problem: Problem, weight: FloatArray, target: Target) -> dict[str, float]:
    """The estimated milliseconds of each option, by config_key."""
    known, weight = _families(target), frozen(weight)
    return {
        config_key(name, config): float(known[name].estimate(problem, weight, target.machine, config))
        for name, config in options
    }


def dense_keys(options: Sequence[Option], weight: FloatArray, kind: str) -> frozenset[str]:
    """The options, by config_key, that compute with the zeros of the weight: its dense self. kind: of machine."""
    tests = ((config_key(name, config), find(name, kind).dense, config) for name, config in options)
    return frozenset(key for key, test, config in tests if test is not None and test(weight, config))


def describe(problem: Problem) -> str:
    """A problem in a few words, for messages.

    >>> describe(Problem("linear", 8, 12, 16, (1, 12, 16), (1, 8, 16)))
    'linear (m=8, k=12, n=16, batch=1, float32, 1 thread)'
    """
    threads = f"{problem.threads} thread{'s' if problem.threads != 1 else ''}"
    w = problem.window
    place = "" if w is None else f" {w.kernel[0]}x{w.kernel[1]} on {w.height}x{w.width}"
    if w is not None and (d := problem.depth) is not None:
        place = f" {d.taps}x{w.kernel[0]}x{w.kernel[1]} on {d.size}x{w.height}x{w.width}"
    sizes = f"m={problem.m}, k={problem.k}, n={problem.n}, batch={problem.batch}"
    return f"{problem.op}{place} ({sizes}, {problem.dtype}, {threads})"


def _families(target: Target) -> dict[str, Family]:
    return {family.name: family for family in registry.families(target.kind)}
