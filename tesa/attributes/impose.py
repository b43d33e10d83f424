"""Imposes a pattern on a copy of a weight by magnitude: what if the layer were pruned in that way?"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from tesa.attributes.patterns.registry import Imposition, Pattern, Sizes, any_pattern, find_pattern, patterns
from tesa.attributes.zeros import Mask
from tesa.errors import UsageError
from tesa.schedules.types import FloatArray


@dataclass(frozen=True)
class Imposed:
    """A pattern and how much of it is zero. sparsity: share of zeros, 0 to 1; sizes: the numbers of the pattern.

    >>> str(Imposed("block", 0.9, (4, 4)))
    '0.9:block=4x4'
    """

    kind: str
    sparsity: float
    sizes: Sizes = ()

    def __str__(self) -> str:
        """As parse reads it."""
        return f"{self.sparsity:.6g}:{self.text}"

    @property
    def text(self) -> str:
        """The pattern without its share."""
        numbers = iter(self.sizes)
        return re.sub("[A-Z]", lambda _: str(next(numbers)), self.imposition.spelling)

    @property
    def imposition(self) -> Imposition:
        """The way to impose the pattern. UsageError for one that cannot be."""
        found = find_pattern(self.kind).imposition
        if found is None:
            raise UsageError(f"the pattern {self.kind} cannot be imposed; expected {_examples()}")
        return found

    @property
    def block(self) -> tuple[int, int]:
        """Rows x columns of what is kept or cut off as a whole; (1, 1) for patterns of single elements."""
        return (self.sizes[0], self.sizes[1]) if self.imposition.tiles else (1, 1)

    @property
    def everywhere(self) -> bool:
        """True where every weight can have it, whatever its operator and its size."""
        return self.kind == any_pattern().name

    def alike(self, shares: tuple[float, ...]) -> list[Imposed]:
        """The same pattern with more and more zeros: of these shares, or as its sizes allow."""
        rule = self.imposition
        if rule.share is None:
            return [replace(self, sparsity=share) for share in shares]
        every = [self.sizes] if rule.steps is None else rule.steps(self.sizes)
        return [Imposed(self.kind, rule.share(sizes), sizes) for sizes in every]

    @staticmethod
    def like(pattern: Pattern) -> Imposed:
        """The pattern that a weight has; single elements where that cannot be imposed."""
        rule = find_pattern(pattern.kind).imposition
        if rule is None or len(re.findall("[A-Z]", rule.spelling)) != len(pattern.sizes):
            return Imposed(any_pattern().name, pattern.sparsity)
        return Imposed(pattern.kind, pattern.sparsity, pattern.sizes)

    @staticmethod
    def parse(text: str) -> Imposed:
        """Read "0.9", "0.9:unstructured", "0.9:block=4x4" or "0.9:4x4", "0.5:2:4" or "2:4", or "0.5:channel".

        Raises UsageError with the spellings there are.

        >>> Imposed.parse("0.9:block=4x4").sizes, Imposed.parse("2:4").sparsity
        ((4, 4), 0.5)
        """
        found, share = _match(text.strip()), None
        if found is None or found[1].share is None:
            share, _, tail = text.strip().partition(":")
            found = _match(tail or any_pattern().name)
            if found is None:
                raise UsageError(f"cannot impose {text!r}: unknown pattern {tail!r}; expected {_examples()}")
        kind, rule, sizes = found
        return Imposed(kind, _sparsity(text, share, rule, sizes), sizes)


def _match(text: str) -> tuple[str, Imposition, Sizes] | None:
    """The name of the pattern that is written so, how it is imposed, and its sizes."""
    for kind in patterns():
        if kind.imposition is not None:
            for spelling in filter(None, (kind.imposition.spelling, kind.imposition.short)):
                found = re.fullmatch(re.sub("[A-Z]", r"(\\d+)", re.escape(spelling)), text)
                if found is not None:
                    return kind.name, kind.imposition, tuple(int(number) for number in found.groups())
    return None


def _sparsity(text: str, share: str | None, rule: Imposition, sizes: Sizes) -> float:
    """The share of zeros, which the sizes may say already."""
    wrong = "" if rule.check is None else rule.check(sizes)
    if rule.share is None:
        given = _share(text, share or "")
    if wrong:
        raise UsageError(f"cannot impose {text!r}: {wrong}")
    if rule.share is None:
        return given
    sparsity = rule.share(sizes)
    if share is not None and abs(_share(text, share) - sparsity) > 0.01:
        _, _, tail = text.strip().partition(":")
        raise UsageError(f"cannot impose {text!r}: {tail} leaves {sparsity:g} of the elements zero, not {share}")
    return sparsity


def _share(text: str, share: str) -> float:
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise UsageError(
            f"cannot impose {text!r}: {share!r} is no share of zeros from 0 to below 1; expected {_examples()}"
        )
    return value


def _examples() -> str:
    examples = [kind.imposition.example for kind in reversed(patterns()) if kind.imposition is not None]
    return f"0.9, {', '.join(examples)}, for one layer NAME=0.9:block=4x4"


def kept(weight: FloatArray, imposed: Imposed) -> Mask:
    """(m, k): the elements of a weight that stay, the largest by magnitude, as far as the pattern allows.

    Blocks and channels (rows) are ranked by their mean magnitude, those cut off at the edge too; the share of zeros is
    met as closely as whole blocks allow, and at least one of them stays.

    >>> kept(np.array([[3, 1, 2, 4]], np.float32), Imposed.parse("2:4"))
    array([[ True, False, False,  True]])
    """
    return imposed.imposition.keep(np.abs(weight), imposed.sparsity, imposed.sizes)


def impose(weight: FloatArray, imposed: Imposed) -> FloatArray:
    """A copy of the weight (m, k) that has exactly that pattern: what is not kept is zero, what is kept is not.

    A zero that the pattern keeps becomes the least number of the weight that is none: the copy is the layer as if it
    had been pruned in this way, whatever zeros it has now.

    >>> impose(np.array([[3, 1, 0, 0]], np.float32), Imposed.parse("0.25"))
    array([[3., 1., 1., 0.]], dtype=float32)
    """
    size = np.abs(weight)
    least = np.float32(size[size > 0].min()) if size.any() else np.float32(1)
    live = np.where(weight == 0, least, weight)
    return np.where(kept(weight, imposed), live, np.float32(0)).astype(np.float32)


def sample(imposed: Imposed, shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """A random weight (m, k) of that pattern.

    >>> int(np.count_nonzero(sample(Imposed.parse("0.5:2:4"), (4, 8), np.random.default_rng(0))))
    16
    """
    own = find_pattern(imposed.kind).sample
    if own is not None:
        return own(rng, shape, imposed.sparsity, imposed.sizes)
    return impose(rng.standard_normal(shape, np.float32), imposed)
