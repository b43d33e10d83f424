"""Ties of operators that move elements and compute nothing."""

from typing import Any

import numpy as np
from onnx import helper

from tesa.compact.analysis import Analysis, Editor, structure, ties
from tesa.compact.index import AxisIds, Ids, Structure, moved
from tesa.compact.labels import tie_labels
from tesa.frontend.graph import attributes


@ties("Transpose")
def transpose(a: Analysis, i: int, node: Any) -> Structure | None:
    """The axes change places."""
    rank = len(a.shape(node.input[0]))
    perm = attributes(node).get("perm") or list(range(rank))[::-1]
    where = {int(old): new for new, old in enumerate(perm)}
    return moved(a.of(node.input[0]), where)


@ties("Squeeze", "Unsqueeze")
def squeeze(a: Analysis, i: int, node: Any) -> Structure | None:
    """Axes of length 1 come and go."""
    name, output = node.input[0], node.output[0]
    short = [axis for axis, n in enumerate(a.shape(name)) if n == 1]  # one may be a channel, which then stays
    long_in = [axis for axis, n in enumerate(a.shape(name)) if n > 1]
    long_out = [axis for axis, n in enumerate(a.shape(output)) if n > 1]
    return moved(a.index.drop(a.of(name), short), dict(zip(long_in, long_out, strict=True)))


@ties("Concat")
def concat(a: Analysis, i: int, node: Any) -> Structure | None:
    """Along the axis one after the other; along the others all go together."""
    rank = len(a.shape(node.output[0]))
    axis = int(attributes(node)["axis"]) % rank
    for name in node.input:
        if a.constant(name) is None:
            a.plain(name, axis)
    count = len(node.input)
    labels = {p: tuple(("piece", p) if x == axis else x for x in range(rank)) for p in range(count)}
    out = (*(None if x == axis else x for x in range(rank)), *(("piece", p) for p in range(count)))
    found = {part.axes: part for part in tie_labels(a, i, labels, out)}
    pieces = [np.zeros(a.shape(name)[axis], np.int64) for name in node.input]
    for p in range(count):
        if (rank + p,) in found:
            pieces[p] = found.pop((rank + p,)).ids
    return (*found.values(), *structure((axis, np.concatenate(pieces))))


def taken(a: Analysis, given: Structure, axis: int, picks: Ids, into: int | None) -> Structure:
    """The structure of what is picked along an axis. into: the axis of the picks in the result, None if it is gone.

    Axes behind it move one to the left where it is gone. A group axis keeps its joint part; its groups are pinned.
    """
    result: list[AxisIds] = []
    for part in given:
        if axis in part.axes and part.axes[-1] != axis:
            result += _picked(a, part, axis, picks)
        elif axis in part.axes:
            _, ids = a.index.plain((part,), axis)
            if ids is not None and into is not None:
                result += structure((axis, ids[picks]))
            elif ids is not None:
                a.index.pin(ids[picks])
            result += [] if len(part.axes) == 1 else list(a.index.collapse(part))
        else:
            result.append(part)
    where = {x: x - (into is None and x > axis) for x in range(32) if x != axis or into is not None}
    return moved(tuple(result), where)


def _picked(a: Analysis, part: AxisIds, axis: int, picks: Ids) -> Structure:
    """A joint part of which some groups are picked."""
    at = part.axes.index(axis)
    a.index.pin(part.groups[at])
    if len(picks) > 1:
        groups = tuple(g[picks] if k == at else g for k, g in enumerate(part.groups))
        return (AxisIds(part.axes, part.ids.take(picks, at), groups),)
    axes = tuple(x for x in part.axes if x != axis)
    groups = tuple(g for k, g in enumerate(part.groups) if k != at)
    return (AxisIds(axes, part.ids.take(picks[0], at), groups),)


@ties("Split")
def split(a: Analysis, i: int, node: Any) -> Structure | None:
    """Each output has its stretch of the ids."""
    name = node.input[0]
    axis = int(attributes(node).get("axis", 0)) % len(a.shape(name))
    begin = 0
    for output in node.output:
        size = a.shape(output)[axis]
        a.structures[output] = taken(a, a.of(name), axis, np.arange(begin, begin + size), axis)
        begin += size

    def edit(editor: Editor, new: Any) -> None:
        sizes = [editor.shape(output)[axis] for output in node.output]
        if sizes == [a.shape(output)[axis] for output in node.output]:
            return
        editor.drop_attributes(new, "num_outputs")
        editor.set_input(new, 1, np.asarray(sizes, np.int64))

    a.edits[i] = edit
    return a.of(node.output[0])


@ties("Slice")
def slice_(a: Analysis, i: int, node: Any) -> Structure | None:
    """The ids of what is left. What is no stretch any more is gathered."""
    name = node.input[0]
    picks = slice_picks(a, node)
    if picks is None or a.constant(name) is not None:
        return None
    given = a.of(name)
    before: dict[int, Ids | None] = {}
    for axis, chosen in picks.items():
        if len(chosen) < a.shape(name)[axis] or (np.diff(chosen) < 0).any():
            given, before[axis] = a.index.plain(given, axis)
            a.structures[name] = given
    for axis in before:
        given = taken(a, given, axis, picks[axis], axis)

    def edit(editor: Editor, new: Any) -> list[Any] | None:
        left = {}
        for axis, ids in before.items():
            keep = np.ones(a.shape(name)[axis], bool) if ids is None else editor.keep[ids]
            places_left = places(keep, picks[axis])
            if len(places_left) < keep.sum() or (np.diff(places_left) != 1).any():  # else all that is left is taken
                left[axis] = places_left
        same = all(ids is None or editor.keep[ids].all() for ids in before.values())
        if same:
            return None
        return editor.picks(new, left) if left else [helper.make_node("Identity", new.input[:1], new.output, new.name)]

    a.edits[i] = edit
    return given


def places(keep: Any, picks: Ids) -> Ids:
    """The indices after the cut of the picks that stay."""
    return np.asarray((np.cumsum(keep) - 1)[picks[keep[picks]]])


def slice_picks(a: Analysis, node: Any) -> dict[int, Ids] | None:
    """The indices that a Slice takes of each of its axes; None if they are not constant."""
    shape = a.shape(node.input[0])
    names = [*node.input[1:], "", "", ""][:4]
    if any(n and a.constant(n) is None for n in names):
        return None
    given: list[Any] = [a.graph.constants[n].reshape(-1).tolist() if n else None for n in names]
    starts, ends, axes, steps = given
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    picks = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        length = shape[axis % len(shape)]
        picks[int(axis) % len(shape)] = np.arange(length)[slice(int(start), int(end), int(step))]
    return picks


@ties("Gather")
def gather(a: Analysis, i: int, node: Any) -> Structure | None:
    """Indices at run time: that axis stays. Constant ones: a number, or a row of them, picks ids."""
    data, indices = node.input[0], node.input[1]
    rank, fixed = len(a.shape(data)), a.constant(indices)
    axis = int(attributes(node).get("axis", 0)) % rank
    width = len(a.shape(indices))
    if a.constant(data) is not None:
        return _table(a, i, node, axis, width)
    if fixed is not None and fixed.ndim <= 1 and fixed.size:
        return _pick(a, i, node, axis, fixed)
    a.structures[data] = a.index.drop(a.of(data), [axis])
    return moved(a.of(data), {x: x + (width - 1) * (x > axis) for x in range(rank)})


def _table(a: Analysis, i: int, node: Any, axis: int, width: int) -> Structure:
    """An embedding: columns of the table can go; the rows stay."""
    shape = a.shape(node.input[0])
    ids = [None if x == axis else a.fresh(n) for x, n in enumerate(shape)]
    a.use(i, 0, *enumerate(ids))
    where = {x: x + (width - 1) * (x > axis) for x in range(len(shape))}
    rows = a.of(node.input[1]) if a.constant(node.input[1]) is None else ()
    index_parts = moved(rows, {x: x + axis for x in range(width)})
    return (*structure(*((where[x], one) for x, one in enumerate(ids))), *index_parts)


def _pick(a: Analysis, i: int, node: Any, axis: int, fixed: Any) -> Structure:
    name = node.input[0]
    length = a.shape(name)[axis]
    picks = np.where(fixed < 0, fixed + length, fixed).reshape(-1).astype(np.int64).clip(0, length - 1)
    if len(picks) > 1 or fixed.ndim == 1:
        a.plain(name, axis)
    given = a.of(name)
    ids = next((part.ids for part in given if part.axes == (axis,)), None)

    def edit(editor: Editor, new: Any) -> None:
        if ids is not None and not editor.keep[ids].all():
            left = places(editor.keep[ids], picks).reshape(() if not fixed.ndim else -1)
            editor.set_input(new, 1, np.asarray(left, fixed.dtype))

    a.edits[i] = edit
    return taken(a, given, axis, picks, axis if fixed.ndim else None)


@ties("Expand")
def expand(a: Analysis, i: int, node: Any) -> Structure | None:
    """Axes that were there pass; new ones, and those of length 1 before, are free to get shorter."""
    name, output = node.input[0], node.output[0]
    before, after = a.shape(name), a.shape(output)
    if a.constant(node.input[1]) is None or a.constant(name) is not None:
        return None
    extra = len(after) - len(before)
    where = {x: x + extra for x in range(len(before))}
    new = [x for x, n in enumerate(after) if n > 1 and (x < extra or before[x - extra] == 1)]
    a.edits[i] = lambda editor, made: editor.set_sizes(made, 1, output)
    return (*moved(a.of(name), where), *structure(*((x, a.fresh(after[x])) for x in new)))


@ties("Tile")
def tile(a: Analysis, i: int, node: Any) -> Structure | None:
    """Each copy loses the same; what was repeated out of a single index stays."""
    name, repeats = node.input[0], a.constant(node.input[1])
    if repeats is None or a.constant(name) is not None:
        return None
    often = [axis for axis, times in enumerate(repeats.tolist()) if times > 1]
    parts: list[AxisIds] = []
    for axis in often:
        a.plain(name, axis)
    for part in a.of(name):
        ids = np.tile(part.ids, int(repeats[part.axes[0]])) if part.axes[0] in often else part.ids
        parts.append(AxisIds(part.axes, ids, part.groups))
    return tuple(parts)


@ties("Pad")
def pad(a: Analysis, i: int, node: Any) -> Structure | None:
    """With a constant: what is added can go like everything else. With an edge or a mirror the padded axes stay."""
    name, options = node.input[0], attributes(node)
    rank = len(a.shape(name))
    given = a.constant(node.input[1])
    if given is None or (len(node.input) > 3 and node.input[3]) or given.size != 2 * rank or (given < 0).any():
        return None
    before, after = given[:rank].tolist(), given[rank:].tolist()
    padded = [axis for axis in range(rank) if before[axis] or after[axis]]
    if options.get("mode", b"constant") != b"constant":
        a.structures[name] = a.index.drop(a.of(name), padded)
        return a.of(name)
    fresh = {}
    for axis in padded:
        ids = a.plain(name, axis)
        if ids is not None:
            fresh[axis] = (a.index.fresh(before[axis]), ids, a.index.fresh(after[axis]))
    rest = tuple(part for part in a.of(name) if part.axes[0] not in fresh or len(part.axes) > 1)

    def edit(editor: Editor, new: Any) -> None:
        sizes = np.array([before, after])
        for axis, (low, _, high) in fresh.items():
            sizes[:, axis] = editor.keep[low].sum(), editor.keep[high].sum()
        if (sizes.reshape(-1) != given).any():
            editor.set_input(new, 1, sizes.reshape(-1))

    a.edits[i] = edit
    return (*rest, *structure(*((x, np.concatenate(three)) for x, three in fresh.items())))
