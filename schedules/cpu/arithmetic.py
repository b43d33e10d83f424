"""The sums of a looped kernel: float32 products, or dot products of a few integers at a time.

float32: an element of the operand is a number, and a step is one fused multiply-add.
int8 (X uint8, W int8, sums int32): an element is a group of neighbouring k of one column in the 32 bits of a lane.
    4 bytes, where the core has a dot product of them that does not saturate:  acc += x0 w0 + x1 w1 + x2 w2 + x3 w3
    2 16-bit words else, one instruction or a few:                             acc += x0 w0 + x1 w1
The groups of W are put together when the code is generated, those of X when a tile is packed (packing.py). A group of W
is zero, and left out, where all its weights are. Rows of W are filled up with zeros to whole groups.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import lanes, unrolled
from tesa.schedules.types import Core, Dot, Problem


@dataclass(frozen=True)
class Arithmetic:
    """dtype: of an element of the operand, of W and of a sum; group: k that an element holds; dot: how to add up."""

    dtype: str
    group: int
    dot: Dot | None = None

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
            if self._has_dot(width):
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
            if self._has_dot(width):
                lane = T.ramp(0, 1, width)
                weights, element = source[T.ramp(start, 1, width)], tirx.Broadcast(x(q), width)
                T.buffer_store(acc, self._dot(acc[q, v, lane], element, weights, width), [q, v, lane])
                return
            with lanes(width) as each:
                T.buffer_store(acc, self._scalar(acc[q, v, each], x(q), source[start + each]), [q, v, each])

    def _has_dot(self, width: int) -> bool:
        return self.dot is not None and self.dot.intrinsic(width) is not None

    def _dot(self, acc: Any, x: Any, w: Any, width: int) -> Any:
        """acc + the dot products of the lanes of x and w."""
        assert self.dot is not None  # see _has_dot
        kind, name = f"int{32 // self.group}x{width * self.group}", self.dot.intrinsic(width)
        sums = (acc,) if self.dot.adds else ()
        found = tirx.call_llvm_pure_intrin(
            f"int32x{width}", name, *sums, tirx.reinterpret(kind, x), tirx.reinterpret(kind, w)
        )
        return found if sums else acc + found

    def _scalar(self, acc: Any, x: Any, w: Any) -> Any:
        """One lane. Integers where there is no instruction for tiles of this width: the same sum from shifts."""
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
    """The arithmetic of a problem's kernels on a core."""
    if problem.dtype == "float32":
        return Arithmetic("float32", 1)
    return Arithmetic("int32", core.dot.group if core.dot is not None else 2, core.dot)
