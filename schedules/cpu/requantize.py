"""Sums of an integer layer as codes of the next one, in five instructions for a vector of sums.

Before:
    y = act((sum * scale[m] + bias[m]) + residual);  code = clip(round(y / out_scale) + out_zero)
After, where act only limits a number:
    S[m] = scale[m] / out_scale;  B[m] = bias[m] / out_scale + out_zero       once for a call, in any order of rows
    code = low byte of the bits of  clip(sum * S[m] + B[m] + residual * r + C)
C is 1.5 * 2**23: a float32 of that size has no bits behind the point, so that the addition rounds, ties to even, and
the last bits of the result are those of the code. (An old trick; Warren, Hacker's Delight, 17-2.) Limits are C + code,
so that numbers beyond any code stay in order. Where any bytes of a register may be taken, the low bytes of all lanes
come by one permutation, in half of the time of an instruction that narrows.

Numbers that are rounded on the way, Problem.inner, take four instructions more for each time:
    q = clip(sum * S[m] + C) - (C + zero);  the next one is  q * (scale / next scale) + B[m]
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.epilogue import Names
from tesa.schedules.cpu.loops import lanes, named, serial
from tesa.schedules.types import STEPS, Core, Output, Problem

BYTES = 64
"""Of a register whose bytes are permuted."""

ROUNDING = 1.5 * 2**23
_LIMITED = {None: (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}
"""The activations that only limit a number, and its limits."""


@dataclass(frozen=True)
class Codes:
    """Makes codes of sums. scale, bias: S and B of rows, in the order in which a kernel has them; narrow: the places of
    the low bytes of a register's lanes, and LLVM's name of what permutes its bytes, None for no such thing."""

    problem: Problem
    scale: Any
    bias: Any
    narrow: tuple[Any, str] | None = None

    def vector(self, sums: Any, at: Any, residual: Any = None) -> Any:
        """Codes of int32 sums, a vector. at: of the first one in the kernel's order; residual: codes or numbers."""
        width = int(sums.ty.dtype.lanes)
        return self._rounded(_cast("float32", sums, width) * self.scale[_every(at, width)], 0, at, residual)

    def onward(self, found: Any, at: Any, residual: Any = None) -> Any:
        """Codes of what the first rounding on the way made of sums, codes as well: a vector, or one of them.

        Nothing is added for each row behind that rounding, so its zero point becomes a part of what is added to all.
        """
        width = int(found.ty.dtype.lanes)
        first, second = stretches_of(self.problem)[:2]
        ratio = first.kind.scale / second.kind.scale
        value = _cast("float32", found, width) * _all(ratio, width)
        value = value + _all(second.constant - first.kind.zero * ratio, width)
        return self._rounded(value, 1, at, residual)

    def _rounded(self, value: Any, begun: int, at: Any, residual: Any) -> Any:
        """The stretches of the epilogue; begun: of these the constants have been added, and the rounding before."""
        width = int(value.ty.dtype.lanes)
        stretches = stretches_of(self.problem)
        for i, stretch in enumerate(stretches[begun:], begun):
            if i > begun:
                before = stretches[i - 1].kind
                steps = value - _all(ROUNDING + before.zero, width)
                value = steps * _all(before.scale / stretch.kind.scale, width)
            if i > begun or not i:
                value = value + (self.bias[_every(at, width)] if stretch.biased else _all(stretch.constant, width))
            if residual is not None and stretch.residual is not None:
                value = _cast("float32", residual, width) * _all(stretch.residual, width) + value
            low, high = self.limits if stretch is stretches[-1] else stretch.kind.range
            value = tirx.Max(value + _all(ROUNDING, width), _all(ROUNDING + low, width))
            value = tirx.Min(value, _all(ROUNDING + high, width))
        return self._narrowed(value, width)

    def _narrowed(self, value: Any, width: int) -> Any:
        """The last byte of each number's bits."""
        output = self.problem.output
        if self.narrow is not None and width * 4 == BYTES:
            order, name = self.narrow
            places = tirx.reinterpret(f"int8x{BYTES}", order[T.ramp(0, 1, BYTES)])
            found = tirx.call_llvm_pure_intrin(f"int8x{BYTES}", name, tirx.reinterpret(f"int8x{BYTES}", value), places)
            return tirx.reinterpret(f"{output.dtype}x{width}", T.Shuffle([found], list(range(width))))
        return _cast(output.dtype, tirx.reinterpret(_lanes("int32", width), value), width)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest code that an activation leaves."""
        output = self.problem.output
        found = []
        for limit in _LIMITED[self.problem.epilogue.activation]:
            code = np.rint(np.float32(limit) * np.float32(1 / output.scale)) + output.zero
            found.append(int(np.clip(code, *output.range)))
        return found[0], found[1]


@dataclass(frozen=True)
class Stretch:
    """The steps of an epilogue up to a rounding, in steps of its codes.

    kind: of these codes; biased: the bias of each row is added, with the constant in it; constant: what is added to
    all, the zero point and that of the residual; residual: by what an element of it is multiplied, None for none here.
    """

    kind: Output
    biased: bool
    constant: float
    residual: float | None


def stretches_of(problem: Problem) -> list[Stretch]:
    """The epilogue cut at each rounding, the last of which is that to the codes of Y."""
    epilogue, kind, found = problem.epilogue, problem.residual, []
    ends = [*problem.inner, (STEPS[-1], problem.output)]
    first = 0
    for step, codes_ in ends:
        last = STEPS.index(step) + 1
        steps, first = STEPS[first:last], last
        constant, factor = float(codes_.zero), None
        if epilogue.residual and "residual" in steps:
            factor = (kind.scale if kind.quantized else 1.0) / codes_.scale
            constant -= kind.zero * factor if kind.quantized else 0.0
        found.append(Stretch(codes_, epilogue.bias and "bias" in steps, constant, factor))
    if not any(stretch.biased for stretch in found):
        found[0] = replace(found[0], biased=True)
    return found


def makes_codes(problem: Problem) -> bool:
    """True where a problem's epilogue is no more than this file knows."""
    epilogue = problem.epilogue
    return problem.output.quantized and epilogue.scale and epilogue.activation in _LIMITED


def low_bytes(problem: Problem, core: Core) -> NDArray[np.uint8] | None:
    """The constant that codes() takes as `order`, None where a core does not permute the bytes of a register so."""
    found = core.permute_bytes
    if found is None or found.intrinsic(1) is None or core.lanes * 4 != BYTES or not makes_codes(problem):
        return None
    return (np.arange(BYTES) * 4 % BYTES).astype(np.uint8)


def codes(
    problem: Problem, names: Names, count: int, rows: Any = None, core: Core | None = None, order: int | None = None
) -> Codes:
    """Writes S and B of `count` rows, and gives what makes codes with them.

    rows: a buffer with the row of each place, -1 for none; None for rows in order, of which there may be fewer. order:
    the constant low_bytes(), where the core has it.
    """
    found = []
    stretches = stretches_of(problem)
    biased = next(stretch for stretch in stretches if stretch.biased)
    given = (names.scale, 0.0, stretches[0].kind), (names.bias, biased.constant, biased.kind)
    for name, (source, begin, kind) in zip(("s", "b"), given, strict=True):
        made = named(name, T.alloc_buffer((count,), "float32", align=64))
        found.append(made)

        def put(
            at: Any, row: Any, made: Any = made, source: Any = source, begin: float = begin, kind: Output = kind
        ) -> None:
            value = T.float32(begin)
            if source is not None:
                value = source[row] * T.float32(1 / kind.scale) + value
            T.buffer_store(made, value, [at])

        if rows is not None:
            with serial("i", count) as i:
                put(i, T.max(rows[i], 0))
            continue
        whole, width = min(count, problem.m), 16
        with serial("i", whole // width) as i, lanes(width) as lane:
            put(i * width + lane, i * width + lane)
        if count % width or problem.m % width or count > whole:
            with serial("i", count - whole // width * width) as i:
                at = whole // width * width + i
                put(at, T.min(at, problem.m - 1))
    narrow = None
    if order is not None and core is not None and core.permute_bytes is not None:
        narrow = (names.constants[order], core.permute_bytes.intrinsic(1) or "")
    return Codes(problem, found[0], found[1], narrow)


def _lanes(dtype: str, width: int) -> str:
    return f"{dtype}x{width}" if width > 1 else dtype


def _cast(dtype: str, value: Any, width: int) -> Any:
    return tirx.Cast(_lanes(dtype, width), value)


def _every(at: Any, width: int) -> Any:
    return T.ramp(at, 1, width) if width > 1 else at


def _all(value: float, width: int) -> Any:
    one = T.float32(float(np.float32(value)))
    return tirx.Broadcast(one, width) if width > 1 else one
