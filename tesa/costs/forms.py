"""The kernel families a table knows: plain ones, which compute a whole weight, and decompositions, made of them."""

from __future__ import annotations

import importlib

from tesa.decompose.candidates import Option, candidates
from tesa.schedules.registry import families, find
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.target import Target


def plain_forms(target: Target) -> list[str]:
    """Their names, for an architecture."""
    from tesa.decompose import is_composite

    importlib.import_module("tesa.schedules.cpu")  # registers them
    return [family.name for family in families(target.kind) if not is_composite(family.name)]


def all_candidates(problem: Problem, weight: FloatArray, target: Target) -> list[Option]:
    """The candidates of a layer, decompositions included. Errors as candidates."""
    importlib.import_module("tesa.decompose")  # registers them
    return candidates(problem, weight, target)


def plain_candidates(problem: Problem, weight: FloatArray, target: Target) -> list[Option]:
    """The candidates of a layer that are no decompositions, which are not even tried. Errors as candidates."""
    names = plain_forms(target)
    found: list[Option] = []
    for name in sorted(names, key=lambda name: name != "dense"):  # stable, the order of candidates
        found += [(name, config) for config in find(name).space(problem, weight, target.core)]
    return found or candidates(problem, weight, target, names)
