"""Random tensors to scramble an operator with: many distributions and scales, ties, and the numbers it deals with.

An operator hides a dependence from most random numbers if it compares with a threshold, picks the largest, or gates. So
each trial uses several pairs of distributions, one for what stays and one for what is scrambled: like with like, bold
in a quiet surrounding (a single element then wins a maximum half of the time), quiet in a bold one, small whole numbers
(ties, exact zeros), a free choice of any two, and one pair around each number that occurs in the operator's own code or
among what is known of its inputs (a threshold at 7.3 is met by numbers at and around 7.3).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from tesa.attributes.attribute import Shape, Values

STYLES = ("unit", "eight", "bold", "positive", "ties", "tiny", "scales", "ahead")
FOCUSED = 6  # numbers that are tried, each with a pair of its own
LARGEST = 1e29  # random numbers stay clear of overflow


@dataclass(frozen=True)
class Pair:
    """The styles of what stays and of what is scrambled; "" stands for a free choice. focus: a number, for "focus"."""

    rest: str
    probe: str
    focus: float = 0.0


PLAIN = (Pair("unit", "eight"), Pair("positive", "bold"), Pair("bold", "unit"), Pair("ties", "ties"), Pair("", ""))


def pairs(numbers: Iterable[float], turn: int = 0, each: bool = True) -> tuple[Pair, ...]:
    """The pairs of trial number `turn`. numbers: those the operator deals with.

    each: of the numbers, every one in every trial; else, for operators that take long, they take turns.
    """
    centres = focus(numbers)
    if not each:
        centres = centres[turn % len(centres) :][:1] if centres else ()
    return PLAIN + tuple(Pair("focus", "focus", n) for n in centres)


def focus(numbers: Iterable[float]) -> tuple[float, ...]:
    """At most FOCUSED of the numbers, without those that every trial meets.

    >>> focus([0.0, 1.0, 7.5, 7.5, float("inf")])
    (7.5,)
    """
    useful = {float(n) for n in numbers if 1e-9 < abs(n) <= LARGEST and abs(n) != 1.0}
    return tuple(sorted(useful, key=lambda n: (abs(n) > 1e6, -abs(n)))[:FOCUSED])


def supported(dtype: str) -> bool:
    """True for the types that random numbers can be drawn in."""
    return dtype == "bool" or (dtype.startswith(("float", "bfloat", "int", "uint")) and not dtype.endswith("int4"))


def is_float(dtype: str) -> bool:
    """True for floats, also for the short types that NumPy knows by name only."""
    return "float" in dtype


def draw(rng: np.random.Generator, pair: Pair, probe: bool, shape: Shape, dtype: str, longest: int) -> Values:
    """A random tensor. probe: it is what is scrambled. longest: the length of an axis that an integer may index.

    >>> draw(np.random.default_rng(0), Pair("ties", "ties"), False, (4,), "int8", 1).dtype
    dtype('int8')
    """
    style = (pair.probe if probe else pair.rest) or str(rng.choice(STYLES))
    if dtype == "bool":
        density = 0.5 if probe else {"positive": 1.0, "bold": 0.0}.get(style, float(rng.choice([0.1, 0.5, 0.9])))
        return rng.random(shape) < density
    if is_float(dtype):
        limit = float(ml_dtypes.finfo(np.dtype(dtype)).max) / 16  # type: ignore[no-untyped-call]
        return np.asarray(np.clip(_real(rng, style, pair.focus, shape), -limit, limit)).astype(dtype)
    info = np.iinfo(dtype)
    whole = _whole(rng, style, pair.focus, shape, longest, int(info.min), int(info.max))
    return np.asarray(whole).astype(dtype)


def _real(rng: np.random.Generator, style: str, centre: float, shape: Shape) -> Any:
    if style == "focus":
        near = (centre, centre * rng.uniform(0, 2, shape), -centre)
        return np.choose(rng.choice(3, shape, p=(0.4, 0.4, 0.2)), [np.broadcast_to(n, shape) for n in near])
    if style == "scales":
        return 10.0 ** rng.uniform(-4, 6, shape) * rng.choice([-1.0, 1.0], shape)
    if style == "ties":
        return rng.integers(-1, 2, shape).astype(float)
    if style == "bold":
        return rng.normal(scale=1e3, size=shape)
    low, high = {"eight": (-8, 8), "positive": (0, 1), "ahead": (0, 8), "tiny": (-0.01, 0.01)}.get(style, (-1, 1))
    return rng.uniform(low, high, shape)


def _whole(rng: np.random.Generator, style: str, centre: float, shape: Shape, longest: int, low: int, high: int) -> Any:
    if style == "focus":
        around = np.rint(centre) + rng.integers(-1, 2, shape)
        return np.clip(around, max(low, -(2**62)), min(high, 2**62))
    if style == "bold":
        return rng.integers(low, high, shape, dtype=np.uint64 if high > 2**63 - 1 else np.int64, endpoint=True)
    if style == "scales":
        powers = 2.0 ** rng.uniform(0, np.log2(min(float(high), 2.0**62)), shape)
        return np.clip(np.rint(powers * rng.choice([-1, 1], shape)), max(low, -(2**62)), min(high, 2**62))
    bounds: dict[str, tuple[int, int]] = {
        "unit": (-2, 2), "eight": (-8, 8), "ties": (-1, 1), "tiny": (0, 1), "ahead": (0, max(longest - 1, 1)),
        "positive": (0, max(longest - 1, 1)),
    }  # fmt: skip
    begin, end = bounds[style]
    return rng.integers(max(begin, low), min(end, high), shape, endpoint=True)


def known_numbers(values: Sequence[Values]) -> list[float]:
    """A few of the finite values that are known of an operator's inputs: the extremes and one in the middle."""
    found: list[float] = []
    for array in values:
        with np.errstate(all="ignore"):
            real = np.unique(array.astype(np.float64)) if array.size <= 65536 else _ends(array)
        real = real[np.isfinite(real) & (np.abs(real) <= LARGEST)]
        if real.size:
            found += [float(real[0]), float(real[-1]), float(real[real.size // 2])]
    return found


def _ends(array: Values) -> Values:
    flat = array.reshape(-1)
    return np.array([flat.min(), flat[0], flat.max()], np.float64)
