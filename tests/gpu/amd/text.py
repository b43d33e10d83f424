"""AMD assembly as text to its parts: instructions with their operands and modifiers, and what its kernel is given."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.gpu.faults import Fault

REGISTER = re.compile(r"([sva])(?:(\d+)(?:\.([lh]))?|\[(\d+):(\d+)\])")
NAMED = {"vcc_lo": 106, "vcc_hi": 107, "m0": 124, "exec_lo": 126, "exec_hi": 127, "ttmp0": 108}
PAIRS = {"vcc": "vcc_lo", "exec": "exec_lo"}
TARGETS = ("gfx906", "gfx908", "gfx90a", "gfx942", "gfx1030", "gfx1100")


@dataclass(frozen=True)
class Registers:
    """Neighbouring registers: file "s", "v" or "a" (of sums of matrices), the first, and how many."""

    file: str
    first: int
    count: int

    def overlap(self, other: Registers) -> bool:
        """True where both have a register in common."""
        apart = self.first + self.count <= other.first or other.first + other.count <= self.first
        return self.file == other.file and not apart

    def __str__(self) -> str:
        return (
            f"{self.file}[{self.first}:{self.first + self.count - 1}]" if self.count > 1 else f"{self.file}{self.first}"
        )


@dataclass(frozen=True)
class Operand:
    """A register, a number or a word, with the signs of float sources. half: 0 or 1 of a register that is named as its
    lower or upper 16 bits, as in v0.l and v0.h of gfx11."""

    text: str
    registers: Registers | None = None
    negated: bool = False
    absolute: bool = False
    half: int | None = None


@dataclass(frozen=True)
class Instruction:
    """One instruction. modifiers: those with a value ("offset": "16"); words: those without."""

    name: str
    operands: tuple[Operand, ...]
    modifiers: dict[str, str]
    words: tuple[str, ...]
    line: str
    second: Instruction | None = None


@dataclass(frozen=True)
class Argument:
    """An argument of a kernel: where its bytes lie in the block of arguments."""

    name: str
    offset: int
    size: int


@dataclass
class Kernel:
    """A kernel as it was written. directives: of .amdhsa_kernel, without that prefix."""

    name: str
    target: str
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    directives: dict[str, int] = field(default_factory=dict)
    arguments: tuple[Argument, ...] = ()

    @property
    def generation(self) -> int:
        """9, 10 or 11."""
        return int(self.target[3:-2])

    @property
    def wave(self) -> int:
        """Lanes of a wave."""
        return 32 if self.generation >= 10 and self.directives.get("wavefront_size32", 1) else 64


def parse(text: str, entry: str) -> Kernel:
    """The kernel of that name. A Fault where the text has none."""
    text = re.sub(r"/\*.*?\*/", " ", re.sub(r"(//|;)[^\n]*", "", text), flags=re.S)
    target = re.search(r'\.amdgcn_target\s+"amdgcn-amd-amdhsa--(gfx\w+)', text)
    if not target or target[1] not in TARGETS:
        raise Fault(f"no .amdgcn_target of {', '.join(TARGETS)}")
    directives = re.search(rf"\.amdhsa_kernel\s+{re.escape(entry)}\b(.*?)\.end_amdhsa_kernel", text, re.S)
    if not directives:
        raise Fault(f"the text has no .amdhsa_kernel {entry}")
    kernel = Kernel(entry, target[1])
    found = re.findall(r"\.amdhsa_(\w+)\s+(\S+)", directives[1])
    kernel.directives.update({name: int(value, 0) for name, value in found})
    kernel.arguments = _arguments(text, entry)
    begin = re.search(rf"^\s*{re.escape(entry)}:", text, re.M)
    if not begin:
        raise Fault(f"no label {entry}")
    for line in text[begin.end() :].splitlines():
        _line(kernel, line.strip())
        if line.strip().startswith((".section", ".amdhsa_kernel", ".size")):
            break
    for instruction in kernel.code:
        if instruction.name.startswith(("s_branch", "s_cbranch")) and instruction.operands[0].text not in kernel.labels:
            raise Fault(f"no label {instruction.operands[0].text}  [{instruction.line}]")
    return kernel


def _arguments(text: str, entry: str) -> tuple[Argument, ...]:
    """The arguments by the kernel's part of the metadata, by their offsets."""
    parts = re.split(
        r"^\s*-\s+(?=\.args|\.agpr|\.group|\.kernarg|\.language|\.max_|\.name:)",
        text.partition("amdhsa.kernels:")[2],
        flags=re.M,
    )
    for part in parts:
        if re.search(rf"\.name:\s*{re.escape(entry)}\s*$", part, re.M) and re.search(r"\.symbol:", part):
            return _listed(part)
    raise Fault(f"the metadata has no kernel {entry}")


def _listed(part: str) -> tuple[Argument, ...]:
    listed = part.partition(".args:")[2]
    entries = re.findall(r"\{([^}]*)\}", listed) or re.split(r"^\s*-\s", listed, flags=re.M)
    found = []
    for each in entries:
        size, offset = re.search(r"\.size:\s*(\d+)", each), re.search(r"\.offset:\s*(\d+)", each)
        name = re.search(r"\.name:\s*([\w$]+)", each)
        if size and offset and "hidden_" not in each:
            found.append(Argument(name[1] if name else f"argument {len(found)}", int(offset[1]), int(size[1])))
    return tuple(sorted(found, key=lambda a: a.offset))


def _line(kernel: Kernel, line: str) -> None:
    while found := re.match(r"([\w.$]+):\s*", line):
        if found[1] in kernel.labels:
            raise Fault(f"label {found[1]} stands twice")
        kernel.labels[found[1]] = len(kernel.code)
        line = line[found.end() :]
    if line and not line.startswith("."):
        one, _, other = line.partition(" :: ")
        instruction = _instruction(one)
        if other:
            instruction = Instruction(**{**instruction.__dict__, "second": _instruction(other.strip()), "line": line})
        kernel.code.append(instruction)


def _instruction(line: str) -> Instruction:
    name, _, rest = line.partition(" ")
    modifiers: dict[str, str] = {}

    def keep(found: re.Match[str]) -> str:
        modifiers[found[1]] = found[2]
        return " "

    if not name.startswith("s_"):
        rest = re.sub(
            r"\b([a-z_]\w*):(\[[^\]]*\]|\([^)]*\)|[-\w]+)",
            lambda m: m[0] if m[0].startswith(("s[", "v[", "a[")) else keep(m),
            rest,
        )
    pieces = [piece.strip() for piece in re.split(r",(?![^\[]*\])", rest) if piece.strip()]
    words: tuple[str, ...] = ()
    if (
        pieces
        and not name.startswith("s_waitcnt")
        and len(last := pieces[-1].split()) > 1
        and not name.startswith("s_delay")
    ):
        pieces[-1], words = last[0], tuple(last[1:])
    return Instruction(name, tuple(map(_operand, pieces)), modifiers, words, line)


def _operand(text: str) -> Operand:
    inner, negated, absolute = text, False, False
    if re.match(r"-(?=[sva|]|neg)", inner):
        inner, negated = inner[1:], True
    if inner.startswith("|"):
        inner, absolute = inner.strip("|"), True
    found = REGISTER.fullmatch(inner)
    if found:
        first = int(found[2] or found[4])
        count = int(found[5]) - first + 1 if found[5] else 1
        half = "lh".index(found[3]) if found[3] else None
        return Operand(text, Registers(found[1], first, count), negated, absolute, half)
    if inner in NAMED:
        return Operand(text, Registers("s", NAMED[inner], 1), negated, absolute)
    if inner in PAIRS:
        return Operand(text, Registers("s", NAMED[PAIRS[inner]], 2), negated, absolute)
    return Operand(text, None, False, False)
