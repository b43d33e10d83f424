"""C that asks a 64-bit ARM CPU at run time which instruction sets it has: Linux tells programs in two words of bits."""

from collections.abc import Mapping, Sequence

WORDS = (16, 26)
"""The numbers of the words, AT_HWCAP and AT_HWCAP2, by which getauxval is asked for them."""

_NAMES = (
    """
    fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4
    asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg""",
    """
    dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 dgh
    rng bti mte ecv afp rpres mte3 sme smei16i64 smef64f64 smei8i32 smef16f32 smeb16f32 smef32f32 smefa64 wfxt""",
)
"""Linux's names of the bits of each word, from the lowest one on."""

_PLACES = {name: (word, bit) for word, names in enumerate(_NAMES) for bit, name in enumerate(names.split())}

_SOURCE = r"""
#ifdef __linux__
#include <sys/auxv.h>
static unsigned long bits(unsigned long word) { return getauxval(word); }
#else
static unsigned long bits(unsigned long word) { (void)word; return ~0ul; }
#endif

static const struct { const char* name; unsigned long word; int bit; } needs[] = {
@ROWS@  {"", 0, 0}
};

static int has(int i) { return bits(needs[i].word) >> needs[i].bit & 1; }
"""


def places(features: Sequence[str], linux: Mapping[str, str]) -> list[tuple[str, int, int]]:
    """(feature, number of the word, bit) for those of these features of LLVM that Linux tells of.

    linux: Linux's name of each.

    >>> places(["i8mm", "dotprod", "v8.2a"], {"dotprod": "asimddp", "i8mm": "i8mm"})
    [('i8mm', 1, 13), ('dotprod', 0, 20)]
    """
    told = [(name, _PLACES.get(linux.get(name, ""))) for name in features]
    return [(name, *place) for name, place in told if place is not None]


def probe(features: Sequence[str], linux: Mapping[str, str]) -> str:
    """C with a table `needs` of these features, ended by an empty name, and `has(i)`, true for what is there."""
    rows = (f'  {{"{name}", {WORDS[word]}, {bit}}},\n' for name, word, bit in places(features, linux))
    return _SOURCE.replace("@ROWS@", "".join(rows))
