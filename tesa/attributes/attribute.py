"""TeSA, the sparsity attribute of a tensor: what is known of each element, whether it matters, how many bits it needs.

Three independent facts for each element, each an array that broadcasts to the tensor's shape: a channel mask of an
activation of shape (N, C, H, W) is stored as (1, C, 1, 1). Facts only grow, see `merge`.

The idea of a tensor whose elements carry attributes is SparTA's (Zheng et al., OSDI 2022); that "the value is known"
and "nothing depends on it" are two facts and not one is tesa's.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tesa.attributes.quantization import FULL_BITS as FULL_BITS
from tesa.attributes.quantization import Bits as Bits
from tesa.attributes.quantization import Quantization as Quantization
from tesa.attributes.quantization import compact as compact
from tesa.attributes.quantization import lower_precision, same, shortest
from tesa.errors import ModelError

Bools = NDArray[np.bool_]
Values = NDArray[Any]
Shape = tuple[int, ...]


class ContradictionError(ModelError):
    """Two sources say that one element has two different constant values."""


@dataclass(frozen=True, order=True)
class Origin:
    """The origin of a fact. fact: "value", "live" or "bits".

    kind: "user" (a mask), "weight" (a zero in the file), "qdq" (a quantized tensor) or "rule" (deduced: `rule` is the
    operator's name in Relax and `operator` the layer).
    """

    fact: str
    kind: str
    rule: str = ""
    operator: str = ""

    def __str__(self) -> str:
        source = {"user": "the user's mask", "weight": "the weights of the model", "qdq": "the quantization"}
        where = f" of {self.operator}" if self.operator else ""
        return source.get(self.kind, f"rule {self.rule}") + where


@dataclass(frozen=True, eq=False)
class TeSA:
    """The facts about one tensor of the given shape. Make one with `unknown`, `from_weight`, `from_constant`, ...

    known, value: bool and number; value is 0 where nothing is known, it may be infinite, never NaN. live: False where
    no output of the model depends on the element. bits: 1 to 32, what a stored element needs: where it is less than 32,
    rounding the element to the grid of `quantization` with so many bits changes no output of the model, see `rounded`.
    All four have as many axes as the tensor, each of its full length or of length 1; the shortest form is the one
    stored, so that equal facts compare equal.

    >>> t = from_weight(np.array([[1.0, 0.0], [2.0, 0.0]]))
    >>> t.known, t.sparsity
    (array([[False,  True]]), 0.5)
    """

    shape: Shape
    known: Bools
    value: Values
    live: Bools
    bits: Bits
    quantization: Quantization | None = None
    origins: frozenset[Origin] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        known = compact(_fit(self.known, self.shape, "known"))
        value = _fit(self.value, self.shape, "value")
        if not known.all():
            value = np.where(known, value, np.zeros((), value.dtype)) if known.any() else _ones(self.shape, 0.0)
        live, bits = (compact(_fit(getattr(self, name), self.shape, name)) for name in ("live", "bits"))
        grid = self.quantization and shortest(self.quantization, bits, len(self.shape))
        facts = {"known": known, "value": compact(value), "live": live, "bits": bits, "quantization": grid}
        for name, fact in facts.items():
            object.__setattr__(self, name, fact)

    @property
    def zero(self) -> Bools:
        """True where the value is known to be 0; broadcasts to the shape."""
        return compact(self.known & (self.value == 0))

    @property
    def dead(self) -> Bools:
        """True where no output of the model depends on the element; broadcasts to the shape."""
        return ~self.live

    @property
    def sparsity(self) -> float:
        """The share of elements that a kernel may leave out: known to be 0, or dead. 0 for an empty tensor."""
        return share(self.zero | self.dead, self.shape)

    def rounded(self, x: Any, *, integer: bool | None = None) -> Values:
        """The tensor's content x on its grid: what it may be replaced by. Elements of full precision stay as they are.

        integer: whether the tensor holds integers, by default whether x does.

        >>> grid = Quantization(8, True, np.array([0.5]), np.array([0]))
        >>> from_quantization((2,), grid).rounded(np.array([0.7, 100.0]))
        array([ 0.5, 63.5])
        """
        if self.quantization is None:
            return np.asarray(x)
        on_grid = self.quantization.rounded(x, self.bits, integer=integer)
        return np.where(self.bits < FULL_BITS, on_grid, x).astype(np.asarray(x).dtype)

    @property
    def trivial(self) -> bool:
        """True where nothing is known: every element unknown, live and of full precision."""
        return not self.known.any() and bool(self.live.all()) and bool((self.bits == FULL_BITS).all())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TeSA):
            return NotImplemented
        facts = ("known", "live", "bits", "value")
        equal = self.shape == other.shape and all(same(getattr(self, name), getattr(other, name)) for name in facts)
        return equal and self.quantization == other.quantization

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return "; ".join(self.facts()) or "nothing known"

    def __repr__(self) -> str:
        return f"TeSA({'x'.join(map(str, self.shape)) or 'scalar'}: {self})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{html.escape(fact)}</li>" for fact in self.facts()) or "<li>nothing known</li>"
        return f"<div><b>TeSA {html.escape(str(self.shape))}</b><ul>{rows}</ul></div>"

    def facts(self) -> tuple[str, ...]:
        """One sentence for each fact that is not the default, with its origins."""
        masks = (
            (self.zero, "known to be 0", "value"),
            (self.known & (self.value != 0), "a known constant", "value"),
            (self.dead, "dead", "live"),
        )
        shares = ((share(mask, self.shape), words, fact) for mask, words, fact in masks)
        lines = [f"{part:.1%} {words}" + self.because(fact) for part, words, fact in shares if part]
        if (self.bits < FULL_BITS).any():
            widths = "/".join(str(b) for b in np.unique(self.bits))
            note = f" ({self.quantization})" if self.quantization else ""
            lines.append(f"{widths} bits{note}" + self.because("bits"))
        return tuple(lines)

    def because(self, fact: str) -> str:
        """ " (origin, origin)" of one kind of fact: "value", "live" or "bits"; empty without origins."""
        reasons = sorted(str(origin) for origin in self.origins if origin.fact == fact)
        return f" ({', '.join(reasons)})" if reasons else ""

    def growth(self, old: TeSA, origin: Origin) -> TeSA:
        """This TeSA with `origin` noted for each fact in which it says more than `old` does."""
        new = set(self.origins)
        for fact, name in (("value", "known"), ("live", "live"), ("bits", "bits")):
            if not same(getattr(self, name), getattr(old, name)):
                new.add(replace(origin, fact=fact))
        return self if new == self.origins else replace(self, origins=frozenset(new))


def unknown(shape: Sequence[int]) -> TeSA:
    """Nothing is known: live, of full precision. The top of the lattice."""
    dims = tuple(shape)
    return TeSA(dims, _ones(dims, False), _ones(dims, 0.0), _ones(dims, True), _ones(dims, FULL_BITS, np.int8))


def from_constant(value: ArrayLike, origin: Origin | None = None) -> TeSA:
    """A tensor whose every element is a known constant: a bias, a scale, a mask of -inf. NaN stays unknown."""
    array = np.asarray(value)
    finite = ~np.isnan(array) if array.dtype.kind == "f" else _ones(array.shape, True)
    origins = frozenset() if origin is None else frozenset({origin})
    return replace(unknown(array.shape), known=finite, value=array, origins=origins)


def from_weight(weight: ArrayLike, origin: Origin | None = None) -> TeSA:
    """The zeros of a weight are known; its other elements count as unknown, so that they may be found dead.

    >>> print(from_weight(np.array([0.0, 3.0])))
    50.0% known to be 0 (the weights of the model)
    """
    return from_mask(np.asarray(weight) != 0, origin or Origin("value", "weight"))


def from_mask(mask: ArrayLike, origin: Origin | None = None) -> TeSA:
    """A pruning mask, False (or 0) where the element is pruned."""
    keep = np.asarray(mask).astype(bool)
    origins = frozenset({origin or Origin("value", "user")}) if not keep.all() else frozenset()
    return replace(unknown(keep.shape), known=~keep, origins=origins)


def from_quantization(shape: Sequence[int], quantization: Quantization) -> TeSA:
    """A tensor that comes from a quantized one: its bits, nothing else."""
    top, origins = unknown(shape), frozenset({Origin("bits", "qdq")})
    bits = _ones(top.shape, quantization.bits, np.int8)
    return replace(top, bits=bits, quantization=quantization, origins=origins)


def merge(a: TeSA, b: TeSA, *, tolerance: float = 1e-5) -> TeSA:
    """All that either of the two says: known sets unite, live sets intersect, the lower precision wins.

    Idempotent, and commutative up to `tolerance` (relative) in the constants. ContradictionError, naming both origins,
    if the two know different values of one element; ValueError if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"cannot merge the TeSA of shapes {a.shape} and {b.shape}")
    _check_agree(a, b, tolerance)
    known = a.known | b.known
    value = a.value
    if b.known.any():  # what knows nothing has zeros of float64, which would make whole numbers inexact
        value = np.where(a.known, a.value, b.value) if a.known.any() else b.value
    bits, quantization = lower_precision(a.bits, a.quantization, b.bits, b.quantization)
    return TeSA(a.shape, known, value, a.live & b.live, bits, quantization, a.origins | b.origins)


def _check_agree(a: TeSA, b: TeSA, tolerance: float) -> None:
    both = a.known & b.known
    if not both.any():
        return
    x, y = np.asarray(a.value, np.float64), np.asarray(b.value, np.float64)
    with np.errstate(invalid="ignore"):
        differ = both & (x != y) & ~(np.abs(x - y) <= tolerance * np.maximum(1.0, np.abs(x)))
    if not differ.any():
        return
    at = tuple(int(i) for i in np.argwhere(differ)[0])
    first, second = (np.broadcast_to(v, differ.shape)[at] for v in (x, y))
    sources = [", ".join(sorted(str(o) for o in t.origins if o.fact == "value")) or "unnamed" for t in (a, b)]
    raise ContradictionError(
        f"a tensor of shape {a.shape} cannot be {first:g} ({sources[0]}) and {second:g} ({sources[1]}) at {at}; "
        "drop one of the two facts"
    )


def share(mask: Bools, shape: Sequence[int]) -> float:
    """The share of True in a mask that broadcasts to the shape; 0 for an empty tensor."""
    return float(mask.mean()) if mask.size and all(shape) else 0.0


def reduce_to(mask: Bools, shape: Sequence[int]) -> Bools:
    """The "any" of a mask over all axes that `shape` (same number of axes, or fewer) has with length 1.

    The reverse of broadcasting: an element is needed if any of its copies is.
    """
    if mask.ndim > len(shape):
        mask = np.asarray(mask.any(axis=tuple(range(mask.ndim - len(shape)))))
    axes = tuple(i for i, length in enumerate(shape) if length == 1 and mask.shape[i] != 1)
    return np.asarray(mask.any(axis=axes, keepdims=True)) if axes else mask


def _ones(shape: Sequence[int], fill: object, dtype: Any = None) -> NDArray[Any]:
    return np.full((1,) * len(shape), fill, dtype)


def _fit(array: NDArray[Any], shape: Shape, what: str) -> NDArray[Any]:
    if array.ndim != len(shape) or any(n not in (1, full) for n, full in zip(array.shape, shape, strict=True)):
        raise ValueError(f"{what} of shape {array.shape} does not broadcast to the tensor's shape {shape}")
    return array
