"""Generated code as text: TIR, LLVM's IR or assembler, of the main function and of every panel."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from tesa.build.compile import called, compile_unit
from tesa.errors import UsageError
from tesa.schedules.types import Assembly, Code, Tir
from tesa.targets.target import Target

KINDS = {"tir": "TIR, TVM's tensor program", "llvm": "LLVM's intermediate representation", "asm": "assembler"}


def source(code: Code, target: Target, kind: str) -> str:
    """The text of a kernel in one of KINDS; "asm" is what the object files hold, but for what debuggers read.

    Raises UsageError for another kind.
    """
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"cannot show {kind!r}; {hint}expected {', '.join(repr(name) for name in KINDS)}")
    symbol = str(code.main.attrs["global_symbol"])
    return "\n".join(_text(unit, target, kind) for unit in called(code, symbol, target).units(symbol))


def _text(unit: Tir | Assembly, target: Target, kind: str) -> str:
    if kind == "tir":
        if isinstance(unit, Assembly):
            if unit.tir is None:
                return unit.text
            unit = unit.tir()
        return "\n".join(str(function.script(show_meta=False)) for _, function in unit.functions)
    text = str(compile_unit(unit, target.tvm).inspect_source("ll" if kind == "llvm" else "asm"))
    return "\n".join(_instructions(text.splitlines())) + "\n" if kind == "asm" else text


def _instructions(lines: Iterable[str]) -> Iterator[str]:
    """Assembler without what describes it to debuggers: their sections, and marks of places and frames."""
    hidden = False
    for line in lines:
        words = line.split()
        if words and words[0] in (".section", ".text"):
            hidden = words[0] == ".section" and words[1].startswith((".debug", '".debug', '".note'))
        if not hidden and not line.startswith((".Ltmp", ".Lfunc_", "\t.loc", "\t.file", "\t.cfi_")):
            yield line
