"""The interpreter of AMD's assembly: small texts against NumPy, and each fault that it is there to find."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gpu.amd_texts import BEGIN, kernel, words
from tests.gpu.assembler import assemble
from tests.gpu.simulate import Fault, run

RANDOM = np.random.default_rng(1).integers(0, 2**32, 128, dtype=np.uint32)
FLOATS = np.random.default_rng(2).standard_normal(128).astype(np.float32)


@pytest.mark.parametrize("target", ["gfx906", "gfx90a", "gfx942", "gfx1030", "gfx1100"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("v_add_u32 v3, 7, v2", lambda x: x + np.uint32(7)),
        ("v_sub_u32 v3, v2, v0", lambda x: x - np.arange(len(x), dtype=np.uint32)),
        ("v_mul_lo_u32 v3, v2, v2", lambda x: x * x),
        ("v_lshrrev_b32 v3, 5, v2", lambda x: x >> np.uint32(5)),
        ("v_ashrrev_i32 v3, 5, v2", lambda x: (x.view("i4") >> 5).view("u4")),
        ("v_lshl_add_u32 v3, v2, 3, v2", lambda x: x * np.uint32(9)),
        ("v_and_b32 v3, 0xff, v2", lambda x: x & np.uint32(255)),
        ("v_bfe_u32 v3, v2, 4, 9", lambda x: x >> np.uint32(4) & np.uint32(511)),
        ("v_perm_b32 v3, v2, v2, s8", lambda x: x.byteswap()),
        (
            "v_cmp_gt_i32 {mask}, 0, v2\n v_cndmask_b32 v3, v2, v0, {mask}",
            lambda x: np.where(x >> 31, np.arange(128), x),
        ),
        ("v_max_i32 v3, 0, v2", lambda x: np.maximum(x.view("i4"), 0).view("u4")),
        ("v_med3_i32 v3, v2, 0, s8", lambda x: np.clip(x.view("i4"), 0, 0x00010203).view("u4")),
        ("v_cvt_f32_ubyte2 v3, v2", lambda x: (x >> np.uint32(16) & np.uint32(255)).astype("f4").view("u4")),
        (
            "v_mov_b32_dpp v3, v2 quad_perm:[1,0,3,2] row_mask:0xf bank_mask:0xf",
            lambda x: x.reshape(-1, 2)[:, ::-1].ravel(),
        ),
        ("v_mul_hi_u32 v3, v2, v2", lambda x: (x.astype("u8") * x >> np.uint64(32)).astype("u4")),
    ],
)
def test_words_are_numpys(body, expected, target):
    mask = "vcc" if target.startswith("gfx9") else "vcc_lo"
    text = "s_mov_b32 s8, 0x00010203\n" + body.replace("{mask}", mask)
    assemble(kernel(text, target))
    np.testing.assert_array_equal(words(text, RANDOM, target), expected(RANDOM))


@pytest.mark.parametrize("target", ["gfx90a", "gfx1100"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("v_fma_f32 v3, v2, 2.0, 1.0", lambda x: 2 * x + 1),
        ("v_mov_b32 v3, v2\n v_fmac_f32_e32 v3, 0x40000000, v2", lambda x: 3 * x),
        ("v_fma_f32 v3, -v2, |v2|, v2", lambda x: x - x.astype("f8") * np.abs(x)),
        ("v_mul_f32 v3, -0.5, v2", lambda x: -x / 2),
        ("v_max_f32 v3, 0, v2", lambda x: np.maximum(x, 0)),
        ("v_exp_f32 v3, v2\n {late}\n v_add_f32 v3, 1.0, v3", lambda x: np.exp2(x) + 1),
        ("v_rndne_f32 v3, v2", np.rint),
        ("v_add_f32_e64 v3, v2, v2 clamp", lambda x: np.clip(2 * x, 0, 1)),
        ("v_cvt_f16_f32 v3, v2\n v_cvt_f32_f16 v3, v3", lambda x: x.astype("f2").astype("f4")),
        (
            "v_cvt_f16_f32 v3, v2\n v_pack_b32_f16 v3, v3, v3\n v_pk_fma_f16 v3, v3, v3, v3 op_sel_hi:[1,1,1]\n"
            " v_cvt_f32_f16 v3, v3",
            lambda x: (x.astype("f2").astype("f8") ** 2 + x.astype("f2")).astype("f2").astype("f4"),
        ),
    ],
)
def test_floats_are_numpys(body, expected, target):
    body = body.replace("{late}", "s_nop 0" if target == "gfx90a" else "s_waitcnt_depctr 0xfff")
    assemble(kernel(body, target))
    np.testing.assert_allclose(words(body, FLOATS, target, "f4"), expected(FLOATS), rtol=2e-7)


@pytest.mark.parametrize(
    ("target", "body", "signed"),
    [
        ("gfx906", "v_dot4_i32_i8 v3, v2, v4, v3", True),
        ("gfx90a", "v_dot4c_i32_i8 v3, v2, v4", True),
        ("gfx1030", "v_dot4_u32_u8 v3, v2, v5, v3", False),
        ("gfx1100", "v_dot4_i32_iu8 v3, v2, v4, v3 neg_lo:[0,1,0]", False),
    ],
)
def test_dot_products_of_bytes(target, body, signed):
    text = f"v_mov_b32 v3, 5\n v_mov_b32 v4, 0x80ff0102\n v_mov_b32 v5, 0x40200102\n {body}"
    assemble(kernel(text, target))
    weight = np.array([2, 1, 0x20, 0x40]) if "v5" in body else np.array([2, 1, -1, -128])
    x = RANDOM.view("i1" if signed else "u1").reshape(-1, 4).astype("i4")
    np.testing.assert_array_equal(words(text, RANDOM, target, "i4"), (x * weight).sum(1) + 5)


def test_loops_of_scalars_and_masks():
    body = """  v_mov_b32 v3, 0
  s_mov_b32 s8, 0
.again:
  v_cmp_lt_u32 vcc, s8, v0
  s_and_saveexec_b64 s[10:11], vcc
  v_add_u32 v3, s8, v3
  s_mov_b64 exec, s[10:11]
  s_add_u32 s8, s8, 1
  s_cmp_lt_u32 s8, 128
  s_cbranch_scc1 .again"""
    assemble(kernel(body))
    t = np.arange(128)
    np.testing.assert_array_equal(words(body, RANDOM), t * (t - 1) // 2)


def test_a_jump_by_an_address():
    body = """  s_getpc_b64 s[8:9]
.here:
  s_add_u32 s8, s8, .there-.here
  s_addc_u32 s9, s9, 0
  s_setpc_b64 s[8:9]
  s_endpgm
.there:
  v_mov_b32 v3, 3"""
    assemble(kernel(body))
    assert set(words(body, RANDOM).tolist()) == {3}


SWAP = """  ds_write_b32 v1, v2
  {}
  v_xor_b32 v4, {}, v1
  ds_read_b32 v3, v4
  {}"""
WAIT = "s_waitcnt lgkmcnt(0)"


@pytest.mark.parametrize("target", ["gfx906", "gfx90a", "gfx1030", "gfx1100"])
def test_lds_behind_a_barrier(target):
    body = SWAP.format(f"{WAIT}\n s_barrier", "0x1fc", WAIT)
    assemble(kernel(body, target))
    np.testing.assert_array_equal(words(body, RANDOM, target), RANDOM[::-1])


def test_a_wave_sees_itself_without_a_barrier():
    np.testing.assert_array_equal(words(SWAP.format("", "0xfc", WAIT), RANDOM[:64]), RANDOM[:64][::-1])


@pytest.mark.parametrize(
    ("between", "end", "message"),
    [
        ("", WAIT, "a race"),
        (WAIT, WAIT, "a race"),
        ("s_barrier", WAIT, "a race"),
        (f"{WAIT}\n s_barrier", "", "before its load was waited for"),
    ],
)
def test_a_missing_barrier_or_wait_of_lds(between, end, message):
    with pytest.raises(Fault, match=message):
        words(SWAP.format(between, "0x1fc", end), RANDOM)


LOADS = """  global_load_dword v4, v1, s[4:5]
  global_load_dword v5, v1, s[4:5]
  s_waitcnt vmcnt({})
  v_mov_b32 v3, v{}"""


def test_loads_come_in_their_order():
    np.testing.assert_array_equal(words(LOADS.format(1, 4), RANDOM), RANDOM)
    np.testing.assert_array_equal(words(LOADS.format(0, 5), RANDOM), RANDOM)
    for left, register in ((1, 5), (2, 4)):
        with pytest.raises(Fault, match=f"v{register} is used before its load was waited for"):
            words(LOADS.format(left, register), RANDOM)


def test_a_load_under_way_is_not_written_over():
    with pytest.raises(Fault, match="v4 is written while a load"):
        words("global_load_dword v4, v1, s[4:5]\n v_mov_b32 v4, 0\n v_mov_b32 v3, 0", RANDOM)


def test_stores_count_with_the_loads_only_before_gfx10():
    body = LOADS.format(1, 4).replace("  s_wait", "  global_store_dword v1, v2, s[6:7]\n  s_wait")
    np.testing.assert_array_equal(words(body.replace("vmcnt(1)", "vmcnt(2)"), RANDOM), RANDOM)
    with pytest.raises(Fault, match="v4 is used before"):
        words(body.replace("vmcnt(1)", "vmcnt(2)"), RANDOM, "gfx1030")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("v_add_u32 v3, v9, v2", "v9 is read before it is set"),
        ("v_mov_b32 v64, 0", "leave v64 out"),
        ("s_mov_b32 s33, 0", "leaves s33 out"),
        ("s_add_u32 s8, s9, 1", "s9 is read before it is set"),
        ("global_load_dword v3, v1, s[4:5] offset:4\n s_waitcnt vmcnt(0)", "in no array"),
        ("global_load_dword v3, v1, s[4:5] offset:2\n s_waitcnt vmcnt(0)", "misaligned"),
        ("global_load_dword v3, v1, s[4:5] offset:4096\n s_waitcnt vmcnt(0)", "an offset beyond"),
        ("global_store_dword v1, v2, s[4:5]", "only read"),
        ("ds_read_b32 v3, v1\n s_waitcnt lgkmcnt(0)", "before it is written"),
        ("ds_write_b32 v1, v2 offset:1024", "outside of shared memory"),
        ("v_frobnicate_b32 v3, v2", "unknown instruction v_frobnicate_b32"),
        ("v_mov_b32 v3, v2 frob", "unknown modifier frob"),
        ("v_add_u32 v3, v2", "with 2 operands"),
        ("v_add_u32 v3, nothing, v2", "unknown operand nothing"),
        ("v_add_u32 v3, -v2, v2", "a sign of u32"),
        ("s_cbranch_scc1 .nowhere", "no label .nowhere"),
        ("s_waitcnt 0", "names no counter"),
        ("v_readfirstlane_b32 s8, v2\n s_mov_b32 s9, s5\n global_load_dword v3, v1, s[8:9]", "slots too early"),
        ("s_load_dwordx4 s[8:11], s[0:1], 0x0\n s_mov_b32 s12, s8", "s8 is used before its load"),
        (
            "v_cmp_gt_u32 vcc, 3, v0\n s_and_saveexec_b64 s[8:9], vcc\n v_mov_b32 v4, 1\n s_mov_b64 exec, s[8:9]\n"
            " v_mov_b32 v3, v4",
            "v4 is read before it is set",
        ),
    ],
)
def test_faults(body, message):
    x = RANDOM.copy()
    x.flags.writeable = False
    with pytest.raises(Fault, match=message.replace(".", r"\.")) as found:
        run(kernel(body), "t", 1, 128, 0, [x, np.zeros(128, np.uint32)])
    assert "[" in str(found.value), "the line is named"


@pytest.mark.parametrize(
    ("target", "between", "right"),
    [
        ("gfx942", "", False),
        ("gfx942", "s_nop 0", True),
        ("gfx1100", "s_nop 0", False),
        ("gfx1100", "s_waitcnt_depctr 0xfff", True),
        ("gfx90a", "", True),
    ],
)
def test_the_late_result_of_a_transcendental_function(target, between, right):
    """What LLVM puts between such an instruction and the next one that reads its result, its assembler does not."""
    body = f"v_exp_f32 v3, v2\n {between}\n v_add_f32 v3, 1.0, v3"
    assemble(kernel(body, target))
    if right:
        np.testing.assert_allclose(words(body, FLOATS, target, "f4"), np.exp2(FLOATS) + 1, rtol=2e-7)
    else:
        with pytest.raises(Fault, match="comes late"):
            words(body, FLOATS, target, "f4")


def test_the_argument_block_is_waited_for():
    with pytest.raises(Fault, match="used before its load was waited for"):
        run(kernel("", begin=BEGIN.replace("s_waitcnt lgkmcnt(0)", "s_nop 0")), "t", 1, 64, 0, [RANDOM, RANDOM.copy()])


def test_addresses_take_their_carry():
    body = """  s_add_u32 s8, s4, 0x400
  {} s9, s5, 0
  global_load_dword v3, v1, s[8:9]
  s_waitcnt vmcnt(0)
  global_store_dword v1, v3, s[6:7]"""
    x, y = np.arange(1024, dtype=np.uint32), np.zeros(128, np.uint32)
    run(kernel(body.format("s_addc_u32")), "t", 1, 128, 0, [x, y])
    np.testing.assert_array_equal(y, x[256:384])
    with pytest.raises(Fault, match="in no array"):
        run(kernel(body.format("s_add_u32")), "t", 1, 128, 0, [x, y])


def test_halves_of_registers_are_written_alone():
    """gfx11 names the lower and the upper 16 bits of a register; the other half stays."""
    body = (
        "v_cvt_f16_f32_e32 v3.h, v2\n v_mov_b16_e32 v3.l, v3.h\n v_pack_b32_f16 v4, v3.h, v3.l\n"
        "v_pk_add_f16 v4, v4, v4\n v_add_f16_e32 v3.l, v3.l, v4.h\n v_cvt_f32_f16_e32 v3, v3.l"
    )
    half = FLOATS.astype(np.float16)
    expected = (half + (half + half)).astype(np.float32)
    np.testing.assert_array_equal(words(body, FLOATS, "gfx1100", "f4"), expected)
    with pytest.raises(Fault, match="where 32 bits are taken"):
        words("v_add_f32_e32 v3, v2.l, v2", FLOATS, "gfx1100", "f4")
