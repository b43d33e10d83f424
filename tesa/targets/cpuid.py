"""C that asks an x86 CPU at run time which instruction sets it has, and whether the system lets programs use them.

It knows those that Linux tells of, see tesa.targets.x86: of others a compiler on the same machine does not know either
whether they are there, and must not make a library that its own machine refuses.
"""

from collections.abc import Sequence

_EXTENDED = 1 << 31
"""The leaves from there on are on every 64-bit CPU."""

_AVX, _AVX512, _AMX = 0x6, 0xE6, 0x60000
"""Registers that the system has to save, by their bits in XCR0."""

_1C, _1D, _7B, _7C, _7D = (1, 0, 2), (1, 0, 3), (7, 0, 1), (7, 0, 2), (7, 0, 3)
_71A, _AMD = (7, 1, 0), (0x80000001, 0, 2)
"""Leaf and subleaf of CPUID, and which of the registers eax, ebx, ecx, edx tells."""

_PLACES: dict[tuple[int, int, int], dict[str, int]] = {
    _1C: {
        "sse3": 0, "pclmul": 1, "ssse3": 9, "fma": 12, "sse4.1": 19, "sse4.2": 20, "movbe": 22, "popcnt": 23, "aes": 25,
        "avx": 28, "f16c": 29,
    },
    _1D: {"sse": 25, "sse2": 26},
    _7B: {
        "bmi": 3, "avx2": 5, "bmi2": 8, "avx512f": 16, "avx512dq": 17, "adx": 19, "avx512ifma": 21, "avx512cd": 28,
        "sha": 29, "avx512bw": 30, "avx512vl": 31,
    },
    _7C: {
        "avx512vbmi": 1, "avx512vbmi2": 6, "gfni": 8, "vaes": 9, "vpclmulqdq": 10, "avx512vnni": 11, "avx512bitalg": 12,
        "avx512vpopcntdq": 14,
    },
    _7D: {"avx512vp2intersect": 8, "amx-bf16": 22, "avx512fp16": 23, "amx-tile": 24, "amx-int8": 25},
    _71A: {"avxvnni": 4, "avx512bf16": 5},
    _AMD: {"lzcnt": 5, "sse4a": 6, "xop": 11, "fma4": 16},
}  # fmt: skip

_SOURCE = r"""
#include <cpuid.h>

static const struct { const char* name; unsigned leaf, part, reg, bit, state; } needs[] = {
@ROWS@  {"", 0, 0, 0, 0, 0}
};

static int has(int i) {
  unsigned r[4], first[4], low = 0, high = 0;
  if (!__get_cpuid_count(needs[i].leaf, needs[i].part, &r[0], &r[1], &r[2], &r[3])) return 0;
  if (!(r[needs[i].reg] >> needs[i].bit & 1)) return 0;
  if (!needs[i].state) return 1;
  if (!__get_cpuid(1, &first[0], &first[1], &first[2], &first[3]) || !(first[2] >> 27 & 1)) return 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & needs[i].state) == needs[i].state;
}
"""


def probe(features: Sequence[str]) -> str:
    """C with a table `needs` of these features of LLVM, ended by an empty name, and `has(i)`, true for what is there.

    What CPUID does not tell is left out.
    """
    rows = (
        f'  {{"{name}", {", ".join(map(str, (*place, bit, state)))}}},' for name, place, bit, state in places(features)
    )
    return _SOURCE.replace("@ROWS@", "".join(f"{row}\n" for row in rows))


_KEPT = """
static int fits(void) {
  static int known; /* the same whoever asks first: threads may ask at once */
  int found = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (!found) {
    found = asked() ? 1 : 2;
    __atomic_store_n(&known, found, __ATOMIC_RELAXED);
  }
  return found == 1;
}
"""


def fits(features: Sequence[str]) -> str:
    """C with `fits()`, true where the CPU has all of these features. It asks once, and keeps the answer: in a virtual
    machine a question takes microseconds. It stands behind the C of probe.
    """
    masks: dict[tuple[int, int], list[int]] = {}
    state = 0
    for _, (leaf, part, register), bit, needed in places(features):
        masks.setdefault((leaf, part), [0] * 4)[register] |= 1 << bit
        state |= needed
    if state:
        masks.setdefault((1, 0), [0] * 4)[2] |= 1 << 27  # programs may ask what the system saves
    lines = ["", "static int asked(void) {", "  unsigned a, b, c, d;"]
    if any(leaf < _EXTENDED for leaf, _ in masks):
        lines.append("  const unsigned most = __get_cpuid_max(0, 0);")
    for (leaf, part), wanted in sorted(masks.items()):
        lines += [f"  if (most < {leaf}u) return 0;"] if leaf < _EXTENDED else []
        lines += [f"  __cpuid_count({leaf}u, {part}u, a, b, c, d);"]
        lines += [f"  if (~{r} & {mask}u) return 0;" for r, mask in zip("abcd", wanted, strict=True) if mask]
    if state:
        lines += ['  __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));', f"  if (~a & {state}u) return 0;"]
    return "\n".join([*lines, "  (void)a, (void)b, (void)c, (void)d;", "  return 1;", "}", _KEPT])


def places(features: Sequence[str]) -> list[tuple[str, tuple[int, int, int], int, int]]:
    """(feature, (leaf, subleaf, register), bit, what the system has to save) for those of which CPUID tells.

    >>> places(["avx2", "slow-3ops-lea"])
    [('avx2', (7, 0, 1), 5, 6)]
    """
    found = {name: (place, bit) for place, bits in _PLACES.items() for name, bit in bits.items()}
    return [(name, *found[name], _state(name)) for name in features if name in found]


def _state(feature: str) -> int:
    if feature.startswith("amx"):
        return _AMX
    if feature.startswith("avx512"):
        return _AVX512
    wide = ("avx", "fma", "f16c", "xop", "vaes", "vpclmulqdq")
    return _AVX if feature.startswith(wide) else 0
