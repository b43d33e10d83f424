"""Names: the layer of each node, and the nearest name to one that does not exist."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

WEIGHT_SUFFIX = re.compile(r"[._/](weight|kernel|W|weight_quantized)$")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "Did you mean 'a' or 'b'?" with the nearest known names; empty if none is near.

    >>> did_you_mean("conv1.wieght", ["conv1.weight", "fc.bias"])
    "Did you mean 'conv1.weight'?"
    """
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


class Unique:
    """Hands out names, each once: `x`, `x_2`, `x_3`."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)
        self._last: dict[str, int] = {}  # number of each name: a model may have thousands of nodes without one

    def __call__(self, name: str) -> str:
        number = self._last.get(name, 1)
        result = name if number == 1 else f"{name}_{number}"
        while result in self.taken:
            number += 1
            result = f"{name}_{number}"
        self._last[name] = number
        self.taken.add(result)
        return result


def identifier(name: str) -> str:
    """A name that TVM's printer and C accept: letters, digits, underscore.

    >>> identifier("/block.1/conv")
    'block_1_conv'
    """
    plain = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "x"
    return f"_{plain}" if plain[0].isdigit() else plain


def layer_names(nodes: Iterable[Any], weights: Mapping[str, str]) -> dict[str, str]:
    """A unique, stable layer name for each node, by the name of its first output.

    weights: for a node with a weight (by first output) the initializer, which names the layer if it is called
    `something.weight` and is used once. Otherwise the node's own name, otherwise the operator.
    """
    unique, uses, names = Unique(), Counter(weights.values()), {}
    for node in nodes:
        key = node.output[0]
        initializer = weights.get(key, "")
        own = node.name.strip("/").replace("/", ".")
        if WEIGHT_SUFFIX.search(initializer) and (uses[initializer] == 1 or not own):
            own = WEIGHT_SUFFIX.sub("", initializer)
        names[key] = unique(own or node.op_type.lower())
    return names
