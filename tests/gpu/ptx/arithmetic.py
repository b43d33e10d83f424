"""Arithmetic, logic and comparisons of PTX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gpu.numbers import flush
from tests.gpu.ptx.machine import Block, Step
from tests.gpu.ptx.operands import Code, Read, plain
from tests.gpu.ptx.table import instruction
from tests.gpu.ptx.text import BYTES

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


@instruction("and", "or", "xor", "not", computes=True)
def _logic(code: Code) -> Step:
    kind = code.type("pred b16 b32 b64")
    unary = code.name == "not"
    code.done(2 if unary else 3)
    put, a = code.write(0, kind), code.bits(1, kind)
    if unary:
        return lambda block: put(block, 1 - a(block) if kind == "pred" else ~a(block))
    b, pick = code.bits(2, kind), {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[code.name]
    return lambda block: put(block, pick(a(block), b(block)))


@instruction("shl", "shr", computes=True)
def _shifts(code: Code) -> Step:
    kind = code.type("b16 b32 b64" if code.name == "shl" else "b16 b32 b64 u16 u32 u64 s16 s32 s64")
    code.done(3)
    put, a, b = code.write(0, kind), code.bits(1, kind), code.bits(2, "u32")
    width = 8 * BYTES[kind]

    def step(block: Block) -> None:
        x, by = np.asarray(a(block)), np.asarray(b(block))
        held = np.minimum(by, width - 1).astype(x.dtype)
        if code.name == "shl":
            put(block, np.where(by >= width, 0, x << held).astype(x.dtype))
        else:
            put(block, np.where((by >= width) & (x >= 0), 0, x >> held).astype(x.dtype))

    return step


@instruction("shf", computes=True)
def _funnel(code: Code) -> Step:
    code.type("b32")
    left, wraps = code.must("l", "r") == "l", code.must("wrap", "clamp") == "wrap"
    code.done(4)
    put, a, b, by = code.write(0, "b32"), code.bits(1, "u32"), code.bits(2, "u32"), code.bits(3, "u32")

    def step(block: Block) -> None:
        both = np.asarray(a(block)).astype(np.uint64) | np.asarray(b(block)).astype(np.uint64) << np.uint64(32)
        n = np.asarray(by(block)).astype(np.uint64)
        n = n & np.uint64(31) if wraps else np.minimum(n, 32).astype(np.uint64)
        value = both << n >> np.uint64(32) if left else both >> n
        put(block, value & np.uint64(0xFFFFFFFF))

    return step


@instruction("bfe", computes=True)
def _extract(code: Code) -> Step:
    kind = code.type("u32 s32")
    code.done(4)
    put, a, at, size = code.write(0, kind), code.bits(1, kind), code.bits(2, "u32"), code.bits(3, "u32")

    def step(block: Block) -> None:
        x = np.asarray(a(block)).astype(np.int64)
        first, count = np.asarray(at(block)) & 255, np.minimum(np.asarray(size(block)) & 255, 32)
        value = (x >> np.minimum(first, 63)) & ((1 << count.astype(np.int64)) - 1)
        if kind == "s32":
            value = np.where(count > 0, value - ((value >> np.maximum(count, 1) - 1) << count), 0)
        put(block, value)

    return step


@instruction("bfi", computes=True)
def _insert(code: Code) -> Step:
    code.type("b32")
    code.done(5)
    put, a, b = code.write(0, "b32"), code.bits(1, "u32"), code.bits(2, "u32")
    at, size = code.bits(3, "u32"), code.bits(4, "u32")

    def step(block: Block) -> None:
        first, count = (np.asarray(x(block)).astype(np.uint64) for x in (at, size))
        mask = (((np.uint64(1) << count) - np.uint64(1)) << first) & np.uint64(0xFFFFFFFF)
        new = np.asarray(a(block)).astype(np.uint64) << first
        put(block, (new & mask) | (np.asarray(b(block)).astype(np.uint64) & ~mask))

    return step


@instruction("lop3", computes=True)
def _any_logic(code: Code) -> Step:
    code.type("b32")
    code.done(5)
    put, sources, table = code.write(0, "b32"), [code.bits(i, "u32") for i in (1, 2, 3)], int(str(code.operands[4]), 0)

    def step(block: Block) -> None:
        a, b, c = (np.asarray(source(block)) for source in sources)
        value = np.zeros(np.broadcast_shapes(a.shape, b.shape, c.shape), np.uint32)
        for row in range(8):
            if table >> row & 1:
                value |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
        put(block, value)

    return step


@instruction("popc", "clz", "brev", computes=True)
def _counts(code: Code) -> Step:
    kind = code.type("b32 b64")
    code.done(2)
    width = 8 * BYTES[kind]
    put, a = code.write(0, "u32" if code.name != "brev" else kind), code.bits(1, kind)

    def step(block: Block) -> None:
        x = np.asarray(a(block))
        bits = (x[..., None] >> np.arange(width).astype(x.dtype)) & x.dtype.type(1)
        if code.name == "popc":
            put(block, bits.sum(-1))
        elif code.name == "clz":
            put(block, np.where(x == 0, width, bits[..., ::-1].argmax(-1)))
        else:
            put(block, (bits[..., ::-1].astype(np.uint64) << np.arange(width).astype(np.uint64)).sum(-1))

    return step


@instruction("prmt", computes=True)
def _permute(code: Code) -> Step:
    code.type("b32")
    code.done(4)
    put, a, b, pick = code.write(0, "b32"), code.bits(1, "u32"), code.bits(2, "u32"), code.bits(3, "u32")

    def step(block: Block) -> None:
        both = np.asarray(a(block)).astype(np.uint64) | np.asarray(b(block)).astype(np.uint64) << np.uint64(32)
        chosen, value = np.asarray(pick(block)).astype(np.uint64), np.uint64(0)
        for byte in range(4):
            which = chosen >> np.uint64(4 * byte)
            found = both >> (which & np.uint64(7)) * np.uint64(8) & np.uint64(255)
            sign = np.where(found & np.uint64(128), np.uint64(255), np.uint64(0))
            value = value | np.where(which & np.uint64(8), sign, found) << np.uint64(8 * byte)
        put(block, value)

    return step


COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal,
    "ne": lambda a, b: (a != b) & ~_nan(a, b),
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b),
    "gtu": lambda a, b: ~(a <= b),
    "leu": lambda a, b: ~(a > b),
    "geu": lambda a, b: ~(a < b),
    "equ": lambda a, b: (a == b) | _nan(a, b),
    "nan": lambda a, b: _nan(a, b),
    "num": lambda a, b: ~_nan(a, b),
}


def _nan(a: Any, b: Any) -> Any:
    return np.isnan(a) | np.isnan(b)


@instruction("setp", computes=True)
def _compare(code: Code) -> Step:
    kind = code.type(f"b16 b32 b64 f16 bf16 f32 f64 {INTEGERS}")
    how = code.must(*COMPARE)
    if kind[0] == "b" and kind != "bf16" and how not in ("eq", "ne"):
        raise code.fail(f".{how} of {kind}")
    if how in ("lo", "ls", "hi", "hs") and kind[0] != "u":
        raise code.fail(f".{how} of {kind}")
    code.flag("ftz")
    joins = code.flag("and", "or", "xor")
    code.done(4 if joins else 3)
    target = code.operands[0]
    targets = target if isinstance(target, tuple) else (target,)
    puts = [code.write(t, "pred") for t in targets]
    a, b = code.read(1, kind), code.read(2, kind)
    c: Read | None = code.bits(3, "pred") if joins else None
    join = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.get(joins)

    def step(block: Block) -> None:
        found = COMPARE[how](np.asarray(a(block)), np.asarray(b(block)))
        results = [found, ~found]
        for put, result in zip(puts, results, strict=False):
            put(block, join(result, c(block).astype(bool)) if join and c else result)

    return step


@instruction("selp", computes=True)
def _select(code: Code) -> Step:
    kind = code.type("b16 b32 b64 u16 s16 u32 s32 u64 s64 f32 f64")
    code.done(4)
    put, a, b, c = code.write(0, kind), code.bits(1, kind), code.bits(2, kind), code.bits(3, "pred")

    def step(block: Block) -> None:
        chosen = np.broadcast_to(c(block), block.count).astype(bool)
        none = np.zeros(block.count, bool)
        undecided, block.unset = block.unset, None
        value_a = a(block)
        unset_a, block.unset = block.unset, None
        value_b = b(block)
        unset_b, block.unset = block.unset, undecided
        lost = np.where(chosen, none if unset_a is None else unset_a, none if unset_b is None else unset_b)
        if lost.any():  # only what is taken counts
            block.note(lost, block.cause)
        put(block, np.where(chosen, value_a, value_b))

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
