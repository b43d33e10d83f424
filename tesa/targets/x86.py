"""x86-64: three cores, by what a CPU's features are, and the caches of its CPUs."""

from dataclasses import replace

from tesa.schedules.types import Core, Dot, Permute, Rates
from tesa.targets.architecture import Architecture, register
from tesa.targets.cpuid import probe
from tesa.targets.toolchain import Toolchain

PAIRS = Dot(2, ((16, "llvm.x86.avx512.pmaddw.d.512"), (8, "llvm.x86.avx2.pmadd.wd"), (4, "llvm.x86.sse2.pmadd.wd")))
"""vpmaddwd: two 16-bit products, and an addition."""

BYTES = Dot(4, tuple((lanes, f"llvm.x86.avx512.vpdpbusd.{lanes * 32}") for lanes in (16, 8, 4)), adds=True)
"""vpdpbusd (VNNI): four products of bytes."""

ANY_BYTES = Permute(((1, "llvm.x86.avx512.permvar.qi.512"), (2, "llvm.x86.avx512.vpermi2var.qi.512")), in_bytes=True)
"""vpermb (VBMI): each byte takes any one of 64; vpermi2b: of 128."""


def _within_16(name: str) -> Permute:
    """vpshufb (SSSE3 and wider ones): each byte takes any one of its own 16."""
    return Permute(((1, name),), in_bytes=True, part=16)


EXPAND_BYTES = "llvm.x86.avx512.mask.expand"
"""vpexpandb (VBMI2): each byte whose bit is set takes the next one."""

NARROWS = (
    (16, ("llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512")),
    (8, ("llvm.x86.avx2.packssdw", "llvm.x86.avx2.packuswb")),
    (4, ("llvm.x86.sse2.packssdw.128", "llvm.x86.sse2.packuswb.128")),
)
"""vpackssdw and vpackuswb."""

_KIB = 1024
AVX512 = Core(
    "avx512", 16, 32, 32 * _KIB, 1024 * _KIB, masks=True, writer="x86", dot=PAIRS,
    permute=Permute(((2, "llvm.x86.avx512.vpermi2var.ps.512"),)), nearest="llvm.lrint", narrows=NARROWS,
    permute_parts=_within_16("llvm.x86.avx512.pshuf.b.512"), byte_pairs="llvm.x86.avx512.pmaddubs.w.512",
)  # fmt: skip
AVX2 = Core(
    "avx2", 8, 16, 32 * _KIB, 256 * _KIB, writer="x86", dot=PAIRS, permute=Permute(((1, "llvm.x86.avx2.permps"),)),
    nearest="llvm.lrint", narrows=NARROWS[1:],
    permute_parts=_within_16("llvm.x86.avx2.pshuf.b"), byte_pairs="llvm.x86.avx2.pmadd.ub.sw",
)  # fmt: skip
# a product and a sum are two instructions here
SSE42 = Core(
    "sse4.2", 4, 16, 32 * _KIB, 256 * _KIB, fma=False, dot=Dot(2, PAIRS.intrinsics[2:]),
    permute=Permute(((1, "llvm.x86.ssse3.pshuf.b.128"),), in_bytes=True), rates=Rates(fmas=1.0, issue=4.0),
    nearest="llvm.lrint", narrows=NARROWS[2:],
    permute_parts=_within_16("llvm.x86.ssse3.pshuf.b.128"), byte_pairs="llvm.x86.ssse3.pmadd.ub.sw.128",
)  # fmt: skip

# Data caches of one core in KiB, (L1, L2), from the vendors' optimization manuals. A family only takes a tile size
# from them, so the smaller core of a hybrid CPU decides. Never read from the machine: the code must not depend on it.
_CACHES: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("haswell", "core-avx2", "core-4th-gen-avx", "core-4th-gen-avx-tsx"), (32, 256)),
    **dict.fromkeys(("broadwell", "core-5th-gen-avx", "core-5th-gen-avx-tsx", "skylake", "x86-64-v3"), (32, 256)),
    **dict.fromkeys(("skx", "skylake-avx512", "cascadelake", "cooperlake", "x86-64-v4"), (32, 1024)),
    **dict.fromkeys(("icelake-client", "rocketlake"), (48, 512)),
    **dict.fromkeys(("icelake-server", "tigerlake"), (48, 1280)),
    **dict.fromkeys(("sapphirerapids", "emeraldrapids", "diamondrapids"), (48, 2048)),
    **dict.fromkeys(("graniterapids", "graniterapids-d"), (48, 2048)),
    **dict.fromkeys(("alderlake", "raptorlake", "meteorlake"), (32, 1280)),
    **dict.fromkeys(("arrowlake", "arrowlake-s", "lunarlake", "pantherlake"), (32, 2048)),
    **dict.fromkeys(("znver1", "znver2", "znver3"), (32, 512)),
    "znver4": (32, 1024),
    "znver5": (48, 1024),
    **dict.fromkeys(("silvermont", "slm"), (24, 512)),
    **dict.fromkeys(("goldmont", "goldmont-plus"), (24, 1024)),
    "tremont": (32, 1024),
    **dict.fromkeys(("bdver1", "bdver2", "bdver3", "bdver4"), (16, 1024)),
    "btver2": (32, 512),
}

_TWO_PERMUTATIONS = ("znver4", "znver5")
"""CPUs that permute bytes, and add up products of bytes, in two units of which one does both."""


def core_of(cpu: str, features: frozenset[str]) -> Core | None:
    """The core of a CPU with these features of LLVM. AVX alone computes with integers in 4 lanes, as SSE does."""
    if "sse4.2" not in features:
        return None
    wide = {"avx2", "fma"} <= features
    core = AVX512 if wide and {"avx512f", "avx512vl"} <= features else AVX2 if wide else SSE42
    l1, l2 = _CACHES.get(cpu.replace("_", "-"), (core.l1_bytes // _KIB, core.l2_bytes // _KIB))
    dot = BYTES if ("avx512vnni" if core is AVX512 else "avxvnni") in features else core.dot
    permute_bytes = ANY_BYTES if core is AVX512 and "avx512vbmi" in features else None
    expand_bytes = EXPAND_BYTES if core is AVX512 and "avx512vbmi2" in features else ""
    return replace(
        core,
        permute_bytes=permute_bytes,
        expand_bytes=expand_bytes,
        l1_bytes=l1 * _KIB,
        l2_bytes=l2 * _KIB,
        dot=dot,
        fma="fma" in features,
        rates=replace(core.rates, permutes=1.5) if cpu in _TWO_PERMUTATIONS else core.rates,
    )


# Those features of LLVM that Linux has told by other names, or by these, since Linux 5.4.
_LINUX = {
    **{name: name for name in (
        "adx", "aes", "avx", "avx2", "bmi2", "f16c", "fma", "fma4", "gfni", "movbe", "popcnt", "sse", "sse2", "sse4a",
        "ssse3", "vaes", "vpclmulqdq", "xop", "avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl", "avx512ifma",
        "avx512vbmi",
    )},
    **{f"avx512{name}": f"avx512_{name}" for name in ("bf16", "bitalg", "fp16", "vbmi2", "vnni", "vpopcntdq")},
    **{f"amx-{name}": f"amx_{name}" for name in ("bf16", "int8", "tile")},
    "avxvnni": "avx_vnni", "avx512vp2intersect": "avx512_vp2intersect", "bmi": "bmi1", "lzcnt": "abm",
    "pclmul": "pclmulqdq", "sha": "sha_ni", "sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2",
}  # fmt: skip

X86 = register(
    Architecture(
        name="x86",
        title="x86-64",
        triple="x86_64-linux-gnu",
        core=core_of,
        needs="has no SSE4.2, which all of tesa's x86 kernels need; the oldest CPUs they run on are x86:nehalem and "
        "those of level x86:x86-64-v2",
        example="haswell",
        aliases=("x86_64", "x86-64", "amd64"),
        plain="x86-64",
        general=("x86-64-v4", "x86-64-v3", "x86-64-v2"),
        toolchain=Toolchain(
            machines=("x86_64", "amd64"), cross=("x86_64-linux-gnu-g++", "x86_64-linux-gnu-gcc"),
            package="g++-x86-64-linux-gnu", zig="x86_64-linux-gnu.2.28", static="x86_64-linux-musl",
        ),
        instructions=(
            "adx", "aes", "amx", "avx", "bmi", "f16c", "fma", "gfni", "lzcnt", "movbe", "pclmul", "popcnt", "sha",
            "sse", "ssse", "vaes", "vpclmulqdq", "xop",
        ),
        linux=_LINUX,
        baseline=("-march=x86-64", "-mtune=generic"),
        covered="x86-64-v3",
        elf=62,
        emulator="qemu-x86_64",
        probe=probe,
    )
)  # fmt: skip
