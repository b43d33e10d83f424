"""Generated code as text: TIR, LLVM's IR or assembler, of the main function and of every panel."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from tesa.build.compile import called, compile_unit
from tesa.errors import UsageError
from tesa.schedules.types import Assembly, Code, Tir
from tesa.targets.target import Target

KINDS = {"tir": "TIR, TVM's tensor program", "llvm": "LLVM's intermediate representation", "asm": "assembler"}


_COMMENT = {"x86": "#", "aarch64": "//", "wasm32": "#"}
_AROUND = ("__tvm_set_raised", "__tvm_ffi_main", "__truncsfhf2", "__extendhfsf2")
_MOST = 8  # mnemonics that a head counts


def source(code: Code, target: Target, kind: str, full: bool = False) -> str:
    """The text of a kernel in one of KINDS: the loops, and for "asm" how many instructions of which kind they have.

    full: with the checks of a call's arguments, too, as the object files hold it, but for what debuggers read.

    Raises UsageError for another kind.
    """
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"cannot show {kind!r}; {hint}expected {', '.join(repr(name) for name in KINDS)}")
    symbol = str(code.main.attrs["global_symbol"])
    made = called(code, symbol, target) if full or kind == "tir" else _unchecked(code, symbol, target)
    texts = [_text(unit, target, kind) for unit in made.units(symbol)]
    if kind == "asm" and not full:
        texts = ["\n".join(_loops(text.splitlines(), symbol)) + "\n" for text in texts]
    return "\n".join([_head(code, texts, target), *texts]) if kind == "asm" and not full else "\n".join(texts)


def _unchecked(code: Code, symbol: str, target: Target) -> Code:
    """The kernel as functions of bare addresses, which check nothing; as it is called where it cannot be one."""
    from tesa.schedules.cpu.bare import bare_code

    try:
        return bare_code(code, symbol)
    except ValueError:
        return called(code, symbol, target)


def _loops(lines: Sequence[str], symbol: str) -> Iterator[str]:
    """Assembler without functions that compute nothing: checks of a call's arguments, where what they call is apart,
    and what LLVM brings along."""
    checks = {f"__tvm_ffi_{symbol}"} if f"{symbol}_compute_:" in lines else set()
    hidden = ""
    for line in lines:
        name = line.removesuffix(":")
        if name != line and (name in checks or name.startswith(_AROUND)):
            hidden = name
        if not hidden:
            yield line
        if hidden and (line.startswith(f"\t.size\t{hidden},") or line == "\tend_function"):
            hidden = ""


def _head(code: Code, texts: Iterable[str], target: Target) -> str:
    """Comments above an assembler text: the instructions by kind, and where the weights stand."""
    counts = Counter(line.split()[0] for text in texts for line in text.splitlines() if _is_instruction(line))
    common = ", ".join(f"{count} {name}" for name, count in counts.most_common(_MOST))
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(_MOST))
    lines = [f"{counts.total()} instructions: {common}" + (f", {rest} others" if rest else "")]
    arrays = [f"{array.dtype} {'x'.join(map(str, array.shape))}" for array in code.constants]
    if arrays:
        lines.append(f"weights and indices are arguments behind X: {', '.join(arrays)}")
    if code.panels:
        lines.append("weights stand in the code of the panels, as operands or behind it")
    mark = _COMMENT.get(target.name.split(":")[0], "#")
    return "\n".join(f"{mark} {line}" for line in lines)


def _is_instruction(line: str) -> bool:
    return line.startswith("\t") and not line.startswith(("\t.", "\t#", "\t//"))


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
