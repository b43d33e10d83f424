"""Makes a kernel family of a policy: its space is the policy's own times the kernels of the pieces.

A configuration is flat: "cover.32x32" is the policy's, "fused.rows" belongs to the one kernel that computes all pieces
at once (fused.py), "1.indexed.kblock" to the kernel of piece 1, of the family "indexed", in a chain through memory
(chain.py).
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tesa.decompose.policy import Piece, Policy, own, pieces, unchanging, weight_digest
from tesa.errors import UsageError
from tesa.schedules import registry
from tesa.schedules.cpu import chain, fused, fused_space
from tesa.schedules.cpu.chain import Link
from tesa.schedules.registry import families, find
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem

KIND = "cpu"
FUSED = "fused"

_FUSED_CONFIGS = 4  # of one decomposition
_INSTRUCTIONS = 100_000  # straight-line code of one piece: a second to generate and assemble
_FAMILIES: set[str] = set()
_ELEMENTS = 1 << 22  # of a weight, by which kernels of pieces are compared
_BAND = 64  # rows side by side that are taken together
_KEPT = 4  # layouts: the candidates of a layer ask for the same ones
_LAYOUTS: OrderedDict[tuple[object, ...], fused.Layout] = OrderedDict()


@dataclass(frozen=True)
class PieceKernel:
    """A piece and what computes it: the kernel family, or "fused" where one kernel computes all pieces."""

    piece: Piece
    family: str
    config: Config


def describe_pieces(problem: Problem, weight: FloatArray, name: str, config: Config) -> tuple[PieceKernel, ...]:
    """The pieces of a layer's weight (m, k) that an option stands for, each with its kernel, for the plan.

    Empty where the name is an ordinary kernel family, whose one part is the whole weight.

    >>> describe_pieces(Problem("linear", 2, 2, 4, (2, 4), (2, 4)), np.eye(2, dtype=np.float32), "dense", {})
    ()
    """
    if name not in _FAMILIES:
        return ()
    found = pieces(name, problem, weight, own(name, config))
    if _is_fused(config):
        return tuple(PieceKernel(piece, FUSED, _fused_config(config)) for piece in found)
    return tuple(PieceKernel(piece, *_kernel(config, i)) for i, piece in enumerate(found))


def is_composite(name: str) -> bool:
    """Whether a family is a decomposition."""
    return name in _FAMILIES


def register_family(policy: Policy) -> None:
    """Register the policy as a kernel family of its name. ValueError if a family has the name."""
    importlib.import_module("tesa.schedules.cpu")  # so that a name that it takes is known
    family = _Family(policy)

    def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
        return family.emit(problem, weight, core, config, symbol)

    emit.__doc__ = policy.summary or f"The decomposition {policy.name}."
    registry.family(policy.name, kind=KIND, space=family.space, estimate=family.estimate, dense=family.dense)(emit)
    _FAMILIES.add(policy.name)


def forget_family(name: str) -> None:
    """The opposite of register_family."""
    _FAMILIES.discard(name)
    registry.forget(name)
    for key in [key for key in _LAYOUTS if key[0] == name]:
        del _LAYOUTS[key]


@dataclass(frozen=True)
class _Family:
    """The functions of Family for one policy."""

    policy: Policy

    def space(self, problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
        """For each of the policy's configurations the best fused kernels and chains, all by estimate."""
        own_space = self.policy.space(problem, weight, core)
        if not own_space:
            return []
        ranked: list[tuple[float, Config]] = []
        with unchanging(weight):
            for config in own_space:
                found = pieces(self.policy.name, problem, weight, config)
                head = {f"{self.policy.name}.{key}": int(value) for key, value in config.items()}
                made = self._layout(problem, weight, config) if found else None
                for rest in [] if made is None else _forms(problem, found, made, core):
                    whole = {**head, **rest}
                    ranked.append((self.estimate(problem, weight, core, whole), whole))
        ranked.sort(key=lambda item: item[0])
        return [config for _, config in ranked]

    def estimate(self, problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
        """Of the fused kernel, or the sum of the pieces and of what goes through memory."""
        found = self._pieces(problem, weight, config)
        if _is_fused(config):
            made = self._layout(problem, weight, own(self.policy.name, config))
            return fused_space.estimate(problem, made, core, _fused_config(config))
        return _chain_estimate(problem, _links(found, config), core)

    def emit(self, problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
        """One kernel out of the pieces of a weight."""
        found = self._pieces(problem, weight, config)
        if _is_fused(config):
            return fused.emit(problem, layout(problem, found), core, _fused_config(config), symbol)
        return chain.emit(problem, _links(found, config), core, symbol)

    def dense(self, weight: FloatArray, config: Config) -> bool:
        """Where the only kernel computes with the zeros."""
        if _is_fused(config) or any(key.split(".")[0] == "1" for key in config):
            return False
        name, rest = _kernel(config, 0)
        test = find(name).dense
        return test is not None and test(weight, rest)

    def _layout(self, problem: Problem, weight: FloatArray, config: Config) -> fused.Layout:
        """The fused kernel's view of the pieces for a configuration of the policy. The last ones are kept."""
        key = (self.policy.name, problem, weight_digest(weight), tuple(sorted(config.items())))
        if key not in _LAYOUTS:
            _LAYOUTS[key] = layout(problem, pieces(self.policy.name, problem, weight, config))
            while len(_LAYOUTS) > _KEPT:
                _LAYOUTS.popitem(last=False)
        return _LAYOUTS[key]

    def _pieces(self, problem: Problem, weight: FloatArray, config: Config) -> tuple[Piece, ...]:
        found = pieces(self.policy.name, problem, weight, own(self.policy.name, config))
        if not found:
            raise UsageError(f"policy {self.policy.name!r} does not apply to this weight with {dict(config)}")
        return found


def layout(problem: Problem, found: Sequence[Piece]) -> fused.Layout:
    """The fused kernel's view of pieces: blocks of two rows or more are computed by panels, all others by element.

    Of a mixed problem all int8 pieces are computed by panels. The rows are taken in the order of the piece that has
    one; without it, the rows of a block are sorted by their number of scattered elements.
    """
    shape = found[0].weight.shape
    panels, scattered = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    height, order = shape[0], None
    for piece in found:
        by_panel = piece.bits == 8 if problem.dtype == "mixed" else piece.block[0] > 1
        if by_panel:
            panels += piece.weight
            height = min(height, piece.block[0]) if piece.block[0] > 1 else height
        else:
            scattered += piece.weight
        order = piece.order if order is None else order
    rows = np.arange(shape[0]) if order is None else order
    if order is None and scattered.any():
        counts = np.count_nonzero(scattered, axis=1)
        rows = np.lexsort((counts, rows // height))
    return fused.Layout(panels, scattered, rows)


def _forms(problem: Problem, found: Sequence[Piece], made_of: fused.Layout, core: Core) -> list[Config]:
    """The kernels of some pieces: fused ones and chains, as parts of a configuration."""
    made: list[Config] = []
    bound = any(piece.kernels for piece in found)
    if not bound and (problem.dtype != "mixed" or any(piece.bits == 8 for piece in found)):
        for config in fused_space.space(problem, made_of, core)[:_FUSED_CONFIGS]:
            made.append({f"{FUSED}.{key}": value for key, value in config.items()})
    if problem.dtype == "int8" or (len(found) == 1 and problem.dtype == "float32" and not bound):
        return made  # int32 sums have no residual to add to; one piece is an ordinary kernel's work
    choices = [_choices(problem, found, i, core) for i in range(len(found))]
    if not all(choices):
        return made
    if len(found) == 1:
        return made + [_flat([choice]) for choice in choices[0]]
    best = [choice[0] for choice in choices]
    others = [(i, other) for i, choice in enumerate(choices) for other in choice[1:2]]
    picks = [best, *([*best[:i], other, *best[i + 1 :]] for i, other in others)]
    return made + [_flat(pick) for pick in picks]


def _choices(problem: Problem, found: Sequence[Piece], index: int, core: Core) -> list[tuple[str, Config]]:
    """The best configuration of every family for a piece, the best family first."""
    ranked: list[tuple[float, str, Config]] = []
    problem, found = _fewer_rows(problem, found)
    piece = found[index]
    for family in families(KIND):
        wanted = [config for name, config in piece.kernels if name == family.name]
        if family.name in _FAMILIES or (piece.kernels and not wanted):
            continue
        sub = chain.problems(problem, [(other, family.name) for other in found])[index]
        for config in wanted or family.space(sub, piece.weight, core):
            if family.size is None or family.size(sub, piece.weight, config) <= _INSTRUCTIONS:
                ranked.append((family.estimate(sub, piece.weight, core, config), family.name, config))
    ranked.sort(key=lambda item: item[0])
    best: dict[str, Config] = {}
    for _, name, config in ranked:
        best.setdefault(name, config)
    return list(best.items())


def _fewer_rows(problem: Problem, found: Sequence[Piece]) -> tuple[Problem, Sequence[Piece]]:
    """A large layer cut down to some of its rows: which kernel is the best for a piece hardly depends on how many."""
    rows = max(_ELEMENTS // problem.k // _BAND, 4) * _BAND
    if problem.window is not None or problem.m <= 2 * rows:
        return problem, found
    bands = problem.m // _BAND
    some = np.unique(np.arange(rows // _BAND) * bands // (rows // _BAND))
    index = (some[:, None] * _BAND + np.arange(_BAND)).ravel()
    made = replace(problem, m=len(index), y_shape=(problem.batch, len(index), problem.n))
    return made, [replace(piece, weight=piece.weight[index], order=None) for piece in found]


def _flat(pick: Sequence[tuple[str, Config]]) -> Config:
    """The kernels of a chain as one configuration; a family without parameters still has to be named."""
    flat: dict[str, int] = {}
    for i, (name, config) in enumerate(pick):
        flat.update({f"{i}.{name}.{key}": int(value) for key, value in config.items()} or {f"{i}.{name}.": 0})
    return flat


def _kernel(config: Config, index: int) -> tuple[str, Config]:
    """The family and configuration of a chain's piece."""
    parts = [(key.split(".", 2), value) for key, value in config.items()]
    mine = [(words[1], words[2], value) for words, value in parts if words[0] == str(index) and len(words) == 3]
    if not mine:
        raise UsageError(f"configuration {dict(config)} names no kernel for piece {index}, as '{index}.dense.rows'")
    return mine[0][0], {key: value for _, key, value in mine if key}


def _links(found: Sequence[Piece], config: Config) -> list[Link]:
    return [Link(piece, *_kernel(config, i)) for i, piece in enumerate(found)]


def _is_fused(config: Config) -> bool:
    return any(key.startswith(f"{FUSED}.") for key in config)


def _fused_config(config: Config) -> Config:
    return own(FUSED, config)


def _chain_estimate(problem: Problem, links: Sequence[Link], core: Core) -> float:
    subs = chain.problems(problem, [(link.piece, link.family) for link in links])
    work: Any = sum(
        find(link.family).estimate(sub, link.piece.weight, core, link.config)
        for link, sub in zip(links, subs, strict=True)
    )
    moved = 0.0
    if problem.dtype == "mixed":
        moved += 5.0 * problem.batch * problem.k * problem.n
        moved += 0.0 if len(links) == 1 else 4.0 * (len(links) + 1) * problem.batch * problem.m * problem.n
    return float(work + moved / core.rates.far_bytes / core.rates.cycles_per_ms / problem.threads)
