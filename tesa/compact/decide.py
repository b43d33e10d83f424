"""Decides which indices are removed: those whose slices are all dead or known, as far as every operator allows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tesa.compact import codes
from tesa.compact.analysis import Analysis, Contraction, Term
from tesa.compact.correction import correctable, taps, varies
from tesa.compact.facts import Facts
from tesa.compact.index import PIN, Bools, Ids

WORTH_A_MAP = 8
"""A constant that has no place in a bias costs an addition and a read for each element of the output. It is worth
that if it takes the place of at least as many multiplications."""

REASONS = {
    1: "tied to what is needed",
    2: "the groups must stay equally large",
    3: "a constant that meets something it cannot be folded into",
    4: "one has to stay",
    5: "the constant that would replace them costs more than they do",
    6: "of a group of features that integer kernels multiply at once some stay",
}
NEEDED, UNEQUAL, UNFOLDABLE, LAST, COSTLY, SPLIT = REASONS


@dataclass(frozen=True, eq=False)
class Decision:
    """The indices that stay. keep: by id. reason: by id, why it stays (a key of REASONS), 0 where it goes.

    held: by id, the number of the reason in Analysis.held, -1 for none.
    """

    keep: Bools
    reason: Ids
    held: Ids


def decide(a: Analysis, facts: Facts, *, fast: bool = False) -> Decision:
    """The largest removal that the ties, balances and sums allow. Starts from all that is removable and takes back.

    fast: also of layers of codes only what makes them faster, see codes.py.
    """
    choice = _Choice(a)
    held = np.full(a.index.size, -1)
    for number, (ids, _) in reversed(list(enumerate(a.held))):
        held[choice.classes[ids]] = number
        choice.refuse(ids, NEEDED)
    held[PIN] = -1
    for tensor, parts in a.structures.items():
        for part in parts if a.constant(tensor) is None else ():
            choice.refuse(part.ids[~facts.removable(tensor, part.axes)], NEEDED)
    phases: dict[int, Callable[[], None]] = {  # what must be comes before what is a matter of choice
        NEEDED: lambda: _groups(choice, a),
        UNFOLDABLE: lambda: _sums(choice, a, facts, UNFOLDABLE),
        COSTLY: lambda: _sums(choice, a, facts, COSTLY, fast),
        SPLIT: lambda: _wholes(choice, a) if fast else None,
        UNEQUAL: lambda: _members(choice, a),
        LAST: lambda: _last(choice, a),
    }
    first = choice.reason.copy()
    todo = list(phases)
    while todo:
        choice.changed = False
        phase = todo.pop(0)
        phases[phase]()
        if choice.changed:
            todo = list(phases)
        if choice.changed and phase == COSTLY:  # choices that were made before this was known are made again
            choice.reason = np.where(choice.reason == COSTLY, COSTLY, first)
    return Decision(~choice.goes(np.arange(a.index.size)), choice.reason[choice.classes], held[choice.classes])


class _Choice:
    """The classes that still go, by the smallest id of each."""

    def __init__(self, a: Analysis) -> None:
        self.classes = a.index.classes()
        self.reason = np.zeros(a.index.size, np.int64)
        self.changed = True
        self.refuse(np.array([PIN]), NEEDED)

    def goes(self, ids: Ids) -> Bools:
        return np.asarray(self.reason[self.classes[ids]] == 0)

    def refuse(self, ids: Ids, reason: int) -> None:
        """Keep these, with all that is tied to them."""
        roots = self.classes[ids]
        roots = roots[self.reason[roots] == 0]
        if roots.size:
            self.reason[roots] = reason
            self.changed = True


def _groups(choice: _Choice, a: Analysis) -> None:
    """A group goes only if all of it goes."""
    for part in a.index.balances:
        cells = choice.goes(part.ids)
        for axis, ids in enumerate(part.groups):
            whole = cells.all(axis=tuple(k for k in range(cells.ndim) if k != axis))
            choice.refuse(ids[~whole], NEEDED)


def _members(choice: _Choice, a: Analysis) -> None:
    """The groups that stay lose equally many members, and not all."""
    for part in a.index.balances:
        table = part.ids
        for axis, ids in enumerate(part.groups):
            table = np.compress(~choice.goes(ids), table, axis)
        left = choice.goes(table)
        allowed = min(int(left.sum(axis=-1).min(initial=left.shape[-1])), left.shape[-1] - 1)
        extra = table[left & (np.cumsum(left, axis=-1) > allowed)]
        choice.refuse(extra, UNEQUAL if left.shape[-1] > 1 else NEEDED)


def _wholes(choice: _Choice, a: Analysis) -> None:
    """Features of a layer of codes that was pruned in groups of them go by whole groups."""
    for contraction in a.contractions:
        for term in contraction.terms:
            goes = choice.goes(term.ids)
            if goes.any() and codes.in_groups(a, contraction, term):
                choice.refuse(term.ids[codes.split(goes)], SPLIT)


def _sums(choice: _Choice, a: Analysis, facts: Facts, reason: int, fast: bool = False) -> None:
    """A constant that is summed over must be 0 in one of the operands, or be corrected for at a fair price."""
    for contraction in a.contractions:
        node = a.graph.nodes[contraction.node]
        for term in contraction.terms:
            heavy = choice.goes(term.ids)
            if term.owners is not None:
                heavy &= ~choice.goes(term.owners)
            for position, axes in term.axes.items():
                if heavy.any() and a.constant(node.input[position]) is None:
                    heavy &= facts.constant(node.input[position], axes)
            if not heavy.any():
                continue
            refused = _refused(a, facts, contraction, _saved(term, heavy), reason)
            if not refused and fast and reason == COSTLY and codes.reads_codes(a, contraction):
                few = codes.multiplied(a, contraction, term, heavy) < codes.WORTH_A_MAP
                refused = few and varies(a, facts, contraction)
            if refused:
                choice.refuse(term.ids[heavy], reason)


def _saved(term: Term, heavy: Bools) -> int:
    """The number of the indices that enter one sum: those of one group."""
    if term.owners is not None:
        return int(np.unique(term.owners[heavy], return_counts=True)[1].max())
    return int(heavy.sum(axis=-1).max())


def _refused(a: Analysis, facts: Facts, contraction: Contraction, count: int, reason: int) -> bool:
    if reason == UNFOLDABLE:
        return not correctable(a, facts, contraction)
    return count * taps(a, contraction) < WORTH_A_MAP and varies(a, facts, contraction)


def _last(choice: _Choice, a: Analysis) -> None:
    """No axis is removed wholly."""
    seen: set[int] = set()
    axes = [part.ids for parts in a.structures.values() for part in parts if len(part.axes) == 1]
    for ids in (*axes, *(ids for part in a.index.balances for ids in part.groups)):
        if id(ids) not in seen and choice.goes(ids).all():
            choice.refuse(ids[:1], LAST)
        seen.add(id(ids))
