"""Arithmetic of PTX: sums, products, quotients, functions, dot products of bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gpu.numbers import flush
from tests.gpu.ptx.machine import Block, Step
from tests.gpu.ptx.operands import Code, plain
from tests.gpu.ptx.table import instruction

FLOATS = "f16 f16x2 bf16 bf16x2 f32 f64"
INTEGERS = "u16 s16 u32 s32 u64 s64"


def _is_float(kind: str) -> bool:
    return kind in FLOATS.split()


def _float_flags(code: Code, kind: str) -> Callable[[Any], Any]:
    """Take the modifiers of float arithmetic; what is done to its result."""
    code.flag("rn")
    flushes, saturates, relu = bool(code.flag("ftz")), bool(code.flag("sat")), bool(code.flag("relu"))
    if flushes and kind.startswith(("bf16", "f64")):
        raise code.fail(f".ftz of {kind}")

    def finish(value: Any) -> Any:
        if flushes and kind == "f32":
            value = flush(value)
        if saturates:
            value = np.clip(np.nan_to_num(value, nan=0.0), 0, 1)
        return np.maximum(value, 0) if relu else value

    return finish


def _wide(kind: str) -> str:
    return {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}[kind]


def _exact(value: Any) -> Any:
    return np.asarray(value, np.float64)


def _rounded_down(value: Any) -> Any:
    """float32 numbers that are not above the values."""
    near = value.astype(np.float32)
    return np.where(near > value, np.nextafter(near, np.float32(-np.inf)), near)


@instruction("add", "sub", "mul", "fma", "mad", computes=True)
def _sums(code: Code) -> Step:
    kind = code.type(f"{FLOATS} {INTEGERS}")
    many = 4 if code.name in ("fma", "mad") else 3
    if not _is_float(kind):
        if code.name == "fma":
            raise code.fail(f"fma of {kind}")
        return _integer_sums(code, kind, many)
    down = kind == "f32" and bool(code.flag("rm"))
    if code.name == "fma":
        finish = _float_flags(code, kind)
    elif code.name == "mad":
        raise code.fail("mad of floats: fma says what happens")
    else:
        finish = _float_flags(code, kind)
    code.done(many)
    put, sources = code.write(0, kind), [code.read(i, kind) for i in range(1, many)]

    def step(block: Block) -> None:
        a, b, *c = (_exact(source(block)) for source in sources)
        if code.name == "add":
            value = a + b
        elif code.name == "sub":
            value = a - b
        else:
            value = a * b + (c[0] if c else 0)
        if kind == "f32":
            value = _rounded_down(value) if down else value.astype(np.float32)
        put(block, finish(value))

    return step


def _integer_sums(code: Code, kind: str, many: int) -> Step:
    part = code.must("lo", "hi", "wide") if code.name in ("mul", "mad") else ""
    code.done(many)
    result = _wide(kind) if part == "wide" else kind
    put, a, b = code.write(0, result), code.read(1, kind), code.read(2, kind)
    c = code.read(3, result) if many == 4 else None
    dtype = plain(result)

    def step(block: Block) -> None:
        with np.errstate(over="ignore"):
            x, y = np.asarray(a(block)), np.asarray(b(block))
            if part == "hi":
                value = ((x.astype(object) * y.astype(object)) >> (8 * x.dtype.itemsize)).astype(dtype)
            elif part:
                value = x.astype(dtype) * y.astype(dtype)
            else:
                value = x + y if code.name == "add" else x - y
            put(block, value + c(block) if c else value)

    return step


@instruction("div", "rem", computes=True)
def _quotients(code: Code) -> Step:
    kind = code.type(f"f32 f64 {INTEGERS}")
    if _is_float(kind):
        if code.name == "rem":
            raise code.fail(f"rem of {kind}")
        code.must("rn", "approx", "full")
        finish: Callable[[Any], Any] = flush if code.flag("ftz") else lambda value: value
    code.done(3)
    put, a, b = code.write(0, kind), code.read(1, kind), code.read(2, kind)

    def step(block: Block) -> None:
        x, y = np.asarray(a(block)), np.asarray(b(block))
        with np.errstate(all="ignore"):
            if _is_float(kind):
                put(block, finish(x / y))
                return
            safe = np.where(y == 0, 1, y).astype(x.dtype)
            rest = np.fmod(x, safe)
            put(block, rest if code.name == "rem" else (x - rest) // safe)

    return step


@instruction("min", "max", computes=True)
def _extremes(code: Code) -> Step:
    kind = code.type(f"{FLOATS} {INTEGERS}")
    code.flag("ftz")
    keeps_nan, relu = bool(code.flag("NaN")), bool(code.flag("relu"))
    code.done(3)
    put, a, b = code.write(0, kind), code.read(1, kind), code.read(2, kind)
    pick = {
        ("min", False): np.fmin,
        ("max", False): np.fmax,
        ("min", True): np.minimum,
        ("max", True): np.maximum,
    }[code.name, keeps_nan]

    def step(block: Block) -> None:
        value = pick(a(block), b(block))
        put(block, np.maximum(value, 0) if relu else value)

    return step


@instruction("neg", "abs", computes=True)
def _signs(code: Code) -> Step:
    kind = code.type(f"{FLOATS} s16 s32 s64")
    code.flag("ftz")
    code.done(2)
    put, a = code.write(0, kind), code.read(1, kind)
    return lambda block: put(block, -a(block) if code.name == "neg" else np.abs(a(block)))


@instruction("copysign", computes=True)
def _copysign(code: Code) -> Step:
    kind = code.type("f32 f64")
    code.done(3)
    put, sign, a = code.write(0, kind), code.read(1, kind), code.read(2, kind)
    return lambda block: put(block, np.copysign(a(block), sign(block)))


@instruction("rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh", computes=True)
def _functions(code: Code) -> Step:
    kind = code.type("f16 f16x2 bf16 bf16x2 f32 f64" if code.name in ("ex2", "tanh") else "f32 f64")
    code.must("approx", "rn")
    code.flag("ftz")
    code.done(2)
    put, a = code.write(0, kind), code.read(1, kind)
    function: Callable[[Any], Any] = {
        "rcp": lambda x: 1 / x,
        "sqrt": np.sqrt,
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "ex2": np.exp2,
        "lg2": np.log2,
        "sin": np.sin,
        "cos": np.cos,
        "tanh": np.tanh,
    }[code.name]

    def step(block: Block) -> None:
        with np.errstate(all="ignore"):
            put(block, function(np.asarray(a(block))))

    return step


@instruction("dp4a", "dp2a", computes=True)
def _dots(code: Code) -> Step:
    if code.name == "dp2a":
        half = code.must("lo", "hi")
    kinds = code.rest()
    if len(kinds) != 2 or not set(kinds) <= {"u32", "s32"}:
        raise code.fail("two types, each u32 or s32")
    code.done(4)
    result = "u32" if kinds == ["u32", "u32"] else "s32"
    put, a, b, c = code.write(0, result), code.bits(1, "b32"), code.bits(2, "b32"), code.bits(3, result)

    def parts(bits: Any, signed: bool, size: int) -> Any:
        whole = np.ascontiguousarray(np.atleast_1d(bits)).view(f"{'i' if signed else 'u'}{size}")
        return whole.reshape(-1, 4 // size).astype(np.int64)

    def step(block: Block) -> None:
        y = parts(b(block), kinds[1] == "s32", 1)
        if code.name == "dp2a":
            x, y = parts(a(block), kinds[0] == "s32", 2), y[:, :2] if half == "lo" else y[:, 2:]
        else:
            x = parts(a(block), kinds[0] == "s32", 1)
        put(block, ((x * y).sum(1) + np.asarray(c(block)).astype(np.int64)).astype(np.uint64).astype(np.uint32))

    return step
