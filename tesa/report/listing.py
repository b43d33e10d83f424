"""The rules, kernel families, policies, patterns, targets and search modes that are registered, as tables."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from tesa.report.table import table


@dataclass(frozen=True)
class Entry:
    """A registered name and what it stands for. supported is False where this version only knows the name.

    example: how it is written where a name alone says too little, as "0.9:block=4x4" for a pattern.
    """

    name: str
    summary: str
    supported: bool = True
    example: str = ""


_HOMES = {
    "rules": ("tesa.propagate.registry", "rules"),
    "families": ("tesa.schedules.registry", "families"),
    "policies": ("tesa.decompose", "policies"),
    "patterns": ("tesa.attributes.patterns", "patterns"),
    "targets": ("tesa.targets.target", "list_targets"),
    "modes": ("tesa.tune.search", "modes"),
}
"""The function that lists a kind of things, by its module and name: only what is asked for is imported."""

_REGISTERING = {"rules": ("tesa.propagate.rules",), "families": ("tesa.schedules.cpu", "tesa.schedules.gpu")}
"""The modules that register the entries of a kind, where its home does not import them."""


def entries(kind: str) -> tuple[Entry, ...]:
    """The entries of "rules", "families", "policies", "patterns", "targets" or "modes", as they were registered.

    >>> "unstructured" in [entry.name for entry in entries("patterns")]
    True
    """
    for module in _REGISTERING.get(kind, ()):
        importlib.import_module(module)
    home, name = _HOMES[kind]
    found = getattr(importlib.import_module(home), name)()
    if kind == "rules":
        return tuple(Entry(rule, about.summary) for rule, about in found)
    if kind == "families":
        return tuple(Entry(item.name, f"{item.kind}: {item.summary}") for item in found)
    if kind == "targets":
        return tuple(Entry(item.name, item.note, item.supported) for item in found)
    if kind == "patterns":
        imposed = [(item, item.imposition) for item in found]
        return tuple(Entry(item.name, item.summary, example=way.example if way else "") for item, way in imposed)
    return tuple(Entry(item.name, item.summary) for item in found)


def entries_table(kind: str, found: Sequence[Entry]) -> Table:
    """One row per entry."""
    heading = {"policies": "policy", "families": "family"}.get(kind, kind.removesuffix("s"))
    if any(entry.example for entry in found):
        rows = [(entry.name, entry.example, entry.summary) for entry in found]
        return table((heading, "written as", "what it is"), rows)
    return table((heading, "what it is"), [(entry.name, entry.summary) for entry in found])
