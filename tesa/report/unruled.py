"""Lines about operators without a rule of their own, and about parts of the model file that no output needs."""

from collections.abc import Iterator, Mapping, Sequence

_NAMED = 4


def unruled_lines(unruled: Mapping[str, str], scrambled: Mapping[str, str], notes: Mapping[str, str]) -> Iterator[str]:
    """A line for each reason, with the layers that it holds for. The arguments are those of TesaModel.

    >>> list(unruled_lines({"sort": "relax.sort"}, {}, {"sort": "no rule"}))
    ['everything around it counts as live and unknown: sort (relax.sort): no rule']
    """
    heads = ((unruled, "everything around it counts as live and unknown"), (scrambled, "scrambled"))
    for layers, head in heads:
        groups: dict[str, list[str]] = {}
        for layer, op in layers.items():
            groups.setdefault(notes.get(layer, "no propagation rule"), []).append(f"{layer} ({op})")
        for note, names in groups.items():
            yield f"{head}: {_several(names)}: {note}"


def dropped_lines(dropped: Sequence[str], unused: Sequence[str]) -> Iterator[str]:
    """Lines about the parts that no output of the model depends on. The arguments are those of ImportedModel.

    >>> list(dropped_lines(["head.aux"], []))
    ['left out, no output depends on it: layer head.aux']
    """
    for kind, names in (("layer", dropped), ("input or initializer", unused)):
        if names:
            yield f"left out, no output depends on it: {kind} {_several(names)}"


def _several(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
