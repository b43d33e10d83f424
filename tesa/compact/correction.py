"""The constant that a node must add to its output once known constants are taken out of its input."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from tesa.attributes.attribute import Values
from tesa.compact.analysis import Analysis, Contraction
from tesa.compact.facts import Facts
from tesa.compact.index import Bools
from tesa.frontend.graph import attributes


def activations(a: Analysis, contraction: Contraction) -> list[int]:
    """The positions of the operands that are no constants."""
    node = a.graph.nodes[contraction.node]
    return [p for p in (0, 1) if p < len(node.input) and a.constant(node.input[p]) is None]


def correctable(a: Analysis, facts: Facts, contraction: Contraction) -> bool:
    """True if constants can be taken out of the sum and a constant be added to the output instead.

    Both operands may be activations: what is taken out of one is taken out of the other, and both are constants there.
    """
    node = a.graph.nodes[contraction.node]
    if contraction.kind != "ConvTranspose":
        return contraction.kind != ""
    options = attributes(node)
    padded = "output_shape" in options or options.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    return not padded and not _varies_in_space(facts.replacement(node.input[0]))


def varies(a: Analysis, facts: Facts, contraction: Contraction) -> bool:
    """True if the correction is more than one number for each output channel, so that no bias can hold it."""
    node, positions = a.graph.nodes[contraction.node], activations(a, contraction)
    if len(positions) > 1:
        return True
    replacement = facts.replacement(node.input[positions[0]])
    if contraction.kind in ("Conv", "ConvTranspose"):
        return _varies_in_space(replacement) or not all(reach.all() for reach in _reaches(a, node))
    summed = {axis for term in contraction.terms for axis in term.axes.get(positions[0], ())}
    return any(n > 1 for axis, n in enumerate(replacement.shape) if axis not in summed)


def taps(a: Analysis, contraction: Contraction) -> int:
    """The number of times that one removed index enters one element of the output."""
    if contraction.kind not in ("Conv", "ConvTranspose"):
        return 1
    return int(np.prod(a.shape(a.graph.nodes[contraction.node].input[1])[2:]))


def correction(
    a: Analysis, facts: Facts, contraction: Contraction, keep: Bools, constant: Callable[[int], Values]
) -> Values | None:
    """The array to be added to the output, of as many axes and uncut, in float64; None if it is 0 throughout.

    keep: by id. constant: the array of a constant operand by its position, with dead elements set to 0.
    """
    node, positions = a.graph.nodes[contraction.node], activations(a, contraction)
    if not contraction.kind:
        return None
    pair: list[Values] = []
    for p in (0, 1):
        if p in positions:
            pair.append(_removed(facts.replacement(node.input[p]), contraction, p, keep))
        if p in positions and not pair[-1].any():
            return None
        if p not in positions:
            pair.append(constant(p).astype(np.float64))
    windowed = contraction.kind in ("Conv", "ConvTranspose")
    found = _conv(a, node, *pair) if windowed else _product(node, *pair)
    return found if found.any() else None


def _removed(replacement: Values, contraction: Contraction, position: int, keep: Bools) -> Values:
    """The replacements of what is taken out of an operand, 0 elsewhere."""
    if not replacement.any():
        return replacement
    gone: Bools = np.zeros((1,) * replacement.ndim, bool)
    for term in contraction.terms:
        if position in term.axes:
            gone = gone | _along(~keep[term.ids], term.axes[position], replacement.ndim)
    return np.where(gone, replacement, 0.0)


def _along(mask: Bools, axes: Sequence[int], rank: int) -> Bools:
    """A mask over some axes, in any order, as one of `rank` axes."""
    order = tuple(int(k) for k in np.argsort(axes))
    view = [1] * rank
    for axis, n in zip(axes, mask.shape, strict=True):
        view[axis] = n
    return np.asarray(mask.transpose(order).reshape(view))


def _varies_in_space(replacement: Values) -> bool:
    return any(n > 1 for axis, n in enumerate(replacement.shape) if axis != 1)


def _product(node: Any, *pair: Values) -> Values:
    options = attributes(node)
    if node.op_type == "Einsum":
        return np.asarray(np.einsum(options["equation"].decode().replace(" ", ""), *pair))
    if node.op_type == "MatMul":
        return np.asarray(np.matmul(*pair))
    left, right = (m.T if options.get(key, 0) else m for m, key in zip(pair, ("transA", "transB"), strict=True))
    return np.asarray(left @ right) * float(options.get("alpha", 1.0))


def _window(a: Analysis, node: Any) -> list[tuple[int, int, int, int, int, int]]:
    """For each axis of space: size in, size out, taps, stride, dilation, padding before."""
    options = attributes(node)
    ins, outs = a.shape(node.input[0])[2:], a.shape(node.output[0])[2:]
    kernel = a.shape(node.input[1])[2:]
    rank = len(ins)
    strides, dilations = (list(options.get(key, [1] * rank)) for key in ("strides", "dilations"))
    pads = list(options.get("pads", [0] * 2 * rank))[:rank]
    mode = options.get("auto_pad", b"NOTSET").decode()
    rows = []
    for axis, (m, n, k, s, d) in enumerate(zip(ins, outs, kernel, strides, dilations, strict=True)):
        low = pads[axis] if mode == "NOTSET" else 0
        if mode.startswith("SAME"):  # a convolution; a transposed one with it is not made up for
            total = max((n - 1) * s + d * (k - 1) + 1 - m, 0)
            low = total // 2 if mode == "SAME_UPPER" else total - total // 2
        rows.append((m, n, k, s, d, low))
    return rows


def _reaches(a: Analysis, node: Any) -> list[Bools]:
    """For each axis of space (taps, size out): whether the tap reads a pixel there and not padding."""
    result = []
    for m, n, k, s, d, low in _window(a, node):
        tap, at = np.arange(k)[:, None] * d - low, np.arange(n)[None, :]
        source = (at * s + tap) * s if node.op_type == "Conv" else at - tap  # in strides of a pixel
        result.append((source >= 0) & (source % s == 0) & (source // s < m))
    return result


def _conv(a: Analysis, node: Any, x: Values, weight: Values) -> Values:
    """The convolution of x (1, channels, ..), which is 0 in the channels that stay, with the weight."""
    groups = int(attributes(node).get("group", 1))
    channels = a.shape(node.input[0])[1]
    x = np.broadcast_to(x, (x.shape[0], channels, *x.shape[2:]))
    parts = []
    for mine, block in zip(np.split(x, groups, axis=1), np.split(weight, groups), strict=True):
        live = mine.any(axis=tuple(k for k in range(mine.ndim) if k != 1))
        kernel = block if node.op_type == "Conv" else block.swapaxes(0, 1)
        parts.append(_one_group(a, node, mine[:, live], kernel[:, live]))
    shape = np.broadcast_shapes(*((p.shape[0], 1, *p.shape[2:]) for p in parts))
    return np.concatenate([np.broadcast_to(p, (shape[0], p.shape[1], *shape[2:])) for p in parts], axis=1)


def _one_group(a: Analysis, node: Any, x: Values, kernel: Values) -> Values:
    reaches = _reaches(a, node)
    if not _varies_in_space(x):
        total = np.einsum("oi...,i->o...", kernel, x.reshape(-1))
        for reach in reaches:  # each sums over the first axis of taps and puts its positions last
            total = np.tensordot(total, reach.astype(np.float64), axes=(1, 0))
        same = all(reach.all() for reach in reaches)
        return np.asarray(total[(None, slice(None), *(slice(0, 1) for _ in reaches))] if same else total[None])
    return _slide(_window(a, node), x, kernel)


def _slide(window: list[tuple[int, int, int, int, int, int]], x: Values, kernel: Values) -> Values:
    """A convolution tap by tap. x: (n, i, ..), of length 1 where it does not change; kernel: (o, i, ..)."""
    x = np.broadcast_to(x, (*x.shape[:2], *(m for m, *_ in window)))
    room = [(low, max((n - 1) * s + d * (k - 1) + 1 - m - low, 0)) for m, n, k, s, d, low in window]
    padded = np.pad(x, [(0, 0), (0, 0), *room])
    out = np.zeros((x.shape[0], kernel.shape[0], *(n for _, n, *_ in window)))
    for tap in product(*(range(k) for _, _, k, *_ in window)):
        steps = zip(tap, window, strict=True)
        cut: list[Any] = [slice(t * d, t * d + (n - 1) * s + 1, s) for t, (_, n, _, s, d, _) in steps]
        read: Any = (slice(None), slice(None), *cut)
        taken: Any = (slice(None), slice(None), *tap)
        out += np.einsum("oi,ni...->no...", kernel[taken], padded[read], optimize=True)
    return out
