"""The rules, kernel families, policies, patterns, targets and search modes that are registered, as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from tesa.report.table import table


@dataclass(frozen=True)
class Entry:
    """A registered name and what it stands for. supported is False where this version only knows the name."""

    name: str
    summary: str
    supported: bool = True


def entries(kind: str) -> tuple[Entry, ...]:
    """The entries of "rules", "families", "policies", "patterns", "targets" or "modes", as they were registered.

    >>> "unstructured" in [entry.name for entry in entries("patterns")]
    True
    """
    return _READERS[kind]()


def entries_table(kind: str, found: Sequence[Entry]) -> Table:
    """One row per entry."""
    heading = {"policies": "policy", "families": "family"}.get(kind, kind.removesuffix("s"))
    return table((heading, "what it is"), [(entry.name, entry.summary) for entry in found])


def _rules() -> tuple[Entry, ...]:
    import tesa.propagate.rules  # noqa: F401  registers them
    from tesa.propagate.registry import rules

    return tuple(Entry(name, rule.summary) for name, rule in rules())


def _families() -> tuple[Entry, ...]:
    import tesa.schedules.cpu  # noqa: F401  registers the families
    from tesa.schedules.registry import families

    return tuple(Entry(found.name, f"{found.kind}: {found.summary}") for found in families())


def _patterns() -> tuple[Entry, ...]:
    from tesa.attributes.patterns import patterns

    return tuple(Entry(found.name, found.summary) for found in patterns())


def _modes() -> tuple[Entry, ...]:
    from tesa.tune.search import modes

    return tuple(Entry(found.name, found.summary) for found in modes())


def _targets() -> tuple[Entry, ...]:
    from tesa.targets.target import list_targets

    return tuple(Entry(found.name, found.note, found.supported) for found in list_targets())


def _policies() -> tuple[Entry, ...]:
    from tesa.decompose import policies

    return tuple(Entry(policy.name, policy.summary) for policy in policies())


_READERS: Mapping[str, Callable[[], tuple[Entry, ...]]] = {
    "rules": _rules,
    "families": _families,
    "policies": _policies,
    "patterns": _patterns,
    "targets": _targets,
    "modes": _modes,
}
