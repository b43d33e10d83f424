"""Generated code as text: TIR, LLVM's IR or assembler, of the main function and of every panel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from tesa.build.objects import PIPELINES, compile_functions
from tesa.errors import UsageError
from tesa.schedules.types import ASSEMBLY, Code
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
    groups = code.objects(str(code.main.attrs["global_symbol"]))
    texts = (
        _text(tuple(function for _, function in functions), target, PIPELINES[pipeline], kind)
        for functions, pipeline in groups
    )
    return "\n".join(texts)


def _text(functions: tuple[Any, ...], target: Target, pipeline: str, kind: str) -> str:
    if kind == "tir":  # or assembly, where a family writes that itself
        return "\n".join(
            str(function.attrs[ASSEMBLY]) if ASSEMBLY in function.attrs else str(function.script(show_meta=False))
            for function in functions
        )
    named = {str(function.attrs["global_symbol"]): function for function in functions}
    module = compile_functions(named, target.tvm, pipeline)
    text = str(module.inspect_source("ll" if kind == "llvm" else "asm"))
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
