"""Ties of the operators that ONNX Runtime fuses others into."""

from typing import Any

from tesa.compact.analysis import Analysis, ties
from tesa.compact.index import Structure
from tesa.compact.labels import broadcast_labels, tie_labels
from tesa.frontend.graph import attributes
from tesa.propagate.labels import matmul_axes


@ties("FusedMatMul", "TransposeMatMul")
def fused_matmul(a: Analysis, i: int, node: Any) -> Structure | None:
    """alpha * A B, where each operand may be transposed."""
    options = attributes(node)
    if options.get("transBatchA", 0) or options.get("transBatchB", 0):
        return None
    turned = [bool(options.get(key, 0)) and len(a.shape(name)) > 1
              for key, name in zip(("transA", "transB"), node.input, strict=False)]  # fmt: skip
    shapes = [_turned(a.shape(name), turn) for name, turn in zip(node.input, turned, strict=True)]
    product = matmul_axes(shapes[0], shapes[1])
    labels = {p: _turned(names, turned[p]) for p, names in enumerate(product.operands)}
    return tie_labels(a, i, labels, product.out)


def _turned(axes: tuple[Any, ...], turn: bool) -> tuple[Any, ...]:
    return (*axes[:-2], axes[-1], axes[-2]) if turn else axes


@ties("BiasGelu", "FastGelu")
def bias_gelu(a: Analysis, i: int, node: Any) -> Structure | None:
    """GELU of x + bias."""
    rank = len(a.shape(node.output[0]))
    labels = {p: broadcast_labels(rank, a.shape(name)) for p, name in enumerate(node.input) if name}
    return tie_labels(a, i, labels, tuple(range(rank)))


@ties("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def skip_norm(a: Analysis, i: int, node: Any) -> Structure | None:
    """Layer norm of the sum of two: the last axis stays, the others pass."""
    rank = len(a.shape(node.output[0]))
    if any(a.constant(name) is None for name in node.input[2:] if name):
        return None
    for name in () if a.moving else node.input[:2]:
        if a.constant(name) is None:
            a.structures[name] = a.index.drop(a.of(name), [len(a.shape(name)) - 1])
    given = node.input if a.moving else node.input[:2]  # scale, shift and bias go with what changes places
    labels = {p: broadcast_labels(rank, a.shape(name)) for p, name in enumerate(given) if name}
    found = tie_labels(a, i, labels, tuple(range(rank)))
    for position, name in enumerate(node.output[1:], start=1):
        short = a.moving and position < 3  # mean and deviation of a row
        if name:
            a.structures[name] = tuple(part for part in found if not short or rank - 1 not in part.axes)
    return found


@ties("GridSample", "RoiAlign", "MaxRoiPool")
def sample(a: Analysis, i: int, node: Any) -> Structure | None:
    """Pixels are picked at run time: they and the batch stay, the channels pass."""
    name = node.input[0]
    if a.constant(name) is not None:
        return None
    for other in node.input[1:]:
        a.hold(other)
    a.structures[name] = a.index.drop(a.of(name), [x for x in range(len(a.shape(name))) if x != 1])
    return a.of(name)
