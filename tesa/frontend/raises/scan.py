"""The Scan of opset 8, which ran over the items of a batch one after the other."""

from typing import Any

import numpy as np

from tesa.frontend.lift import Lifter, put, raises, take

MOST = 1 << 12
"""Items of a batch, each of which becomes a Scan of its own."""


@raises("Scan", to=9)
def scan(lifter: Lifter, node: Any) -> list[Any]:
    """One Scan of now for each item of the batch, and their results put together."""
    shape = lifter.shape(node.input[1]) if len(node.input) > 1 else None
    if node.input[0] or shape is None:
        raise lifter.unsupported(node, "a batch with lengths of its own, or of unknown size; export it with opset 9")
    if shape[0] > MOST:
        raise lifter.unsupported(node, f"it runs over {shape[0]} sequences, at most {MOST} are possible")
    directions = take(node, "directions")
    if directions is not None:
        put(node, scan_input_directions=directions)
    axis = lifter.constant([0], np.int64)
    made: list[Any] = []
    parts: list[list[str]] = [[] for _ in node.output]
    for item in range(shape[0]):
        one = type(node)()
        one.CopyFrom(node)
        del one.input[:], one.output[:]
        for name in node.input[1:]:
            pick, picked = lifter.node("Gather", [name, lifter.constant(item, np.int64)], axis=0)
            made.append(pick)
            one.input.append(picked)
        one.output.extend(lifter.fresh("scan") if name else "" for name in node.output)
        one.name = lifter.part(node, str(item))
        made.append(one)
        for position, name in enumerate(one.output):
            if name:
                wider, result = lifter.node("Unsqueeze", [name, axis])
                made.append(wider)
                parts[position].append(result)
    pairs = zip(node.output, parts, strict=True)
    return [*made, *(lifter.node("Concat", names, name, axis=0)[0] for name, names in pairs if name)]
