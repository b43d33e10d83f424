"""Makes a kernel family of a policy: its space is the policy's own times the kernels of the pieces.

A configuration is flat: "cover.32x32" is the policy's, all other keys belong to the kernels of the pieces, as the kind
of machine computes them (tesa.schedules.pieces.SumOfPieces).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tesa.schedules.cpu
import tesa.schedules.gpu  # noqa: F401  both register families, whose names are taken, and how they add up pieces
from tesa.attributes.zeros import frozen
from tesa.decompose.prices import EstimatedPrices, Prices
from tesa.decompose.registry import Policy, find_policy, is_composite, pieces
from tesa.errors import UsageError
from tesa.schedules.pieces import Piece, PieceKernel, SumOfPieces, alone, kernels, part, sums
from tesa.schedules.refusal import reason_of, refuse
from tesa.schedules.registry import Family, families, find
from tesa.schedules.types import Config, Core, FloatArray, Gpu, Problem

Machine = Core | Gpu


def describe_pieces(problem: Problem, weight: FloatArray, name: str, config: Config) -> tuple[PieceKernel, ...]:
    """The pieces of a layer's weight (m, k) that an option stands for, each with its kernel, for the plan.

    Empty where the name is an ordinary kernel family, whose one part is the whole weight.

    >>> import numpy as np
    >>> describe_pieces(Problem("linear", 2, 2, 4, (2, 4), (2, 4)), np.eye(2, dtype=np.float32), "dense", {})
    ()
    """
    if not is_composite(name):
        return ()
    return _kernels(pieces(name, problem, weight, part(name, config)), config)


def space_of(
    family: Family, problem: Problem, weight: FloatArray, core: Machine, prices: Prices | None = None
) -> Sequence[Config]:
    """The configurations of a family for a weight (m, k); those of a decomposition by these prices, or by estimate."""
    if not is_composite(family.name) or problem.layout not in family.layouts:
        return family.space(problem, weight, core)
    return _Composite(find_policy(family.name), _sum(family.kind)).space(problem, weight, core, prices)


def families_of(policy: Policy) -> Iterator[Family]:
    """The policy as a kernel family of its name, one for each of its kinds of machine."""
    summary = policy.summary or f"The decomposition {policy.name}."
    for made in sums():
        if made.kind not in policy.kinds:
            continue
        own = _Composite(policy, made)
        yield Family(policy.name, made.kind, summary, own.space, own.estimate, own.emit, dense=own.dense)


@dataclass(frozen=True)
class _Composite:
    """The functions of Family for one policy on one kind of machine."""

    policy: Policy
    sum: SumOfPieces

    def space(
        self, problem: Problem, weight: FloatArray, core: Machine, prices: Prices | None = None
    ) -> Sequence[Config]:
        """For each of the policy's configurations the best kernels of the pieces, all by estimate."""
        name, weight = self.policy.name, frozen(weight)
        priced = (prices or EstimatedPrices(core, self.sum.kind),) if self.policy.priced else ()
        plain = [family for family in families(self.sum.kind) if not is_composite(family.name)]
        ranked: list[tuple[float, Config]] = []
        offered = self.policy.space(problem, weight, core, *priced)
        for config in offered:
            found = pieces(name, problem, weight, config)
            head = {f"{name}.{key}": int(value) for key, value in config.items()}
            for rest in self.sum.space(problem, found, core, plain) if found else ():
                ranked.append((self.sum.estimate(problem, found, core, rest), {**head, **rest}))
        if not ranked:
            return refuse(reason_of(offered) or "no kernel family computes one of its pieces")
        ranked.sort(key=lambda item: item[0])
        return [config for _, config in ranked]

    def estimate(self, problem: Problem, weight: FloatArray, core: Machine, config: Config) -> float:
        """Milliseconds of all pieces together."""
        return self.sum.estimate(problem, self._pieces(problem, weight, config), core, config)

    def emit(self, problem: Problem, weight: FloatArray, core: Machine, config: Config, symbol: str) -> Any:
        """One kernel out of the pieces of a weight."""
        return self.sum.emit(problem, self._pieces(problem, weight, config), core, config, symbol)

    def dense(self, weight: FloatArray, config: Config) -> bool:
        """True where the only kernel computes with the zeros."""
        only = alone(config)
        if only is None:
            return False
        test = find(only[0], self.sum.kind).dense
        return test is not None and test(weight, only[1])

    def _pieces(self, problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
        found = pieces(self.policy.name, problem, weight, part(self.policy.name, config))
        if not found:
            raise UsageError(f"policy {self.policy.name!r} does not apply to this weight with {dict(config)}")
        _kernels(found, config)
        return found


def _sum(kind: str) -> SumOfPieces:
    (found,) = (made for made in sums() if made.kind == kind)
    return found


def _kernels(found: tuple[Piece, ...], config: Config) -> tuple[PieceKernel, ...]:
    """The kernel of each piece. UsageError for a configuration that is damaged, as in a log."""
    try:
        return kernels(found, config)
    except ValueError as error:
        raise UsageError(str(error)) from error
