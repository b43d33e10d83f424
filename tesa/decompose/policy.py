"""Registers a decomposition policy: a function in a file that splits a weight into pieces.

It is given a problem, the weight (m, k) and one point of its own search space, and answers with the pieces, or with ()
where it does not apply. The decorator makes it a kernel family too (composite.py), so that candidates, the search, the
log and the plan meet it as any other.
"""

from collections.abc import Callable

from tesa.decompose import registry
from tesa.decompose.composite import families_of
from tesa.decompose.registry import Policy, Space, Split, find_policy, is_composite
from tesa.schedules import registry as schedules
from tesa.schedules.pieces import Piece

__all__ = ["Piece", "Policy", "forget", "install", "policy"]


def policy(
    name: str, *, space: Space = registry._once, priced: bool = False, kinds: tuple[str, ...] = registry.KINDS
) -> Callable[[Split], Split]:
    """Register the decorated function as a policy, and as a kernel family of that name.

    The function is split(problem, weight, config) -> pieces. They must be disjoint and add up to the weight exactly,
    which is checked each time; an empty answer means that the policy does not apply. Its docstring's first line is the
    summary. space, priced: see Policy; by default the one configuration {}.

    Raises ValueError if the name is taken.

    >>> @policy("halves")
    ... def halves(problem, weight, config):
    ...     '''The upper rows and the lower rows.'''
    ...     upper = weight.copy()
    ...     upper[len(weight) // 2 :] = 0
    ...     return Piece(upper, block=(4, 1)), Piece(weight - upper, block=(4, 1))
    >>> [p.name for p in registry.policies()][-1]
    'halves'
    >>> forget("halves")
    """

    def register(split: Split) -> Split:
        summary = (split.__doc__ or "").strip().splitlines()
        if is_composite(name):
            raise ValueError(f"policy {name!r} is registered twice")
        install(Policy(name, summary[0] if summary else "", space, split, priced, kinds))
        return split

    return register


def install(made: Policy) -> None:
    """Register a policy, and its kernel family, in place of a policy that has the name: the same, or an older one.

    Raises ValueError if the name is that of a kernel family.
    """
    if is_composite(made.name):
        forget(made.name)
    for family in families_of(made):
        schedules.add(family)
    registry.POLICIES[made.name] = made


def forget(name: str) -> None:
    """Take a policy out of the registries again, for notebooks that define one over and over. KeyError if unknown."""
    for family in families_of(find_policy(name)):
        schedules.forget(name, family.kind)
    registry.remove(name)
