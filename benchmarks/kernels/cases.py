"""What is measured: the shapes, patterns and sparsities of each group. Values and masks vary with the seed of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
UNSTRUCTURED = (1, 1)


@dataclass(frozen=True)
class Case:
    """One product. m, k, n: Y (m, n) = W (m, k) X (k, n); of a convolution n is the number of pixels.

    op: "linear", "conv2d" (kernel x kernel taps over a size x size image, k counts the taps) or "depthwise" (m
    channels). sparsity: the share of zeros. block: rows and columns that are zero together, (1, 1) for unstructured;
    two_four: 2 of every 4 along k are zero. taps: of a depthwise filter's 9, how many are zero. codes: an int8 layer
    from codes to codes, as inside of an integer network: X is (n, k), and Y is (n, m), requantized to uint8.
    """

    group: str
    op: str
    m: int
    k: int
    n: int
    sparsity: float
    block: tuple[int, int] = UNSTRUCTURED
    two_four: bool = False
    kernel: int = 1
    size: int = 0
    stride: int = 1
    taps: int = 0
    dtype: str = "float32"
    codes: bool = False

    @property
    def pattern(self) -> str:
        """ "unstructured", "16x1", "2:4", "taps" or "dense"."""
        if self.op == "depthwise":
            return f"{self.taps} of 9 taps"
        if self.two_four:
            return "2:4"
        if self.sparsity == 0:
            return "dense"
        return "unstructured" if self.block == UNSTRUCTURED else f"{self.block[0]}x{self.block[1]}"

    @property
    def name(self) -> str:
        """Shape and pattern in words."""
        shape = f"{self.m}x{self.k}x{self.n}" if self.op == "linear" else f"{self.m}@{self.size}"
        shape += f"/{self.stride}" if self.stride > 1 else ""
        share = "" if self.op == "depthwise" or self.sparsity == 0 else f" {self.sparsity:.0%}"
        return f"{shape} {self.pattern}{share}"

    @property
    def flops(self) -> float:
        """The operations of the dense product: 2 for each multiply-add."""
        return 2.0 * self.m * (9 if self.op == "depthwise" else self.k) * self.n

    @property
    def image(self) -> tuple[int, int, int, int]:
        """X of a convolution: (1, channels, height, width)."""
        return (1, self.m if self.op == "depthwise" else self.k // self.kernel**2, self.size, self.size)


MOBILENET = ((64, 32, 12544), (128, 64, 3136), (128, 128, 3136), (256, 128, 784), (256, 256, 784), (512, 256, 196),
             (512, 512, 196), (1024, 512, 49), (1024, 1024, 49))  # fmt: skip
RESNET = ((64, 56), (128, 28), (256, 14), (512, 7))
BERT = ((768, 768, 128), (3072, 768, 128), (768, 3072, 128))
DECODE = ((4096, 4096), (11008, 4096))
CODES = ((512, 512, 196), (768, 768, 128), (1024, 1024, 49), (1024, 1024, 1024))
DEPTHWISE = ((32, 112, 1), (64, 112, 2), (128, 56, 1), (128, 56, 2), (256, 28, 1), (256, 28, 2), (512, 14, 1),
             (512, 14, 2), (1024, 7, 1))  # fmt: skip
BLOCKS = ((16, 1), (4, 4), (1, 16), (32, 32))


def cases(groups: str = "abcdefghi", quick: bool = False) -> list[Case]:
    """All cases of the groups; quick: about one in five of each group."""
    return [case for group in groups for case in list(_GROUPS[group]())[:: 5 if quick else 1]]


def _a() -> Iterator[Case]:
    for sparsity in (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
        yield Case("a", "linear", 1024, 1024, 1024, sparsity)


def _b() -> Iterator[Case]:
    for m, k, n in MOBILENET:
        for sparsity in (0.0, 0.3, 0.7, 0.9):
            yield Case("b", "linear", m, k, n, sparsity)


def _c() -> Iterator[Case]:
    for channels, size in RESNET:
        for sparsity in (0.0, 0.8, 0.9, 0.95):
            yield Case("c", "conv2d", channels, channels * 9, size * size, sparsity, kernel=3, size=size)


def _d() -> Iterator[Case]:
    for m, k, n in BERT:
        for sparsity in (0.0, 0.8, 0.9, 0.95):
            yield Case("d", "linear", m, k, n, sparsity)


def _e() -> Iterator[Case]:
    for m, k, n in ((1024, 1024, 1024), *BERT):
        for block in BLOCKS:
            for sparsity in (0.7, 0.8, 0.9):
                yield Case("e", "linear", m, k, n, sparsity, block)
    for m, k, n in MOBILENET:
        for block in BLOCKS[:2]:
            yield Case("e", "linear", m, k, n, 0.3, block)
    for m, k, n in BERT:
        yield Case("e", "linear", m, k, n, 0.5, two_four=True)


def _f() -> Iterator[Case]:
    for m, k in DECODE:
        for n in (1, 4, 16):
            for sparsity in (0.0, 0.7, 0.9):
                yield Case("f", "linear", m, k, n, sparsity)


def _g() -> Iterator[Case]:
    for channels, size, stride in DEPTHWISE:
        for taps in (0, 1, 3, 5):
            out = (size + 2 - 3) // stride + 1
            yield Case(
                "g", "depthwise", channels, 9, out * out, taps / 9, kernel=3, size=size, stride=stride, taps=taps
            )


def _h() -> Iterator[Case]:
    shapes = ((1024, 1024, 1024), *MOBILENET, *BERT)
    for m, k, n in shapes:
        for block, sparsity in (
            (UNSTRUCTURED, 0.0),
            (UNSTRUCTURED, 0.7),
            (UNSTRUCTURED, 0.9),
            ((4, 4), 0.7),
            ((4, 4), 0.9),
        ):
            yield replace(Case("h", "linear", m, k, n, sparsity, block), dtype="int8")


def _i() -> Iterator[Case]:
    for m, k, n in CODES:
        yield Case("i", "linear", m, k, n, 0.0, dtype="int8", codes=True)
        for block, shares in ((UNSTRUCTURED, (0.7, 0.8, 0.9)), ((1, 4), (0.7, 0.9)), ((4, 4), (0.7, 0.9)),
                              ((16, 1), (0.7, 0.9))):  # fmt: skip
            for share in shares:
                yield Case("i", "linear", m, k, n, share, block, dtype="int8", codes=True)


_GROUPS = {"a": _a, "b": _b, "c": _c, "d": _d, "e": _e, "f": _f, "g": _g, "h": _h, "i": _i}


def weight(case: Case, rng: np.random.Generator) -> Array:
    """W in the case's pattern: (m, k), (out, in, 3, 3) or (channels, 1, 3, 3); float32 or int8."""
    if case.op == "depthwise":
        return _filters(case, rng)
    keep = _mask(case, rng)
    if case.dtype == "int8":
        values = rng.integers(1, 128, keep.shape) * rng.choice([-1, 1], keep.shape)
        return np.where(keep, values, 0).astype(np.int8)
    array = np.where(keep, rng.normal(size=keep.shape), 0).astype(np.float32)
    return array.reshape(case.m, -1, case.kernel, case.kernel) if case.op == "conv2d" else array


def _mask(case: Case, rng: np.random.Generator) -> Array:
    if case.two_four:
        order = rng.random((case.m, case.k // 4, 4)).argsort(axis=2)
        return (order < 2).reshape(case.m, case.k)
    rows, columns = case.block
    shape = (-(-case.m // rows), -(-case.k // columns))
    places = np.zeros(shape[0] * shape[1], bool)
    places[rng.permutation(places.size)[: round((1 - case.sparsity) * places.size)]] = True
    wide = places.reshape(shape).repeat(rows, axis=0).repeat(columns, axis=1)
    return wide[: case.m, : case.k]


def _filters(case: Case, rng: np.random.Generator) -> Array:
    """Depthwise filters whose dead taps are the same for 16 channels in a row."""
    array = rng.normal(size=(case.m, 1, 9)).astype(np.float32)
    for first in range(0, case.m, 16):
        array[first : first + 16, :, rng.permutation(9)[: case.taps]] = 0
    return array.reshape(case.m, 1, 3, 3)


def activations(case: Case, rng: np.random.Generator) -> Array:
    """X: (k, n), or (1, channels, size, size); float32, or uint8."""
    shape = (case.k, case.n) if case.op == "linear" else case.image
    if case.codes:
        return rng.integers(0, 256, (case.n, case.k), np.uint8)
    if case.dtype == "int8":
        return rng.integers(0, 256, shape, np.uint8)
    return rng.normal(size=shape).astype(np.float32)


def step(case: Case) -> float:
    """The scale of Y of a layer from codes to codes, whose zero point is 128, where X and W have steps of 1.

    The standard deviation of Y is about 40 codes.

    >>> step(Case("i", "linear", 16, 100, 8, 0.75, dtype="int8", codes=True))
    1350.0
    """
    return 270.0 * float(np.sqrt(max(round(case.k * (1 - case.sparsity)), 1)))
