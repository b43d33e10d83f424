"""Comparisons and selections of PTX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gpu.ptx.arithmetic import INTEGERS
from tests.gpu.ptx.machine import Block, Step
from tests.gpu.ptx.operands import Code, Read
from tests.gpu.ptx.table import instruction

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
