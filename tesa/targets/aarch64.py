"""64-bit ARM: a core with NEON by what a CPU's features are, and how fast it and its caches are."""

from dataclasses import replace
from functools import partial

from tesa.schedules.types import Core, Dot, Permute, Rates
from tesa.targets.architecture import Architecture, register
from tesa.targets.hwcap import probe
from tesa.targets.toolchain import Toolchain

MIXED_BYTES = Dot(
    4, ((4, "llvm.aarch64.neon.usdot.v4i32.v16i8"),), adds=True,
    matrix="llvm.aarch64.neon.usmmla.v4i32.v16i8", interleaves=True,
)  # fmt: skip
"""usdot and usmmla (I8MM): four products of uint8 by int8, and 2 x 8 of them by 8 x 2."""

SIGNED_BYTES = Dot(4, ((4, "llvm.aarch64.neon.sdot.v4i32.v16i8"),), adds=True, signed=True, interleaves=True)
"""sdot (DotProd): four products of int8 by int8."""

WORDS = Dot(1, ((4, "llvm.aarch64.neon.smull.v4i32"),))
"""smlal, which every NEON has: one product of int16 by int16, added to a sum of 32 bits."""

_KIB = 1024
NEON = Core(
    "neon", 4, 32, 32 * _KIB, 512 * _KIB, by_element=True, maximum=True, edges=True,
    rounds="llvm.aarch64.neon.fcvtns", steps=2,
    writer="aarch64",
    permute=Permute(
        tuple((count, f"llvm.aarch64.neon.tbl{count}.v16i8") for count in (1, 2, 4)), None, in_bytes=True, zeros=True
    ),
)  # fmt: skip


def _rates(fmas: float, loads: float, issue: float, latency: float, l2_bytes: float, far_bytes: float) -> Rates:
    return Rates(
        fmas=fmas, loads=loads, issue=issue, fma_latency=latency, l2_bytes=l2_bytes, l2_stream_bytes=l2_bytes,
        far_bytes=far_bytes,
    )  # fmt: skip


# From LLVM's scheduling models, and where it lends a CPU that of another one, as Cortex-A76 that of A57, from Arm's
# optimization guides: in a cycle, multiply-adds and loads of 128 bits, and instructions; bytes from the second-level
# cache and from beyond.
_LITTLE = _rates(1, 0.5, 2, 4, 8, 2)
_OLD = _rates(1, 1, 3, 7, 16, 4)
_MIDDLE = _rates(2, 2, 4, 4, 32, 8)
_BIG = _rates(2, 3, 5, 4, 32, 8)
_WIDE = _rates(4, 3, 8, 4, 48, 10)
_RATES: dict[str, Rates] = {
    **dict.fromkeys(("cortex-a34", "cortex-a35", "cortex-a53"), replace(_LITTLE, fma_latency=8)),
    **dict.fromkeys(("cortex-a55", "cortex-a510", "cortex-a520", "cortex-a520ae", "cortex-a320", "c1-nano"), _LITTLE),
    **dict.fromkeys(("cortex-a57", "cortex-a72", "cortex-a73", "cortex-a75", "kryo", "falkor", "saphira"), _OLD),
    **dict.fromkeys(("thunderx", "thunderxt81", "thunderxt83", "thunderxt88"), _OLD),
    **dict.fromkeys(("thunderx2t99", "thunderx3t110", "tsv110"), _MIDDLE),
    **dict.fromkeys(("ampere1", "ampere1a", "ampere1b", "ampere1c"), _MIDDLE),
    **dict.fromkeys(("cortex-a65", "cortex-a65ae", "neoverse-e1", "cortex-r82", "cortex-r82ae", "generic"), _OLD),
    **dict.fromkeys(("apple-a7", "apple-a10", "apple-a11"), _rates(3, 2, 6, 4, 32, 8)),
    **dict.fromkeys(("exynos-m3", "exynos-m4", "exynos-m5"), _rates(3, 2, 6, 4, 32, 8)),
    **dict.fromkeys(("cortex-a76", "cortex-a76ae", "cortex-a77", "neoverse-n1", "carmel"), _MIDDLE),
    "a64fx": replace(_MIDDLE, fma_latency=9, far_bytes=16),
    **dict.fromkeys(("cortex-a78", "cortex-a78ae", "cortex-a78c", "cortex-a710", "cortex-a715", "cortex-a720"), _BIG),
    **dict.fromkeys(("cortex-a720ae", "cortex-a725", "neoverse-n2", "neoverse-n3", "c1-pro"), _BIG),
}  # fmt: skip
"""Of CPUs that are not in it: those of the newest and widest."""

# Data caches of one core in KiB, (L1, L2), from the vendors' manuals, the smaller ones where they leave a choice.
_CACHES: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("cortex-a34", "cortex-a35", "cortex-a53", "cortex-a55", "cortex-a510", "cortex-a520"), (32, 128)),
    **dict.fromkeys(("cortex-a320", "cortex-a520ae", "c1-nano"), (32, 128)),
    **dict.fromkeys(("cortex-a65", "cortex-a65ae", "neoverse-e1"), (32, 128)),
    **dict.fromkeys(("cortex-a57", "cortex-a72", "cortex-a73", "generic"), (32, 512)),
    **dict.fromkeys(("cortex-a75", "cortex-a76", "cortex-a76ae", "cortex-a77"), (64, 256)),
    **dict.fromkeys(("cortex-a78", "cortex-a78ae", "cortex-a78c"), (32, 256)),
    **dict.fromkeys(("cortex-a710", "cortex-a715", "cortex-a720", "cortex-a720ae", "cortex-a725", "c1-pro"), (64, 256)),
    **dict.fromkeys(("cortex-x1", "cortex-x1c", "cortex-x2", "cortex-x3", "cortex-x4"), (64, 512)),
    **dict.fromkeys(("neoverse-n1", "neoverse-n2", "neoverse-n3", "neoverse-v1", "neoverse-512tvb"), (64, 512)),
    **dict.fromkeys(("neoverse-v2", "neoverse-v3", "neoverse-v3ae", "grace", "gb10", "cortex-x925"), (64, 1024)),
    **dict.fromkeys(("ampere1", "ampere1a", "ampere1b", "ampere1c", "c1-ultra", "c1-premium"), (64, 1024)),
    # of the cores that save energy, which share theirs
    **dict.fromkeys(("apple-m1", "apple-m2", "apple-m3", "apple-m4", "apple-m5"), (64, 1024)),
    **dict.fromkeys(("apple-a14", "apple-a15", "apple-a16", "apple-a17", "apple-a12", "apple-a13"), (32, 1024)),
    "a64fx": (64, 512),
    "tsv110": (64, 512),
    "oryon-1": (96, 2048),
    **dict.fromkeys(("thunderx2t99", "thunderx3t110"), (32, 256)),
}  # fmt: skip

_IN_ORDER = (
    "cortex-a34", "cortex-a35", "cortex-a53", "cortex-a55", "cortex-a320", "cortex-a510", "cortex-a520",
    "cortex-a520ae", "c1-nano",
)  # fmt: skip


def core_of(cpu: str, features: frozenset[str]) -> Core | None:
    """The core of a CPU with these features of LLVM."""
    if "neon" not in features:
        return None
    dot = MIXED_BYTES if "i8mm" in features else SIGNED_BYTES if "dotprod" in features else WORDS
    l1, l2 = _CACHES.get(cpu, (NEON.l1_bytes // _KIB, NEON.l2_bytes // _KIB))
    return replace(
        NEON,
        dot=dot,
        halves="fullfp16" in features,
        in_order=cpu in _IN_ORDER,
        l1_bytes=l1 * _KIB,
        l2_bytes=l2 * _KIB,
        rates=_RATES.get(cpu, _WIDE),
    )


# Those features of LLVM that Linux tells of, by its names. Without lse2, which is no instruction but a promise about
# atomic ones, of which kernels have none, and which emulators do not make.
_LINUX = {
    "aes": "aes", "altnzcv": "flagm2", "bf16": "bf16", "complxnum": "fcma", "crc": "crc32",
    "dotprod": "asimddp", "flagm": "flagm", "fp-armv8": "fp",
    "fp16fml": "asimdfhm", "fptoint": "frint", "fullfp16": "asimdhp", "i8mm": "i8mm", "jsconv": "jscvt",
    "lse": "atomics", "neon": "asimd", "rcpc": "lrcpc", "rcpc-immo": "ilrcpc",
    "rdm": "asimdrdm", "sha2": "sha2", "sha3": "sha3", "sm4": "sm4", "sme": "sme", "sve": "sve",
    "sve-aes": "sveaes", "sve-bitperm": "svebitperm", "sve-sha3": "svesha3", "sve-sm4": "svesm4", "sve2": "sve2",
}  # fmt: skip

AARCH64 = register(
    Architecture(
        name="aarch64",
        title="64-bit ARM",
        triple="aarch64-linux-gnu",
        core=core_of,
        needs="has no NEON, which all of tesa's kernels for 64-bit ARM need",
        example="cortex-a76",
        aliases=("arm64",),
        elsewhere="generic",
        general=("neoverse-n2", "neoverse-n1", "generic"),
        # names that LLVM takes and does not list
        named={"apple-m1": ("apple-m1", ()), "apple-m2": ("apple-m2", ()), "apple-m3": ("apple-m3", ())},
        toolchain=Toolchain(
            machines=("aarch64", "arm64"), cross=("aarch64-linux-gnu-g++", "aarch64-linux-gnu-gcc"),
            package="g++-aarch64-linux-gnu", zig="aarch64-linux-gnu.2.28", static="aarch64-linux-musl",
        ),
        instructions=tuple(_LINUX),
        linux=_LINUX,
        baseline=("-march=armv8-a",),
        probe=partial(probe, linux=_LINUX),
        covered="cortex-a53",
        elf=183,
        emulator="qemu-aarch64",
    )
)  # fmt: skip
