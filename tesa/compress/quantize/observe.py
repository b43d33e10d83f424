"""Watches the activations of a model on calibration data: the range and the histogram of each tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tesa.base.progress import Event, Progress, silent
from tesa.compress.quantize.grids import Histogram
from tesa.compress.samples import Samples
from tesa.errors import UsageError

BINS = 2048


def observe(
    model: Any, samples: Samples, tensors: Sequence[str], *, histograms: bool, progress: Progress = silent
) -> dict[str, Histogram]:
    """The range of each tensor of the model on the samples. histograms: count the numbers too, in a second pass.

    Raises UsageError where a tensor is not finite.
    """
    if not tensors:
        return {}
    ends: dict[str, tuple[float, float]] = {}
    for place, found in enumerate(samples.each(model, tensors)):
        progress(Event("calibrate", place, len(samples.feeds) * (1 + histograms)))
        for name, array in found.items():
            if not array.size:
                continue
            low, high = float(array.min()), float(array.max())
            if not np.isfinite(low + high):
                raise UsageError(
                    f"{name!r} of the model is not finite in run {place} of {samples.name}: a range cannot be found; "
                    "leave that sample out, or look at what the model makes of it"
                )
            old = ends.get(name, (low, high))
            ends[name] = min(old[0], low), max(old[1], high)
    result = {name: Histogram(low, high, np.zeros(BINS, np.int64)) for name, (low, high) in ends.items()}
    if histograms:
        for place, found in enumerate(samples.each(model, tensors)):
            progress(Event("calibrate", len(samples.feeds) + place, len(samples.feeds) * 2))
            for name, array in found.items():
                if array.size and result[name].low < result[name].high:
                    result[name].add(array)
    return result


def tied(model: Any, tensors: Sequence[str]) -> dict[str, str]:
    """The tensors that are to be on one grid: for each the first of its group.

    What only moves numbers or picks some of them can work on codes if all that it reads is on the grid of what it
    leaves. So where the result is quantized, so is what it was made of; wherever a tensor leads two ways, all are one.
    """
    maker = {output: node for node in model.graph.node for output in node.output}
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    waiting = list(tensors)
    while waiting:
        name = waiting.pop()
        node = maker.get(name)
        if node is None or node.op_type not in _MOVERS:
            root(name)
            continue
        for other in node.input if node.op_type == "Concat" else node.input[:1]:
            new = other not in parent
            parent[root(other)] = root(name)
            if new:
                waiting.append(other)
    return {name: root(name) for name in parent}


_MOVERS = ("MaxPool", "Concat", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Identity")
