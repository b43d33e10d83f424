"""A kernel family made for the tests: a plain loop nest, and ways to go wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm.script import tirx as T

from tesa.schedules.types import Code, Config, Core, Epilogue, FloatArray, Problem
from tesa.targets.target import parse_target

TARGET = parse_target("x86:haswell")


def linear(m: int = 8, k: int = 12, n: int = 16, batch: int = 1, epilogue: Epilogue | None = None) -> Problem:
    """A linear layer as the families see it."""
    return Problem("linear", m, k, n, (batch, k, n), (batch, m, n), batch, epilogue=epilogue or Epilogue())


def weight(problem: Problem, seed: int = 0, density: float = 0.5) -> FloatArray:
    """Random, with zeros."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((problem.m, problem.k)) * (rng.random((problem.m, problem.k)) < density)
    return values.astype(np.float32)


def code(problem: Problem, values: FloatArray, symbol: str, *, error: float = 0.0, repeat: int = 1) -> Code:
    """Y = W X + error, computed repeat times over; the weight is a constant of the call."""
    batch, m, k, n = problem.batch, problem.m, problem.k, problem.n

    @T.prim_func
    def main(
        X: T.Buffer((batch, k, n), "float32", align=4),  # type: ignore[valid-type]
        W: T.Buffer((m, k), "float32", align=4),  # type: ignore[valid-type]
        Y: T.Buffer((batch, m, n), "float32", align=4),  # type: ignore[valid-type]
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        for _again, b, i, j in T.grid(repeat, batch, m, n):
            Y[b, i, j] = T.float32(error)
            for l in range(k):  # noqa: E741
                Y[b, i, j] = Y[b, i, j] + W[i, l] * X[b, l, j]

    function: Any = main
    return Code(function.with_attr("global_symbol", symbol), (values,))


def crashing(problem: Problem, values: FloatArray, symbol: str) -> Code:
    """Compiles, and writes to address 0 when it runs."""
    batch, m, k, n = problem.batch, problem.m, problem.k, problem.n

    @T.prim_func
    def main(
        X: T.Buffer((batch, k, n), "float32", align=4),  # type: ignore[valid-type]
        W: T.Buffer((m, k), "float32", align=4),  # type: ignore[valid-type]
        Y: T.Buffer((batch, m, n), "float32", align=4),  # type: ignore[valid-type]
    ) -> None:
        T.evaluate(T.call_extern("int32", "abort"))
        Y[0, 0, 0] = X[0, 0, 0] + W[0, 0]

    function: Any = main
    return Code(function.with_attr("global_symbol", symbol), (values,))


def broken(problem: Problem, values: FloatArray, symbol: str) -> Code:
    """Does not compile: it calls an operator that no code generator knows."""
    batch, m, k, n = problem.batch, problem.m, problem.k, problem.n

    @T.prim_func
    def main(
        X: T.Buffer((batch, k, n), "float32", align=4),  # type: ignore[valid-type]
        W: T.Buffer((m, k), "float32", align=4),  # type: ignore[valid-type]
        Y: T.Buffer((batch, m, n), "float32", align=4),  # type: ignore[valid-type]
    ) -> None:
        Y[0, 0, 0] = X[0, 0, 0] + W[0, 0] + T.call_llvm_pure_intrin("float32", "llvm.sqrt", T.int32(1), T.int32(2))

    function: Any = main
    return Code(function.with_attr("global_symbol", symbol), (values,))


def space(problem: Problem, values: FloatArray, core: Core) -> list[Config]:
    """Two configurations of the loop nest."""
    return [{"repeat": 1}, {"repeat": 2}] if problem.op == "linear" else []
