"""Ties of Reshape and Flatten, whose axes are merged and split.

Merged: one of the axes may lose indices, each with the whole block behind it; the others stay. Split: each of the outer
groups may lose other members, as long as all lose equally many, or go as a whole (see tesa/compact/index.py).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tesa.compact.analysis import Analysis, structure, ties
from tesa.compact.index import AxisIds, Ids, Structure, moved
from tesa.frontend.graph import attributes

Block = tuple[tuple[int, ...], tuple[int, ...]]


@ties("Reshape", "Flatten")
def reshape(a: Analysis, i: int, node: Any) -> Structure | None:
    """The ids follow their elements. A shape that is not constant, or has a size of 0, is left alone."""
    name, output = node.input[0], node.output[0]
    fixed = node.op_type == "Flatten" or (len(node.input) > 1 and a.constant(node.input[1]) is not None)
    before, after = a.shape(name), a.shape(output)
    if not fixed or 0 in before or a.constant(name) is not None:
        return None
    if node.op_type == "Reshape":
        a.edits[i] = lambda editor, new: editor.set_sizes(new, 1, output)
    return reshaped(a, a.of(name), before, after)


@ties("DepthToSpace", "SpaceToDepth")
def shuffle(a: Analysis, i: int, node: Any) -> Structure | None:
    """Blocks of pixels become channels or the reverse: a channel goes with all that it becomes, or was."""
    name = node.input[0]
    if a.constant(name) is not None:
        return None
    options = attributes(node)
    batch, channels, *space = a.shape(name)
    side = int(options["blocksize"])
    middle: tuple[int, ...]
    order: tuple[int, ...]
    a.structures[name] = a.index.drop(a.of(name), (2, 3))
    if node.op_type == "SpaceToDepth":
        height, width = space
        middle = (batch, channels, height // side, side, width // side, side)
        order = (0, 3, 5, 1, 2, 4)
    elif options.get("mode", b"DCR") == b"DCR":
        middle, order = (batch, side, side, channels // side**2, *space), (0, 3, 4, 1, 5, 2)
    else:
        middle, order = (batch, channels // side**2, side, side, *space), (0, 1, 4, 2, 5, 3)
    split = reshaped(a, a.of(name), a.shape(name), middle)
    if node.op_type == "DepthToSpace":  # a channel of the result goes with all of its pixels
        split = a.index.drop(split, order[3::2])
    turned = moved(split, {old: new for new, old in enumerate(order)})
    return reshaped(a, turned, [middle[axis] for axis in order], a.shape(node.output[0]))


def blocks(before: Sequence[int], after: Sequence[int]) -> list[Block]:
    """Pairs of the axes before and after that hold the same elements; axes of length 1 are left out.

    >>> blocks((2, 768, 5), (2, 12, 64, 5))
    [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]
    """
    left = [axis for axis, n in enumerate(before) if n > 1]
    right = [axis for axis, n in enumerate(after) if n > 1]
    found: list[Block] = []
    while left:
        ins, outs = [left.pop(0)], [right.pop(0)]
        m, n = before[ins[0]], after[outs[0]]
        while m != n:
            if m < n:
                ins.append(left.pop(0))
                m *= before[ins[-1]]
            else:
                outs.append(right.pop(0))
                n *= after[outs[-1]]
        found.append((tuple(ins), tuple(outs)))
    return found


def reshaped(a: Analysis, given: Structure, before: Sequence[int], after: Sequence[int]) -> Structure:
    """The structure after a reshape."""
    pairs = blocks(before, after)
    single = {ins[0]: outs[0] for ins, outs in pairs if len(ins) == len(outs) == 1}
    result: list[AxisIds] = []
    rest: list[AxisIds] = []
    whole: dict[tuple[int, ...], Ids] = {}
    merges = {ins for ins, _ in pairs if len(ins) > 1}
    for part in given:
        if all(axis in single for axis in part.axes):
            result.append(AxisIds(tuple(single[axis] for axis in part.axes), part.ids, part.groups))
        elif part.axes in merges:
            whole[part.axes] = part.ids.reshape(-1)
        else:
            rest += [part] if len(part.axes) == 1 else a.index.collapse(part, _remaining(part, single, merges))
    result += [AxisIds((single[part.axes[0]],), part.ids) for part in rest if part.axes[0] in single]
    plain = {part.axes[0]: part.ids for part in rest if part.axes[0] not in single}
    for ins, outs in pairs:
        if len(ins) == len(outs) == 1:
            continue
        ids = whole[ins] if ins in whole else _merged(a, ins, plain, before)
        if ids is not None:
            result += split_ids(a, ids.reshape([after[axis] for axis in outs]), outs)
    return tuple(result)


def _remaining(part: AxisIds, single: Mapping[int, int], merges: Collection[tuple[int, ...]]) -> int | None:
    """The axis of a joint part along which whole slices may still go after a reshape that merges its other axes."""
    if tuple(sorted(part.axes)) in merges:  # merged in another order, as a shuffle of channels does
        return part.axes[-1]
    if any(set(ins) <= set(part.axes) for ins in merges):
        return None
    return next((axis for axis in part.axes if axis in single), None)


def _merged(a: Analysis, ins: tuple[int, ...], plain: dict[int, Ids], before: Sequence[int]) -> Ids | None:
    """The ids of merged axes: those of the first that may lose indices; the others stay."""
    free = [axis for axis in ins if axis in plain]
    for axis in free[1:]:
        a.index.pin(plain[axis])
    if not free:
        return None
    view = [-1 if axis == free[0] else 1 for axis in ins]
    return np.broadcast_to(plain[free[0]].reshape(view), [before[axis] for axis in ins]).reshape(-1)


def split_ids(a: Analysis, ids: Ids, axes: tuple[int, ...]) -> Structure:
    """The structure of axes with these ids, one id for each element of the block that the axes form."""
    if not ids.any():
        return ()
    if ids.ndim == 1:
        return structure((axes[0], ids))
    for axis in range(ids.ndim):
        first = ids.take([0], axis)
        if (ids == first).all():  # nothing depends on this axis: it stays
            return split_ids(a, first.squeeze(axis), axes[:axis] + axes[axis + 1 :])
    groups = tuple(a.index.fresh(n) for n in ids.shape[:-1])
    part = AxisIds(axes, ids, groups)
    a.index.balance(part)
    return (part,)
