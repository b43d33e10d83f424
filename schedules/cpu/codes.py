"""The end of kernels whose sums are four registers of neighbouring channels: from int32 to the bytes of Y.

Bytes that are interleaved by unpack instructions, which work within 128 bits, come out as four registers whose lanes
are not neighbours: register q holds channels 16 s + 4 q ... 16 s + 4 q + 3 for each 128 bits s. Instructions that
narrow two registers to one work within 128 bits too and undo it, so nothing is permuted on the way; what belongs to a
channel is brought into the order of the sums once for many of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.epilogue import Names, final
from tesa.schedules.cpu.loops import lanes, named, serial
from tesa.schedules.types import Core, Problem

UNIT = 16
"""Bytes within which an unpack instruction works."""

_BOUNDED = (None, "relu", "relu6")


@dataclass(frozen=True)
class Ends:
    """The constants of four sums of a block. base: its first channel; places: (4, lanes) the channel of each lane.

    scale, bias: of the code that is stored, four vectors each, or None where the epilogue is written for one element
    at a time.
    """

    problem: Problem
    core: Core
    base: Any
    places: NDArray[np.int64]
    scale: tuple[Any, ...] | None = None
    bias: tuple[Any, ...] = ()

    @staticmethod
    def of(problem: Problem, names: Names, base: Any, places: NDArray[np.int64], core: Core) -> Ends:
        """The constants of the block that begins at channel base, read here."""
        epilogue, output, residual = problem.epilogue, problem.output, problem.residual
        codes = not problem.inner and (not epilogue.residual or residual.dtype == "uint8")
        if output.dtype != "uint8" or names.scale is None or not codes or epilogue.activation not in _BOUNDED:
            return Ends(problem, core, base, places)
        ends = Ends(problem, core, base, places)
        width, unit = places.shape[1], 1 / output.scale
        zero = output.zero - (residual.zero * residual.scale * unit if epilogue.residual else 0.0)
        scale = tuple(T.Bind(value * _splat(unit, width)) for value in ends._ordered(names.scale))
        if names.bias is None:
            return Ends(problem, core, base, places, scale, (T.Bind(_splat(zero, width)),) * 4)
        bias = (value * _splat(unit, width) + _splat(zero, width) for value in ends._ordered(names.bias))
        return Ends(problem, core, base, places, scale, tuple(T.Bind(value) for value in bias))

    def store(self, names: Names, sums: list[Any], at: Any) -> None:
        """Write the block of Y from element at on."""
        if self.scale is None:
            self._store_each(names, sums, at)
            return
        p, width = self.problem, self.places.shape[1]
        rest = [None] * 4 if names.residual is None else self._residual(names, at)
        unit, most, least = 1 / p.output.scale, 255.0, 0.0
        if p.epilogue.activation is not None:
            least = max(0.0, float(p.output.zero))
        if p.epilogue.activation == "relu6":
            most = min(most, 6.0 * unit + p.output.zero)
        codes = []
        for value, scale, bias, other in zip(sums, self.scale, self.bias, rest, strict=True):
            real = tirx.Cast(f"float32x{width}", value) * scale + bias
            if other is not None:
                real = other * _splat(p.residual.scale * unit, width) + real
            codes.append(self._rounded(real, least, most))
        T.buffer_store(names.y, self._narrow(codes, least), [T.ramp(at, 1, 4 * width)])

    def _rounded(self, real: Any, least: float, most: float) -> Any:
        """The nearest int32, within most and, unless packing does that, within least."""
        width = self.places.shape[1]
        kind, bound = f"float32x{width}", _splat(most, width)
        real = T.Bind(real)
        # a not-a-number, of which there is none, or what is too large must not become the least int32
        real = tirx.Select(real < bound, real, bound)
        if least > 0 or not self.core.narrow(width):
            real, low = T.Bind(real), _splat(least, width)
            real = tirx.Select(real > low, real, low)
        if self.core.nearest:
            return T.Bind(tirx.call_llvm_pure_intrin(f"int32x{width}", self.core.nearest, real))
        return T.Bind(tirx.Cast(f"int32x{width}", tirx.call_llvm_pure_intrin(kind, "llvm.nearbyint", real)))

    def _narrow(self, codes: list[Any], least: float) -> Any:
        """The bytes of the block in their order."""
        width = self.places.shape[1]
        names = self.core.narrow(width)
        if names is None:
            small = [T.Bind(tirx.Cast(f"uint8x{width}", code)) for code in codes]
            return T.Shuffle(small, [int(x) for x in np.argsort(self.places.reshape(-1))])
        half, whole = f"int16x{2 * width}", f"int8x{4 * width}"
        pairs = [tirx.call_llvm_pure_intrin(half, names[0], *codes[at : at + 2]) for at in (0, 2)]
        found = tirx.call_llvm_pure_intrin(whole, names[1], *map(T.Bind, pairs))
        return tirx.reinterpret(f"uint8x{4 * width}", found)

    def _ordered(self, array: Any) -> list[Any]:
        """Four vectors of an array's elements in the order of the sums."""
        width = self.places.shape[1]
        parts = [T.Bind(array[T.ramp(self.base + part * width, 1, width)]) for part in range(4)]
        return [T.Shuffle(parts, [int(x) for x in row]) for row in self.places]

    def _residual(self, names: Names, at: Any) -> list[Any]:
        """The residual's codes as four vectors of float32."""
        width = self.places.shape[1]
        block = 4 * width
        code = T.Bind(tirx.reinterpret(f"int8x{block}", names.residual[T.ramp(at, 1, block)]))
        zero = tirx.Broadcast(tirx.IntImm("int8", 0), block)
        wide = [part for half in unpacked(code, zero, 1) for part in unpacked(half, zero, 1)]
        return [tirx.Cast(f"float32x{width}", tirx.reinterpret(f"int32x{width}", part)) for part in wide]

    def _store_each(self, names: Names, sums: list[Any], at: Any) -> None:
        """Any epilogue, by way of the sums in memory in their order."""
        width = self.places.shape[1]
        order = np.argsort(self.places.reshape(-1)).reshape(4, width)
        stored = named("sums", T.alloc_buffer((4 * width,), "int32", scope="local", align=64))
        for part in range(4):
            picks = [int(x) for x in order[part]]
            T.buffer_store(stored, T.Shuffle(sums, picks), [T.ramp(part * width, 1, width)])
        with serial("part", 4) as part, lanes(width) as lane:
            c = part * width + lane
            T.buffer_store(names.y, final(self.problem, names, stored[c], self.base + c, at + c), [at + c])


def whole(load: Any) -> Any:
    """A load of bytes that LLVM does not take to pieces, as it does where all that follows is shuffles."""
    kind = f"float32x{load.ty.dtype.lanes // 4}"
    return tirx.call_llvm_pure_intrin(kind, "llvm.arithmetic.fence", tirx.reinterpret(kind, load))


def unpacked(a: Any, b: Any, size: int) -> list[Any]:
    """The low and the high halves of each 128 bits of a and b, their elements of `size` bytes in turn."""
    block = a.ty.dtype.lanes
    half, found = UNIT // 2 // size, []
    for high in (0, half):
        picks = []
        for lane in range(0, block, UNIT):
            for element in range(high, high + half):
                for source in (0, block):
                    picks += [source + lane + element * size + byte for byte in range(size)]
        found.append(T.Bind(T.Shuffle([a, b], picks)))
    return found


def _splat(value: float, width: int) -> Any:
    return tirx.Broadcast(tirx.FloatImm("float32", value), width)
