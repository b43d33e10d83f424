"""Products of two activations in codes: exact, in any layout and size, with any zero points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import te, tirx

from tesa.schedules.cpu.operators import describe, is_product, schedule_function
from tesa.schedules.cpu.operators.tree import index
from tesa.targets.target import parse_target, runs_here
from tests.support import drawn

TARGET = parse_target("x86:cascadelake")
here = pytest.mark.skipif(not runs_here(TARGET), reason="this machine's CPU has no dot product of bytes")
HEADS = 2

zeros = st.sampled_from([0, 7, 128, 255])
layouts = st.sampled_from(["plain", "heads", "transposed"])


def product(size: tuple[int, int, int], zero: tuple[int, int], layout: str) -> Any:
    """out[h, i, j] = 2 * sum over k of (a - za) * (b - zb) + 1 in int32.

    layout of b: "plain" [h][k][j], "transposed" [h][j][k]; "heads": a [i][h][k] and b [j][h][k], as heads are split.
    """
    rows, columns, depth = size
    shapes = {
        "plain": ((HEADS, rows, depth), (HEADS, depth, columns)),
        "transposed": ((HEADS, rows, depth), (HEADS, columns, depth)),
        "heads": ((rows, HEADS, depth), (columns, HEADS, depth)),
    }[layout]
    a, b = (te.placeholder([index(n) for n in shape], "uint8", name) for shape, name in zip(shapes, "ab", strict=True))
    k = te.reduce_axis((index(0), index(depth)), name="k")

    def element(h: Any, i: Any, j: Any) -> Any:
        left = a[i, h, k] if layout == "heads" else a[h, i, k]
        right = {"plain": (h, k, j), "transposed": (h, j, k), "heads": (j, h, k)}[layout]
        wide = [tirx.Cast("int32", x) for x in (left, b[right])]
        less = [x - tirx.IntImm("int32", z) if z else x for x, z in zip(wide, zero, strict=True)]
        return te.sum(less[0] * less[1], k)

    sums = te.compute([index(n) for n in (HEADS, rows, columns)], element, name="sums")
    out = te.compute(sums.shape, lambda *at: sums(*at) * 2 + 1, name="out")
    return te.create_prim_func([a, b, out]).without_attr("global_symbol")


def wanted(arrays: Any, zero: tuple[int, int], layout: str) -> Any:
    a, b = (x.astype(np.int64) - z for x, z in zip(arrays, zero, strict=True))
    letters = {"plain": "hik,hkj", "transposed": "hik,hjk", "heads": "ihk,jhk"}[layout]
    return 2 * np.einsum(letters + "->hij", a, b) + 1


@here
@drawn(10)
@given(st.tuples(st.integers(1, 40), st.integers(2, 70), st.integers(2, 140)), zeros, zeros, layouts)
def test_sums_are_exact(size: tuple[int, int, int], a_zero: int, b_zero: int, layout: str) -> None:
    zero = (a_zero, b_zero)
    func = schedule_function(product(size, zero, layout), TARGET.core)
    rng = np.random.default_rng(0)
    arrays = [rng.choice(np.array([0, 1, 254, 255], np.uint8), [int(n) for n in p.shape]) for p in func.params[:2]]
    result = tvm.runtime.tensor(np.zeros((HEADS, *size[:2]), np.int32))
    built = tvm.compile(func.with_attr("global_symbol", "main"), target=tvm.target.Target(TARGET.tvm))
    built(*map(tvm.runtime.tensor, arrays), result)
    np.testing.assert_array_equal(result.numpy(), wanted(arrays, zero, layout))
    assert size[0] == 1 or describe(func) == "codes_product"


def test_it_is_a_product_of_bytes_and_needs_an_instruction_for_it() -> None:
    func = product((16, 32, 64), (3, 128), "heads")
    assert is_product(func)
    assert describe(schedule_function(func, TARGET.core)) == "codes_product"
    assert describe(schedule_function(func, parse_target("x86:haswell").core)) != "codes_product"


def test_the_loop_is_a_dot_product_for_each_sum() -> None:
    func = schedule_function(product((64, 64, 64), (0, 128), "heads"), TARGET.core)
    built = tvm.compile(func.with_attr("global_symbol", "main"), target=tvm.target.Target(TARGET.tvm))
    text = built.mod.inspect_source("asm")
    loops = [part for part in text.split("\n.LBB") if part.count("vpdpbusd") >= 8]
    assert loops
    assert min(part.count("rsp") for part in loops) == 0
