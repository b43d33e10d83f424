"""MFMA and WMMA in the interpreter of AMD's assembly: fragments that are laid out here by hand, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gpu.amd_texts import kernel
from tests.gpu.assembler import assemble
from tests.gpu.numbers import from_bf16, to_bf16
from tests.gpu.simulate import Fault, run

LANE = np.arange(64)


def text(instruction: str, target: str, a: int, b: int, sums: int, nops: str = "s_nop 15\n  s_nop 3") -> str:
    """A kernel of one instruction: each lane loads a + b registers from x, and stores its sums to y."""
    move = [f"v_mul_u32_u24 v1, {4 * (a + b)}, v0"]
    load = [f"global_load_dword v{8 + i}, v1, s[4:5] offset:{4 * i}" for i in range(a + b)]
    place = f"v_mul_u32_u24 v1, {4 * sums}, v0"
    begin = [f"v_mov_b32 v{32 + i}, 0" for i in range(sums)]
    store = [f"global_store_dword v1, v{32 + i}, s[6:7] offset:{4 * i}" for i in range(sums)]
    group = lambda first, n: f"v[{first}:{first + n - 1}]" if n > 1 else f"v{first}"  # noqa: E731
    d = group(32, sums)
    line = f"{instruction.split()[0]} {d}, {group(8, a)}, {group(8 + a, b)}, {d} {instruction.partition(' ')[2]}"
    lines = [*move, *load, *begin, "s_waitcnt vmcnt(0)", place, "s_nop 1", line, nops, *store]
    return kernel("  " + "\n  ".join(filter(None, lines)), target, vectors=96)


def mfma(instruction: str, a: np.ndarray, b: np.ndarray, size: int, dtype: str, target: str, **more: str) -> np.ndarray:
    """The sums of an MFMA of A (size, k) and B (k, size), put together from the lanes."""
    per = a.shape[1] * size // 64
    left = np.stack([a[LANE % size, per * (LANE // size) + e] for e in range(per)], -1)
    right = np.stack([b[per * (LANE // size) + e, LANE % size] for e in range(per)], -1)
    many = per * a.itemsize // 4
    x = np.concatenate([np.ascontiguousarray(p).view(np.uint32).reshape(64, many) for p in (left, right)], 1).copy()
    y = np.zeros((64, size * size // 64), dtype)
    code = text(instruction, target, many, many, y.shape[1], **more)
    assemble(code)
    run(code, "t", 1, 64, 0, [x, y])
    whole = np.zeros((size, size), dtype)
    for r in range(y.shape[1]):
        row = 4 * (LANE // 16) + r if size == 16 else 8 * (r // 4) + 4 * (LANE // 32) + r % 4
        whole[row, LANE % size] = y[:, r]
    return whole


def normal(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize(
    ("instruction", "size", "depth", "target"),
    [
        ("v_mfma_f32_16x16x16f16", 16, 16, "gfx90a"),
        ("v_mfma_f32_32x32x8f16", 32, 8, "gfx90a"),
        ("v_mfma_f32_16x16x16_f16", 16, 16, "gfx942"),
        ("v_mfma_f32_32x32x8_f16", 32, 8, "gfx942"),
    ],
)
def test_halves(instruction, size, depth, target):
    a, b = normal(size, depth, 1).astype("f2"), normal(depth, size, 2).astype("f2")
    found = mfma(instruction, a, b, size, "f4", target)
    np.testing.assert_allclose(found, a.astype("f4") @ b.astype("f4"), atol=1e-5)


def test_bfloats():
    a, b = to_bf16(normal(16, 16, 3)), to_bf16(normal(16, 16, 4))
    for name, target in (("v_mfma_f32_16x16x16bf16_1k", "gfx90a"), ("v_mfma_f32_16x16x16_bf16", "gfx942")):
        found = mfma(name, a, b, 16, "f4", target)
        np.testing.assert_allclose(found, from_bf16(a) @ from_bf16(b), atol=1e-5)


@pytest.mark.parametrize(
    ("instruction", "size", "depth"), [("v_mfma_f32_16x16x4f32", 16, 4), ("v_mfma_f32_32x32x2f32", 32, 2)]
)
def test_floats(instruction, size, depth):
    a, b = normal(size, depth, 5), normal(depth, size, 6)
    np.testing.assert_allclose(mfma(instruction, a, b, size, "f4", "gfx90a"), a @ b, atol=1e-5)


@pytest.mark.parametrize(
    ("instruction", "size", "depth", "target"),
    [
        ("v_mfma_i32_16x16x16i8", 16, 16, "gfx90a"),
        ("v_mfma_i32_32x32x8i8", 32, 8, "gfx90a"),
        ("v_mfma_i32_16x16x32_i8", 16, 32, "gfx942"),
        ("v_mfma_i32_32x32x16_i8", 32, 16, "gfx942"),
    ],
)
def test_bytes(instruction, size, depth, target):
    rng = np.random.default_rng(7)
    a, b = (rng.integers(-128, 128, shape).astype("i1") for shape in ((size, depth), (depth, size)))
    np.testing.assert_array_equal(mfma(instruction, a, b, size, "i4", target), a.astype("i4") @ b.astype("i4"))


def test_sums_are_not_touched_while_the_unit_is_busy():
    a, b = normal(16, 16, 1).astype("f2"), normal(16, 16, 2).astype("f2")
    with pytest.raises(Fault, match="a matrix instruction is not done with it"):
        mfma("v_mfma_f32_16x16x16f16", a, b, 16, "f4", "gfx90a", nops="s_nop 7")


def test_a_factor_that_was_only_just_written():
    code = text("v_mfma_f32_16x16x16f16", "gfx90a", 2, 2, 4).replace("  s_nop 1\n", "", 1)
    code = code.replace("  v_mfma", "  v_mov_b32 v8, v9\n  v_mfma")
    with pytest.raises(Fault, match="written too late"):
        run(code, "t", 1, 64, 0, [np.zeros((64, 4), np.uint32), np.zeros((64, 4), np.float32)])


def wmma(instruction: str, a: np.ndarray, b: np.ndarray, dtype: str, repeats: bool = True) -> np.ndarray:
    """The sums of a WMMA of A (16, 16) and B (16, 16), put together from the lanes."""
    lane = np.arange(32)
    rows = [np.ascontiguousarray(m[lane % 16]).view(np.uint32) for m in (a, b.T)]
    if not repeats:
        rows[0][16:] = 0
    x, y = np.concatenate(rows, 1).copy(), np.zeros((32, 8), dtype)
    code = text(instruction, "gfx1100", rows[0].shape[1], rows[1].shape[1], 8, nops="")
    assemble(code)
    run(code, "t", 1, 32, 0, [x, y])
    whole = np.zeros((16, 16), dtype)
    for r in range(8):
        whole[2 * r + lane // 16, lane % 16] = y[:, r]
    return whole


def test_wmma_of_halves():
    a, b = normal(16, 16, 8).astype("f2"), normal(16, 16, 9).astype("f2")
    found = wmma("v_wmma_f32_16x16x16_f16", a, b, "f4")
    np.testing.assert_allclose(found, a.astype("f4") @ b.astype("f4"), atol=1e-5)
    with pytest.raises(Fault, match="repeat"):
        wmma("v_wmma_f32_16x16x16_f16", a, b, "f4", repeats=False)


def test_wmma_of_bfloats():
    a, b = to_bf16(normal(16, 16, 8)), to_bf16(normal(16, 16, 9))
    found = wmma("v_wmma_f32_16x16x16_bf16", a, b, "f4")
    np.testing.assert_allclose(found, from_bf16(a) @ from_bf16(b), atol=1e-5)


@pytest.mark.parametrize("signs", [(0, 1), (1, 1), (0, 0)])
def test_wmma_of_bytes(signs):
    rng = np.random.default_rng(10)
    a, b = (rng.integers(0, 256, (16, 16)).astype("u1").view("i1" if signed else "u1") for signed in signs)
    found = wmma(f"v_wmma_i32_16x16x16_iu8 neg_lo:[{signs[0]},{signs[1]},0]", a, b, "i4")
    np.testing.assert_array_equal(found, a.astype("i4") @ b.astype("i4"))


@pytest.mark.parametrize(
    ("instruction", "depth", "kind", "dtype"),
    [("v_smfmac_f32_16x16x32_f16", 32, "f2", "f4"), ("v_smfmac_i32_16x16x64_i8", 64, "i1", "i4")],
)
def test_two_of_four(instruction, depth, kind, dtype):
    """Lane l holds the kept two of each four of row l mod 16, of the quarter l div 16 of k, and four bits of places."""
    rng = np.random.default_rng(13)
    groups = depth // 4
    pairs = np.array([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])[rng.integers(0, 6, (16, groups))]
    kept = rng.integers(-9, 10, (16, groups, 2)).astype(kind)
    whole = np.zeros((16, groups, 4), dtype)
    np.put_along_axis(whole, pairs, kept.astype(dtype), 2)
    b = rng.integers(-9, 10, (depth, 16)).astype(kind)
    row, quarter, per = LANE % 16, LANE // 16, groups // 4
    left = np.stack([kept.reshape(16, 4, -1)[row[i], quarter[i]] for i in LANE])
    right = np.stack([b.reshape(4, -1, 16)[quarter[i], :, row[i]] for i in LANE])
    bits = pairs[..., 0] | pairs[..., 1] << 2
    places = sum(bits.reshape(16, 4, per)[row, quarter, g] << 4 * g for g in range(per)).astype(np.uint32)
    registers = [np.ascontiguousarray(part).view(np.uint32).reshape(64, -1) for part in (left, right)]
    x = np.concatenate([*registers, places[:, None]], 1).copy()
    y = np.zeros((64, 4), dtype)
    a, width = registers[0].shape[1], x.shape[1]
    code = text(instruction, "gfx942", a, width - a - 1, 4).replace(
        f"v_mul_u32_u24 v1, {4 * (width - 1)}, v0", f"v_mul_u32_u24 v1, {4 * width}, v0"
    )
    code = code.replace(
        "v_mov_b32 v32, 0", f"global_load_dword v30, v1, s[4:5] offset:{4 * width - 4}\n  v_mov_b32 v32, 0"
    )
    code = code.replace(", v[32:35] \n", ", v30\n")
    assemble(code)
    run(code, "t", 1, 64, 0, [x, y])
    found = np.zeros((16, 16), dtype)
    for r in range(4):
        found[4 * quarter + r, row] = y[:, r]
    np.testing.assert_array_equal(found, whole.reshape(16, depth) @ b.astype(dtype))
    places[:] = 5 | 5 << 4
    x[:, -1] = places
    with pytest.raises(Fault, match="do not rise"):
        run(code, "t", 1, 64, 0, [x, y])
