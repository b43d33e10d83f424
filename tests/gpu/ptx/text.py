"""PTX as text to its parts: parameters, variables, and instructions whose names are resolved. Nothing runs here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from tests.gpu.faults import Fault

BYTES = {
    "pred": 1,
    "b8": 1,
    "u8": 1,
    "s8": 1,
    "b16": 2,
    "u16": 2,
    "s16": 2,
    "f16": 2,
    "bf16": 2,
    "b32": 4,
    "u32": 4,
    "s32": 4,
    "f32": 4,
    "f16x2": 4,
    "bf16x2": 4,
    "tf32": 4,
    "b64": 8,
    "u64": 8,
    "s64": 8,
    "f64": 8,
    "b128": 16,
    "b1": 1,
}
"""The size of each type."""

VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak)\s+)*\.(shared|const|global)(?:\s+\.attribute\([^)]*\))?"
    r"(?:\s+\.align\s+(\d+))?\s+\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?\s*(?:=\s*(.*))?$",
    re.S,
)
PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s*(?:\.ptr\s*(?:\.\w+\s*)?(?:\.align\s+\d+\s*)?)?\s*([\w$%]+)(?:\[(\d+)\])?"
)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel: where its bytes begin in the block of parameters."""

    name: str
    type: str
    size: int
    offset: int


@dataclass(frozen=True)
class Register:
    """A register that a text declares, by its place among all of them."""

    name: str
    type: str
    slot: int


Operand = Register | str | tuple["Register | str", ...]


@dataclass(frozen=True)
class Instruction:
    """One instruction: its words between the points, operands, guard, and its line for messages."""

    words: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | None
    negated: bool
    line: str


@dataclass
class Kernel:
    """A kernel as it was written. shared: static bytes of it; variables: names to (space, offset), None for extern."""

    name: str
    parameters: tuple[Parameter, ...]
    registers: list[Register] = field(default_factory=list)
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shared: int = 0
    variables: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    constants: bytearray = field(default_factory=bytearray)
    directives: str = ""
    version: tuple[int, int] = (0, 0)
    target: str = ""

    @cached_property
    def groups(self) -> bool:
        """True where units of four warps are used."""
        return any(one.words[0] == "wgmma" for one in self.code)


def parse(text: str, entry: str) -> Kernel:
    """The kernel of that name. A Fault where the text has none, or is not PTX."""
    text = re.sub(r"/\*.*?\*/", " ", re.sub(r"//[^\n]*", "", text), flags=re.S)
    head = re.search(rf"\.entry\s+{re.escape(entry)}\s*(\([^)]*\))?([^{{;]*)\{{", text)
    if not head:
        raise Fault(f"the text has no .entry {entry}")
    begin = re.match(r"\s*\.version\s+(\d+)\.(\d+)\s+\.target\s+(sm_\d+a?)", text)
    if not begin:
        raise Fault("PTX begins with .version and .target")
    version = (int(begin[1]), int(begin[2]))
    kernel = Kernel(entry, tuple(_parameters(head[1] or "")), directives=" ".join(head[2].split()), version=version)
    kernel.target = begin[3]
    first = re.search(r"\.entry|\.func", text)
    before = text[: first.start() if first else 0]
    for statement in re.sub(r"\.(version|target|address_size)[^\n]*", "", before).split(";"):
        if "=" in statement or re.search(r"\.(shared|const|global)\b", statement):
            _variable(kernel, re.sub(r"\.visible\s*$", "", statement.strip()))
    body = _Body(kernel)
    for piece in _statements(text, head.end()):
        body.take(piece)
    for instruction in kernel.code:
        if instruction.words[0] == "bra" and instruction.operands[0] not in kernel.labels:
            raise Fault(f"no label {instruction.operands[0]}  [{instruction.line}]")
    return kernel


def _parameters(text: str) -> Iterator[Parameter]:
    at = 0
    for piece in filter(None, (piece.strip() for piece in text.strip("()").split(","))):
        found = PARAMETER.fullmatch(piece)
        if not found or found[2] not in BYTES:
            raise Fault(f"not a parameter: {piece}")
        each = BYTES[found[2]]
        align = int(found[1] or each)
        size = each * int(found[4] or 1)
        at = -(-at // align) * align
        yield Parameter(found[3], found[2], size, at)
        at += size


def _variable(kernel: Kernel, statement: str) -> None:
    found = VARIABLE.fullmatch(statement.strip())
    if not found:
        raise Fault(f"not a variable: {statement.strip()[:80]}")
    space, align, kind, name, count, values = found.groups()
    size = BYTES[kind] * int(count or (0 if count == "" else 1))
    step = int(align or BYTES[kind])
    if space == "shared":
        kernel.shared = -(-kernel.shared // step) * step
        kernel.variables[name] = ("shared", None if ".extern" in statement else kernel.shared)
        kernel.shared += size
        return
    while len(kernel.constants) % step:
        kernel.constants.append(0)
    kernel.variables[name] = (space, len(kernel.constants))
    items = [
        int(v.strip().rstrip("U"), 0) if not v.strip().lower().startswith("0f") else int(v.strip()[2:], 16)
        for v in (values or "").strip("{} \n").split(",")
        if v.strip()
    ]
    data = b"".join((v & ((1 << 8 * BYTES[kind]) - 1)).to_bytes(BYTES[kind], "little") for v in items)
    kernel.constants += data.ljust(size, b"\0")


def _statements(text: str, at: int) -> Iterator[str]:
    """The statements of a body, the braces of scopes among them as "{" and "}"; labels as "name:"."""
    depth = 1
    label = re.compile(r"\s*([\w$]+)\s*:(?!:)")
    directive = re.compile(r"\s*\.(loc|file)\b[^\n]*\n")
    while depth:
        if found := directive.match(text, at):
            at = found.end()
        elif found := re.compile(r"\s*([{}])").match(text, at):
            depth += 1 if found[1] == "{" else -1
            at = found.end()
            if depth:
                yield found[1]
        elif found := label.match(text, at):
            yield found[1] + ":"
            at = found.end()
        else:
            end = text.find(";", at)
            if end < 0:
                raise Fault("the body does not end")
            yield " ".join(text[at:end].split())
            at = end + 1


class _Body:
    """Takes the statements of a body one by one. Scopes may declare a name again."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._scopes: list[dict[str, Register]] = [{}]
        self._label = ""

    def take(self, piece: str) -> None:
        kernel = self._kernel
        if piece == "{":
            self._scopes.append({})
        elif piece == "}":
            self._scopes.pop()
        elif piece.endswith(":"):
            if piece[:-1] in kernel.labels:
                raise Fault(f"label {piece} stands twice")
            kernel.labels[piece[:-1]] = len(kernel.code)
            self._label = piece[:-1]
        elif piece.startswith(".reg"):
            self._declare(piece)
        elif piece.startswith(".shared"):
            _variable(kernel, piece)
        elif piece.startswith(".branchtargets"):
            kernel.tables[self._label] = tuple(re.findall(r"[\w$]+", piece[len(".branchtargets") :]))
        elif piece.startswith(".pragma") or not piece:
            pass
        elif piece.startswith("."):
            raise Fault(f"unknown directive: {piece}")
        else:
            kernel.code.append(self._instruction(piece))

    def _declare(self, piece: str) -> None:
        kind, names = re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", piece).groups()  # type: ignore[union-attr]
        if kind not in BYTES:
            raise Fault(f"unknown type: {piece}")
        for name in (n.strip() for n in names.split(",")):
            many = re.fullmatch(r"(.*)<(\d+)>", name)
            for each in [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [name]:
                if each in self._scopes[-1]:
                    raise Fault(f"{each} is declared twice")
                register = Register(each, kind, len(self._kernel.registers))
                self._kernel.registers.append(register)
                self._scopes[-1][each] = register

    def _resolve(self, text: str) -> Register | str:
        for scope in reversed(self._scopes):
            if text in scope:
                return scope[text]
        return text

    def _operand(self, text: str) -> Operand:
        if text.startswith("{"):
            return tuple(self._resolve(part.strip()) for part in text.strip("{}").split(",") if part.strip())
        if text.startswith("["):
            inner = re.fullmatch(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+))?\s*\]", text)
            if not inner:
                raise Fault(f"not an address: {text}")
            return ("[", self._resolve(inner[1]), inner[2] or "0")
        if text.startswith("!"):
            return ("!", self._resolve(text[1:].strip()))
        if "|" in text:
            return tuple(self._resolve(part.strip()) for part in text.split("|"))
        return self._resolve(text)

    def _instruction(self, piece: str) -> Instruction:
        found = re.fullmatch(r"(?:@(!?)(\S+)\s+)?([\w.:]+)\s*(.*)", piece)
        if not found:
            raise Fault(f"not an instruction: {piece}")
        guard = self._resolve(found[2]) if found[2] else None
        if isinstance(guard, str):
            raise Fault(f"unknown predicate {guard}  [{piece}]")
        pieces = re.findall(r"\s*(\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*)\s*(?:,|$)", found[4])
        operands = tuple(self._operand(part.strip()) for part in pieces if part.strip())
        return Instruction(tuple(found[3].split(".")), operands, guard, found[1] == "!", piece)
