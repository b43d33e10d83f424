"""Matrix instructions in the interpreter of PTX: fragments that are laid out here by hand, against NumPy's product."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tests.gpu.numbers import cut_tf32, from_bf16, to_bf16
from tests.gpu.simulate import Fault, run

G, Q = np.arange(32) // 4, np.arange(32) % 4
HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"


def rows_of(matrix: np.ndarray) -> np.ndarray:
    """(16, k) elements -> the registers of A, (32 lanes, registers, elements of a register)."""
    per = 4 // matrix.itemsize
    columns = [[per * Q + 4 * per * half + e for e in range(per)] for half in range(matrix.shape[1] // (4 * per))]
    parts = [[matrix[G + 8 * low, c] for c in cs] for cs in columns for low in range(2)]
    return np.array(parts).transpose(2, 0, 1).copy()


def columns_of(matrix: np.ndarray) -> np.ndarray:
    """(k, 8) elements -> the registers of B."""
    per = 4 // matrix.itemsize
    parts = [[matrix[per * Q + first + e, G] for e in range(per)] for first in range(0, len(matrix), 4 * per)]
    return np.array(parts).transpose(2, 0, 1).copy()


def text(instruction: str, a: int, b: int, sums: str, more: str = "") -> str:
    """A kernel of one mma: each lane loads its registers of a, b and places, and stores its sums."""
    load = [f"ld.global.b32 %a{i}, [%p0+{4 * i}];" for i in range(a)]
    load += [f"ld.global.b32 %b{i}, [%p1+{4 * i}];" for i in range(b)]
    names = [",".join(f"%{letter}{i}" for i in range(n)) for letter, n in (("a", a), ("b", b))]
    half = sums == "f16"
    kind, many = ("b32", 2) if half else (sums, 4)
    d = ",".join(f"%d{i}" for i in range(many))
    begin = [f"mov.b32 %d{i}, 0;" for i in range(many)]
    end = [f"st.global.{kind} [%p2+{4 * i}], %d{i};" for i in range(many)]
    return f"""{HEAD}.visible .entry t(.param .u64 a, .param .u64 b, .param .u64 d, .param .u64 e) {{
.reg .b64 %p<9>; .reg .b32 %a<9>, %b<9>, %t, %e; .reg .{kind} %d<4>;
ld.param.u64 %p0, [a]; ld.param.u64 %p1, [b]; ld.param.u64 %p2, [d]; ld.param.u64 %p3, [e]; mov.u32 %t, %laneid;
mul.wide.u32 %p4, %t, {4 * a}; add.u64 %p0, %p0, %p4; mul.wide.u32 %p4, %t, {4 * b}; add.u64 %p1, %p1, %p4;
mul.wide.u32 %p4, %t, {4 * many}; add.u64 %p2, %p2, %p4; mul.wide.u32 %p4, %t, 4; add.u64 %p3, %p3, %p4;
{" ".join(load)} ld.global.b32 %e, [%p3]; {" ".join(begin)}
mma.{instruction} {{{d}}}, {{{names[0]}}}, {{{names[1]}}}, {{{d}}}{more};
{" ".join(end)} ret; }}"""


def product(instruction: str, a: np.ndarray, b: np.ndarray, sums: str, more: str = "", places=None) -> np.ndarray:
    """What an mma makes of A (16, k) and B (k, 8), put together from the lanes' sums."""
    left, right = rows_of(a), columns_of(b)
    d = np.zeros((32, 2, 2) if sums == "f16" else (32, 4), {"f16": "f2", "f32": "f4", "s32": "i4"}[sums])
    e = np.zeros(32, np.uint32) if places is None else places
    run(text(instruction, left.shape[1], right.shape[1], sums, more), "t", 1, 32, 0, [left, right, d, e])
    whole = np.zeros((16, 8), d.dtype)
    for r in range(4):
        whole[G + 8 * (r // 2), 2 * Q + r % 2] = d.reshape(32, 4)[:, r]
    return whole


def normal(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("sums", ["f32", "f16"])
def test_halves(depth, sums):
    a, b = normal((16, depth), 1).astype("f2"), normal((depth, 8), 2).astype("f2")
    found = product(f"sync.aligned.m16n8k{depth}.row.col.{sums}.f16.f16.{sums}", a, b, sums)
    np.testing.assert_allclose(found, a.astype("f4") @ b.astype("f4"), atol=1e-5 if sums == "f32" else 1e-2)


def test_bfloats():
    a, b = to_bf16(normal((16, 16), 3)), to_bf16(normal((16, 8), 4))
    found = product("sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", a, b, "f32")
    np.testing.assert_allclose(found, from_bf16(a) @ from_bf16(b), atol=1e-5)


@pytest.mark.parametrize("depth", [4, 8])
def test_tf32_leaves_the_low_bits_out(depth):
    a, b = normal((16, depth), 5), normal((depth, 8), 6)
    found = product(f"sync.aligned.m16n8k{depth}.row.col.f32.tf32.tf32.f32", a, b, "f32")
    np.testing.assert_allclose(found, cut_tf32(a) @ cut_tf32(b), atol=1e-5)


@pytest.mark.parametrize("depth", [16, 32])
@pytest.mark.parametrize(("left", "right"), [("s8", "s8"), ("u8", "s8"), ("s8", "u8")])
def test_bytes(depth, left, right):
    rng = np.random.default_rng(7)
    a, b = (
        rng.integers(0, 256, shape).astype(np.uint8).view({"s8": "i1", "u8": "u1"}[kind])
        for kind, shape in ((left, (16, depth)), (right, (depth, 8)))
    )
    found = product(f"sync.aligned.m16n8k{depth}.row.col.satfinite.s32.{left}.{right}.s32", a, b, "s32")
    np.testing.assert_array_equal(found, a.astype("i4") @ b.astype("i4"))


def two_of_four(rows: int, depth: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, depth / 2) places in their group of 4, rising in each pair, and where they lie in (rows, depth)."""
    rng = np.random.default_rng(seed)
    pairs = np.array([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])[rng.integers(0, 6, (rows, depth // 4))]
    return pairs, (pairs + 4 * np.arange(depth // 4)[:, None]).reshape(rows, -1)


@pytest.mark.parametrize("selector", [0, 1])
def test_two_of_four_halves(selector):
    """Lanes 2 selector and 2 selector + 1 of each four hold the places of columns 0 to 15 and 16 to 31."""
    pairs, columns = two_of_four(16, 32, 8)
    packed, b = normal((16, 16), 9).astype("f2"), normal((32, 8), 10).astype("f2")
    nibbles = (pairs[..., 0] | pairs[..., 1] << 2).astype(np.uint32)  # (16, 8)
    words = (nibbles.reshape(16, 2, 4) << (4 * np.arange(4, dtype=np.uint32))).sum(-1)
    places = np.full(32, 0xFFFFFFFF, np.uint32)
    for j in range(2):
        places[4 * np.arange(8) + 2 * selector + j] = words[:8, j] | words[8:, j] << np.uint32(16)
    whole = np.zeros((16, 32), np.float32)
    np.put_along_axis(whole, columns, packed.astype("f4"), 1)
    multiply = partial(product, "sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32", packed, b, "f32")
    np.testing.assert_allclose(multiply(f", %e, {selector}", places), whole @ b.astype("f4"), atol=1e-5)
    with pytest.raises(Fault, match="do not rise"):
        multiply(f", %e, {1 - selector}", places)


def test_two_of_four_bytes():
    """Lane q of each four holds the places of row g + 8 (q mod 2), columns from 32 (q div 2) on."""
    rng = np.random.default_rng(11)
    pairs, columns = two_of_four(16, 64, 12)
    packed, b = rng.integers(-128, 128, (16, 32)).astype("i1"), rng.integers(-128, 128, (64, 8)).astype("i1")
    nibbles = (pairs[..., 0] | pairs[..., 1] << 2).astype(np.uint32)
    words = (nibbles.reshape(16, 2, 8) << (4 * np.arange(8, dtype=np.uint32))).sum(-1).astype(np.uint32)
    places = np.array([words[G[i] + 8 * (Q[i] % 2), Q[i] // 2] for i in range(32)], np.uint32)
    whole = np.zeros((16, 64), np.int32)
    np.put_along_axis(whole, columns, packed.astype("i4"), 1)
    found = product("sp.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32", packed, b, "s32", ", %e, 0", places)
    np.testing.assert_array_equal(found, whole @ b.astype("i4"))


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("sync.aligned.m16n8k32.row.col.f32.f16.f16.f32", "this shape"),
        ("sync.aligned.m16n8k16.col.row.f32.f16.f16.f32", "takes .row.col"),
        ("sync.aligned.m16n8k16.row.col.f32.f16.bf16.f32", "f16 and bf16"),
        ("sync.aligned.m16n8k16.row.col.f32.f8.f8.f32", "this kind"),
        ("sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", "takes 2 registers"),
    ],
)
def test_shapes_that_there_are_not(instruction, message):
    with pytest.raises(Fault, match=message):
        product(instruction, np.zeros((16, 16), "f2"), np.zeros((16, 8), "f2"), "f32")


@pytest.mark.parametrize("trans", ["", ".trans"])
def test_matrices_from_shared_memory(trans):
    """Lane i names row i of four 8 x 8 matrices; lane l gets elements 2 (l mod 4) of row l div 4, or of a column."""
    body = f"""{HEAD}.visible .entry t(.param .u64 x, .param .u64 y) {{
    .reg .b64 %p<9>; .reg .b32 %r<9>; .shared .align 16 .b8 s[512];
    ld.param.u64 %p0, [x]; ld.param.u64 %p1, [y]; mov.u32 %r0, %tid.x; mul.wide.u32 %p2, %r0, 16;
    add.u64 %p0, %p0, %p2; add.u64 %p1, %p1, %p2; mov.u32 %r1, s; shl.b32 %r2, %r0, 4; add.u32 %r1, %r1, %r2;
    ld.global.v4.b32 {{%r2, %r3, %r4, %r5}}, [%p0]; st.shared.v4.b32 [%r1], {{%r2, %r3, %r4, %r5}}; bar.warp.sync -1;
    ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r2, %r3, %r4, %r5}}, [%r1];
    st.global.v4.b32 [%p1], {{%r2, %r3, %r4, %r5}}; ret; }}"""
    x, y = np.arange(256, dtype=np.uint16).reshape(4, 8, 8), np.zeros((32, 4, 2), np.uint16)
    run(body, "t", 1, 32, 0, [x, y])
    source = x.transpose(0, 2, 1) if trans else x
    expected = np.stack([source[:, G, 2 * Q], source[:, G, 2 * Q + 1]], -1).transpose(1, 0, 2)
    np.testing.assert_array_equal(y, expected)
    with pytest.raises(Fault, match="a race"):
        run(body.replace("bar.warp.sync -1;", ""), "t", 1, 32, 0, [x, y])


def test_part_of_a_warp_multiplies_nothing():
    a, b, d = np.zeros((32, 4), np.uint32), np.zeros((32, 2), np.uint32), np.zeros((32, 4), np.float32)
    instruction = "sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
    part = text(instruction, 4, 2, "f32").replace("mma.", ".reg .pred %q; setp.eq.u32 %q, %t, 3; @!%q mma.")
    with pytest.raises(Fault, match="part of a warp"):
        run(part, "t", 1, 32, 0, [a, b, d, np.zeros(32, np.uint32)])
