"""The list of patterns. A pattern is a file that registers how it is recognised, imposed and sampled."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tesa.attributes.zeros import Mask, Zeros, zeros_of
from tesa.base.display import Displayed
from tesa.schedules.types import FloatArray

Structure = dict[str, Any]
Sizes = tuple[int, ...]
"""The numbers of a pattern: rows and columns of a block, n and m of n:m; () for one that has none."""

Recogniser = Callable[[Any], Structure | None]
Sampler = Callable[[np.random.Generator, tuple[int, int], float, Sizes], FloatArray]


@dataclass(frozen=True)
class Pattern(Displayed):
    """The structure of one weight. block: rows x columns; n_m: n non-zeros in each m along k; group: how many.

    rows, columns: how many of each have a non-zero. row_nnz: the least, the median and the most non-zeros of a row.
    digest identifies shape, values and places, 16 hexadecimal digits.
    """

    kind: str
    shape: tuple[int, int]
    nonzeros: int
    rows: int
    columns: int
    row_nnz: tuple[int, int, int]
    digest: str
    block: tuple[int, int] | None = None
    n_m: tuple[int, int] | None = None
    group: int | None = None

    @property
    def sparsity(self) -> float:
        """The share of zeros; 0 for a matrix without elements."""
        size = self.shape[0] * self.shape[1]
        return 1 - self.nonzeros / size if size else 0.0

    @property
    def sizes(self) -> Sizes:
        """The numbers of its kind."""
        return self.block or self.n_m or (() if self.group is None else (self.group,))

    def __str__(self) -> str:
        known = _KINDS.get(self.kind)
        return known.describe(self) if known is not None and known.describe is not None else self.kind

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump, with `sparsity` and `text` added."""
        return {**asdict(self), "sparsity": self.sparsity, "text": str(self)}


@dataclass(frozen=True)
class Imposition:
    """The way to impose a pattern on a weight that does not have it.

    spelling: as a user writes it, where a capital letter stands for a whole number: "block=RxC". keep(size, sparsity,
    sizes): which elements of a weight (m, k) stay, size being their magnitudes. example: for messages, with its share.
    check(sizes): what is wrong with such sizes, "" for nothing. share(sizes): the one share of zeros that they allow;
    None where any is possible. steps(sizes): where they allow only one, sizes alike that leave fewer and more zeros,
    the fewest first. tiles: the sizes are those of a block that is kept or cut off as a whole. propagates: what is
    gone from one layer makes its neighbours smaller. short: a second spelling. balanced(size, sparsity, sizes): as
    keep, but each group of rows keeps equally many; None where the pattern has no such groups. unit(m, k, sizes): rows
    x columns of what goes as a whole; None for a pattern whose elements are chosen among their neighbours. grain: the
    numbers of rows and of columns that a whole weight of the pattern is a multiple of.
    """

    spelling: str
    keep: Callable[[FloatArray, float, Sizes], Mask]
    example: str
    check: Callable[[Sizes], str] | None = None
    share: Callable[[Sizes], float] | None = None
    steps: Callable[[Sizes], Sequence[Sizes]] | None = None
    tiles: bool = False
    propagates: bool = False
    short: str = ""
    balanced: Callable[[FloatArray, float, Sizes], Mask] | None = None
    unit: Callable[[int, int, Sizes], tuple[int, int]] | None = None
    grain: Callable[[Sizes], tuple[int, int]] | None = None


@dataclass(frozen=True)
class PatternKind:
    """A structure that tesa knows.

    recognise(mask) gives what is special about it, as fields of Pattern, or None where it does not apply; mask is
    bool (m, k), or Zeros if counted. describe: a Pattern of the kind in words, by default its name. imposition: how a
    weight gets it, if it can. sample(rng, (m, k), sparsity, sizes): a random weight that has it; without, one is made
    by imposing it. last: every weight has it, so that it is asked last, and is what is meant where none is named.
    """

    name: str
    summary: str
    recognise: Recogniser
    counted: bool = False
    describe: Callable[[Pattern], str] | None = None
    imposition: Imposition | None = None
    sample: Sampler | None = None
    last: bool = False

    def structure(self, zeros: Zeros) -> Structure | None:
        """The structure of a weight of this kind; None for another weight."""
        return self.recognise(zeros if self.counted else zeros.mask)


_KINDS: dict[str, PatternKind] = {}


def pattern(
    name: str,
    *,
    counted: bool = False,
    describe: Callable[[Pattern], str] | None = None,
    imposition: Imposition | None = None,
    sample: Sampler | None = None,
    last: bool = False,
) -> Callable[[Recogniser], Recogniser]:
    """Register the decorated recogniser; its docstring's first line is the summary. The arguments are PatternKind's.

    Raises ValueError if the name is taken.
    """

    def register(recognise: Recogniser) -> Recogniser:
        if name in _KINDS:
            raise ValueError(f"pattern {name!r} is registered twice")
        summary = (recognise.__doc__ or "").strip().splitlines()
        known = summary[0] if summary else ""
        install(PatternKind(name, known, recognise, counted, describe, imposition, sample, last))
        return recognise

    return register


def install(kind: PatternKind) -> None:
    """Register a kind of pattern, in place of one that has its name."""
    _KINDS[kind.name] = kind
    for name in [name for name, known in _KINDS.items() if known.last]:
        _KINDS[name] = _KINDS.pop(name)


def forget(name: str) -> None:
    """Take a kind of pattern out again, for notebooks that define one over and over. KeyError if there is none.

    >>> @pattern("corner")
    ... def corner(mask):
    ...     '''One element, the first.'''
    ...     return {} if mask[0, 0] and mask.sum() == 1 else None
    >>> "corner" in [kind.name for kind in patterns()]
    True
    >>> forget("corner")
    """
    del _KINDS[name]


def patterns() -> tuple[PatternKind, ...]:
    """Every kind of pattern, in the order in which they are tried: of registration, the ones for every weight last."""
    return tuple(_KINDS.values())


def find_pattern(name: str) -> PatternKind:
    """The kind of pattern of that name. KeyError with the known names if there is none."""
    if name not in _KINDS:
        raise KeyError(f"no pattern {name!r}; there are {', '.join(_KINDS)}")
    return _KINDS[name]


def any_pattern() -> PatternKind:
    """The kind of pattern that every weight has."""
    return patterns()[-1]


def recognise(zeros: Zeros) -> Pattern:
    """The pattern of a weight, by its zeros: the first kind that applies. Its digest is left out."""
    per_row = zeros.per_row
    spread = (int(per_row.min()), int(np.median(per_row)), int(per_row.max())) if per_row.size else (0, 0, 0)
    for kind in _KINDS.values():
        structure = kind.structure(zeros)
        if structure is not None:
            return Pattern(
                kind.name, zeros.shape, zeros.nonzeros, zeros.live_rows, zeros.live_columns, spread, "", **structure
            )
    raise AssertionError("the last pattern takes every weight")


def classify(weight: ArrayLike | Zeros) -> Pattern:
    """The pattern of a weight or mask: (outputs, k), or (outputs, ...) whose other axes are k. Zeros are pruned.

    >>> str(classify(np.kron([[1, 0], [1, 1]], np.ones((4, 1)))))
    'block 4x1'
    >>> str(classify([[1, 0, 2, 0], [0, 3, 0, 4]]))
    '1:2'
    """
    zeros = zeros_of(weight)
    return replace(recognise(zeros), digest=zeros.digest)
