"""Turns one unit of generated code into an object file: functions by TVM's compiler, assembly by LLVM's assembler."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from tesa.base.installed import source_digest
from tesa.base.scratch import Scratch
from tesa.build.wasm_offsets import with_offsets
from tesa.schedules.types import Assembly, Code, Tir
from tesa.targets.architecture import Target

PIPELINES = {
    "default": "default", "straight": "tesa_straight", "bare_default": "tesa_bare",
    "bare_straight": "tesa_bare_straight",
}  # fmt: skip
"""Name of a pipeline in Code -> TVM's name of it."""

_STRAIGHT, _BARE = "tesa.schedules.cpu.straight", "tesa.schedules.cpu.bare"
_OFFSETS = "tesa.build.wasm_offsets"
_FILES = {
    "straight": (_STRAIGHT,), "bare_default": (_BARE, _OFFSETS), "bare_straight": (_BARE, _OFFSETS, _STRAIGHT),
}  # fmt: skip


def source_of(pipeline: str) -> str:
    """A digest of the files that a pipeline of tesa's is written in, "" for TVM's own."""
    return "".join(source_digest(name) for name in _FILES.get(pipeline, ()))


def called(code: Code, symbol: str, target: Target) -> Code:
    """The kernel, of the name symbol, as it is called on the target: bare functions where TVM's runtime is not there.

    Raises ValueError for a kernel that cannot be made one.
    """
    if target.runtime:
        return code
    from tesa.schedules.cpu.bare import bare_code

    return bare_code(code, symbol)


def object_of(unit: Tir | Assembly, target: Mapping[str, Any]) -> bytes:
    """The bytes of a unit's object file; target: TVM's dictionary."""
    with Scratch() as folder:
        path = Path(folder) / "code.o"
        compile_unit(unit, target).write_to_file(str(path), "o")
        return path.read_bytes()


def compile_unit(unit: Tir | Assembly, target: Mapping[str, Any]) -> Any:
    """TVM's runtime module of a unit; target: TVM's dictionary."""
    import tvm

    if isinstance(unit, Assembly):
        return assemble(unit.text, target)
    for name in _FILES.get(unit.pipeline, ()):
        import_module(name)  # registers it
    mod = tvm.IRModule({tvm.ir.GlobalVar(symbol): function for symbol, function in unit.functions})
    made = tvm.compile(mod, target=tvm.target.Target(dict(target)), tir_pipeline=PIPELINES[unit.pipeline]).mod
    return with_offsets(made) if str(target.get("mtriple", "")).startswith("wasm") else made


def assemble(text: str, target: Mapping[str, Any]) -> Any:
    """TVM's module of an assembly text in GNU's syntax: LLVM's assembler takes it out of a module that is empty else.

    Raises RuntimeError, of TVM, for a text that is not right for the target.
    """
    import tvm

    lines = [f'target triple = "{target["mtriple"]}"'] if "mtriple" in target else []  # else this machine's
    lines += [f'module asm "{_escaped(line)}"' for line in text.splitlines()]
    lines += [
        "!llvm.module.flags = !{!0}",
        '!0 = !{i32 4, !"tvm_target", !"' + _escaped(json.dumps(dict(target))) + '"}',
    ]
    with Scratch() as folder:
        path = Path(folder) / "code.ll"
        path.write_text("\n".join(lines) + "\n")
        return tvm.runtime.load_module(str(path))


def _escaped(text: str) -> str:
    """As a string of LLVM's language."""
    return text.replace("\\", "\\5C").replace('"', "\\22")
