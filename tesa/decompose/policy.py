"""Decomposition policies: W = W1 + W2 + ..., pieces that each have one pattern and one precision.

A policy is one function in one file that registers itself. It is given a problem, the weight (m, k) and one point of
its own search space, and answers with the pieces, or with () where it does not apply. The decorator makes it a kernel
family too (composite.py), so that candidates, the search, the log and the plan meet it as any other.

After SparTA's transformation policy (Zheng et al., OSDI 2022, section 4), where a policy rewrites one irregular tensor
as a sum of regular ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.patterns import digest
from tesa.errors import UsageError
from tesa.schedules.types import Config, Core, FloatArray, Problem

BITS = (8, 32)
"""Precisions that a piece can have: codes of int8, or float32."""

_CACHED = 16  # decompositions that are kept: a weight's candidates ask for the same one many times over


@dataclass(frozen=True, eq=False)
class Piece:
    """A share of a weight. weight is float32 (m, k), zero wherever another piece has the element.

    bits: 32, or 8 where every element is a whole number from -128 to 127. pattern: its name in the plan, such as
    "block 32x32". block: (rows, columns) of the blocks that its non-zeros fill, (1, 1) for scattered elements; a piece
    of one row's height is computed element by element. order: (m,), the rows in the order in which a kernel may take
    them so that neighbours have much in common; None is their own order. The kernel stores each row where it belongs.
    kernels: (family, configuration) pairs that may compute it; empty leaves the choice to the estimates.
    """

    weight: FloatArray
    bits: int = 32
    pattern: str = "unstructured"
    block: tuple[int, int] = (1, 1)
    order: NDArray[np.int64] | None = None
    kernels: tuple[tuple[str, Config], ...] = ()

    @property
    def nonzeros(self) -> int:
        """How many elements it has."""
        return int(np.count_nonzero(self.weight))


Split = Callable[[Problem, FloatArray, Config], Sequence[Piece]]
Space = Callable[[Problem, FloatArray, Core], Sequence[Config]]


@dataclass(frozen=True)
class Policy:
    """One way to decompose a weight.

    space(problem, weight, core): the configurations worth trying, small whole numbers by name, the default first; empty
    where the policy does not apply. split(problem, weight, config): the pieces.
    """

    name: str
    summary: str
    space: Space
    split: Split


_POLICIES: dict[str, Policy] = {}
_SPLITS: OrderedDict[tuple[object, ...], tuple[Piece, ...]] = OrderedDict()


def _once(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
    """The space of a policy that has nothing to choose."""
    del problem, weight, core
    return ({},)


def policy(name: str, *, space: Space = _once) -> Callable[[Split], Split]:
    """Register the decorated function as a policy, and as a kernel family of that name.

    The function is split(problem, weight, config) -> pieces. They must be disjoint and add up to the weight exactly,
    which is checked each time; an empty answer means that the policy does not apply. Its docstring's first line is the
    summary. space: see Policy; by default the one configuration {}.

    Raises ValueError if the name is taken.

    >>> @policy("halves")
    ... def halves(problem, weight, config):
    ...     '''The upper rows and the lower rows.'''
    ...     upper = weight.copy()
    ...     upper[len(weight) // 2 :] = 0
    ...     return Piece(upper, block=(4, 1)), Piece(weight - upper, block=(4, 1))
    >>> [p.name for p in policies()][-1]
    'halves'
    >>> forget("halves")
    """

    def register(split: Split) -> Split:
        summary = (split.__doc__ or "").strip().splitlines()
        if name in _POLICIES:
            raise ValueError(f"policy {name!r} is registered twice")
        install(Policy(name, summary[0] if summary else "", space, split))
        return split

    return register


def install(made: Policy) -> None:
    """Register a policy, and its kernel family, in place of a policy that has the name: the same, or an older one.

    Raises ValueError if the name is that of a kernel family.
    """
    from tesa.decompose.composite import register_family

    if made.name in _POLICIES:
        forget(made.name)
    register_family(made)
    _POLICIES[made.name] = made


def forget(name: str) -> None:
    """Take a policy out of the registries again, for notebooks that define one over and over. KeyError if unknown."""
    from tesa.decompose.composite import forget_family

    find_policy(name)
    del _POLICIES[name]
    forget_family(name)
    for key in [key for key in _SPLITS if key[0] == name]:
        del _SPLITS[key]


def policies() -> tuple[Policy, ...]:
    """Every policy, in the order of registration."""
    return tuple(_POLICIES.values())


def find_policy(name: str) -> Policy:
    """The policy of that name. KeyError with the known names if there is none."""
    if name not in _POLICIES:
        raise KeyError(f"no policy {name!r}; there are {', '.join(_POLICIES)}")
    return _POLICIES[name]


_FIXED: ContextVar[tuple[FloatArray, str] | None] = ContextVar("fixed", default=None)


@contextmanager
def unchanging(weight: FloatArray, known: str | None = None) -> Iterator[None]:
    """Inside the block nobody changes the weight, so that its digest is taken once: all candidates ask for it.

    known: the digest, where the caller has it.

    >>> w = np.eye(2, dtype=np.float32)
    >>> with unchanging(w):
    ...     weight_digest(w) == digest(w)
    True
    """
    found = _FIXED.get()
    if found is not None and found[0] is weight:
        yield
        return
    token = _FIXED.set((weight, digest(weight) if known is None else known))
    try:
        yield
    finally:
        _FIXED.reset(token)


def weight_digest(weight: FloatArray) -> str:
    """digest(weight); what is known of it in a block of unchanging() is not computed again."""
    found = _FIXED.get()
    return found[1] if found is not None and found[0] is weight else digest(weight)


def pieces(name: str, problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    """The pieces that a policy makes of a weight (m, k); () where it does not apply.

    Raises UsageError that names the policy if the pieces overlap, have another shape, or do not add up to the weight.
    """
    key = (name, problem, weight_digest(weight), tuple(sorted(config.items())))
    if key not in _SPLITS:
        made = tuple(find_policy(name).split(problem, weight, config))
        found = tuple(piece for piece in made if piece.nonzeros) or made[:1]  # of a weight of zeros one piece is left
        if found:
            check(name, problem, weight, found)
        _SPLITS[key] = found
        while len(_SPLITS) > _CACHED:
            _SPLITS.popitem(last=False)
    _SPLITS.move_to_end(key)
    return _SPLITS[key]


def check(name: str, problem: Problem, weight: FloatArray, found: Sequence[Piece]) -> None:
    """UsageError unless the pieces are disjoint, of the right kind, and their sum is the weight, bit by bit."""
    owned = np.zeros(weight.shape, np.uint8)
    total = np.zeros(weight.shape, np.float32)
    for number, piece in enumerate(found):
        where = f"policy {name!r}, piece {number} ({piece.pattern})"
        if piece.weight.shape != weight.shape or piece.weight.dtype != np.float32:
            raise UsageError(
                f"{where}: expected float32 of shape {weight.shape} as the weight, got {piece.weight.dtype} of "
                f"{piece.weight.shape}; leave what other pieces hold at zero"
            )
        if piece.bits not in BITS:
            raise UsageError(f"{where}: {piece.bits} bits; expected one of {', '.join(map(str, BITS))}")
        if piece.bits == 8 and problem.dtype == "float32":
            raise UsageError(f"{where}: 8 bits, but X is float32; an int8 piece needs a problem of dtype 'mixed'")
        if piece.bits == 8 and not are_codes(piece.weight).all():
            raise UsageError(f"{where}: 8 bits, but some elements are not whole numbers from -128 to 127")
        if piece.order is not None and not np.array_equal(np.sort(piece.order), np.arange(len(weight))):
            raise UsageError(f"{where}: order must name each of the {len(weight)} rows once")
        owned += piece.weight != 0
        total += piece.weight
    for wrong, what in ((owned > 1, "are in more than one piece"), (total != weight, "differ from the weight")):
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise UsageError(
                f"policy {name!r}: its pieces must be disjoint and add up to the weight, but {int(wrong.sum())} "
                f"elements {what}, the first at [{row}, {column}]"
            )


def are_codes(weight: FloatArray) -> NDArray[np.bool_]:
    """Where an element is a code of int8: a whole number from -128 to 127."""
    return np.asarray((np.rint(weight) == weight) & (weight >= -128) & (weight <= 127))


def own(name: str, config: Config) -> Mapping[str, int]:
    """The part of a composite's configuration that is the policy's: "cover.32x32" is the policy's "32x32".

    >>> dict(own("cover", {"cover.32x32": 310, "fused.rows": 8}))
    {'32x32': 310}
    """
    head = f"{name}."
    return {key[len(head) :]: value for key, value in config.items() if key.startswith(head)}
