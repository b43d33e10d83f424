"""Random layers to try a cost table on: shapes of real networks and shapes drawn at random, with random zeros."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.kernels.cases import BERT, DECODE, DEPTHWISE, MOBILENET, RESNET
from tesa.attributes.impose import Imposed
from tesa.costs.grid import synthetic
from tesa.schedules.types import Epilogue, FloatArray, Problem, Window

SEED = 70_000  # far from the seeds of calibrations
MINILM = ((384, 384, 128), (1536, 384, 128), (384, 1536, 128))
RESNET_POINTWISE = ((64, 256, 3136), (256, 64, 3136), (128, 512, 784), (512, 128, 784), (1024, 256, 196),
                    (256, 1024, 196), (2048, 512, 49), (512, 2048, 49))  # fmt: skip
SHAPES = {"mobilenet": MOBILENET, "pointwise": RESNET_POINTWISE, "bert": BERT, "minilm": MINILM}
NETWORKS = (*SHAPES, "resnet", "decode", "depthwise mobilenet")
RANDOM = ("linear", "linear", "linear", "few", "vector", "conv", "depthwise", "int8")
PATTERNS = ("unstructured", "unstructured", "unstructured", "block=16x1", "block=4x4", "block=1x16", "block=32x32",
            "2:4")  # fmt: skip
MACS = 3e8  # of the dense layer, at most, where the shape is drawn

Layer = tuple[str, Problem, FloatArray]
Shape = tuple[str, int, int, int]


def layer(index: int, threads: int = 1, seed: int = SEED, seen: frozenset[Shape] = frozenset()) -> Layer:
    """The name, problem and weight of the layer of that index. seen: shapes that are not to be drawn."""
    rng = np.random.default_rng((seed, index))
    while True:
        kind = str(rng.choice(NETWORKS if index % 2 else RANDOM))
        problem = replace(_drawn(kind, rng), threads=threads)
        if shape_of(problem) not in seen:
            break
    if problem.op == "depthwise":
        imposed = Imposed("unstructured", round(float(rng.uniform(0.2, 0.7)), 2))
    else:
        pattern, sparsity = str(rng.choice(PATTERNS)), round(float(rng.uniform(0.5, 0.99)), 2)
        imposed = Imposed.parse(pattern if pattern == "2:4" else f"{sparsity}:{pattern}")
        if imposed.block[0] > problem.m or imposed.block[1] > problem.k:
            imposed = Imposed("unstructured", sparsity)
    weight = synthetic(problem, imposed, seed + index, float(rng.choice([0.0, 0.3])))
    return f"{kind} {problem.m}x{problem.k}x{problem.n} {imposed}", problem, weight


def shape_of(problem: Problem) -> Shape:
    """The operator and the sizes of a layer, without its zeros."""
    return (problem.op, problem.m, problem.k, problem.n)


def _drawn(kind: str, rng: np.random.Generator) -> Problem:
    if kind in ("resnet", "conv", "depthwise", "depthwise mobilenet"):
        problem, activation = _window(kind, rng), "relu6" if "depthwise" in kind else "relu"
    else:
        m, k, n = _product(kind, rng)
        problem = Problem("linear", m, k, n, (1, k, n), (1, m, n), dtype="int8" if kind == "int8" else "float32")
        activation = {"mobilenet": "relu6", "bert": "gelu", "minilm": "gelu"}.get(kind, "relu")
    said = str(rng.choice([activation, ""])) or None
    return replace(problem, epilogue=Epilogue(bias=True, activation=said, scale=kind == "int8"))


def _product(kind: str, rng: np.random.Generator) -> tuple[int, int, int]:
    if kind == "decode":
        return (*DECODE[0], 1)
    if kind in SHAPES:
        return SHAPES[kind][int(rng.integers(len(SHAPES[kind])))]
    while True:
        m, k = (round(float(2 ** rng.uniform(4.5, 11.5))) for _ in range(2))
        n = {"few": int(rng.integers(2, 17)), "vector": 1}.get(kind) or round(float(2 ** rng.uniform(4, 12)))
        if m * k * n <= MACS and m * k <= 1 << 22:
            return m, k, n


def _window(kind: str, rng: np.random.Generator) -> Problem:
    stride, channels = 1, 0
    if kind == "resnet":
        m, size = RESNET[int(rng.integers(len(RESNET)))]
    elif kind == "depthwise mobilenet":
        m, size, stride = DEPTHWISE[int(rng.integers(len(DEPTHWISE)))]
    else:
        m, size, stride = round(float(2 ** rng.uniform(4, 9))), int(rng.integers(7, 64)), int(rng.integers(1, 3))
        channels = round(float(2 ** rng.uniform(3, 8)))
    window = Window(size, size, (3, 3), (stride, stride), (1, 1, 1, 1))
    out = (1, m, window.out_height, window.out_width)
    if "depthwise" in kind:
        return Problem("depthwise", m, 9, out[2] * out[3], (1, m, size, size), out, window=window)
    channels = channels or m
    while m * channels * 9 * out[2] * out[3] > MACS:
        channels -= -(-channels // 4)
    return Problem("conv2d", m, channels * 9, out[2] * out[3], (1, channels, size, size), out, window=window)
