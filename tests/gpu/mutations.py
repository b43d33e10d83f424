"""Mistakes that are planted into the texts of kernels: each must be found by running them on NumPy.

A mistake is a rule that finds lines of a text and writes them wrongly. `mutants` applies every rule that fits to a
text, at its first and its last line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Change = Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Mutation:
    """A kind of mistake: lines that match a pattern are written as `change` says; the last `most` places of all."""

    name: str
    pattern: str
    change: Change
    most: int = 2

    def places(self, text: str) -> list[re.Match[str]]:
        """Where the mistake can be made, as far as it makes a difference."""
        return [found for found in re.finditer(self.pattern, text, re.M) if self.change(found) != found[0]]


def _nothing(_: re.Match[str]) -> str:
    return ""


def _more(group: int, by: int) -> Change:
    """A number of the line becomes larger."""

    def change(found: re.Match[str]) -> str:
        start, end = (place - found.start() for place in found.span(group))
        return found[0][:start] + str(int(found[group], 0) + by) + found[0][end:]

    return change


def _swapped(first: int, second: int) -> Change:
    """Two registers of a line change places."""

    def change(found: re.Match[str]) -> str:
        (a, b), (c, d) = (tuple(p - found.start() for p in found.span(g)) for g in (first, second))
        whole = found[0]
        return whole[:a] + found[second] + whole[b:c] + found[first] + whole[d:]

    return change


def _bit(found: re.Match[str]) -> str:
    """The third bit of the fraction of a weight: an eighth of its size."""
    return found[0].replace(found[1], f"{int(found[1], 16) ^ 1 << 20:08X}")


def _no_carry(found: re.Match[str]) -> str:
    """The sum of two addresses by their lower halves, the upper half being that of the larger, a pointer."""
    target, a, b = found[1], found[2], found[3]
    return (
        f"{{ .reg .b32 %l0, %l1, %h0, %h1; .reg .pred %c; mov.b64 {{%l0, %h0}}, {a}; mov.b64 {{%l1, %h1}}, {b}; "
        f"add.u32 %l0, %l0, %l1; setp.gt.s32 %c, %h0, %h1; selp.b32 %h0, %h0, %h1, %c; "
        f"mov.b64 {target}, {{%l0, %h0}}; }}"
    )


SIX = r"\{([^,}]+), ([^,}]+)"
PTX = (
    Mutation("a load of X or W from the next word", r"^ld\.global\.nc\S* .*\[%\w+\+(\d+)\];", _more(1, 4)),
    Mutation("a load of shared memory from the next word", r"^ld\.shared\S* .*\+(\d+)\];", _more(1, 4)),
    Mutation("a store to shared memory beside its place", r"^st\.shared\S* \[%\w+\+(\d+)\]", _more(1, 16)),
    Mutation("a result one row too far", r"^st\.global\S* \[%ry\d\+(\d+)\]", _more(1, 4)),
    Mutation("no barrier", r"^bar\.sync [^;]*;", _nothing),
    Mutation("a wait for one group too few", r"^cp\.async\.wait_group (\d+);", _more(1, 1)),
    Mutation("copies that are no group", r"^cp\.async\.commit_group;", _nothing),
    Mutation("one bit of a weight", r"^fma\.rn\.f32 %a\d+, %x\d+, 0f(\w{8}),", _bit),
    Mutation("another sum", r"^fma\.rn\S* %a\d+, %x\d+, \S+ %a(\d+);", _more(1, 1)),
    Mutation("a border that is not looked at", r"^@%(in|p\d+_\d+_\d+) (?=ld)", _nothing),
    Mutation("zeros that are copied as numbers", r"(?<=, 4), %z\w+(?=;)", _nothing),
    Mutation("a border three rows too early", r"^setp\.lt\.u32 %(?:q|p\w+), %[uz], (\d+);", _more(1, -3)),
    Mutation("columns beyond the last one", r"^min\.u32 %(?:cc|j), %\w+, (\d+);", _more(1, 8)),
    Mutation("results beyond the last one", r"^setp\.lt\.u32 %k\d+, %m\d+, (\d+);", _more(1, 16)),
    Mutation("fragments of W that changed places", rf"^mma\S* \{{[^}}]*\}}, {SIX}", _swapped(1, 2)),
    Mutation("fragments of X that changed places", rf"^mma\S* \{{[^}}]*\}}, \{{[^}}]*\}}, {SIX}", _swapped(1, 2)),
    Mutation("sums that changed places", rf"^mma\S* {SIX}", _swapped(1, 2)),
    Mutation("codes of another sign", r"(?<=\.s8)\.u8(?=\.s32)", lambda _: ".s8"),
    Mutation("halves that changed places", r"^cvt\.rn\.(?:b?f16x2)\.f32 \S+ (\S+), (\S+);", _swapped(1, 2)),
    Mutation("bytes in another order", r"^prmt\.b32 \S+ \S+ \S+ 0x(5410);", lambda m: m[0].replace("5410", "1054")),
    Mutation(
        "one bit of four codes",
        r"^dp4a\S* \S+ \S+ 0x(\w{8}),",
        lambda m: m[0].replace(m[1], f"{int(m[1], 16) ^ 1 << 22:08X}"),
    ),
    Mutation(
        "the columns of another word",
        r"^dp4a\S* \S+ %z(\d),",
        lambda m: m[0].replace(f"%z{m[1]},", f"%z{3 - int(m[1])},"),
    ),
    Mutation("a copy of the wrong place", r"^(?:@%\w+ )?cp\.async\.\S+ \[%\w+\+(\d+)\]", _more(1, 16)),
    Mutation("a unit that starts too early", r"^wgmma\.fence[^;]*;", _nothing),
    Mutation("a unit that nobody waits for", r"^wgmma\.wait_group\S* (\d+);", _more(1, 1)),
    Mutation("products that are no group", r"^wgmma\.commit_group[^;]*;", _nothing),
    Mutation("stores that the unit does not see", r"^fence\.proxy\.async[^;]*;", _nothing),
    Mutation("another core of W or X", r"^add\.u64 %d[ab], %d[ab], (\d+);", _more(1, 8)),
    Mutation("a place of X that is in use", r"^xor\.b32 %flip, %flip, (\d+);", lambda m: m[0].replace(m[1], "0")),
    Mutation("a step too few", r"^sub\.u32 %left, %left, (1);", _more(1, 1)),
    Mutation("weights of the step before", r"^add\.u64 %pw, %pw, \d+;", _nothing),
    Mutation("a bias of the next row", r"^ld\.global\.nc\.f32 %f\d+, \[%bias\+(\d+)\];", _more(1, 4)),
    Mutation("an address without its carry", r"^add\.[su]64 (%(?:ad|w\d+)), (%\w+), (%\w+);", _no_carry, 1),
    Mutation("a register that nothing set", r"^(fma\.rn\.f32 %a\d+, )(%x\d+)", lambda m: m[1] + "%unset"),
)

AMD = (
    Mutation("a load from the next word", r"^\s*global_load\S* .* offset:(\d+)", _more(1, 4)),
    Mutation("a load of LDS from the next word", r"^\s*ds_(?:read|load)\S* .* offset:(\d+)", _more(1, 8)),
    Mutation("a store to LDS beside its place", r"^\s*ds_(?:write|store)\S* .* offset:(\d+)", _more(1, 8)),
    Mutation("a wait for one load too few", r"^\s*s_waitcnt vmcnt\((\d+)\)", _more(1, 1)),
    Mutation("no wait for LDS or arguments", r"^\s*s_waitcnt lgkmcnt\(\d+\)", _nothing),
    Mutation("no barrier", r"^\s*s_barrier", _nothing),
    Mutation("one bit of a weight", r"^\s*v_fmac_f32\S* v\d+, 0x(\w+),", _bit),
    Mutation(
        "one bit of four codes",
        r"^\s*s_mov_b32 s28, 0x(\w{5,8})$",
        lambda m: m[0].replace(m[1], f"{int(m[1], 16) ^ 1 << 14:x}"),
    ),
    Mutation(
        "one bit of a weight of a pair",
        r"^\s*s_movk_i32 s\d+, 0x(\w{4})$",
        lambda m: m[0].replace(m[1], f"{int(m[1], 16) ^ 1 << 12:04x}"),
    ),
    Mutation("another sum of pairs", r"^\s*v_pk_fma_f16 v(\d+),", _more(1, 1)),
    Mutation("halves that changed places", r"^\s*v_pack_b32_f16 \S+ (\S+), (\S+)$", _swapped(1, 2)),
    Mutation("a mask that is left out", r"^\s*s_and_saveexec_b32 s32, s34", lambda m: m[0].replace("s34", "exec_lo")),
    Mutation("another sum", r"^\s*v_fmac_f32\S* v(\d+), 0x", _more(1, 1)),
    Mutation(
        "no carry", r"^\s*s_addc_u32 s(?:27|5|7), s\d+, \S+", lambda m: m[0].replace("s_addc_u32", "s_add_u32"), 1
    ),
    Mutation("fragments that changed places", r"^\s*v_(?:mfma|wmma|smfmac)\S* \S+ (\S+), (\S+),", _swapped(1, 2)),
    Mutation("results that come late", r"^\s*(?:s_waitcnt_depctr 0xfff|s_nop 0)$", _nothing),
    Mutation("a step too few", r"^\s*s_sub_u32 s\d+, s\d+, (1)$", _more(1, 1)),
    Mutation("codes of another sign", r"neg_lo:\[1,0,0\]", lambda _: "neg_lo:[1,1,0]"),
)


def mutants(text: str) -> Iterator[tuple[str, str]]:
    """The mistakes that can be made in a text: what was done, and the text with it."""
    for mutation in AMD if ".amdgcn_target" in text else PTX:
        places = mutation.places(text)
        chosen = {found.start(): found for found in (places[:1] if mutation.most > 1 else []) + places[-1:]}
        for found in chosen.values():
            line = text.count("\n", 0, found.start()) + 1
            wrong = text[: found.start()] + mutation.change(found) + text[found.end() :]
            if "%unset" in wrong and "%unset" not in text:
                wrong = wrong.replace("\n{\n", "\n{\n.reg .f32 %unset;\n", 1)
            yield f"{mutation.name}, line {line}: {found[0].strip()}", wrong
