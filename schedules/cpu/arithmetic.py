"""What a looped kernel adds up: float32 products, or dot products of a few integers at a time.

float32: an element of the operand is a number, and a step is one fused multiply-add.
int8 (X uint8, W int8, sums int32): an element is a group of neighbouring k of one column in the 32 bits of a lane.
    VNNI:  4 bytes,        acc += x0 w0 + x1 w1 + x2 w2 + x3 w3        vpdpbusd, which does not saturate
    else:  2 16-bit words, acc += x0 w0 + x1 w1                        vpmaddwd and an addition
The groups of W are put together when the code is generated, those of X when a tile is packed (packing.py). A group of W
is zero, and left out, where all its weights are. Rows of W are filled up with zeros to whole groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import lanes, unrolled
from tesa.schedules.types import Core, Problem

_PAIRS = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}


@dataclass(frozen=True)
class Arithmetic:
    """dtype: of an element of the operand, of W and of a sum. group: how many k an element holds."""

    dtype: str
    group: int

    @property
    def integer(self) -> bool:
        """True for int8."""
        return self.dtype == "int32"

    @property
    def zero(self) -> Any:
        """An empty sum."""
        return T.int32(0) if self.integer else T.float32(0)

    def matrix(self, weight: NDArray[Any]) -> NDArray[Any]:
        """W (m, k) in elements: (m, ceil(k / group)); not 0 where one of the group's weights is not."""
        if not self.integer:
            return weight
        kind = np.int8 if self.group == 4 else np.int16
        rows, k = weight.shape
        wide = np.zeros((rows, -(-k // self.group) * self.group), kind)
        wide[:, :k] = weight
        return wide.view(np.int32)

    def accumulate(
        self, acc: Any, shape: tuple[int, int, int], w: Callable[[Any], Any], x: Callable[[Any, Any, Any], Any]
    ) -> None:
        """acc[r, v, :] += w(r) * x(r, v, lane). shape: of acc; w: an element of W; x: a buffer and the place in it."""
        rows, vectors, width = shape
        with unrolled("r", rows) as r, unrolled("v", vectors) as v:
            if self.integer and width in _PAIRS:
                source, start = x(r, v, 0)
                lane, elements = T.ramp(0, 1, width), source[T.ramp(start, 1, width)]
                T.buffer_store(
                    acc, self._dot(acc[r, v, lane], elements, tirx.Broadcast(w(r), width), width), [r, v, lane]
                )
                return
            with lanes(width) as lane:
                source, index = x(r, v, lane)
                T.buffer_store(acc, self._scalar(acc[r, v, lane], source[index], w(r)), [r, v, lane])

    def accumulate_rows(
        self, acc: Any, shape: tuple[int, int, int], w: Callable[[Any], Any], x: Callable[[Any], Any]
    ) -> None:
        """acc[q, v, :] += w(v) * x(q), with rows of W in the lanes. shape: of acc; w: a buffer and where vector v of it
        starts; x: an element of the operand."""
        columns, vectors, width = shape
        with unrolled("q", columns) as q, unrolled("v", vectors) as v:
            source, start = w(v)
            if self.integer:
                lane = T.ramp(0, 1, width)
                weights, element = source[T.ramp(start, 1, width)], tirx.Broadcast(x(q), width)
                T.buffer_store(acc, self._dot(acc[q, v, lane], element, weights, width), [q, v, lane])
                return
            with lanes(width) as each:
                T.buffer_store(acc, acc[q, v, each] + source[start + each] * x(q), [q, v, each])

    def _dot(self, acc: Any, x: Any, w: Any, width: int) -> Any:
        """acc + the dot products of the lanes of x and w."""
        vector = f"int32x{width}"
        if self.group == 4:
            kind, name = f"int8x{width * 4}", f"llvm.x86.avx512.vpdpbusd.{width * 32}"
            return tirx.call_llvm_pure_intrin(vector, name, acc, tirx.reinterpret(kind, x), tirx.reinterpret(kind, w))
        kind = f"int16x{width * 2}"
        return acc + tirx.call_llvm_pure_intrin(
            vector, _PAIRS[width], tirx.reinterpret(kind, x), tirx.reinterpret(kind, w)
        )

    def _scalar(self, acc: Any, x: Any, w: Any) -> Any:
        """For tiles narrower than the instruction: the same sum from shifts."""
        if not self.integer:
            return acc + w * x
        bits = 32 // self.group
        mask = (1 << bits) - 1
        for j in range(self.group):
            left = (w << T.int32(32 - bits * (j + 1))) >> T.int32(32 - bits)
            acc = acc + ((x >> T.int32(bits * j)) & T.int32(mask)) * left
        return acc

    def pack(self, parts: list[Any]) -> Any:
        """An element from its `group` members, uint8 each; for float32 the one number."""
        if not self.integer:
            return parts[0]
        value = tirx.Cast("int32", parts[0])
        for j, part in enumerate(parts[1:], 1):
            value = value | (tirx.Cast("int32", part) << T.int32(j * 32 // self.group))
        return value


def arithmetic(problem: Problem, core: Core) -> Arithmetic:
    """What the kernels of a problem add up on an instruction set."""
    if problem.dtype == "float32":
        return Arithmetic("float32", 1)
    return Arithmetic("int32", 4 if core.vnni else 2)
