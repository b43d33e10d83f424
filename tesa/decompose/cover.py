"""Blocks where they pay, the rest element by element: a weighted set cover of the non-zeros, by prices.

The universe is the non-zeros; a set is what an aligned block of some size holds, and costs what it takes to compute the
whole block. Greedy: the set with the least price for each non-zero that is not covered yet comes next, until a single
element costs less. That is within ln(block size) of the best cover (Chvatal, 1979); SparTA covers weights so (Zheng et
al., OSDI 2022, section 4.2), with prices of one GPU built in where these are asked of the device's table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import lcm, lgamma, log, log1p

import numpy as np
from numpy.typing import NDArray

from tesa.decompose.policy import policy
from tesa.decompose.prices import EstimatedPrices, Prices, block_price
from tesa.schedules.pieces import Piece
from tesa.schedules.refusal import refuse, too_full, unsuited
from tesa.schedules.types import Config, Core, FloatArray, Problem

Size = tuple[int, int]
Bools = NDArray[np.bool_]

SIZES: tuple[Size, ...] = ((4, 4), (16, 1), (8, 8), (16, 16), (32, 32), (32, 64), (64, 64))
"""Blocks of one row are left out: the families that compute element by element are as fast."""

UNIT = 100
"""A configuration's prices are in hundredths of the price of one scattered element."""

_STEP = 1.02  # sets whose prices for an element differ by less count as equally cheap
_LEAST = 0.04  # of the non-zeros, what a size has to hold to be worth a piece
_SAVING = 0.08  # of the price of the best single family, what a cover has to save to be tried
_BEYOND_CHANCE = 0.04  # of the price of single elements, what blocks have to save beyond those of scattered elements
_SHARES = (0.15, 0.3, 0.5)  # of a block, from which on it might pay to compute all of it
_LOOKED_AT = 1 << 19  # elements that sizes and prices are chosen by: a space has to be there in a fraction of a second


@dataclass(frozen=True, eq=False)
class Cover:
    """A cover. owner: (m, k), the index of the size that covers an element, -1 for single elements and zeros.

    price: of all chosen blocks and single elements, in the unit of the prices that were given.
    """

    sizes: tuple[Size, ...]
    owner: NDArray[np.int8]
    price: float


def cover(mask: Bools, prices: Mapping[Size, float], single: float) -> Cover:
    """Cover the True elements of mask (m, k) with aligned blocks of the sizes, each at its price, or singly.

    Never dearer than all elements singly, nor than all non-empty blocks of one size.

    >>> mask = np.zeros((8, 8), bool)
    >>> mask[:4, :4], mask[6, 7] = True, True
    >>> found = cover(mask, {(4, 4): 5.0, (8, 8): 30.0}, 1.0)
    >>> found.price, int((found.owner == 0).sum())
    (6.0, 16)
    """
    sizes = tuple(prices)
    work = _Work(mask, sizes)
    level = 0.0
    while True:
        cheapest = min((prices[size] / work.fullest(i) for i, size in enumerate(sizes)), default=np.inf)
        if cheapest >= single:
            break
        level = max(level * _STEP, cheapest)
        for i in sorted(range(len(sizes)), key=lambda i: -sizes[i][0] * sizes[i][1]):
            work.take(i, prices[sizes[i]] / min(level, single * (1 - 1e-9)))
    price = sum(work.taken[i] * prices[size] for i, size in enumerate(sizes)) + single * int(work.left.sum())
    filled = _padded(mask, sizes) if sizes else mask
    whole = {i: int((_counts(filled, size) > 0).sum()) * prices[size] for i, size in enumerate(sizes)}
    best = min(whole, key=lambda i: whole[i], default=None)
    if best is not None and whole[best] < price:
        return Cover(sizes, np.where(mask, best, -1).astype(np.int8), float(whole[best]))
    return Cover(sizes, work.owner, float(price))


class _Work:
    """A cover in the making, on a mask that is filled up with zeros to whole blocks. taken: chosen blocks by size."""

    def __init__(self, mask: Bools, sizes: Sequence[Size]) -> None:
        self.shape = mask.shape
        self.left = _padded(mask, sizes)
        self.filled = np.full(self.left.shape, -1, np.int8)
        self.taken = [0] * len(sizes)
        self._sizes = sizes
        self._counts = [_counts(self.left, size) for size in sizes]

    @property
    def owner(self) -> NDArray[np.int8]:
        """See Cover."""
        return np.ascontiguousarray(self.filled[: self.shape[0], : self.shape[1]])

    def fullest(self, index: int) -> float:
        """The most uncovered elements of a block of that size; a number near 0 if there are none."""
        return max(float(self._counts[index].max(initial=0)), 1e-9)

    def take(self, index: int, least: float) -> None:
        """Choose all blocks of a size that hold at least so many uncovered elements."""
        height, width = self._sizes[index]
        down, right = np.nonzero(self._counts[index] >= max(least, 1))
        if not down.size:
            return
        self.taken[index] += len(down)
        rows, columns = self.left.shape
        tiles = self.left.reshape(rows // height, height, columns // width, width)[down, :, right]
        tile, i, j = np.nonzero(tiles)
        at = (down[tile] * height + i, right[tile] * width + j)
        self.left[at] = False
        self.filled[at] = index
        for counts, (h, w) in zip(self._counts, self._sizes, strict=True):
            flat = (at[0] // h) * counts.shape[1] + at[1] // w
            places, gone = np.unique(flat, return_counts=True)
            counts.reshape(-1)[places] -= gone.astype(counts.dtype)


def _padded(mask: Bools, sizes: Sequence[Size]) -> Bools:
    """The mask with zeros below and on the right, so that all sizes divide it."""
    down, right = (lcm(*(size[axis] for size in sizes)) for axis in (0, 1))
    return np.pad(mask, ((0, -mask.shape[0] % down), (0, -mask.shape[1] % right)))


def _counts(mask: Bools, size: Size) -> NDArray[np.int32]:
    """The number of elements that each aligned block holds; the size divides the mask."""
    return np.ascontiguousarray(_summed(_summed(mask.astype(np.int32), size[0]).T, size[1]).T)


def _summed(array: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Sums of so many neighbouring rows. By halves, as far as that goes: whole rows are added at once."""
    while count % 2 == 0:
        array, count = array[::2] + array[1::2], count // 2
    if count == 1:
        return array
    return np.asarray(array.reshape(-1, count, array.shape[1]).sum(axis=1, dtype=np.int32))


_SCATTERED = "no blocks of the weight are so much fuller than the rest that splitting it would pay"


def _space(problem: Problem, weight: FloatArray, core: Core, prices: Prices | None = None) -> Sequence[Config]:
    """Prices of the sizes that a cover uses: as asked, and three quarters and four thirds of that."""
    if why := unsuited(problem, dtypes=("float32", "int8")):
        return refuse(why)
    mask = weight != 0
    total = int(mask.sum())
    sizes = [size for size in SIZES if size[0] <= problem.m and size[1] <= problem.k]
    if why := too_full(total, mask.size, 0.95):
        return refuse(why)
    if not sizes or total < 64:
        return refuse("the weight is too small to hold blocks")
    mask = _bands(mask)
    total = int(mask.sum())
    if not total or not _clustered(mask, sizes, total):  # before prices are asked for, which takes longer
        return refuse(_SCATTERED)
    prices = prices or EstimatedPrices(core)
    fine = block_price(prices, problem, (1, 1))
    hundredths = {size: UNIT * block_price(prices, problem, size) / fine for size in sizes}
    if not _promising(mask, hundredths, total):
        return refuse(_SCATTERED)
    found: dict[bytes, Config] = {}  # by what is covered: other prices often come to the same
    for factor in (1.0, 0.75, 1.33):
        config, covered = _used(mask, {size: max(1.0, price * factor) for size, price in hundredths.items()}, total)
        if config:
            found.setdefault(covered, config)
    return tuple(found.values())


def _prices(config: Config) -> dict[Size, float]:
    sizes = {key: tuple(int(side) for side in key.split("x")) for key in config}
    return {(height, width): float(config[key]) for key, (height, width) in sizes.items()}


def _bands(mask: Bools) -> Bools:
    """All of a mask, or of a large one bands of rows, evenly spaced, each as high as the highest block."""
    height = max(rows for rows, _ in SIZES)
    count = max(4, _LOOKED_AT // (height * mask.shape[1]))
    whole = len(mask) // height
    if whole <= count:
        return mask
    bands = np.arange(count) * whole // count
    return np.asarray(mask[: whole * height].reshape(whole, height, -1)[bands].reshape(count * height, -1))


def _promising(mask: Bools, prices: Mapping[Size, float], total: int) -> bool:
    """True where blocks of one size here and single elements there save enough over one way for all of it.

    And more than it would with the same number of elements scattered at random: that some blocks are fuller than others
    by chance is no structure, and a cover by these has never been faster than the better one of the two ways.
    """
    filled = _padded(mask, list(prices))
    plain, split, beyond = float(UNIT * total), float(UNIT * total), 0.0
    for size, price in prices.items():
        counts = _counts(filled, size)
        plain = min(plain, price * float(np.count_nonzero(counts)))
        saved = UNIT * _saved(counts, price / UNIT)
        split = min(split, UNIT * total - saved)
        beyond = max(beyond, saved - UNIT * mask.size * _chance(size[0] * size[1], total / mask.size, price / UNIT))
    return split <= (1 - _SAVING) * plain and beyond >= _BEYOND_CHANCE * UNIT * total


def _clustered(mask: Bools, sizes: Sequence[Size], total: int) -> bool:
    """True where full blocks hold more than chance would put there, whatever share of a block pays for the whole."""
    filled, density = _padded(mask, sizes), total / mask.size
    for size in sizes:
        counts, area = _counts(filled, size), size[0] * size[1]
        for share in _SHARES:
            beyond = _saved(counts, share * area) - mask.size * _chance(area, density, share * area)
            if beyond >= _BEYOND_CHANCE / 2 * total:
                return True
    return False


def _saved(counts: NDArray[np.int32], price: float) -> float:
    """The amount that blocks at that price save, in the price of an element, where each is taken that pays."""
    return float(np.maximum(counts - price, 0).sum())


@lru_cache(maxsize=1024)
def _chance(area: int, density: float, least: float) -> float:
    """The mean of max(count - least, 0) / area, where count is how many of a block's elements chance fills: binomial.

    >>> round(_chance(2, 0.5, 1.0), 3)
    0.125
    """
    count = np.arange(area + 1)
    ways = lgamma(area + 1) - np.array([lgamma(c + 1) + lgamma(area - c + 1) for c in count])
    probability = np.exp(ways + count * log(density) + (area - count) * log1p(-min(density, 1 - 1e-9)))
    return float((np.maximum(count - least, 0.0) * probability).sum()) / area


def _used(mask: Bools, prices: Mapping[Size, float], total: int) -> tuple[Config, bytes]:
    """The prices, rounded, of the sizes that hold enough of the non-zeros once the others are out of the way.

    And which elements their blocks cover.
    """
    prices = {size: _rounded(price) for size, price in prices.items()}
    while prices:
        found = cover(mask, prices, UNIT)
        shares = [int((found.owner == i).sum()) / total for i in range(len(prices))]
        keep = {size: price for (size, price), share in zip(prices.items(), shares, strict=True) if share >= _LEAST}
        if len(keep) == len(prices):
            alone = len(keep) == 1 and max(shares) == 1.0
            config = {} if alone else {f"{h}x{w}": int(price) for (h, w), price in keep.items()}
            return config, np.packbits(found.owner >= 0).tobytes()
        prices = keep
    return {}, b""


def _rounded(price: float) -> int:
    """Two significant digits: enough for a choice, and a search meets the same numbers again."""
    return int(float(f"{max(price, 1.0):.2g}"))


@policy("cover", space=_space, priced=True, kinds=("cpu",))
def split(problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    """Dense blocks of some sizes by a weighted set cover, the rest element by element.

    config: for each size, "32x32", its price in hundredths of the price of a scattered element.

    >>> rng = np.random.default_rng(0)
    >>> mask = np.kron(np.eye(2), np.ones((32, 32))) + (rng.random((64, 64)) < 0.01) > 0
    >>> w = np.where(mask, rng.standard_normal((64, 64)), 0).astype(np.float32)
    >>> p = Problem("linear", 64, 64, 32, (64, 32), (64, 32))
    >>> [(piece.pattern, piece.nonzeros) for piece in split(p, w, {"32x32": 31000})]
    [('block 32x32', 2048), ('unstructured', 18)]
    """
    del problem
    found = cover(weight != 0, _prices(config), UNIT)
    made = [
        Piece(np.where(found.owner == i, weight, np.float32(0)), pattern=f"block {h}x{w}", block=(h, w))
        for i, (h, w) in enumerate(found.sizes)
    ]
    made.append(Piece(np.where(found.owner < 0, weight, np.float32(0))))
    made = [piece for piece in made if piece.nonzeros]
    return tuple(made) if len(made) > 1 else ()
