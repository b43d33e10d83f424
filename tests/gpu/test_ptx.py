"""The interpreter of PTX: small texts against NumPy, and each fault that it is there to find."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from tests.gpu.simulate import Fault, Memory, launch, run

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"
DECLARE = """.reg .b64 %a<9>; .reg .b32 %r<40>; .reg .f32 %f<20>; .reg .b16 %h<9>; .reg .pred %p<5>; .reg .s32 %i<9>;
.shared .align 16 .b8 tile[1024];
"""
BEGIN = """ld.param.u64 %a0, [x]; ld.param.u64 %a1, [y]; mov.u32 %r0, %tid.x; mul.wide.u32 %a2, %r0, 4;
add.s64 %a0, %a0, %a2; add.s64 %a1, %a1, %a2; ld.global.b32 %r1, [%a0]; mov.b32 %f1, %r1;
"""


def kernel(body: str, parameters: str = ".param .u64 x, .param .u64 y") -> str:
    """A module with one kernel, t. Its registers: %a0 and %a1 point to the thread's words of x and y, %r1 is of x."""
    begin = BEGIN if "x" in parameters else ""
    return f"{HEAD}.visible .entry t({parameters}) {{\n{DECLARE}{begin}{body}\nret;\n}}"


def words(body: str, x: np.ndarray, threads: int | None = None, dtype: str = "u4") -> np.ndarray:
    """The words of y that threads store to it, one each, where x is one word each."""
    y = np.zeros(len(x), dtype)
    run(kernel(body), "t", 1, threads or len(x), 0, [x, y])
    return y


RANDOM = np.random.default_rng(1).integers(0, 2**32, 64, dtype=np.uint32)
SMALL = np.arange(-32, 32, dtype=np.int32)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("add.s32 %r2, %r1, 7;", lambda x: x + np.uint32(7)),
        ("mul.lo.s32 %r2, %r1, %r1;", lambda x: x * x),
        ("mul.hi.u32 %r2, %r1, %r1;", lambda x: (x.astype("u8") * x >> np.uint64(32)).astype("u4")),
        ("mad.lo.u32 %r2, %r1, 3, %r1;", lambda x: x * np.uint32(4)),
        ("shr.s32 %r2, %r1, 5;", lambda x: (x.view("i4") >> 5).view("u4")),
        ("shr.u32 %r2, %r1, 40;", lambda x: x * np.uint32(0)),
        ("shl.b32 %r2, %r1, 3;", lambda x: x << np.uint32(3)),
        ("and.b32 %r2, %r1, 0xff;", lambda x: x & np.uint32(255)),
        ("xor.b32 %r2, %r1, -1;", lambda x: ~x),
        ("min.s32 %r2, %r1, 0;", lambda x: np.minimum(x.view("i4"), 0).view("u4")),
        ("rem.u32 %r2, %r1, 10;", lambda x: x % np.uint32(10)),
        ("div.s32 %r2, %r1, 10;", lambda x: np.trunc(x.view("i4") / 10).astype("i4").view("u4")),
        ("bfe.u32 %r2, %r1, 4, 9;", lambda x: x >> np.uint32(4) & np.uint32(511)),
        ("lop3.b32 %r2, %r1, 15, 240, 0xca;", lambda x: (x & np.uint32(15)) | (~x & np.uint32(240))),
        ("prmt.b32 %r2, %r1, 0, 0x0123;", lambda x: x.byteswap()),
        ("popc.b32 %r2, %r1;", lambda x: np.array([bin(v).count("1") for v in x.tolist()], "u4")),
        ("shf.l.wrap.b32 %r2, %r1, %r1, 8;", lambda x: (x << np.uint32(8)) | (x >> np.uint32(24))),
        ("setp.gt.s32 %p1, %r1, 0; selp.b32 %r2, 1, 2, %p1;", lambda x: np.where(x.view("i4") > 0, 1, 2).astype("u4")),
        ("cvt.rn.f32.s32 %f2, %r1; mov.b32 %r2, %f2;", lambda x: x.view("i4").astype("f4").view("u4")),
        ("mov.b32 {%h1, %h2}, %r1; mov.b32 %r2, {%h2, %h1};", lambda x: (x << np.uint32(16)) | (x >> np.uint32(16))),
    ],
)
def test_words_are_numpys(body, expected):
    np.testing.assert_array_equal(words(f"{body} st.global.b32 [%a1], %r2;", RANDOM), expected(RANDOM))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("fma.rn.f32 %f2, %f1, 0f40000000, 0f3F800000;", lambda x: 2 * x + 1),
        ("mul.f32 %f2, %f1, %f1;", lambda x: x * x),
        ("max.f32 %f2, %f1, 0f00000000;", lambda x: np.maximum(x, 0)),
        ("neg.f32 %f2, %f1;", lambda x: -x),
        ("abs.f32 %f3, %f1; sqrt.rn.f32 %f2, %f3;", lambda x: np.sqrt(np.abs(x))),
        ("ex2.approx.ftz.f32 %f2, %f1;", np.exp2),
        ("add.sat.f32 %f2, %f1, 0f00000000;", lambda x: np.clip(x, 0, 1)),
        ("cvt.rni.f32.f32 %f2, %f1;", np.rint),
        ("cvt.rn.f16.f32 %h1, %f1; cvt.f32.f16 %f2, %h1;", lambda x: x.astype("f2").astype("f4")),
        (
            "cvt.rn.f16x2.f32 %r2, 0f3F800000, %f1; fma.rn.f16x2 %r2, %r2, %r2, %r2; "
            "mov.b32 {%h1, %h2}, %r2; cvt.f32.f16 %f2, %h1;",
            lambda x: (x.astype("f2").astype("f8") ** 2 + x.astype("f2")).astype("f2").astype("f4"),
        ),
    ],
)
def test_floats_are_numpys(body, expected):
    x = np.random.default_rng(2).standard_normal(64).astype(np.float32)
    np.testing.assert_allclose(words(f"{body} st.global.f32 [%a1], %f2;", x, dtype="f4"), expected(x), rtol=2e-7)


def test_bfloat16_pairs_round_to_the_nearest():
    x = np.random.default_rng(3).standard_normal(64).astype(np.float32)
    body = "cvt.rn.bf16x2.f32 %r2, %f1, %f1; st.global.b32 [%a1], %r2;"
    y = words(body, x).view(np.uint16).reshape(-1, 2)
    near = (y.astype(np.uint32) << 16).view(np.float32)
    assert (near[:, 0] == near[:, 1]).all()
    assert np.abs(near[:, 0] - x).max() <= 2.0**-8 * np.abs(x).max()
    assert (np.abs(near[:, 0] / x - 1) <= 2.0**-8).all()


def test_a_saturating_conversion_to_bytes():
    x = np.array([-1000.0, -128.5, -0.5, 0.5, 1.5, 127.5, 300.0], np.float32)
    body = "cvt.rni.sat.s8.f32 %r2, %f1; st.global.b32 [%a1], %r2;"
    assert words(body, x, dtype="i4").tolist() == [-128, -128, 0, 0, 2, 127, 127]


@pytest.mark.parametrize("signed", [True, False])
def test_dp4a(signed):
    kind, dtype = ("s32", "i1") if signed else ("u32", "u1")
    body = f"dp4a.{kind}.s32 %i2, %r1, 0x80ff0102, 5; st.global.s32 [%a1], %i2;"
    weight = np.array([2, 1, -1, -128])
    np.testing.assert_array_equal(
        words(body, RANDOM, dtype="i4"), (RANDOM.view(dtype).reshape(-1, 4).astype("i4") * weight).sum(1) + 5
    )


def test_loops_part_and_meet():
    body = """mov.u32 %r2, 0; mov.u32 %r3, %r0;
    again: setp.eq.u32 %p1, %r3, 0; @%p1 bra out; add.u32 %r2, %r2, %r3; sub.u32 %r3, %r3, 1; bra again;
    out: bar.sync 0; st.global.u32 [%a1], %r2;"""
    t = np.arange(64)
    np.testing.assert_array_equal(words(body, RANDOM), t * (t + 1) // 2)


def test_a_branch_by_a_table():
    body = """and.b32 %r3, %r0, 1; table: .branchtargets even, odd; brx.idx %r3, table;
    even: mov.u32 %r2, 10; bra out; odd: mov.u32 %r2, 20; out: st.global.u32 [%a1], %r2;"""
    assert words(body, RANDOM)[:4].tolist() == [10, 20, 10, 20]


def test_threads_leave_early_and_vectors_load():
    text = kernel(
        """setp.ge.u32 %p1, %r0, 5; @%p1 ret; mul.wide.u32 %a3, %r0, 12; add.s64 %a0, %a0, %a3; add.s64 %a1, %a1, %a3;
        ld.global.nc.v4.f32 {%f2, %f3, %f4, %f5}, [%a0]; st.global.v4.f32 [%a1], {%f5, %f4, %f3, %f2};"""
    )
    x = np.arange(128, dtype=np.float32)
    y = np.zeros(20, np.float32)
    run(text, "t", 1, 32, 0, [x, y])
    np.testing.assert_array_equal(y.reshape(5, 4), x[:20].reshape(5, 4)[:, ::-1])


SWAP = """mov.u32 %r4, tile; shl.b32 %r5, %r0, 2; add.u32 %r6, %r4, %r5; st.shared.b32 [%r6], %r1; {}
xor.b32 %r5, %r5, {}; add.u32 %r6, %r4, %r5; ld.shared.b32 %r2, [%r6]; st.global.b32 [%a1], %r2;"""


def test_shared_memory_behind_a_barrier():
    np.testing.assert_array_equal(words(SWAP.format("bar.sync 0;", 252), RANDOM), RANDOM[::-1])
    np.testing.assert_array_equal(words(SWAP.format("bar.warp.sync -1;", 124), RANDOM[:32]), RANDOM[:32][::-1])


@pytest.mark.parametrize(("between", "partner"), [("", 252), ("bar.warp.sync -1;", 252), ("", 4)])
def test_a_missing_barrier_is_a_race(between, partner):
    with pytest.raises(Fault, match=r"a race.*ld\.shared"):
        words(SWAP.format(between, partner), RANDOM)


def test_writing_what_others_still_read_is_a_race():
    again = SWAP.format("bar.sync 0;", 252) + "{} st.shared.b32 [%r4], 0;"
    with pytest.raises(Fault, match="after another thread read it"):
        words("setp.eq.u32 %p1, %r0, 0;" + again.format("@%p1"), RANDOM)


def test_a_barrier_of_some_warps():
    """Warps 0 and 1 meet at barrier 1, which the other two never see."""
    body = "setp.ge.u32 %p1, %r0, 64; @%p1 bra out;" + SWAP.format("bar.sync 1, 64;", 252) + "out:"
    y = words(body, np.concatenate([RANDOM, RANDOM]))
    np.testing.assert_array_equal(y[:64], RANDOM[::-1])
    with pytest.raises(Fault, match="not all threads reach"):
        words(body.replace("64;", "96;", 3).replace("%r0, 96", "%r0, 64"), np.concatenate([RANDOM, RANDOM]))


def test_a_barrier_that_threads_leave_before():
    with pytest.raises(Fault, match="barrier"):
        words("setp.ge.u32 %p1, %r0, 32; @%p1 ret; bar.sync 0;", RANDOM)
    with pytest.raises(Fault, match="part of a warp"):
        words("setp.ge.u32 %p1, %r0, 16; @%p1 bar.sync 0;", RANDOM)


COPY = """mov.u32 %r4, tile; shl.b32 %r5, %r0, 2; add.u32 %r6, %r4, %r5;
cp.async.ca.shared.global [%r6], [%a0], 4; cp.async.commit_group;
cp.async.ca.shared.global [%r6+512], [%a0], 4, 2; cp.async.commit_group;
{} bar.sync 0; {} ld.shared.b32 %r2, [%r6+{}]; st.global.b32 [%a1], %r2;"""


@pytest.mark.parametrize(("wait", "at"), [("wait_group 1", 0), ("wait_group 0", 512), ("wait_all", 512)])
def test_copies_land_when_they_are_waited_for(wait, at):
    y = words(COPY.format(f"cp.async.{wait};", "", at), RANDOM)
    np.testing.assert_array_equal(y, RANDOM & np.uint32(0xFFFF) if at else RANDOM)


@pytest.mark.parametrize(("wait", "at"), [("wait_group 1", 512), ("wait_group 2", 0)])
def test_copies_that_are_used_too_early(wait, at):
    with pytest.raises(Fault, match="before the copy"):
        words(COPY.format(f"cp.async.{wait};", "", at), RANDOM)


def test_a_copy_over_what_is_still_read():
    body = COPY.format("cp.async.wait_all;", "xor.b32 %r6, %r6, 128;", 0)
    with pytest.raises(Fault, match="after another thread read it"):
        words(body + "cp.async.ca.shared.global [%r4], [%a0], 4;", RANDOM)


def test_a_shuffle_and_a_vote():
    body = """shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1; setp.lt.u32 %p1, %r0, 3; vote.sync.ballot.b32 %r3, %p1, -1;
    add.u32 %r2, %r2, %r3; st.global.b32 [%a1], %r2;"""
    x = RANDOM[:32]
    np.testing.assert_array_equal(words(body, x), x.reshape(-1, 2)[:, ::-1].reshape(-1) + np.uint32(7))


def test_what_was_never_set_may_be_computed_with_and_dropped():
    """A sum over the first 8 lanes: the others hold nothing, and read beyond the half warp that there is."""
    body = """setp.lt.u32 %p1, %r0, 8; @%p1 mov.u32 %r2, %r1;
    shfl.sync.down.b32 %r3, %r2, 4, 31, -1; add.u32 %r2, %r2, %r3;
    shfl.sync.down.b32 %r3, %r2, 2, 31, -1; add.u32 %r2, %r2, %r3;
    shfl.sync.down.b32 %r3, %r2, 1, 31, -1; add.u32 %r2, %r2, %r3;
    setp.eq.u32 %p2, %r0, 0; selp.b32 %r2, %r2, 7, %p2; st.global.b32 [%a1], %r2;"""
    x = RANDOM[:48]
    expected = np.full(48, 7, np.uint32)
    expected[0] = x[:8].sum(dtype=np.uint32)
    np.testing.assert_array_equal(words(body, x), expected)


def test_atomics_add_up():
    text = kernel("ld.param.u64 %a1, [y]; red.global.add.f32 [%a1], %f1; atom.global.add.u32 %r2, [%a1+4], 1;")
    y = np.zeros(2, np.float32)
    run(text, "t", 1, 64, 0, [np.ones(64, np.float32), y])
    assert (y[0], y.view(np.uint32)[1]) == (64, 64)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("add.u32 %r2, %r3, 1; mov.u32 %r4, %r2; st.global.b32 [%a1], %r4;", "%r3 is read before it is set"),
        (
            "setp.eq.u32 %p1, %r0, 1; @%p1 mov.u32 %r3, 1; add.u32 %r2, %r3, 1; st.global.b32 [%a1], %r2;",
            "%r3 is read before it is set",
        ),
        ("mul.wide.u32 %a3, %r3, 4; add.u64 %a3, %a0, %a3; ld.global.b32 %r2, [%a3];", "%r3 is read before it is set"),
        ("setp.eq.u32 %p1, %r3, 0; @%p1 bra out; out:", "%r3 is read before it is set"),
        ("setp.eq.u32 %p1, %r3, 0; selp.b32 %r2, 1, 2, %p1; st.global.b32 [%a1], %r2;", "%r3 is read before it is set"),
        ("mov.u32 %r2, tile; st.shared.b32 [%r2], %r3;", "%r3 is read before it is set"),
        ("vote.sync.any.pred %p1, %p3, -1;", "%p3 is read before it is set"),
        (
            "setp.ge.u32 %p1, %r0, 8; @%p1 mov.u32 %r3, 1; shfl.sync.down.b32 %r2, %r3, 4, 31, -1;"
            "setp.lt.u32 %p2, %r0, 4; @%p2 st.global.b32 [%a1], %r2;",
            "%r3 is read before it is set",
        ),
        (
            "setp.lt.u32 %p1, %r0, 8; @!%p1 ret; shfl.sync.down.b32 %r2, %r1, 4, 31, 255; st.global.b32 [%a1], %r2;",
            "a thread of a shuffle that is not there is read before it is set",
        ),
        ("@%p2 add.u32 %r2, %r1, 1;", "%p2 is read before it is set"),
        ("ld.global.b32 %r2, [%a0+4];", "are in no array"),
        ("ld.global.b32 %r2, [%a0+-4];", "are in no array"),
        ("st.global.b32 [%a0+1], %r1;", "misaligned"),
        ("ld.global.v2.b32 {%r2, %r3}, [%a0];", "misaligned for 8 bytes"),
        ("mov.u32 %r2, tile; ld.shared.b32 %r3, [%r2];", "before it is written"),
        ("mov.u32 %r2, tile; st.shared.b32 [%r2+1024], %r1;", "outside of shared memory"),
        ("st.global.b32 [%a1], %r1; ld.param.u64 %a1, [y]; st.global.b32 [%a1], %r0;", "different values"),
        ("frobnicate.u32 %r2, %r1;", "unknown instruction frobnicate"),
        ("add.frob.u32 %r2, %r1, 1;", "unknown modifier .frob"),
        ("add.f32 %f2, %f1, 0f3F80;", "unknown operand 0f3F80"),
        ("add.f32 %f2, %r9;", "add with 2 operands"),
        ("add.f32 %f2, %f1, 1;", "the integer 1 as f32"),
        ("add.f32 %f2, %i1, %f1;", "%i1 is a s32, not a f32"),
        ("add.u32 %h1, %r1, %r1;", "%h1 is a b16, not a u32"),
        ("mov.u32 %r2, %nothing;", "unknown register %nothing"),
        ("bra nowhere;", "no label nowhere"),
        ("ld.local.b32 %r2, [%a0];", "local memory"),
        ("ld.global.b32 %r2, [%r1];", "has 64 bits"),
        ("cvt.s32.f32 %r2, %f1;", "takes .rni"),
        ("setp.eq.u32 %p1, %r0, 1; vote.sync.any.pred %p1, %p1, 3;", "not those that the mask names"),
    ],
)
def test_faults(body, message):
    with pytest.raises(Fault, match=message.replace(".", r"\.").replace("+", r"\+")) as found:
        run(kernel(body), "t", 1, 32, 0, [np.arange(32, dtype=np.uint32), np.zeros(32, np.uint32)])
    assert "[" in str(found.value), "the line is named"


def test_an_array_that_is_only_read_is_not_written():
    x = np.arange(32, dtype=np.uint32)
    x.flags.writeable = False
    with pytest.raises(Fault, match="only read"):
        run(kernel("st.global.b32 [%a0], %r1;"), "t", 1, 32, 0, [x, np.zeros(32, np.uint32)])


def test_addresses_take_their_carry():
    """The upper half of an address counts: arrays lie across a multiple of 2^32."""
    body = """ld.param.u64 %a0, [x]; mov.b64 {%r2, %r3}, %a0; shl.b32 %r4, %r0, 2; add.u32 %r2, %r2, %r4;
    mov.b64 %a0, {%r2, %r3}; ld.global.b32 %r2, [%a0]; st.global.b32 [%a1], %r2;"""
    with pytest.raises(Fault, match="in no array"):
        words(body, np.zeros(1024, np.uint32))


def test_parameters_of_several_kinds():
    text = kernel(
        "ld.param.u64 %a1, [y]; ld.param.f32 %f1, [a]; ld.param.u8 %r2, [b]; ld.param.u32 %r3, [c+4];"
        "cvt.rn.f32.u32 %f2, %r2; cvt.rn.f32.u32 %f3, %r3; fma.rn.f32 %f1, %f1, %f2, %f3; st.global.f32 [%a1], %f1;",
        ".param .u64 y, .param .f32 a, .param .u8 b, .param .align 4 .b8 c[8]",
    ).replace(BEGIN, "")
    y = np.zeros(1, np.float32)
    run(text, "t", 1, 1, 0, [y, 1.5, 4, struct.pack("<II", 9, 7)])
    assert y[0] == 13
    with pytest.raises(Fault, match="takes 4 arguments"):
        run(text, "t", 1, 1, 0, [y])


def test_a_launch_by_pointers_to_arguments_on_memory_of_the_host():
    x, y = RANDOM.copy(), np.zeros(64, np.uint32)
    addresses = np.array([x.ctypes.data, y.ctypes.data], np.uint64)
    pointers = addresses.ctypes.data + 8 * np.arange(2, dtype=np.uint64)
    memory = Memory()
    memory.lend(x.ctypes.data, x.nbytes)
    text = kernel("st.global.b32 [%a1], %r1;")
    with pytest.raises(Fault, match="in no array"):
        launch(text, "t", (1, 1, 1), (64, 1, 1), 0, pointers.ctypes.data, memory)
    memory.lend(y.ctypes.data, y.nbytes)
    assert launch(text, "t", (1, 1, 1), (64, 1, 1), 0, pointers.ctypes.data, memory)["st.global.b32"] == 2
    np.testing.assert_array_equal(x, y)


def test_more_threads_or_shared_memory_than_there_may_be():
    text = kernel("").replace("y) {", "y) .maxntid 64, 1, 1 {")
    arrays = [np.zeros(128, np.uint32), np.zeros(128, np.uint32)]
    with pytest.raises(Fault, match="maxntid"):
        run(text, "t", 1, 128, 0, arrays)
    with pytest.raises(Fault, match="shared memory"):
        run(text, "t", 1, 64, 228 * 1024, arrays)
