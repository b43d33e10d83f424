"""An operator prepared for scrambling: its program, its random inputs, and the elements that stay fixed."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, TeSA, Values, from_constant, unknown
from tesa.propagate.executor import CannotRunError, Program, Signature, compile_node, packed_symbol, signature_of
from tesa.propagate.network import Node
from tesa.propagate.scramble.groups import groupings
from tesa.propagate.scramble.invariant import differ
from tesa.propagate.scramble.samples import PLAIN, Pair, draw, is_float, known_numbers, pairs, supported

TRIALS = 32
WORK = 4e9  # stores that scrambling all operators of a network may cost, in one direction
CALL = 2e4  # the cost of calling a program, in stores
EACH = 20000  # with fewer runs than this, the numbers that an operator deals with take turns


@dataclass(frozen=True)
class State:
    """The elements that stay fixed: for each input a mask of its shape and the values there."""

    fixed: tuple[Bools, ...]
    values: tuple[Values, ...]


class Experiment:
    """A node that can be scrambled. CannotRunError, with the reason, for one that cannot.

    sharing: how many nodes share the budget. allowed: how many runs may be spent in one direction. frozen: positions of
    inputs that are never changed.
    """

    def __init__(self, node: Node, sharing: int = 1) -> None:
        self.types: Signature = signature_of(node)
        self._check(node)
        self.constants = node.operator.constants
        self.program: Program = compile_node(node)
        self.frozen = self.program.fixed | _frozen(node, self.types)
        self._seed = zlib.crc32(repr((node.operator.op, self.types)).encode())
        self._longest = max((n for shape, _ in self.types for n in shape), default=1)
        reading = self.program.reading
        static = (node.operator.static, list(node.operator.attrs.values()))
        self._numbers = [*(reading.numbers if reading is not None else ()), *_plain_numbers(static)]
        sizes = sum(int(np.prod(s)) for s in (*node.operator.inputs, *node.operator.outputs))
        cost = CALL + max(sizes, reading.steps if reading is not None else 8 * sizes)
        self.allowed = int(WORK / max(sharing, 1) / cost)
        if self.allowed < 2 * TRIALS * len(PLAIN):
            raise CannotRunError(f"too large to be run often enough, with {cost:.0e} steps a run")
        self._check_repeatable()

    @property
    def forward_only(self) -> bool:
        """True where the budget does not reach for the backward direction."""
        return self.allowed < 16 * TRIALS * len(PLAIN)

    def limits(self) -> str:
        """The limits that the size of the operator sets, as the end of a sentence; "" if there are none."""
        if self.forward_only:
            return ", forward only: too large"
        sizes = [int(np.prod(shape)) for shape, _ in self.types]
        return "" if groupings(sizes, self.types, self.allowed)[0].exact else ", inputs by slices only: too large"

    def state(self, inputs: Sequence[TeSA], keep: Sequence[Bools] | None = None) -> State:
        """All known elements stay, or of those only the ones in `keep`."""
        fixed, values = [], []
        for i, (t, (shape, dtype)) in enumerate(zip(inputs, self.types, strict=True)):
            stays = np.broadcast_to(t.known if keep is None else keep[i], shape)
            with np.errstate(all="ignore"):
                value = np.broadcast_to(t.value, shape).astype(dtype)
            if i in self.frozen:
                stays, value = np.ones(shape, bool), np.asarray(self.constants[i])
            fixed.append(stays)
            values.append(value)
        return State(tuple(fixed), tuple(values))

    def as_wholes(self, state: State) -> State | None:
        """The state with tensors taken as a whole, where indices to read or write at are not all known; else None."""
        reading = self.program.reading
        if reading is None or all(state.fixed[i].all() for i in reading.places):
            return None
        fixed = []
        for i, (mask, value) in enumerate(zip(state.fixed, state.values, strict=True)):
            stays = bool(mask.all()) and (i in reading.places or bool((value == value.flat[0]).all()))
            fixed.append(np.full(mask.shape, stays))
        return State(tuple(fixed), state.values)

    def pairs(self, state: State) -> tuple[tuple[Pair, ...], ...]:
        """The pairs of distributions of each of the trials."""
        known = [v[m] for m, v in zip(state.fixed, state.values, strict=True) if m.any()]
        numbers = [*self._numbers, *known_numbers(known)]
        return tuple(pairs(numbers, turn, self.allowed > EACH) for turn in range(TRIALS))

    def sample(self, state: State, salt: tuple[int, ...], pair: Pair, probe: bool) -> list[Values]:
        """Inputs that are random but for what stays. salt: names the draw; the same salt draws the same."""
        rng = np.random.default_rng((self._seed, *salt, int(probe)))
        drawn = [draw(rng, pair, probe, shape, dtype, self._longest) for shape, dtype in self.types]
        return [np.where(m, v, d) for m, v, d in zip(state.fixed, state.values, drawn, strict=True)]

    def _check(self, node: Node) -> None:
        for _, dtype in self.types:
            if not supported(dtype):
                raise CannotRunError(f"there are no random numbers of type {dtype}")
        risky = [i for i in _integers(self.types) if node.operator.constants[i] is None]
        if packed_symbol(node) is not None and risky and len(self.types) > 1:
            raise CannotRunError(
                f"input {risky[0]} of the packed function is an integer tensor, maybe of indices, and a random one "
                "that is out of range could crash it"
            )

    def _check_repeatable(self) -> None:
        """Raise a CannotRunError for a generator of random numbers, or a function with a memory."""
        types = zip(self.types, self.constants, strict=True)
        state = self.state([unknown(shape) if c is None else from_constant(c) for (shape, _), c in types])
        arrays, others = (self.sample(state, (i,), Pair("unit", "unit"), probe=False) for i in (0, 1))
        first = self.program(arrays)
        self.program(others)
        if differ(first, self.program(arrays), [np.ones(y.shape, bool) for y in first]):
            raise CannotRunError("it gives another result each time")


def _integers(types: Signature) -> list[int]:
    return [i for i, (_, dtype) in enumerate(types) if dtype != "bool" and not is_float(dtype)]


def _frozen(node: Node, types: Signature) -> frozenset[int]:
    """Integer constants of a packed function: they may be indices, and it may not check them."""
    if packed_symbol(node) is None:
        return frozenset()
    return frozenset(i for i in _integers(types) if node.operator.constants[i] is not None)


def _plain_numbers(value: Any) -> list[float]:
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [float(value)]
    return [n for v in value for n in _plain_numbers(v)] if isinstance(value, tuple | list) else []
