"""The sums of a looped kernel: float32 products, or dot products of a few integers at a time.

float32: an element of the operand is a number, and a step is one fused multiply-add.
float16, where the problem and the core allow it: the same, in twice the lanes; X is rounded when a tile is packed.
int8 (X uint8, W int8, sums int32): an element is a group of neighbouring k of one column, in the 32 bits of a lane.
    4 bytes, where the core has a dot product of them that does not saturate:  acc += x0 w0 + x1 w1 + x2 w2 + x3 w3
    2 16-bit words else, one instruction or a few:                             acc += x0 w0 + x1 w1
    1 16-bit word, where such words are multiplied into lanes of 32 bits:      acc += x0 w0
    8 bytes, where small matrices of bytes are multiplied: see Matrices.
The groups of W are put together when the code is generated, those of X when a tile is packed (packing.py). A group of W
is zero, and left out, where all its weights are. Rows of W are filled up with zeros to whole groups. Where bytes of X
have to be signed, they are X - 128, and 128 times the sum of a row's weights is added to its sums in the end: the sums
are exact all the same, for they are integers modulo 2**32.

Where a product takes a factor from any lane of a register, the weights of some neighbouring rows are one vector:
Before:
    for r:  acc[r][:] += (W[e, r] in all lanes) * x[:]
After:
    w = W[e, r ... r + 3];  for i:  acc[r + i][:] += w[i] * x[:]
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.loops import lanes, named, unrolled
from tesa.schedules.types import Core, Dot, Problem

_MEMBERS = {1: np.int16, 2: np.int16, 4: np.int8, 8: np.int8}
"""A weight of a group, by how many are in it."""

_QUAD = 4  # weights of 32 bits that are read as one vector


@dataclass(frozen=True)
class Arithmetic:
    """The numbers that a kernel adds up, and how.

    dtype: of a sum; group: k that an element of the operand and of W holds; dot: how to add up; by_element: weights of
    neighbouring rows are read as a vector.
    """

    dtype: str
    group: int
    dot: Dot | None = None
    by_element: bool = False

    @property
    def integer(self) -> bool:
        """True for int8."""
        return self.dtype == "int32"

    @property
    def element(self) -> str:
        """The type of an element of the operand and of W."""
        if not self.integer:
            return self.dtype
        return f"int{8 * np.dtype(_MEMBERS[self.group]).itemsize * self.group}"

    @property
    def nbytes(self) -> int:
        """The bytes of an element."""
        return np.dtype(self.element).itemsize

    @property
    def zero(self) -> Any:
        """An empty sum."""
        return T.int32(0) if self.integer else T.float16(0) if self.half else T.float32(0)

    @property
    def half(self) -> bool:
        """True for sums of float16."""
        return self.dtype == "float16"

    @property
    def signed(self) -> bool:
        """True where the operand holds X - 128."""
        return self.dot is not None and self.dot.signed

    @property
    def interleaves(self) -> bool:
        """True where groups of X are best put together by interleaving its rows."""
        return self.dot is not None and self.dot.interleaves

    def code(self, x: Any) -> Any:
        """A vector of uint8 X as the bytes of the operand."""
        return x ^ tirx.Broadcast(tirx.IntImm("uint8", 128), int(x.ty.dtype.lanes)) if self.signed else x

    def shift(self, weight: NDArray[Any]) -> NDArray[np.int32] | None:
        """(m,), what is missing in the sums of each row of W (m, k), None where they are whole."""
        return (128 * weight.astype(np.int64).sum(axis=1)).astype(np.int32) if self.signed else None

    def matrix(self, weight: NDArray[Any]) -> NDArray[Any]:
        """W (m, k) in elements: (m, ceil(k / group)); not 0 where one of the group's weights is not."""
        if not self.integer:
            return weight.astype(np.float16) if self.half else weight
        rows, k = weight.shape
        wide = np.zeros((rows, -(-k // self.group) * self.group), _MEMBERS[self.group])
        wide[:, :k] = weight
        return wide.view(self.element)

    def accumulate(
        self, acc: Any, shape: tuple[int, int, int], w: Callable[[Any], Any], x: Callable[[Any, Any, Any], Any]
    ) -> None:
        """acc[r, v, :] += w(r) * x(r, v, lane). shape: of acc; w: an element of W; x: a buffer and the place in it.

        Elements of neighbouring rows are neighbours in W.
        """
        rows, vectors, width = shape
        if self._takes_elements(width):
            lane = T.ramp(0, 1, width)
            for r, weight in enumerate(spread(w, rows, width)):
                for v in range(vectors):
                    source, start = x(r, v, 0)
                    value = self._plus(acc[r, v, lane], source[T.ramp(start, 1, width)], weight, width)
                    T.buffer_store(acc, value, [r, v, lane])
            return
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
        if self._takes_elements(width):
            lane, weights = T.ramp(0, 1, width), [w(v) for v in range(vectors)]
            for q, element in enumerate(spread(x, columns, width)):
                for v, (source, start) in enumerate(weights):
                    factors = element, source[T.ramp(start, 1, width)]
                    # the factor that may be an element is the second one, where both are of one kind
                    alike = self.signed or self.group == 1
                    value = self._plus(acc[q, v, lane], *(factors[::-1] if alike else factors), width)
                    T.buffer_store(acc, value, [q, v, lane])
            return
        with unrolled("q", columns) as q, unrolled("v", vectors) as v:
            source, start = w(v)
            if self._has_dot(width):
                lane = T.ramp(0, 1, width)
                weights, element = source[T.ramp(start, 1, width)], tirx.Broadcast(x(q), width)
                T.buffer_store(acc, self._dot(acc[q, v, lane], element, weights, width), [q, v, lane])
                return
            with lanes(width) as each:
                T.buffer_store(acc, self._scalar(acc[q, v, each], x(q), source[start + each]), [q, v, each])

    def add(self, acc: Any, at: tuple[Any, ...], x: Any, w: tuple[Any, Any], width: int) -> None:
        """acc[at, :] += the products of an element x and a vector of W, a buffer and where it starts there."""
        source, start = w
        if self._has_dot(width):
            lane = T.ramp(0, 1, width)
            value = self._dot(acc[(*at, lane)], tirx.Broadcast(x, width), source[T.ramp(start, 1, width)], width)
            T.buffer_store(acc, value, [*at, lane])
            return
        with lanes(width) as each:
            T.buffer_store(acc, self._scalar(acc[(*at, each)], x, source[start + each]), [*at, each])

    def settle(self, acc: Any, shape: tuple[int, int, int]) -> None:
        """Bring the sums acc[r, v, lane] to the rows and columns that they stand for, once all is added up."""

    def real(self, acc: Any, shape: tuple[int, int, int]) -> Any:
        """The finished sums acc[r, v, lane] as an epilogue takes them: of float16 as float32."""
        if not self.half:
            return acc
        rows, vectors, width = shape
        found = named("wide", T.alloc_buffer(shape, "float32", scope="local"))
        with unrolled("r", rows) as r, unrolled("v", vectors) as v, lanes(width) as lane:
            T.buffer_store(found, tirx.Cast("float32", acc[r, v, lane]), [r, v, lane])
        return found

    def _takes_elements(self, width: int) -> bool:
        whole = 2 * _QUAD if self.half else _QUAD
        return self.by_element and width == whole and (self._has_dot(width) or not self.integer)

    def _plus(self, acc: Any, x: Any, w: Any, width: int) -> Any:
        """acc + w x, all vectors."""
        return self._dot(acc, x, w, width) if self.integer else acc + w * x

    def _has_dot(self, width: int) -> bool:
        return self.dot is not None and self.dot.intrinsic(width) is not None

    def _dot(self, acc: Any, x: Any, w: Any, width: int) -> Any:
        """acc + the dot products of the lanes of x and w."""
        assert self.dot is not None  # see _has_dot
        bits = 8 * np.dtype(_MEMBERS[self.group]).itemsize
        kind, name = f"int{bits}x{width * self.group}", self.dot.intrinsic(width)
        sums = (acc,) if self.dot.adds else ()
        if self.group > 1:
            x, w = tirx.reinterpret(kind, x), tirx.reinterpret(kind, w)
        found = tirx.call_llvm_pure_intrin(f"int32x{width}", name, *sums, x, w)
        return found if sums else acc + found

    def _scalar(self, acc: Any, x: Any, w: Any) -> Any:
        """One lane. Integers where there is no instruction for tiles of this width: the same sum from shifts."""
        if not self.integer:
            return acc + w * x
        if self.group == 1:
            return acc + tirx.Cast("int32", x) * tirx.Cast("int32", w)
        bits = 32 // self.group
        mask = (1 << bits) - 1
        for j in range(self.group):
            left = (w << T.int32(32 - bits * (j + 1))) >> T.int32(32 - bits)
            right = (x >> T.int32(bits * j)) & T.int32(mask)
            if self.signed:
                right = (x << T.int32(32 - bits * (j + 1))) >> T.int32(32 - bits)
            acc = acc + right * left
        return acc

    def pack(self, parts: list[Any]) -> Any:
        """An element from its `group` members, uint8 each; for float32 the one number."""
        if not self.integer:
            return tirx.Cast("float16", parts[0]) if self.half else parts[0]
        value = tirx.Cast(self.element, parts[0])
        for j, part in enumerate(parts[1:], 1):
            shift = tirx.IntImm(self.element, j * np.iinfo(self.element).bits // self.group)
            value = value | (tirx.Cast(self.element, part) << shift)
        return value ^ tirx.IntImm(self.element, _FLIPPED) if self.signed else value


_FLIPPED = -0x7F7F7F80
"""The top bits of the 4 bytes of a lane: uint8 with it flipped is the int8 that is 128 less."""


def spread(w: Callable[[Any], Any], rows: int, width: int) -> list[Any]:
    """w(r) of neighbouring rows in all lanes each, read as vectors of 4, and of 2 or 1 at the end."""
    found: list[Any] = []
    while len(found) < rows:
        left = rows - len(found)
        count = _QUAD if left >= _QUAD else 2 if left >= 2 else 1
        first = w(len(found))
        if count == 1:
            found.append(tirx.Broadcast(first, width))
            continue
        vector = first.source[T.ramp(first.indices[0], 1, count)]
        found += [tirx.Broadcast(tirx.Shuffle([vector], [tirx.IntImm("int32", i)]), width) for i in range(count)]
    return found


def halves(problem: Problem, core: Core) -> bool:
    """True where sums may be of float16."""
    return problem.arithmetic == "float16" and core.halves and problem.dtype == "float32"


def half_sums(core: Core) -> Arithmetic:
    """The arithmetic of float16."""
    return Arithmetic("float16", 1, None, core.by_element)


def arithmetic(problem: Problem, core: Core) -> Arithmetic:
    """The arithmetic of a problem's kernels on a core."""
    if problem.dtype == "float32":
        return Arithmetic("float32", 1, None, core.by_element)
    return Arithmetic("int32", core.dot.group if core.dot is not None else 2, core.dot, core.by_element)
