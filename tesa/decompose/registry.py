"""The list of decomposition policies, and the pieces that they make: W = W1 + W2 + ..., each of one pattern.

After SparTA's transformation policy (Zheng et al., OSDI 2022, section 4), where a policy rewrites one irregular tensor
as a sum of regular ones.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesa.attributes.codes import are_codes
from tesa.attributes.zeros import zeros_of
from tesa.errors import UsageError
from tesa.schedules.pieces import Piece
from tesa.schedules.types import Config, FloatArray, Problem

KINDS = ("cpu", "gpu")
"""Kinds of machines."""

BITS = (8, 32)
"""Precisions that a piece can have: codes of int8, or float32."""

_CACHED = 16  # decompositions that are kept: a weight's candidates ask for the same one many times over

Split = Callable[[Problem, FloatArray, Config], Sequence[Piece]]
Space = Callable[..., Sequence[Config]]


def _once(*_: Any) -> Sequence[Config]:
    """The space of a policy that has nothing to choose."""
    return ({},)


@dataclass(frozen=True)
class Policy:
    """One way to decompose a weight.

    space(problem, weight, core): the configurations worth trying, small whole numbers by name, the default first; empty
    where the policy does not apply. split(problem, weight, config): the pieces. priced: space takes Prices
    behind core, too. kinds: of machines that it is for: core is a Core or a Gpu.
    """

    name: str
    summary: str
    space: Space
    split: Split
    priced: bool = False
    kinds: tuple[str, ...] = KINDS


POLICIES: dict[str, Policy] = {}
"""By name, in the order of registration, see tesa.decompose.policy.install."""

_SPLITS: OrderedDict[tuple[object, ...], tuple[Piece, ...]] = OrderedDict()


def policies() -> tuple[Policy, ...]:
    """Every policy, in the order of registration."""
    return tuple(POLICIES.values())


def find_policy(name: str) -> Policy:
    """The policy of that name. KeyError with the known names if there is none."""
    if name not in POLICIES:
        raise KeyError(f"no policy {name!r}; there are {', '.join(POLICIES)}")
    return POLICIES[name]


def is_composite(name: str) -> bool:
    """True for a kernel family that is a decomposition."""
    return name in POLICIES


def remove(name: str) -> None:
    """Take a policy off the list, and its pieces out of the cache."""
    del POLICIES[name]
    for key in [key for key in _SPLITS if key[0] == name]:
        del _SPLITS[key]


def pieces(name: str, problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
    """The pieces that a policy makes of a weight (m, k); () where it does not apply.

    Raises UsageError that names the policy if the pieces overlap, have another shape, or do not add up to the weight.
    """
    key = (name, problem, zeros_of(weight).digest, tuple(sorted(config.items())))
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
