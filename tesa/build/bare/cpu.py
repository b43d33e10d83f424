"""Asks the CPU at run time for the instruction sets that a network needs, as LLVM's language."""

from collections.abc import Callable, Sequence

from tesa.build.bare.ir import escaped
from tesa.targets import hwcap
from tesa.targets.architecture import find
from tesa.targets.cpuid import places

Row = tuple[str, int, int, int]
"""A feature: its name, the word that tells of it, its bit there as a mask, the bits of the last word that it needs."""

_NONE = """
define internal void @NAME_words(ptr %words) {
  ret void
}"""

_CPUID = """
define internal i32 @NAME_cpuid(i32 %leaf, i32 %part, ptr %out) {
  %r = call { i32, i32, i32, i32 } asm sideeffect "cpuid", "@PLACES@"(i32 %leaf, i32 %part)
  %a = extractvalue { i32, i32, i32, i32 } %r, 0
  %b = extractvalue { i32, i32, i32, i32 } %r, 1
  %c = extractvalue { i32, i32, i32, i32 } %r, 2
  %d = extractvalue { i32, i32, i32, i32 } %r, 3
  %pb = getelementptr i32, ptr %out, i32 1
  %pc = getelementptr i32, ptr %out, i32 2
  %pd = getelementptr i32, ptr %out, i32 3
  store i32 %a, ptr %out
  store i32 %b, ptr %pb
  store i32 %c, ptr %pc
  store i32 %d, ptr %pd
  ret i32 %a
}
define internal i32 @NAME_saved(ptr %flags.p) {
  %flags = load i32, ptr %flags.p
  %xsave = and i32 %flags, 134217728
  %can = icmp ne i32 %xsave, 0
  br i1 %can, label %ask, label %none
ask:
  %r = call { i32, i32 } asm sideeffect "xgetbv", "={ax},={dx},{cx},~{dirflag},~{fpsr},~{flags}"(i32 0)
  %low = extractvalue { i32, i32 } %r, 0
  ret i32 %low
none:
  ret i32 0
}
""".replace("@PLACES@", "={ax},={bx},={cx},={dx},{ax},{cx},~{dirflag},~{fpsr},~{flags}")


def probe(name: str, arch: str, features: Sequence[str], word: str) -> str:
    """NAME_lacks(), 0 if the CPU has all features, and NAME_missing(text, bytes), which lists those that it lacks.

    What cannot be asked for is left out. word: LLVM's type of C's size_t.
    """
    rows, asks, count = _ASKED.get(arch, _unasked)(features)
    parts = [asks, _lacks(rows, count, arch in _DEAR), _missing(rows, count)]
    return "\n".join(parts).replace("WORD", word).replace("@NAME_", f"@{name}_")


def _unasked(_features: Sequence[str]) -> tuple[list[Row], str, int]:
    return [], _NONE, 1


def _x86(features: Sequence[str]) -> tuple[list[Row], str, int]:
    """CPUID, each leaf once; the last word is XCR0, what the system saves."""
    found = places(features)
    leaves = sorted({(leaf, part) for _, (leaf, part, _), _, _ in found})
    rows = [
        (name, 4 * leaves.index((leaf, part)) + register, 1 << bit, state)
        for name, (leaf, part, register), bit, state in found
    ]
    last = 4 * len(leaves)
    lines = ["  %scratch = alloca [4 x i32]", "  %max = call i32 @NAME_cpuid(i32 0, i32 0, ptr %scratch)"]
    for number, (leaf, part) in enumerate(leaves):
        lines += _leaf(number, leaf, part)
    if (1, 0) in leaves:
        at = 4 * leaves.index((1, 0)) + 2
        lines += [
            f"  %flags.p = getelementptr i32, ptr %words, i32 {at}",
            "  %xcr0 = call i32 @NAME_saved(ptr %flags.p)",
        ]
    else:
        lines.append("  %xcr0 = add i32 0, 0")
    lines += [f"  %state = getelementptr i32, ptr %words, i32 {last}", "  store i32 %xcr0, ptr %state"]
    body = "\n".join(["define internal void @NAME_words(ptr %words) {", *lines, "  ret void", "}"])
    return rows, _CPUID + body, last + 1


def _leaf(number: int, leaf: int, part: int) -> list[str]:
    """Ask for a leaf; one that the CPU does not know tells of nothing. The extended ones are on every 64-bit CPU."""
    at = f"  %at{number} = getelementptr i32, ptr %words, i32 {4 * number}"
    if leaf >= 1 << 31:
        return [at, f"  call i32 @NAME_cpuid(i32 {_signed(leaf)}, i32 {part}, ptr %at{number})"]
    lines = [
        at,
        f"  %has{number} = icmp uge i32 %max, {leaf}",
        f"  %leaf{number} = select i1 %has{number}, i32 {leaf}, i32 0",
        f"  call i32 @NAME_cpuid(i32 %leaf{number}, i32 {part}, ptr %at{number})",
        f"  %keep{number} = sext i1 %has{number} to i32",
    ]
    for register in range(4):
        at = f"{number}.{register}"
        lines += [
            f"  %p{at} = getelementptr i32, ptr %at{number}, i32 {register}",
            f"  %v{at} = load i32, ptr %p{at}",
            f"  %w{at} = and i32 %v{at}, %keep{number}",
            f"  store i32 %w{at}, ptr %p{at}",
        ]
    return lines


_AUXILIARY = """
declare extern_weak i64 @getauxval(i64)
define internal void @NAME_words(ptr %words) {
  %there = icmp ne ptr @getauxval, null
  br i1 %there, label %ask, label %unknown
ask:
  %first = call i64 @getauxval(i64 16)
  %second = call i64 @getauxval(i64 26)
  br label %store
unknown:
  br label %store
store:
  %a = phi i64 [ %first, %ask ], [ -1, %unknown ]
  %b = phi i64 [ %second, %ask ], [ -1, %unknown ]
  %low = trunc i64 %a to i32
  %next = trunc i64 %b to i32
  store i32 %low, ptr %words
  %next.p = getelementptr i32, ptr %words, i32 1
  store i32 %next, ptr %next.p
  ret void
}
"""


def _aarch64(features: Sequence[str]) -> tuple[list[Row], str, int]:
    """Two words of Linux; where there is no such function, on bare metal, the CPU is taken to have what is needed."""
    architecture = find("aarch64")
    linux = {} if architecture is None else architecture.linux
    rows = [(name, word, 1 << bit, 0) for name, word, bit in hwcap.places(features, linux)]
    return rows, _AUXILIARY, 3


_ASKED: dict[str, Callable[[Sequence[str]], tuple[list[Row], str, int]]] = {"x86": _x86, "aarch64": _aarch64}


_DEAR = ("x86",)
"""Architectures whose CPU takes microseconds to answer in a virtual machine, which catches the question."""

_ONCE = """
@NAME_known = internal global i32 0
define internal i32 @NAME_lacks() {
  %known = load atomic i32, ptr @NAME_known monotonic, align 4
  %asked = icmp ne i32 %known, 0
  br i1 %asked, label %answer, label %ask
answer:
  %found = xor i32 %known, 1
  ret i32 %found
ask:
  %lacks = call i32 @NAME_asked()
  %none = icmp eq i32 %lacks, 0
  %told = select i1 %none, i32 1, i32 2
  store atomic i32 %told, ptr @NAME_known monotonic, align 4
  ret i32 %lacks
}"""
"""The answer is kept: the same whoever asks first, so that threads may ask at once."""


def _lacks(rows: Sequence[Row], count: int, once: bool) -> str:
    wanted: dict[int, int] = {}
    for _, at, mask, state in rows:
        wanted[at] = wanted.get(at, 0) | mask
        wanted[count - 1] = wanted.get(count - 1, 0) | state
    lines, last = ["  %lacks = add i32 0, 0"], "%lacks"
    for at, mask in sorted(wanted.items()):
        if not mask:
            continue
        lines += [
            f"  %p{at} = getelementptr i32, ptr %words, i32 {at}",
            f"  %v{at} = load i32, ptr %p{at}",
            f"  %h{at} = and i32 %v{at}, {_signed(mask)}",
            f"  %x{at} = xor i32 %h{at}, {_signed(mask)}",
            f"  %l{at} = or i32 {last}, %x{at}",
        ]
        last = f"%l{at}"
    ask = ["  call void @NAME_words(ptr %words)"] if rows else []
    name = "asked" if once and rows else "lacks"
    head = [f"define internal i32 @NAME_{name}() {{", f"  %words = alloca [{count} x i32]", *ask]
    text = "\n".join([*head, *lines, f"  ret i32 {last}", "}"])
    return text + (_ONCE if once and rows else "")


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def _missing(rows: Sequence[Row], count: int) -> str:
    """Like snprintf: the names, as far as there is room, and the length of all of them."""
    names, table = [], []
    kind = "{ ptr, i32, i32, i32 }"
    for i, (name, at, mask, state) in enumerate(rows):
        size = len(name.encode()) + 1
        names.append(f'@NAME_feature{i} = private unnamed_addr constant [{size} x i8] c"{escaped(name)}\\00"')
        table.append(f"{kind} {{ ptr @NAME_feature{i}, i32 {at}, i32 {_signed(mask)}, i32 {state} }}")
    names.append(f"@NAME_features = private unnamed_addr constant [{len(rows)} x {kind}] [{', '.join(table)}]")
    text = _MISSING.replace("COUNT", str(len(rows))).replace("LAST", str(count - 1)).replace("WORDS", str(count))
    return "\n".join([*names, text.replace("START", "row" if rows else "end")])


_MISSING = """
define WORD @NAME_missing(ptr %text, WORD %bytes) {
entry:
  %words = alloca [WORDS x i32]
  %length.p = alloca WORD
  store WORD 0, ptr %length.p
  call void @NAME_words(ptr %words)
  %last.p = getelementptr i32, ptr %words, i32 LAST
  br label %START
row:
  %i = phi i32 [ 0, %entry ], [ %i1, %next ]
  %name.p = getelementptr { ptr, i32, i32, i32 }, ptr @NAME_features, i32 %i, i32 0
  %at.p = getelementptr { ptr, i32, i32, i32 }, ptr @NAME_features, i32 %i, i32 1
  %mask.p = getelementptr { ptr, i32, i32, i32 }, ptr @NAME_features, i32 %i, i32 2
  %need.p = getelementptr { ptr, i32, i32, i32 }, ptr @NAME_features, i32 %i, i32 3
  %name = load ptr, ptr %name.p
  %at = load i32, ptr %at.p
  %mask = load i32, ptr %mask.p
  %need = load i32, ptr %need.p
  %word.p = getelementptr i32, ptr %words, i32 %at
  %word = load i32, ptr %word.p
  %state = load i32, ptr %last.p
  %bit = and i32 %word, %mask
  %saved = and i32 %state, %need
  %is = icmp eq i32 %bit, %mask
  %kept = icmp eq i32 %saved, %need
  %has = and i1 %is, %kept
  br i1 %has, label %next, label %lacks
lacks:
  %length0 = load WORD, ptr %length.p
  %first = icmp eq WORD %length0, 0
  br i1 %first, label %letters, label %comma
comma:
  call void @NAME_letter(ptr %text, WORD %bytes, ptr %length.p, i8 44)
  call void @NAME_letter(ptr %text, WORD %bytes, ptr %length.p, i8 32)
  br label %letters
letters:
  %j = phi i32 [ 0, %lacks ], [ 0, %comma ], [ %j1, %write ]
  %letter.p = getelementptr i8, ptr %name, i32 %j
  %letter = load i8, ptr %letter.p
  %ends = icmp eq i8 %letter, 0
  br i1 %ends, label %next, label %write
write:
  call void @NAME_letter(ptr %text, WORD %bytes, ptr %length.p, i8 %letter)
  %j1 = add i32 %j, 1
  br label %letters
next:
  %i1 = add i32 %i, 1
  %more = icmp ult i32 %i1, COUNT
  br i1 %more, label %row, label %end
end:
  %length = load WORD, ptr %length.p
  %empty = icmp eq WORD %bytes, 0
  br i1 %empty, label %done, label %close
close:
  %room = sub WORD %bytes, 1
  %short = icmp ult WORD %length, %room
  %stop = select i1 %short, WORD %length, WORD %room
  %stop.p = getelementptr i8, ptr %text, WORD %stop
  store i8 0, ptr %stop.p
  br label %done
done:
  ret WORD %length
}
define internal void @NAME_letter(ptr %text, WORD %bytes, ptr %length.p, i8 %letter) {
  %length = load WORD, ptr %length.p
  %next = add WORD %length, 1
  store WORD %next, ptr %length.p
  %fits = icmp ult WORD %next, %bytes
  br i1 %fits, label %write, label %done
write:
  %p = getelementptr i8, ptr %text, WORD %length
  store i8 %letter, ptr %p
  br label %done
done:
  ret void
}"""
