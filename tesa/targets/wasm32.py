"""WebAssembly: vectors of 128 bits, with multiply-adds where a browser has the relaxed instructions."""

from dataclasses import replace

from tesa.schedules.types import Core, Dot, Permute, Rates
from tesa.targets.architecture import Architecture, register
from tesa.targets.wasm_linker import WasmLinker

PAIRS = Dot(2, ((4, "llvm.wasm.dot"),))
"""i32x4.dot_i16x8_s: two 16-bit products, and an addition."""

_KIB = 1024
# V8 keeps one of 16 registers for itself, and its compiler puts the loads of a loop's body first: 4x2 and 3x3 are the
# largest tiles of sums that it does not keep in memory. The rates are those of V8 on a CPU of today.
# LLVM makes relaxed_madd of a product and a sum by itself, and calls fmaf for each lane of its own multiply-add
SIMD128 = Core(
    "simd128", 4, 15, 32 * _KIB, 512 * _KIB, fma=False, dot=PAIRS,
    permute=Permute(((1, "llvm.wasm.swizzle"),), in_bytes=True, zeros=True), unrolls=False, loads_first=True,
    rates=Rates(fmas=1.3, loads=1.6, issue=4.0, product=2.0),
)  # fmt: skip


def core_of(cpu: str, features: frozenset[str]) -> Core | None:
    """The core of an engine with these features of LLVM."""
    if "simd128" not in features:
        return None
    return (
        replace(SIMD128, name="relaxed", rates=replace(SIMD128.rates, fmas=1.6, product=1.0))
        if "relaxed-simd" in features
        else SIMD128
    )


WASM32 = register(
    Architecture(
        name="wasm32",
        title="WebAssembly",
        triple="wasm32-unknown-unknown-wasm",
        core=core_of,
        needs="has no vectors of 128 bits, which all of tesa's kernels for WebAssembly need: take wasm32:simd128 or, "
        "in TVM's form, -mattr=+simd128",
        example="simd128",
        aliases=("wasm",),
        bare="simd128",
        options=(("vector-width", 128),),
        named={
            "simd128": ("generic", ("+simd128",)),
            "relaxed": ("generic", ("+relaxed-simd", "+simd128")),
        },
        toolchain=WasmLinker(),
        runner="node",
        runtime=False,
        portable=True,
    )
)
