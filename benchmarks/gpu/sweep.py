"""Straight-line code of 8 KB to 2 MB on 1 to 8 warps of each scheduler: what a GPU's instruction caches give.

All choices of blocks and of parts of k for unrolled kernels hang on this, and no document says it. A kernel is a loop
around so many multiply-adds with immediates, on 16 sums, so that nothing but fetching them can be slow.
"""

from __future__ import annotations

from pathlib import Path

from tesa.build.cache import Cache
from tesa.build.gpu.images import build_images
from tesa.build.gpu.library import Port, Program, write_library
from tesa.build.package import ENTRY
from tesa.schedules.gpus import GpuCode, GpuText, Launch
from tesa.targets.target import Target

SIZES = tuple(8 * 1024 * 2**i for i in range(9))
WARPS = (1, 2, 4, 8)
SUMS, BYTES, RUN = 16, 16, 512
"""Sums of a thread; bytes of an instruction; multiply-adds between two branches: ptxas is slow on longer runs."""

WORK = 4 << 20
"""Multiply-adds of a warp, about."""


def turns(size: int, work: int = WORK) -> int:
    """Turns of the loop."""
    return max(2, work // (size // BYTES))


def text(size: int, architecture: str, work: int = WORK) -> str:
    """The PTX of a kernel whose loop has so many bytes of code."""
    count = size // BYTES
    lines = []
    for i in range(count):
        if i % RUN == RUN - 1:
            lines.append("@%never bra $END;")
        weight = 0x3F000000 + (i * 2654435761 & 0x7FFFFF)
        lines.append(f"fma.rn.f32 %a{i % SUMS}, %x, 0f{weight:08X}, %a{i % SUMS};")
    sums = "\n".join(f"mov.f32 %a{i}, %x;" for i in range(SUMS))
    total = "\n".join(f"add.rn.f32 %a0, %a0, %a{i};" for i in range(1, SUMS))
    body = "\n".join(lines)
    return f""".version 8.0
.target {architecture}
.address_size 64
.visible .entry sweep(.param .u64 p_x, .param .u64 p_y)
{{
.reg .f32 %x, %a<{SUMS}>;
.reg .b32 %t, %turn, %b;
.reg .b64 %px, %py, %o;
.reg .pred %never, %again;
ld.param.u64 %px, [p_x];
ld.param.u64 %py, [p_y];
ld.global.f32 %x, [%px];
setp.gt.f32 %never, %x, 0f47000000;
{sums}
mov.u32 %turn, {turns(size, work)};
$LOOP:
{body}
sub.u32 %turn, %turn, 1;
setp.ne.u32 %again, %turn, 0;
@%again bra $LOOP;
$END:
{total}
mov.u32 %t, %tid.x;
mov.u32 %b, %ctaid.x;
mad.lo.u32 %t, %b, 128, %t;
mul.wide.u32 %o, %t, 4;
add.u64 %py, %py, %o;
st.global.f32 [%py], %a0;
ret;
}}
"""


def write(folder: Path, size: int, warps: int, target: Target, cache: Cache | None = None, work: int = WORK) -> Path:
    """A library that runs it with so many warps on each scheduler of every multiprocessor."""
    gpu = target.gpu
    assert gpu is not None
    blocks = gpu.multiprocessors * warps
    launch = Launch("sweep", (blocks, 1, 1), (128, 1, 1), ("x", "y"))
    code = GpuCode((GpuText("sweep", "ptx", text(size, target.cpu, work)),), (launch,))
    product = build_images("sweep", code, target, cache)
    program = Program((Port("x", (1,)),), (Port("y", (blocks * 128,)),), product.modules, product.launches)
    path = folder / f"sweep-{size}-{warps}.so"
    write_library(program, path, target, "kernel", ENTRY)
    return path


def fmas(size: int, warps: int, work: int = WORK) -> float:
    """Multiply-adds of all threads of a multiprocessor."""
    return float(size // BYTES) * turns(size, work) * 128 * warps
