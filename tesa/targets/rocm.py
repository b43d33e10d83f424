"""AMD's GPUs, of data centres (CDNA) and of desktops (RDNA). The figures are those of one product each, from AMD."""

from tesa.schedules.gpus import Gpu, GpuRates, MatrixUnit
from tesa.targets.gpus import GpuKind, register

_KIB, _MIB = 1 << 10, 1 << 20


def _mfma(name: str, shape: tuple[int, int, int], inputs: str, sums: str, rate: float) -> MatrixUnit:
    return MatrixUnit(f"v_mfma_{name}", *shape, inputs, sums, rate)


_CDNA2 = (
    _mfma("f32_32x32x8f16", (32, 32, 8), "float16", "float32", 512),
    _mfma("f32_16x16x16f16", (16, 16, 16), "float16", "float32", 512),
    _mfma("f32_16x16x16bf16_1k", (16, 16, 16), "bfloat16", "float32", 512),
    _mfma("f32_16x16x4f32", (16, 16, 4), "float32", "float32", 128),
    _mfma("i32_16x16x16i8", (16, 16, 16), "int8", "int32", 512),
)
_CDNA3 = (
    _mfma("f32_32x32x8_f16", (32, 32, 8), "float16", "float32", 1024),
    _mfma("f32_16x16x16_f16", (16, 16, 16), "float16", "float32", 1024),
    _mfma("f32_16x16x16_bf16", (16, 16, 16), "bfloat16", "float32", 1024),
    _mfma("f32_16x16x4_f32", (16, 16, 4), "float32", "float32", 128),
    _mfma("i32_16x16x32_i8", (16, 16, 32), "int8", "int32", 2048),
    MatrixUnit("v_smfmac_f32_16x16x32_f16", 16, 16, 32, "float16", "float32", 2048, sparse=True),
    MatrixUnit("v_smfmac_f32_16x16x32_bf16", 16, 16, 32, "bfloat16", "float32", 2048, sparse=True),
    MatrixUnit("v_smfmac_i32_16x16x64_i8", 16, 16, 64, "int8", "int32", 4096, sparse=True),
)
_RDNA3 = (
    MatrixUnit("v_wmma_f32_16x16x16_f16", 16, 16, 16, "float16", "float32", 256),
    MatrixUnit("v_wmma_f32_16x16x16_bf16", 16, 16, 16, "bfloat16", "float32", 256),
    MatrixUnit("v_wmma_i32_16x16x16_iu8", 16, 16, 16, "int8", "int32", 256),
)

GPUS = {
    "gfx906": Gpu(
        "gfx906", "amd", 60, GpuRates(1.75, 64, 128, 64, 1900, 1024, 4 * _MIB, code_bytes=32 * _KIB), warp=64,
        thread_registers=256, register_unit=4, threads=2560, blocks=40, shared=64 * _KIB, block_shared=64 * _KIB,
        static_shared=64 * _KIB, dots=True, halves=True, offset_bits=12,
    ),
    "gfx90a": Gpu(
        "gfx90a", "amd", 110, GpuRates(1.7, 64, 128, 64, 3500, 1638, 8 * _MIB, code_bytes=32 * _KIB), warp=64,
        registers=131072, thread_registers=256, shared=64 * _KIB, block_shared=64 * _KIB, static_shared=64 * _KIB,
        dots=True, halves=True, matrices=_CDNA2, offset_bits=12,
    ),
    "gfx942": Gpu(
        "gfx942", "amd", 304, GpuRates(2.1, 64, 128, 64, 8000, 5300, 256 * _MIB, code_bytes=64 * _KIB), warp=64,
        registers=131072, thread_registers=256, shared=64 * _KIB, block_shared=64 * _KIB, static_shared=64 * _KIB,
        dots=True, halves=True, matrices=_CDNA3, offset_bits=12,
    ),
    "gfx1030": Gpu(
        "gfx1030", "amd", 80, GpuRates(2.25, 64, 128, 64, 2000, 512, 128 * _MIB, code_bytes=32 * _KIB), schedulers=2,
        thread_registers=256, threads=1024, blocks=32, shared=128 * _KIB, block_shared=64 * _KIB,
        static_shared=64 * _KIB, dots=True, halves=True, offset_bits=11,
    ),
    "gfx1100": Gpu(
        "gfx1100", "amd", 96, GpuRates(2.5, 64, 128, 64, 3500, 960, 96 * _MIB, code_bytes=32 * _KIB), schedulers=2,
        registers=98304, thread_registers=256, register_unit=12, threads=1024, blocks=32, shared=128 * _KIB,
        block_shared=64 * _KIB, static_shared=64 * _KIB, dots=True, halves=True, matrices=_RDNA3, offset_bits=12,
    ),
}  # fmt: skip
"""Of a Radeon VII, half an MI250X, an MI300X, an RX 6900 XT and an RX 7900 XTX. Signed offsets count their sign."""

ROCM = register(
    GpuKind(
        name="rocm", title="AMD GPUs", gpus=GPUS, plain="gfx90a", option="mcpu", triple="amdgcn-amd-amdhsa",
        aliases=("amdgcn", "hip"),
        known={"mi50": "gfx906", "mi200": "gfx90a", "mi250": "gfx90a", "mi300": "gfx942", "mi300x": "gfx942"},
    )
)  # fmt: skip
