"""Steps of random models for matrices (n, rows, k): linear layers, attention, norms, embeddings, integers."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .graph_any import ANY_STEPS
from .graph_maker import LARGEST, VOCABULARY, Maker

Names = list[str]


def to_matrix(m: Maker, x: str) -> str:
    """An image as a matrix: its pooled channels, its channels as rows, or its pixels as rows."""
    n, c, h, w = m.shapes[x]
    kind = m.rng.random()
    if kind < 0.4:
        pooled = m.op("GlobalAveragePool", [x], (n, c, 1, 1))
        return str(m.op("Reshape", [pooled, m.numbers(n, 1, c)], (n, 1, c)))
    if kind < 0.6:
        flat = m.op("Flatten", [x], (n, c * h * w))
        return str(m.op("Unsqueeze", [flat, m.numbers(1)], (n, 1, c * h * w)))
    flat = m.op("Reshape", [x, m.numbers(n, c, h * w)], (n, c, h * w))
    return str(m.op("Transpose", [flat], (n, h * w, c), perm=[0, 2, 1]))


def embedding(m: Maker) -> str:
    """Rows of a pruned table by indices that come at run time, and pruned positions."""
    rows, k = int(m.rng.integers(2, 5)), int(m.rng.integers(2, 4)) * 2
    ids = m.input("ids", (1, rows), TensorProto.INT64)
    x = m.op("Gather", [m.weight(VOCABULARY, k), ids], (1, rows, k))
    return str(m.op("Add", [x, m.weight(rows, k)], (1, rows, k)) if m.rng.random() < 0.5 else x)


def _linear(m: Maker, x: str, outs: int, bias: float = 0.7) -> str:
    x = m.small(x, LARGEST)
    n, rows, k = m.shapes[x]
    y = m.op("MatMul", [x, _matrix(m, k, outs)], (n, rows, outs))
    return str(m.op("Add", [y, m.weight(outs)], (n, rows, outs)) if m.rng.random() < bias else y)


def _matrix(m: Maker, k: int, outs: int) -> str:
    """A weight, maybe one that is stored in 8 bits with a scale for each column."""
    if m.rng.random() < 0.8:
        return m.weight(k, outs)
    stored = np.clip(np.rint(m.pruned(k, outs) * 40), -127, 127).astype(np.int8)
    scale = m.constant(m.rng.uniform(0.01, 0.03, size=outs))
    return str(m.op("DequantizeLinear", [m.constant(stored), scale], (k, outs), axis=1))


def linear(m: Maker, x: str, alike: Names) -> Names:
    """x @ W + b, W @ x, one W for each of the batch, or a Gemm."""
    n, rows, k = m.shapes[x]
    outs, kind = int(m.rng.integers(1, 7)), m.rng.random()
    if kind < 0.65:
        return [_linear(m, x, outs)]
    x = m.small(x, LARGEST)
    if kind < 0.8:
        return [m.op("MatMul", [m.weight(outs, rows), x], (n, outs, k))]
    if kind < 0.9:
        return [m.op("MatMul", [x, m.weight(n, k, outs)], (n, rows, outs))]
    flat = m.op("Reshape", [x, m.numbers(n * rows, k)], (n * rows, k))
    turned = int(m.rng.integers(0, 2))
    weight = m.weight(outs, k) if turned else m.weight(k, outs)
    scaled = {"alpha": 0.5} if m.rng.random() < 0.2 else {}
    y = m.op("Gemm", [flat, weight, m.weight(outs)], (n * rows, outs), transB=turned, **scaled)
    return [m.op("Reshape", [y, m.numbers(n, rows, outs)], (n, rows, outs))]


def product(m: Maker, x: str, alike: Names) -> Names:
    """Of two activations, often both pruned; maybe of a tensor with itself, turned."""
    n, rows, k = m.shapes[x]
    left, right = m.pair(x, str(m.rng.choice(alike)))
    if m.rng.random() < 0.3:
        equation = str(m.rng.choice(["bij,bkj->bik", "bij,bij->bij"]))
        return [m.op("Einsum", [left, right], (n, rows, rows if "k" in equation else k), equation=equation)]
    turned = m.op("Transpose", [right], (n, k, rows), perm=[0, 2, 1])
    if m.rng.random() < 0.7:
        return [m.op("MatMul", [left, turned], (n, rows, rows))]
    return [m.op("MatMul", [turned, left], (n, k, k))]


def einsum(m: Maker, x: str, alike: Names) -> Names:
    """With a constant, or a transposition or sum."""
    x = m.small(x, LARGEST)
    n, rows, k = m.shapes[x]
    outs = int(m.rng.integers(1, 5))
    forms = {
        "bij,jk->bik": ([k, outs], (n, rows, outs)), "bij,kj->bik": ([outs, k], (n, rows, outs)),
        "bij,ij->bij": ([rows, k], (n, rows, k)), "bij->bji": (None, (n, k, rows)),
    }  # fmt: skip
    equation = str(m.rng.choice(list(forms)))
    weight, shape = forms[equation]
    return [m.op("Einsum", [x, m.weight(*weight)] if weight else [x], shape, equation=equation)]


def norm(m: Maker, x: str, alike: Names) -> Names:
    """Layer norm, or RMS norm as one operator or in its parts."""
    n, rows, k = m.shapes[x]
    kind = m.rng.random()
    if kind < 0.6:
        return [m.op("LayerNormalization", [x, m.weight(k), m.weight(k)], (n, rows, k), axis=-1)]
    if m.opset >= 23 and kind < 0.8:
        return [m.op("RMSNormalization", [x, m.weight(k)], (n, rows, k), axis=-1)]
    x = m.small(x, LARGEST // 2)
    square = m.op("Mul", [x, x], (n, rows, k))
    attributes = {"axes": [-1]} if m.opset < 18 else {}
    mean = m.op("ReduceMean", [square] if attributes else [square, m.numbers(-1)], (n, rows, 1), **attributes)
    root = m.op("Sqrt", [m.op("Add", [mean, m.constant(np.float32(0.01))], (n, rows, 1))], (n, rows, 1))
    return [m.op("Mul", [m.op("Div", [x, root], (n, rows, k)), m.weight(k)], (n, rows, k))]


def softmax(m: Maker, x: str, alike: Names) -> Names:
    """Maybe with a mask of minus infinity that is added or chosen, and maybe as logarithms."""
    shape = m.shapes[x]
    rows, k = shape[1:]
    masked, axis = x, int(m.rng.choice([-1, -1, 1]))
    hidden = m.rng.random((rows, k)) < 0.4
    hidden[0 if axis == 1 else slice(None), slice(None) if axis == 1 else 0] = False  # no row is hidden as a whole
    infinite = m.rng.random() < 0.6
    if infinite and m.rng.random() < 0.6:
        masked = m.op("Add", [x, m.constant(np.where(hidden, -np.inf, 0.0))], shape)
    elif infinite:
        masked = m.op("Where", [m.constant(~hidden), x, m.constant(np.float32(-np.inf))], shape)
    if m.rng.random() < 0.3:
        logs = m.op("LogSoftmax", [masked], shape, axis=axis)
        y = m.op("Exp", [logs], shape) if infinite else logs
        m.degree[y] = 0 if infinite else m.degree[x]
        return [y]
    return [m.op("Softmax", [masked], shape, axis=axis)]


def attention(m: Maker, x: str, alike: Names) -> Names:
    """Heads, scaled scores, a causal or padding mask: as BERT and ViT exports have it."""
    n, rows, _ = m.shapes[x]
    heads, size = int(m.rng.integers(1, 3)), 2
    split = (n, rows, heads, size)
    parts = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        wide = m.op("Reshape", [_linear(m, x, heads * size, 0.5), m.numbers(*split)], split)
        parts.append(m.op("Transpose", [wide], tuple(split[i] for i in perm), perm=perm))
    scores = m.op("MatMul", m.pair(parts[0], parts[1]), (n, heads, rows, rows))
    scores = m.op("Div", [scores, m.constant(np.float32(size**0.5))], (n, heads, rows, rows))
    if m.rng.random() < 0.6:
        hidden = np.triu(np.ones((rows, rows), bool), 1)
        low = -np.inf if m.rng.random() < 0.6 else -3e38
        scores = m.op("Add", [scores, m.constant(np.where(hidden, low, 0.0))], (n, heads, rows, rows))
    weights = m.op("Softmax", [scores], (n, heads, rows, rows), axis=-1)
    mixed = m.op("MatMul", [weights, parts[2]], (n, heads, rows, size))
    turned = m.op("Transpose", [mixed], split, perm=[0, 2, 1, 3])
    joined = m.op("Reshape", [turned, m.numbers(n, rows, heads * size)], (n, rows, heads * size))
    return [_linear(m, joined, m.shapes[x][2])]


def integers(m: Maker, x: str, alike: Names) -> Names:
    """Dynamically quantized, multiplied as integers, scaled back."""
    n, rows, k = m.shapes[x]
    outs = int(m.rng.integers(1, 5))
    shift = m.pruned(k)
    shift[-1] = 1.0  # a tensor of zeros has no scale
    x = m.op("Add", [m.small(x, 3), m.constant(shift)], (n, rows, k))
    stored, scale, zero = m.op("DynamicQuantizeLinear", [x], [(n, rows, k), (), ()])
    weight = np.clip(np.rint(m.pruned(k, outs) * 40), -127, 127).astype(np.int8)
    total = m.op("MatMulInteger", [stored, m.constant(weight), zero], (n, rows, outs))
    real = m.op("Cast", [total], (n, rows, outs), to=TensorProto.FLOAT)
    return [m.op("Mul", [real, m.op("Mul", [scale, m.constant(np.float32(0.02))], ())], (n, rows, outs))]


def conv_1d(m: Maker, x: str, alike: Names) -> Names:
    """The rows as channels of a signal."""
    x = m.small(x, LARGEST)
    n, rows, k = m.shapes[x]
    outs, groups = int(m.rng.integers(1, 3)) * 2, 2 if rows % 2 == 0 and m.rng.random() < 0.3 else 1
    if m.rng.random() < 0.3:
        return [m.op("ConvTranspose", [x, m.weight(rows, outs // groups, 2)], (n, outs, k + 1), group=groups)]
    inputs = [x, m.weight(outs, rows // groups, 3), m.weight(outs)]
    return [m.op("Conv", inputs, (n, outs, k), pads=[1, 1], group=groups)]


def move(m: Maker, x: str, alike: Names) -> Names:
    """Heads, slices, concats, expansions, sums over rows."""
    n, rows, k = m.shapes[x]
    kind = str(m.rng.choice(["heads", "slice", "concat", "sum", "pool", "cumsum", "tile"]))
    if kind == "heads" and k % 2 == 0 and rows <= 8:
        split = m.op("Reshape", [x, m.numbers(n, rows, 2, k // 2)], (n, rows, 2, k // 2))
        perm = [[0, 2, 1, 3], [0, 2, 3, 1]][int(m.rng.integers(0, 2))]
        turned = m.op("Transpose", [split], tuple(m.shapes[split][i] for i in perm), perm=perm)
        return [m.op("Reshape", [turned, m.numbers(n, 2 * rows, k // 2)], (n, 2 * rows, k // 2))]
    if kind == "slice" and k > 1:
        begin = int(m.rng.integers(0, k - 1))
        return [m.op("Slice", [x, *(m.numbers(v) for v in (begin, k, 2))], (n, rows, k - begin))]
    if kind == "concat" and k <= 8:
        return [m.op("Concat", [x, str(m.rng.choice(alike))], (n, rows, 2 * k), axis=-1)]
    if kind == "sum":
        return [m.op("ReduceSum", [x, m.numbers(1)], (n, 1, k), keepdims=1)]
    if kind == "pool" and k >= 2:
        return [m.op(str(m.rng.choice(["MaxPool", "AveragePool"])), [x], (n, rows, k - 1), kernel_shape=[2])]
    if kind == "cumsum" and m.rng.random() < 0.3:
        return [m.op("CumSum", [m.small(x, LARGEST), m.constant(np.int64(1))], (n, rows, k))]
    if kind == "tile" and rows <= 4:
        return [m.op("Tile", [x, m.numbers(1, 2, 1)], (n, 2 * rows, k))]
    return []


TEXT_STEPS = {
    **ANY_STEPS, "linear": linear, "linear2": linear, "linear3": linear, "product": product, "einsum": einsum,
    "norm": norm, "softmax": softmax, "attention": attention, "integers": integers, "conv": conv_1d, "move": move,
    "move2": move,
}  # fmt: skip
