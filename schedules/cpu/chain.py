"""The pieces of a weight as kernels of their own, one after the other, their sum through memory.

Before:
    Y = epilogue((W0 + W1 + W2) X)

After, float32, where each line is one call of a kernel of any family:
    S = W0 X + residual
    Y = W1 X + S            what is read is never what is written: kernels may meet an element twice
    S = ...                 and so on in turns, such that the last one writes Y
    Y = act(W2 X + S + bias)
and for a "mixed" problem:
    F = float32(X)
    I = W0 X  (int32),  S = W1 F  (float32), ...
    Y = epilogue(I + S)     in a loop of main
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from tesa.schedules.cpu.epilogue import Names, final
from tesa.schedules.cpu.loops import flat, function, lanes, named, parallel, parameter, serial
from tesa.schedules.cpu.staging import pieces as vectors_of
from tesa.schedules.pieces import Piece, PieceKernel
from tesa.schedules.registry import find
from tesa.schedules.types import Code, Core, Epilogue, Output, Problem


def problems(problem: Problem, links: Sequence[tuple[Piece, str]]) -> list[Problem]:
    """The problem that the kernel of each piece solves. links: the pieces, each with the name of its family.

    >>> import numpy as np
    >>> p = Problem("linear", 2, 2, 4, (2, 4), (2, 4), epilogue=Epilogue(bias=True, residual=True, activation="relu"))
    >>> a, b = problems(p, [(Piece(np.eye(2, dtype=np.float32)), "dense")] * 2)
    >>> a.epilogue.residual, a.epilogue.activation, b.epilogue.residual, b.epilogue.bias, b.epilogue.activation
    (True, None, True, True, 'relu')
    """
    e, last = problem.epilogue, len(links) - 1
    if problem.dtype == "mixed":
        if direct(problem, links):
            return [replace(problem, dtype="float32")]
        floats = [i for i, (piece, _) in enumerate(links) if piece.bits > 8]
        exact = replace(problem, dtype="int8", epilogue=Epilogue(), output=Output("int32"))
        plain = replace(problem, dtype="float32", output=Output())
        return [
            exact if piece.bits == 8 else replace(plain, epilogue=Epilogue(residual=i != floats[0]))
            for i, (piece, _) in enumerate(links)
        ]
    return [
        replace(
            problem,
            epilogue=Epilogue(
                bias=e.bias and i == last,
                residual=e.residual or i > 0,
                activation=e.activation if i == last else None,
                scale=e.scale,
            ),
        )
        for i in range(len(links))
    ]


def direct(problem: Problem, links: Sequence[tuple[Piece, str]]) -> bool:
    """True where the one piece of a mixed problem, as float32, writes Y itself."""
    return problem.dtype == "mixed" and len(links) == 1 and links[0][0].bits > 8 and find(links[0][1]).quantizes


def emit(problem: Problem, links: Sequence[PieceKernel], core: Core, symbol: str) -> Code:
    """The kernel: main and one nested kernel for each piece; of one piece only, its kernel itself."""
    if len(links) == 1 and problem.dtype != "mixed":
        (link,) = links
        code: Code = find(link.family).emit(problem, link.piece.weight, core, link.config, symbol)
        return code
    named_links = [(link.piece, link.family) for link in links]
    subs = problems(problem, named_links)
    codes = [
        (f"{symbol}_{i}", find(link.family).emit(sub, link.piece.weight, core, link.config, f"{symbol}_{i}"))
        for i, (link, sub) in enumerate(zip(links, subs, strict=True))
    ]
    main = _Main(problem, subs, codes, direct(problem, named_links)).write(symbol)
    constants = tuple(constant for _, code in codes for constant in code.constants)
    return Code(main, constants, pieces=tuple(codes))


@dataclass(frozen=True)
class _Main:
    """Writes main. subs: the problem of each piece; direct: the only piece writes Y with everything."""

    problem: Problem
    subs: Sequence[Problem]
    codes: Sequence[tuple[str, Code]]
    direct: bool

    def write(self, symbol: str) -> Any:
        """The function."""
        p, e = self.problem, self.problem.epilogue
        with function(symbol) as builder:
            x = parameter("X", p.x_shape, p.x_dtype)
            constants = [
                [parameter(f"C{i}_{j}", c.shape, str(c.dtype)) for j, c in enumerate(code.constants)]
                for i, (_, code) in enumerate(self.codes)
            ]
            scale = parameter("Scale", (p.m,)) if e.scale else None
            bias = parameter("Bias", (p.m,)) if e.bias else None
            residual = parameter("Residual", p.y_shape) if e.residual else None
            y = parameter("Y", p.y_shape, p.output.dtype)
            if p.dtype == "mixed":
                self._mixed(x, constants, scale, bias, residual, y)
            else:
                self._floats(x, constants, bias, residual, y)
        return builder.get()

    def _floats(self, x: Any, constants: Sequence[Sequence[Any]], bias: Any, residual: Any, y: Any) -> None:
        last = len(self.subs) - 1
        scratch = named("S", T.alloc_buffer(self.problem.y_shape, "float32", align=64)) if last else None
        before = residual
        for i, (sub, (name, _)) in enumerate(zip(self.subs, self.codes, strict=True)):
            after = y if (last - i) % 2 == 0 else scratch
            extra = [bias] if sub.epilogue.bias else []
            extra += [before] if sub.epilogue.residual else []
            _call(name, x, *constants[i], *extra, after)
            before = after

    def _mixed(self, x: Any, constants: Sequence[Sequence[Any]], scale: Any, bias: Any, residual: Any, y: Any) -> None:
        p = self.problem
        numbers = None
        if any(sub.dtype == "float32" for sub in self.subs):
            numbers = named("numbers", T.alloc_buffer(p.x_shape, "float32", align=64))
            codes, target = flat(x), flat(numbers)
            self._rows(p.batch * p.k, target, lambda row, at: tirx.Cast("float32", codes[at]))
        if self.direct:
            extra = [array for array in (scale, bias, residual) if array is not None]
            _call(self.codes[0][0], numbers, *constants[0], *extra, y)
            return
        sums: list[Any] = []
        before: Any = None
        for i, (sub, (name, _)) in enumerate(zip(self.subs, self.codes, strict=True)):
            after = named(f"S{i}", T.alloc_buffer(p.y_shape, sub.output.dtype, align=64))
            if sub.dtype == "int8":
                sums.append(after)
                _call(name, x, *constants[i], after)
            else:
                _call(name, numbers, *constants[i], *([before] if sub.epilogue.residual else []), after)
                before = after
        sums += [] if before is None else [before]
        self._finish([flat(s) for s in sums], scale, bias, None if residual is None else flat(residual), flat(y))

    def _rows(self, count: int, target: Any, value: Callable[[Any, Any], Any]) -> None:
        """target[row, :] = value(row, place) for so many rows of n elements."""
        p = self.problem
        with (parallel if p.threads > 1 else serial)("row", count) as row:

            def store(start: Any, width: int) -> None:
                with lanes(width) as lane:
                    at = row * p.n + start + lane
                    T.buffer_store(target, value(row, at), [at])

            vectors_of(p.n, store)

    def _finish(self, sums: Sequence[Any], scale: Any, bias: Any, residual: Any, y: Any) -> None:
        """Y = epilogue(the sum of sums)."""
        p, names = self.problem, Names(None, y, (), bias, residual, scale)

        def element(row: Any, at: Any) -> Any:
            value: Any = tirx.Cast("float32", sums[0][at])
            for other in sums[1:]:
                value = value + tirx.Cast("float32", other[at])
            return final(p, names, value, row % p.m if p.batch > 1 else row, at)

        self._rows(p.batch * p.m, y, element)


def _call(name: str, *arrays: Any) -> None:
    T.evaluate(tirx.call_cpacked(f"__tvm_ffi_{name}", *arrays))
