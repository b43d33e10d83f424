"""The problems: of SparTA's and SparseRT's papers, of BERT, skinny ones, and what is pruned of their weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tesa.schedules.types import FloatArray, Problem, Window

MOBILENET = (
    (64, 32, 12544), (128, 64, 3136), (128, 128, 3136), (256, 128, 784), (256, 256, 784), (512, 256, 196),
    *[(512, 512, 196)] * 5, (1024, 512, 49), (1024, 1024, 49),
)  # fmt: skip
"""(outputs, inputs, pixels) of the 1x1 convolutions of MobileNet-v1, thirteen of SparseRT's problems."""

RESNET = ((64, 56), (128, 28), (256, 14), (512, 7))
"""(channels, pixels a side) of ResNet-50's 3x3 convolutions, the other four."""

BERT = ((768, 768), (3072, 768), (768, 3072))
SKINNY = ((4096, 4096), (4096, 14336), (8192, 28672))


@dataclass(frozen=True)
class Case:
    """One weight and what it is multiplied by.

    group: of the report. m, k, n: of Y (m, n) = W (m, k) X (k, n). sparsity: share of zeros. block: edge of square
    blocks of which whole ones are zero, 1 for single elements. side: of the image of a 3x3 convolution, 0 for a matrix.
    arithmetic: "float32" or "float16"; families: kernels to build; seed: of the weight.
    """

    group: str
    m: int
    k: int
    n: int
    sparsity: float
    block: int = 1
    side: int = 0
    arithmetic: str = "float32"
    families: tuple[str, ...] = ("unrolled", "indexed")
    seed: int = 0

    @property
    def name(self) -> str:
        """A name for files, one for each case.

        >>> Case("square", 8, 8, 8, 0.9).name
        'square-8x8x8-90-float32'
        """
        words = [self.group, f"{self.m}x{self.k}x{self.n}", f"{100 * self.sparsity:.0f}"]
        words += [f"b{self.block}"] if self.block > 1 else []
        return "-".join([*words, self.arithmetic, *([f"{self.seed}"] if self.seed else [])])

    @property
    def small(self) -> Case:
        """The case with a sixteenth of its rows, columns and pixels, and at least some: to try everything out."""
        step = max(self.block, 16)

        def less(count: int) -> int:
            return max(step, -(-count // 16 // step) * step)

        if self.side:
            side = min(self.side, 7)
            return replace(self, m=less(self.m), k=9 * less(self.k // 9), n=side * side, side=side)
        return replace(self, m=less(self.m), k=less(self.k), n=self.n if self.n < 16 else max(16, self.n // 16))

    @property
    def data(self) -> dict[str, Any]:
        """The case as JSON."""
        return asdict(self)

    def weight(self) -> FloatArray:
        """The pruned weight (m, k), the same on every machine; numbers that float16 holds exactly."""
        rng = np.random.default_rng([self.seed, self.m, self.k, int(1000 * self.sparsity)])
        shape = self.m // self.block, self.k // self.block
        alive = np.ones(shape[0] * shape[1], bool)
        alive[rng.permutation(alive.size)[: round(self.sparsity * alive.size)]] = False
        mask = np.kron(alive.reshape(shape), np.ones((self.block, self.block), bool))
        values = (rng.integers(1, 64, (self.m, self.k)) / 64).astype(np.float32)
        return np.where(mask, values * rng.choice(np.array([-1, 1], np.float32), (self.m, self.k)), 0).astype(
            np.float32
        )

    @property
    def kinds(self) -> tuple[str, str]:
        """(storage of weights, arithmetic of products); few columns are bound by the bytes of the weight, and
        keep float32 sums."""
        return self.arithmetic, "float32" if self.families == ("skinny",) else self.arithmetic

    def problem(self) -> Problem:
        """The problem of its kernels."""
        storage, arithmetic = self.kinds
        if not self.side:
            x, y = (1, self.k, self.n), (1, self.m, self.n)
            return Problem("linear", self.m, self.k, self.n, x, y, storage=storage, arithmetic=arithmetic)
        window = Window(self.side, self.side, (3, 3), padding=(1, 1, 1, 1))
        image = (self.side, self.side)
        return Problem(
            "conv2d", self.m, self.k, self.n, (1, self.k // 9, *image), (1, self.m, *image), window=window,
            storage=storage, arithmetic=arithmetic,
        )  # fmt: skip

    def x(self) -> FloatArray:
        """X, as the kernel takes it."""
        rng = np.random.default_rng(self.seed + 1)
        shape = (1, self.k // 9, self.side, self.side) if self.side else (1, self.k, self.n)
        return (rng.integers(-64, 65, shape) / 64).astype(np.float32)


def cases(group: str = "") -> Iterator[Case]:
    """Every case, or those of one group: "square", "sparsert", "bert", "blocks", "skinny", "mlp"."""
    yield from (case for case in _all() if group in ("", case.group))


def _all() -> Iterator[Case]:
    for sparsity in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
        yield Case("square", 1024, 1024, 1024, sparsity)
    for sparsity in (0.9, 0.95):
        for number, (m, k, n) in enumerate(MOBILENET):
            yield Case("sparsert", m, k, n, sparsity, seed=number)
        for number, (channels, side) in enumerate(RESNET):
            yield Case("sparsert", channels, 9 * channels, side * side, sparsity, side=side, seed=50 + number)
        for m, k in BERT:
            yield Case("bert", m, k, 1024, sparsity, families=("indexed", "unrolled"))
    for sparsity in (0.0, 0.5, 0.8, 0.9):
        for arithmetic in ("float16",):
            yield Case("blocks", 1024, 1024, 1024, sparsity, 32, arithmetic=arithmetic, families=("block",))
            yield Case("blocks", 3072, 768, 1024, sparsity, 32, arithmetic=arithmetic, families=("block",))
    for m, k in SKINNY:
        for sparsity in (0.5, 0.8, 0.9):
            for n in (1, 8):
                yield Case("skinny", m, k, n, sparsity, arithmetic="float16", families=("skinny",))
    for number, (m, k) in enumerate(((1024, 784), (1024, 1024), (512, 1024), (10, 512))):
        yield Case("mlp", m, k, 64, 0.9, families=("unrolled", "indexed"), seed=number)
