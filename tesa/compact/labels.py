"""Ties the axes of an operator that its labels say correspond: broadcasting, matrix products, einsum, concat.

Every axis of every operand has a label. Axes of one label are tied. A label that the output lacks is summed over.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from tesa.compact.analysis import Analysis, Contraction, Term
from tesa.compact.index import AxisIds, Ids, Structure

Label = Hashable
Labels = tuple[Label, ...]


@dataclass
class _Operand:
    """An operand in labels. at, size: the axis and length of each label longer than 1. pinned: those that must stay."""

    at: dict[Label, int]
    size: dict[Label, int]
    constant: bool
    parts: list[tuple[Labels, AxisIds]] = field(default_factory=list)
    pinned: set[Label] = field(default_factory=set)


@dataclass
class _Joined:
    plain: dict[Label, Ids] = field(default_factory=dict)
    joint: dict[Labels, AxisIds] = field(default_factory=dict)
    pinned: set[Label] = field(default_factory=set)


def tie_labels(a: Analysis, i: int, labels: Mapping[int, Labels], out: Labels, kind: str = "") -> Structure:
    """Tie the operands of node i, give its constants their structure, and return the structure of its output.

    labels: of the axes of each operand, by its position. kind: see Contraction.
    """
    node = a.graph.nodes[i]
    operands = {p: _operand(a, node.input[p], names) for p, names in labels.items() if node.input[p]}
    while _collapse_one(a, list(operands.values()), out):
        pass
    joined = _merge(a, list(operands.values()))
    for position, operand in operands.items():
        if operand.constant:
            a.uses[i, position] = _lay(joined, operand.at)
    _sums(a, i, operands, joined, set(out), kind)
    return _lay(joined, {label: axis for axis, label in enumerate(out)})


def broadcast_labels(rank: int, shape: Sequence[int]) -> Labels:
    """The labels of an operand that is broadcast to `rank` axes: the output's axes, counted from the right."""
    return tuple(range(rank - len(shape), rank))


def _operand(a: Analysis, name: str, labels: Labels) -> _Operand:
    constant = a.constant(name) is not None
    shape = a.shape(name)
    at = {label: axis for axis, label in enumerate(labels) if shape[axis] > 1}
    operand = _Operand(at, {label: shape[axis] for label, axis in at.items()}, constant)
    if not constant:
        operand.parts = [(tuple(labels[x] for x in part.axes), part) for part in a.of(name)]
        covered = {label for names, _ in operand.parts for label in names}
        operand.pinned = set(at) - covered
    return operand


def _collapse_one(a: Analysis, operands: list[_Operand], out: Labels) -> bool:
    """Collapse a joint part that does not fit the other operands. False if all fit."""
    for operand in operands:
        for number, (labels, part) in enumerate(operand.parts):
            if len(labels) > 1 and not _fits(labels, operands, out):
                stays = _free(labels, [other for other in operands if other is not operand], out)
                operand.pinned |= set(labels) - {stays}
                operand.parts[number] = ((stays,), a.index.collapse(part, part.axes[labels.index(stays)])[0])
                return True
    return False


def _free(labels: Labels, others: list[_Operand], out: Labels) -> Label:
    """The axis along which a joint part that does not fit may still lose slices: one that others may lose as well.

    The member axis where a constant has a number for each member and behind it are pixels: members are channels then.
    """
    channels = any(other.constant and set(labels) & set(other.at) == {labels[-1]} for other in others)
    if channels and out and out[-1] != labels[-1]:
        return labels[-1]
    plain = {names[0] for other in others for names, _ in other.parts if len(names) == 1}
    allowed = [label for label in labels[:-1] if all(label not in other.pinned for other in others)]
    return next((label for label in allowed if label in plain), allowed[-1] if allowed else labels[-2])


def _fits(labels: Labels, operands: list[_Operand], out: Labels) -> bool:
    groups, member = set(labels[:-1]), labels[-1]
    if member in out and not groups <= set(out):
        return False
    for other in operands:
        overlap = set(labels) & set(other.at)
        if member in other.pinned or (other.constant and not (overlap <= groups or overlap == set(labels))):
            return False
        if other.constant and overlap == set(labels) and _twice(labels, other, operands):
            return False
        for names, _ in other.parts:
            shared = set(names) & set(labels)
            if not shared or names == labels or names in {(g,) for g in groups}:
                continue
            clash = member in out and names[-1] in out
            if len(names) == 1 or not shared <= groups or not shared <= set(names[:-1]) or clash:
                return False
    return True


def _twice(labels: Labels, constant: _Operand, operands: list[_Operand]) -> bool:
    """True if a second joint part lies on some of the same axes of a constant."""
    joints = {names for operand in operands for names, _ in operand.parts if len(names) > 1 and names != labels}
    return any(set(names) & set(labels) and set(names) <= set(constant.at) for names in joints)


def _merge(a: Analysis, operands: list[_Operand]) -> _Joined:
    joined = _Joined(pinned={label for operand in operands for label in operand.pinned})
    for operand in operands:
        for labels, part in operand.parts:
            if len(labels) > 1:
                known = joined.joint.setdefault(labels, part)
                a.index.tie(known.ids, part.ids)
            for label, ids in zip(labels, part.groups or (part.ids,), strict=False):
                a.index.tie(joined.plain.setdefault(label, ids), ids)
    for label in joined.pinned & set(joined.plain):
        a.index.pin(joined.plain.pop(label))
    settled = joined.pinned | {labels[-1] for labels in joined.joint}
    for operand in operands:
        for label, size in operand.size.items():
            if operand.constant and label not in settled and label not in joined.plain:
                joined.plain[label] = a.index.fresh(size)
    return joined


def _lay(joined: _Joined, at: Mapping[Label, int]) -> Structure:
    """The structure of a tensor with these labels at these axes."""
    parts: list[AxisIds] = []
    covered: set[Label] = set()
    for labels, part in joined.joint.items():
        if set(labels) <= set(at):
            parts.append(AxisIds(tuple(at[label] for label in labels), part.ids, part.groups))
            covered |= set(labels)
    for label, ids in joined.plain.items():
        if label in at and label not in covered:
            parts.append(AxisIds((at[label],), ids))
    return tuple(parts)


def _sums(a: Analysis, i: int, operands: Mapping[int, _Operand], joined: _Joined, out: set[Label], kind: str) -> None:
    """Note the sum over what the output lacks."""
    terms, covered = [], set(out)
    for labels, part in joined.joint.items():
        if labels[-1] not in out:
            covered |= set(labels)
            terms.append(Term(part.ids, _places(operands, labels)))
    for label, ids in joined.plain.items():
        if label not in covered:
            terms.append(Term(ids, _places(operands, (label,))))
    if terms:
        a.contractions.append(Contraction(i, kind, tuple(terms)))


def _places(operands: Mapping[int, _Operand], labels: Labels) -> dict[int, tuple[int, ...]]:
    """The axes of the labels in each operand that has them."""
    found = {p: tuple(o.at[label] for label in labels if label in o.at) for p, o in operands.items()}
    return {p: axes for p, axes in found.items() if len(axes) == len(labels)}
