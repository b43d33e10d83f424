"""The instructions of a kernel for 64-bit ARM: its inner loops, what they hold, and what a CPU does not have.

code = listing(objects)                    of the object files of programs.objects_of
for loop in code.loops():                  innermost loops, the longest first
    loop.count("fmla"), loop.count(ELEMENT), loop.spills()
foreign(objects, "cortex-a53")             instructions that this CPU of LLVM does not have
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import require_system

ELEMENT = r"(fmla|mla|smlal2?|sdot|usdot)\s.*\.[bhsd]?\[\d+\]$"
"""A product with one element of a vector."""

_OBJDUMP = ("llvm-objdump-22", "llvm-objdump-21", "llvm-objdump-19", "llvm-objdump")
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(.*)$")
_BRANCH = re.compile(r"^(b\.?\w*|cbn?z|tbn?z)\s+(?:.*,\s*)?0x([0-9a-f]+)")


@dataclass(frozen=True)
class Loop:
    """The lines of a loop, as "mnemonic operands"."""

    lines: tuple[str, ...]

    def count(self, pattern: str) -> int:
        """How many lines begin with what matches the pattern."""
        return sum(bool(re.match(pattern, line)) for line in self.lines)

    def spills(self) -> tuple[str, ...]:
        """Loads and stores of vectors on the stack."""
        return tuple(line for line in self.lines if re.match(r"(ld|st)u?[rp]\s+[qdsvz]\d+.*\[sp\b", line))


@dataclass(frozen=True)
class Listing:
    """Instructions by address, section after section."""

    sections: tuple[tuple[tuple[int, str], ...], ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """All instructions."""
        return tuple(line for section in self.sections for _, line in section)

    def loops(self) -> list[Loop]:
        """The innermost loops, the one with the most instructions first."""
        found = []
        for section in self.sections:
            ranges = [(int(m[2], 16), at) for at, line in section if (m := _BRANCH.match(line)) and int(m[2], 16) <= at]
            inner = [r for r in ranges if not any(o != r and o[0] >= r[0] and o[1] <= r[1] for o in ranges)]
            found += [Loop(tuple(line for at, line in section if low <= at <= high)) for low, high in inner]
        return sorted(found, key=lambda loop: -len(loop.lines))

    def busiest(self, pattern: str = "fmla") -> Loop:
        """The innermost loop with the most such instructions."""
        return max(self.loops(), key=lambda loop: loop.count(pattern))


def listing(objects: Sequence[Path], cpu: str = "") -> Listing:
    """The instructions of object files; of a named CPU, those that it lacks are shown as <unknown>."""
    tool = next(filter(shutil.which, _OBJDUMP), _OBJDUMP[-1])
    words = [require_system(tool, "llvm"), "-d", "--no-show-raw-insn"]
    words += [f"--mcpu={cpu}"] if cpu else ["--mattr=+all"]
    done = subprocess.run([*words, *map(str, objects)], check=True, capture_output=True, text=True)
    sections: list[list[tuple[int, str]]] = []
    for line in done.stdout.splitlines():
        if line.startswith("Disassembly of section"):
            sections.append([])
        elif (found := _LINE.match(line)) and sections:
            sections[-1].append((int(found[1], 16), " ".join(found[2].split("<")[0].split("//")[0].split())))
    return Listing(tuple(map(tuple, sections)))


def foreign(objects: Sequence[Path], cpu: str) -> list[str]:
    """The instructions that a CPU of LLVM does not have."""
    every, known = listing(objects).lines, listing(objects, cpu).lines
    assert len(every) == len(known)
    return sorted({a for a, b in zip(every, known, strict=True) if not b and a})
