"""Repairs one pruned layer by least squares: the weights that stay take over what those that go have done.

Minimises |X W' - X W|^2 over the weights that stay, one solve for all rows with one support, with X the inputs of the
layer in the dense network, and lets the bias take what is left of the mean (Hubara et al., Accurate Post Training
Quantization with Small Calibration Sets, 2021; Frantar and Alistarh, SparseGPT, 2023). Layers are repaired each for
itself, so that a repaired weight is made once, whatever is chosen for the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.compress.layers import Layer

Array = NDArray[Any]

ROWS = 16384  # of inputs that are looked at: several times as many as a layer has
LARGEST = 1600  # inputs of a layer whose equations are solved; the others are masked, and their bias is repaired
_DAMPING = 1e-3


@dataclass(frozen=True)
class Inputs:
    """The second moments (k, k) of what a layer reads, and its mean (k,)."""

    moments: Array
    mean: Array


class Moments:
    """Adds up the inputs of a layer, run by run."""

    def __init__(self, layer: Layer, runs: int, seed: int = 0) -> None:
        self.layer, self.share = layer, max(ROWS // max(runs, 1), 8)
        self.rng = np.random.default_rng(seed)
        k = layer.k
        self.total, self.sum, self.count = np.zeros((k, k)), np.zeros(k), 0

    def add(self, x: Array) -> None:
        """Add the activation that the layer reads in one run, as the model has it."""
        rows = input_rows(self.layer, x)
        if len(rows) > self.share:
            rows = rows[self.rng.choice(len(rows), self.share, replace=False)]
        rows = rows.astype(np.float64)
        self.total += rows.T @ rows
        self.sum += rows.sum(axis=0)
        self.count += len(rows)

    def result(self) -> Inputs:
        """The moments of all that was added."""
        count = max(self.count, 1)
        return Inputs(self.total / count, self.sum / count)


def repairable(layer: Layer) -> bool:
    """True for the layers whose inputs can be laid out as rows: linear ones, and convolutions in one group."""
    if layer.op == "linear":
        return layer.position == 1
    plain = layer.op == "conv" and layer.groups == 1 and not layer.transposed and layer.at >= 0
    return plain and len(layer.shape) in (3, 4) and layer.options.get("auto_pad", b"NOTSET") in (b"NOTSET", "NOTSET")


def input_rows(layer: Layer, x: Array) -> Array:
    """(positions, k): what each output of a layer is a product of."""
    if layer.op == "linear":
        return x.reshape(-1, x.shape[-1])
    kernel = layer.shape[2:]
    axes = len(kernel)
    pads = list(layer.options.get("pads", [0] * 2 * axes))
    strides = list(layer.options.get("strides", [1] * axes))
    dilations = list(layer.options.get("dilations", [1] * axes))
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)])
    reach = [d * (size - 1) + 1 for d, size in zip(dilations, kernel, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(2, 2 + axes)))
    every = slice(None)
    steps: Any = (every, every, *(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))
    windows = windows[steps]
    order = (0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes))
    rows: Array = windows.transpose(order).reshape(-1, layer.k)
    return rows


def refit(weight: Array, mask: Array, inputs: Inputs) -> Array:
    """The weight (m, k) with zeros where the mask has none, the others repaired.

    >>> x = np.array([[1.0, 1.0], [2.0, 2.0]])
    >>> refit(np.array([[1.0, 3.0]]), np.array([[True, False]]), Inputs(x.T @ x / 2, x.mean(0))).round(2)
    array([[4., 0.]])
    """
    spread = inputs.moments - np.outer(inputs.mean, inputs.mean)  # the bias takes the mean
    damping = _DAMPING * float(np.mean(np.diag(spread))) or 1e-12
    wanted = weight @ spread
    made = np.where(mask, weight, 0.0)
    supports, groups = np.unique(mask, axis=0, return_inverse=True)
    for number, support in enumerate(supports):
        rows = np.flatnonzero(groups.reshape(-1) == number)
        live = np.flatnonzero(support)
        if not len(live) or len(live) == mask.shape[1]:
            continue
        system = spread[np.ix_(live, live)] + damping * np.eye(len(live))
        target = wanted[np.ix_(rows, live)] + damping * weight[np.ix_(rows, live)]
        made[np.ix_(rows, live)] = np.linalg.solve(system, target.T).T
    return made


def bias_shift(weight: Array, made: Array, inputs: Inputs) -> Array:
    """(m,): what is to be added to the bias, so that the mean of every output stays."""
    shift: Array = (weight - made) @ inputs.mean
    return shift
