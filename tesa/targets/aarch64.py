"""64-bit ARM: one core with NEON, by what a CPU's features are."""

from dataclasses import replace
from functools import partial

from tesa.schedules.types import Core, Dot, Permute
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
    "neon", 4, 32, 32 * _KIB, 512 * _KIB, by_element=True, maximum=True, steps=2, writer="aarch64",
    permute=Permute(
        tuple((count, f"llvm.aarch64.neon.tbl{count}.v16i8") for count in (1, 2, 4)), None, in_bytes=True, zeros=True
    ),
)  # fmt: skip

_IN_ORDER = (
    "cortex-a34", "cortex-a35", "cortex-a53", "cortex-a55", "cortex-a320", "cortex-a510", "cortex-a520",
    "cortex-a520ae",
)  # fmt: skip


def core_of(cpu: str, features: frozenset[str]) -> Core | None:
    """The core of a CPU with these features of LLVM."""
    if "neon" not in features:
        return None
    dot = MIXED_BYTES if "i8mm" in features else SIGNED_BYTES if "dotprod" in features else WORDS
    return replace(NEON, dot=dot, in_order=cpu in _IN_ORDER)


# Those features of LLVM that Linux tells of, by its names.
_LINUX = {
    "aes": "aes", "bf16": "bf16", "complxnum": "fcma", "crc": "crc32", "dotprod": "asimddp", "fp-armv8": "fp",
    "fp16fml": "asimdfhm", "fullfp16": "asimdhp", "i8mm": "i8mm", "jsconv": "jscvt", "lse": "atomics", "neon": "asimd",
    "rcpc": "lrcpc", "rdm": "asimdrdm", "sha2": "sha2", "sha3": "sha3", "sve": "sve", "sve2": "sve2",
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
        emulator="qemu-aarch64",
    )
)  # fmt: skip
