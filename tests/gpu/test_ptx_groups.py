"""Matrix units of four warps in the interpreter of PTX: cores that are laid out here by hand, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gpu.simulate import Fault, run

T = np.arange(128)
LEFT, RIGHT = 64 << 16 | 8 << 32, 16 << 16 | 8 << 32
"""Fields of a descriptor beside its address: 64 rows, or 16 columns, of 16 bytes from one chunk along k to the next."""

FENCE = "fence.proxy.async.shared::cta;"
TEXT = """.version 8.0
.target sm_90a
.address_size 64
.visible .entry t(.param .u64 a, .param .u64 b, .param .u64 y) {
.reg .b64 %p<9>, %da, %db; .reg .b32 %r<9>, %t, %s; .reg .f32 %d<8>; .reg .pred %yes; .reg .b32 %w<4>;
.shared .align 16 .b8 stage[2560];
ld.param.u64 %p0, [a]; ld.param.u64 %p1, [b]; ld.param.u64 %p2, [y]; mov.u32 %t, %tid.x; mov.u32 %s, stage;
mad.wide.u32 %p0, %t, 16, %p0; mad.lo.u32 %r0, %t, 16, %s;
ld.global.v4.b32 {%w0, %w1, %w2, %w3}, [%p0]; st.shared.v4.b32 [%r0], {%w0, %w1, %w2, %w3};
mad.wide.u32 %p1, %t, 4, %p1; mad.lo.u32 %r1, %t, 4, %s;
ld.global.b32 %w0, [%p1]; st.shared.b32 [%r1+2048], %w0;
mov.f32 %d0, 0f3F800000; mov.f32 %d1, 0f3F800000; mov.f32 %d2, 0f3F800000; mov.f32 %d3, 0f3F800000;
mov.f32 %d4, 0f3F800000; mov.f32 %d5, 0f3F800000; mov.f32 %d6, 0f3F800000; mov.f32 %d7, 0f3F800000;
shr.u32 %r2, %s, 4; cvt.u64.u32 %da, %r2; add.u64 %db, %da, BBB; add.u64 %da, %da, AAA;
fence.proxy.async.shared::cta;
bar.sync 0;
wgmma.fence.sync.aligned;
setp.eq.u32 %yes, 0, 0;
wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%d0, %d1, %d2, %d3, %d4, %d5, %d6, %d7}, %da, %db, %yes, 1, 1, 0, 0;
wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;
mad.wide.u32 %p2, %t, 32, %p2; st.global.v4.f32 [%p2], {%d0, %d1, %d2, %d3};
st.global.v4.f32 [%p2+16], {%d4, %d5, %d6, %d7};
ret; }""".replace("AAA", str(LEFT)).replace("BBB", str(RIGHT + 2048 // 16))  # fmt: skip


def product(text: str = TEXT) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel makes of random halves, and 1 + A B of NumPy."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype("f2") for shape in ((64, 16), (16, 16)))  # b: (column, k)
    cores = [np.ascontiguousarray(one.reshape(len(one), 2, 8).swapaxes(0, 1)) for one in (a, b)]
    y = np.zeros((128, 8), np.float32)
    run(text, "t", 1, 128, 0, [*cores, y])
    whole = np.zeros((64, 16), np.float32)
    for r in range(8):
        whole[16 * (T // 32) + T % 32 // 4 + 8 * (r // 2 % 2), 8 * (r // 4) + 2 * (T % 4) + r % 2] = y[:, r]
    return whole, 1 + a.astype("f4") @ b.astype("f4").T


def test_a_product_of_four_warps():
    found, wanted = product()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        (FENCE, "", "with no fence.proxy.async"),
        ("bar.sync 0;", "", "a race"),
        (FENCE + "\nbar.sync 0;", "bar.sync 0;\n" + FENCE, "no barrier since"),
        ("wgmma.fence.sync.aligned;", "", "no wgmma.fence since"),
        ("wgmma.commit_group.sync.aligned;", "", "touched while a matrix unit"),
        ("wgmma.wait_group.sync.aligned 0;", "", "touched while a matrix unit"),
        ("wgmma.wait_group.sync.aligned 0;", "wgmma.wait_group.sync.aligned 1;", "touched while a matrix unit"),
        ("wgmma.commit_group", "st.shared.b32 [%r1+2048], %w0; wgmma.commit_group", "written while a matrix unit"),
        ("wgmma.commit_group", "mov.f32 %d0, %d1; wgmma.commit_group", "touched while a matrix unit"),
        ("wgmma.mma_async", "setp.ne.u32 %yes, %t, 5; @%yes wgmma.mma_async", "part of four warps"),
        ("setp.eq.u32 %yes, 0, 0;", "setp.eq.u32 %yes, %t, 0;", "different operands"),
        (f"add.u64 %da, %da, {LEFT};", f"add.u64 %da, %da, {LEFT | 1 << 62};", "not known"),
        (f"add.u64 %da, %da, {LEFT};", f"add.u64 %da, %da, {LEFT + (64 << 16)};", "before it is written|outside"),
        (".target sm_90a", ".target sm_90", "has no wgmma"),
        ("m64n16k16", "m64n12k16", "so many columns"),
        ("m64n16k16.f32.f16.f16", "m64n16k8.f32.f16.f16", "this shape"),
        ("mad.wide.u32 %p2, %t, 32, %p2;", "ret; mad.wide.u32 %p2, %t, 32, %p2;", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(was, becomes, message):
    text = TEXT.replace(was, becomes, 1)
    assert text != TEXT
    if not message:
        assert not product(text)[0].any()  # nothing was stored
        return
    with pytest.raises(Fault, match=message):
        product(text)


def test_threads_do_not_end_before_the_unit():
    with pytest.raises(Fault, match="end while a matrix unit"):
        product(TEXT.replace("wgmma.wait_group.sync.aligned 0;", "ret;"))
