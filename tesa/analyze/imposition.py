"""The patterns that a user imposes on the layers of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed, kept
from tesa.attributes.patterns import weight_matrix
from tesa.errors import UsageError
from tesa.schedules.types import Problem

_KINDS = ("relax.nn.conv2d", "relax.matmul")


@dataclass(frozen=True)
class Rules:
    """The imposed patterns. every: for all layers without one of their own; by_layer: for the layers of that name."""

    every: Imposed | None
    by_layer: Mapping[str, Imposed]

    @staticmethod
    def parse(texts: Sequence[str]) -> Rules:
        """Read "0.9:block=4x4" and "NAME=0.9:block=4x4". Raises UsageError, also where two are for the same.

        >>> Rules.parse(["0.9", "conv=1=0.5:2:4"]).by_layer["conv=1"].sizes
        (2, 4)
        """
        every: Imposed | None = None
        by_layer: dict[str, Imposed] = {}
        for text in texts:
            name, imposed = _split(text)
            if (every if name is None else by_layer.get(name)) is not None:
                raise UsageError(f"two patterns are imposed on {'all layers' if name is None else name}; give one")
            if name is None:
                every = imposed
            else:
                by_layer[name] = imposed
        return Rules(every, by_layer)

    def of(self, layer: str) -> Imposed | None:
        """The pattern that is imposed on a layer."""
        return self.by_layer.get(layer, self.every)


def _split(text: str) -> tuple[str | None, Imposed]:
    """The layer's name, if any, and the pattern. Names may hold "=", and so may patterns."""
    if "=" not in text or (text[:1].isdigit() and text.partition(":")[0].replace(".", "").isdigit()):
        return None, Imposed.parse(text)
    places = [i for i, letter in enumerate(text) if letter == "="]
    for place in reversed(places):  # the last "=" that has a pattern behind it; block=4x4 is none, it has no share
        tail = text[place + 1 :]
        if tail[:1].isdigit() and "x" not in tail.partition(":")[0]:
            return text[:place], Imposed.parse(tail)
    raise UsageError(f"cannot impose {text!r}; write it as 0.9:block=4x4, for one layer as NAME=0.9:block=4x4")


def imposed_on(rules: Rules, layer: str, problem: Problem) -> Imposed | None:
    """The pattern that is imposed on a layer, if any. A pattern for all layers leaves out those that it has no meaning
    for: blocks larger than the weight, and of depthwise filters everything but single taps. One for this layer is an
    error there.
    """
    imposed = rules.of(layer)
    if imposed is None:
        return None
    asked = layer in rules.by_layer
    if problem.op == "depthwise" and not imposed.everywhere and not asked:
        return None
    rows, columns = imposed.block
    if rows > problem.m or columns > problem.k:
        if not asked:
            return None
        raise UsageError(
            f"layer {layer}: a block of {rows}x{columns} is larger than its weight, {problem.m}x{problem.k} (m x k)"
        )
    return imposed


def channel_masks(
    model: Any, wanted: Mapping[str, Imposed], shapes: Mapping[str, Any] | None, masks: Any
) -> dict[str, NDArray[np.bool_]]:
    """Masks by initializer: those of the user, and whole channels of the layers in `wanted`.

    Channels are the one pattern that reaches beyond its layer: what consumes them becomes smaller too, so they are
    masked before propagation. Magnitudes are those of the weights as the model computes with them.
    """
    from tesa.frontend import import_onnx
    from tesa.propagate import as_given

    imported = import_onnx(model, shapes=shapes, masks=masks)
    places = {(use.var, use.argument): (name, use) for name, uses in imported.weights.items() for use in uses}
    found = {name: np.asarray(mask) for name, mask in imported.masks.items()}
    for facts in as_given(imported).weights.values():
        imposed, place = wanted.get(facts.layer), places.get((facts.var, facts.argument))
        if imposed is None or place is None or facts.op not in _KINDS or facts.weight.ndim not in (2, 4):
            continue
        keep = kept(weight_matrix(facts.op, facts.weight).astype(np.float32), imposed)
        mask = (keep.T if facts.op == "relax.matmul" else keep).reshape(facts.weight.shape)
        name, use = place
        if use.axes is not None:
            mask = mask.transpose(np.argsort(use.axes))
        found[name] = mask & found[name] if name in found else mask
    return found


def check_layers(rules: Rules, layers: Sequence[str]) -> None:
    """Raises UsageError for a pattern whose layer is not among those that kernels are made for."""
    for layer in rules.by_layer:
        if layer not in layers:
            near = get_close_matches(layer, layers, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(
                f"cannot impose a pattern on {layer!r}: no layer of that name has a weight that kernels are made for; "
                f"{hint}`tesa analyze` without --impose lists them"
            )
