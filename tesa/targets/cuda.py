"""NVIDIA's GPUs from Turing to Blackwell. The figures are those of one product each, from NVIDIA's white papers."""

from tesa.schedules.gpus import Gpu, GpuRates, MatrixUnit
from tesa.targets.gpus import GpuKind, register

_KIB, _MIB = 1 << 10, 1 << 20


def _mma(shape: tuple[int, int, int], kinds: str, inputs: str, sums: str, rate: float) -> MatrixUnit:
    m, n, k = shape
    return MatrixUnit(f"mma.sync.aligned.m{m}n{n}k{k}.row.col.{kinds}", m, n, k, inputs, sums, rate)


def _sparse(shape: tuple[int, int, int], kinds: str, inputs: str, sums: str, rate: float) -> MatrixUnit:
    m, n, k = shape
    name = f"mma.sp.sync.aligned.m{m}n{n}k{k}.row.col.{kinds}"
    return MatrixUnit(name, m, n, k, inputs, sums, rate, sparse=True)


def _ampere(halves: float) -> tuple[MatrixUnit, ...]:
    """The matrix instructions since Ampere; halves: multiply-adds of float16 in a cycle of a multiprocessor."""
    return (
        _mma((16, 8, 16), "f32.f16.f16.f32", "float16", "float32", halves),
        _mma((16, 8, 16), "f32.bf16.bf16.f32", "bfloat16", "float32", halves),
        _mma((16, 8, 8), "f32.tf32.tf32.f32", "tfloat32", "float32", halves / 2),
        _mma((16, 8, 32), "s32.s8.s8.s32", "int8", "int32", 2 * halves),
        _mma((16, 8, 32), "s32.u8.s8.s32", "uint8", "int32", 2 * halves),
        _sparse((16, 8, 32), "f32.f16.f16.f32", "float16", "float32", 2 * halves),
        _sparse((16, 8, 32), "f32.bf16.bf16.f32", "bfloat16", "float32", 2 * halves),
        _sparse((16, 8, 16), "f32.tf32.tf32.f32", "tfloat32", "float32", halves),
        _sparse((16, 8, 64), "s32.s8.s8.s32", "int8", "int32", 4 * halves),
    )


def _group(depth: int, kinds: str, inputs: str, sums: str, rate: float) -> MatrixUnit:
    """wgmma, by which four warps multiply 64 rows by any multiple of 8 columns."""
    return MatrixUnit(f"wgmma.mma_async.sync.aligned.m64n8k{depth}.{kinds}", 64, 8, depth, inputs, sums, rate)


_HOPPER = (
    # mma.sync reaches 63 % of what wgmma does (Luo et al., "Dissecting the NVIDIA Hopper Architecture", 2024)
    *_ampere(1290),
    _group(16, "f32.f16.f16", "float16", "float32", 2048),
    _group(16, "f32.bf16.bf16", "bfloat16", "float32", 2048),
    _group(8, "f32.tf32.tf32", "tfloat32", "float32", 1024),
    _group(32, "s32.s8.u8", "int8", "int32", 4096),
)

_TURING = (
    _mma((16, 8, 8), "f32.f16.f16.f32", "float16", "float32", 512),
    _mma((8, 8, 16), "s32.s8.s8.s32", "int8", "int32", 1024),
    _mma((8, 8, 16), "s32.u8.s8.s32", "uint8", "int32", 1024),
)

GPUS = {
    "sm_75": Gpu(
        "sm_75", "ptx", 68, GpuRates(1.545, 64, 128, 64, 2000, 616, 5632 * _KIB, code_bytes=46 * _KIB), threads=1024,
        blocks=16, shared=64 * _KIB, block_shared=64 * _KIB, dots=True, halves=True, matrices=_TURING,
    ),
    "sm_80": Gpu(
        "sm_80", "ptx", 108, GpuRates(1.41, 64, 256, 64, 4000, 1555, 40 * _MIB), shared=164 * _KIB,
        block_shared=163 * _KIB, async_copies=True, dots=True, halves=True, bfloats=True, matrices=_ampere(1024),
    ),
    "sm_86": Gpu(
        "sm_86", "ptx", 82, GpuRates(1.695, 128, 128, 64, 2500, 936, 6 * _MIB), threads=1536, blocks=16,
        shared=100 * _KIB, block_shared=99 * _KIB, async_copies=True, dots=True, halves=True, bfloats=True,
        matrices=_ampere(256),
    ),
    "sm_89": Gpu(
        "sm_89", "ptx", 128, GpuRates(2.52, 128, 128, 64, 5000, 1008, 72 * _MIB), threads=1536, blocks=24,
        shared=100 * _KIB, block_shared=99 * _KIB, async_copies=True, dots=True, halves=True, bfloats=True,
        matrices=_ampere(256),
    ),
    "sm_90": Gpu(
        "sm_90", "ptx", 132, GpuRates(1.83, 128, 256, 64, 5500, 4800, 50 * _MIB), shared=228 * _KIB,
        block_shared=227 * _KIB, async_copies=True, dots=True, halves=True, bfloats=True, matrices=_HOPPER,
        groups=True, clusters=True,
    ),
    "sm_100": Gpu(
        "sm_100", "ptx", 148, GpuRates(1.85, 128, 256, 64, 8000, 8000, 126 * _MIB), shared=228 * _KIB,
        block_shared=227 * _KIB, async_copies=True, dots=True, halves=True, bfloats=True, matrices=_ampere(2048),
        clusters=True,
    ),
}  # fmt: skip
"""Of an RTX 2080 Ti, an A100, an RTX 3090, an RTX 4090, an H200 and a B200."""

CUDA = register(
    GpuKind(
        name="cuda", title="NVIDIA GPUs", gpus=GPUS, plain="sm_80", option="arch", triple="nvptx64-nvidia-cuda",
        aliases=("nvptx", "nvptx64"),
        known={
            "75": "sm_75", "80": "sm_80", "86": "sm_86", "89": "sm_89", "90": "sm_90", "100": "sm_100",
            "sm_90a": "sm_90", "sm_100a": "sm_100", "t4": "sm_75", "a100": "sm_80", "a10": "sm_86", "l4": "sm_89",
            "h100": "sm_90", "h200": "sm_90", "b200": "sm_100",
        },
    )
)  # fmt: skip
