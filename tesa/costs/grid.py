"""The layers that a calibration measures: an endless sequence, spread so that it can be stopped anywhere.

Layer i is the same for the same seed, whatever came before it. Every sixteen layers hold all classes: linear layers and
1x1 convolutions, few and single columns, windows, depthwise, int8, layers from codes to codes as in integer
networks; sizes, patterns and epilogues are drawn, the usual sizes of networks more often than others. A third of the
weights made of blocks have scattered elements too, which is what decompositions are for.
"""

from dataclasses import dataclass, replace

import numpy as np

from tesa.attributes.impose import Imposed, impose
from tesa.schedules.types import Epilogue, FloatArray, Output, Problem, Window

Rng = np.random.Generator

MAX_MACS = 6e8
"""Multiply-adds of a dense layer that is measured: some ten milliseconds of one core."""

MIN_MACS = 5e4
"""And at least: a kernel of less than a microsecond is mostly its call, and differs little from another."""

MAX_WEIGHT = {"vector": 8 << 20}
"""Elements of a weight that is measured, by class of layer; MOST for the others."""

MOST = 4 << 20

_MIXED = 1 << 20  # elements of a weight that is decomposed

_CHANNELS = (16, 24, 32, 48, 64, 64, 96, 128, 128, 160, 192, 256, 256, 320, 384, 384, 512, 512, 768, 768, 960, 1024,
             1024, 1536, 2048, 3072)  # fmt: skip
_LONG = (2048, 4096, 4096, 4096, 8192)  # of a matrix that meets one vector: it is read once, from far away
_PLACES = (49, 49, 196, 196, 784, 784, 3136, 3136, 12544, 16, 32, 64, 64, 128, 128, 128, 256, 256, 384, 512)
_BLOCKS = tuple(f"block={size}" for size in "4x1 8x1 16x1 32x1 1x4 1x8 1x16 4x4 8x8 16x16 32x32 32x64".split())
_SINGLE, _RATIOS, _ROWS = ("unstructured",), ("2:4", "1:4", "2:8", "4:8"), ("channel",)
_PATTERNS = ((), *[_SINGLE] * 5, *[_BLOCKS] * 5, _RATIOS, _ROWS)  # as often as networks have them; () is none
_OF_FILTERS = ((), (), _SINGLE, _SINGLE, _ROWS)  # rarely pruned: of all classes the one that is met dense most often
_CLASSES = ("linear", "window", "linear", "vector", "linear", "int8", "linear", "depthwise",
            "linear", "window", "few", "depthwise", "window", "codes", "vector", "linear")  # fmt: skip


@dataclass(frozen=True)
class GridLayer:
    """A layer to measure. imposed is None for a dense weight; spread: how unequal its rows are, 0 for equal; scattered:
    the share of elements that stay beside the pattern."""

    problem: Problem
    imposed: Imposed | None
    spread: float
    seed: int
    scattered: float = 0.0

    def weight(self) -> FloatArray:
        """The weight (m, k), always the same."""
        return synthetic(self.problem, self.imposed, self.seed, self.spread, self.scattered)


def synthetic(
    problem: Problem, imposed: Imposed | None, seed: int = 0, spread: float = 0.0, scattered: float = 0.0
) -> FloatArray:
    """A random weight (m, k) for a problem, without a single zero where nothing is imposed.

    spread: deviation of the logarithm of the rows' size, so that magnitude leaves unequally much of them. scattered:
    the share of elements, at random, that the pattern does not touch. The values are what problem.dtype can hold: whole
    numbers from -127 to 127 for int8.
    """
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((problem.m, problem.k), np.float32)
    values *= np.exp(spread * rng.standard_normal((problem.m, 1))).astype(np.float32)
    values = np.where(np.abs(values) < 1e-6, np.float32(1e-6), values)
    if imposed is not None:
        whole, values = values, impose(values, imposed)
        if scattered:
            values = np.where(rng.random(values.shape, np.float32) < scattered, whole, values)
    if problem.dtype != "int8":
        return values
    codes = np.clip(np.rint(values * 40), -127, 127)
    return np.where((codes == 0) & (values != 0), np.float32(1), codes).astype(np.float32)


def grid_layer(index: int, seed: int = 0, threads: int = 1) -> GridLayer:
    """The layer of that index in the sequence of that seed.

    >>> grid_layer(3).problem.n, grid_layer(3) == grid_layer(3)
    (1, True)
    """
    rng = np.random.default_rng((seed, index))
    make = {"window": _window, "depthwise": _depthwise, "codes": _codes}.get(_CLASSES[index % len(_CLASSES)])
    problem = make(rng) if make else _product(rng, _CLASSES[index % len(_CLASSES)])
    problem = replace(problem, threads=threads, epilogue=_epilogue(rng, problem))
    imposed = _imposed(rng, problem)
    spread = float(rng.choice([0.0, 0.0, 0.2, 0.5]))
    seed_of_weight = int(rng.integers(2**31))
    mixed = imposed is not None and imposed.imposition.tiles and problem.op == "linear" and rng.random() < 1 / 3
    scattered = round(float(2 ** rng.uniform(-8, -4)), 4) if mixed and problem.m * problem.k <= _MIXED else 0.0
    return GridLayer(problem, imposed, spread, seed_of_weight, scattered)


def _one(rng: Rng, values: tuple[int, ...], *, odd: float = 0.15) -> int:
    """One of the values, or now and then some number within their range."""
    if rng.random() >= odd:
        return int(rng.choice(values))
    return int(np.exp(rng.uniform(np.log(min(values)), np.log(max(values)))))


def _product(rng: Rng, kind: str) -> Problem:
    while True:
        sizes = _CHANNELS if kind != "vector" else (*_CHANNELS, *_LONG)
        m, k = _one(rng, sizes), _one(rng, sizes)
        n = {"vector": 1, "few": int(rng.integers(2, 17))}.get(kind) or _one(rng, _PLACES)
        batch = int(rng.choice([1, 1, 1, 1, 1, 1, 2, 4])) if kind == "linear" else 1
        if MIN_MACS <= batch * m * k * n <= MAX_MACS and m * k <= MAX_WEIGHT.get(kind, MOST):
            break
    dtype = "int8" if kind == "int8" else "float32"
    return Problem("linear", m, k, n, (batch, k, n), (batch, m, n), batch, dtype=dtype)


def _window(rng: Rng) -> Problem:
    while True:
        kernel, stride = int(rng.choice([3, 3, 3, 3, 1, 5, 7])), int(rng.choice([1, 1, 1, 2]))
        stride = 2 if kernel == 1 else stride
        channels = int(rng.choice([3, 16, 32, 64, 64, 128, 128, 256, 256, 512]))
        m = int(rng.choice([16, 32, 64, 64, 128, 128, 256, 256, 512]))
        size = _one(rng, (7, 7, 14, 14, 28, 28, 56, 56, 112))
        window = Window(size, size, (kernel, kernel), (stride, stride), (kernel // 2,) * 4)
        if min(window.out_height, window.out_width) < 1:
            continue
        k, n = channels * kernel * kernel, window.out_height * window.out_width
        if m * k * n <= MAX_MACS and m * k <= MOST:
            y = (1, m, window.out_height, window.out_width)
            return Problem("conv2d", m, k, n, (1, channels, size, size), y, window=window)


def _depthwise(rng: Rng) -> Problem:
    m = _one(rng, (16, 32, 64, 96, 128, 192, 256, 384, 512, 960, 1024))
    size = _one(rng, (7, 14, 14, 28, 28, 56, 112))
    kernel, stride = int(rng.choice([3, 3, 3, 5])), int(rng.choice([1, 1, 2]))
    if m * size * size > 4e6:
        size = 28
    window = Window(size, size, (kernel, kernel), (stride, stride), (kernel // 2,) * 4)
    n, y = window.out_height * window.out_width, (1, m, window.out_height, window.out_width)
    return Problem("depthwise", m, kernel * kernel, n, (1, m, size, size), y, window=window)


def _codes(rng: Rng) -> Problem:
    """A layer from codes to codes, features last: tokens x features, or NHWC."""
    make = (_depthwise, _window, _window)[int(rng.integers(3))] if rng.random() < 0.5 else None
    problem = make(rng) if make else _product(rng, "int8")

    def turned(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], *shape[2:], shape[1])

    return replace(
        problem, dtype="int8", layout="features_last", x_shape=turned(problem.x_shape), y_shape=turned(problem.y_shape),
        x_zero=int(rng.integers(256)), output=Output("uint8", 0.05, int(rng.integers(256))),
    )  # fmt: skip


def _epilogue(rng: Rng, problem: Problem) -> Epilogue:
    activation = str(rng.choice(["", "", "", "relu", "relu", "relu6", "gelu", "silu", "hardswish"])) or None
    scale = problem.dtype == "int8"
    return Epilogue(bool(rng.random() < 0.7), bool(rng.random() < 0.15) and not scale, activation, scale)


def _imposed(rng: Rng, problem: Problem) -> Imposed | None:
    choices = _PATTERNS[int(rng.integers(len(_PATTERNS)))]
    if problem.op == "depthwise":
        choices = _OF_FILTERS[int(rng.integers(len(_OF_FILTERS)))]
    sparsity = round(1 - float(2 ** rng.uniform(-6.0, -0.5)), 4)
    if problem.op == "depthwise":
        sparsity = round(float(rng.uniform(0.1, 0.9)), 4)  # of nine taps
    if not choices:
        return None
    text = choices[int(rng.integers(len(choices)))] if len(choices) > 1 else choices[0]
    imposed = Imposed.parse(text if text[0].isdigit() else f"{sparsity}:{text}")
    fits = imposed.block[0] <= problem.m and imposed.block[1] <= problem.k
    return imposed if fits else Imposed.parse(f"{sparsity}")
