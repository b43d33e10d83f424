"""Turns one unit of generated code into an object file: functions by TVM's compiler, assembly by LLVM's assembler."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tesa.schedules.types import Assembly, Tir

PIPELINES = {"default": "default", "straight": "tesa_straight"}
"""Name of a pipeline in Code -> TVM's name of it."""


def object_of_functions(functions: Sequence[tuple[str, str]], target: str, pipeline: str) -> bytes:
    """The bytes of an object file of functions.

    functions: (symbol, text of tvm.ir.save_json) of each; target: TVM's dictionary as JSON; pipeline: a key of
    PIPELINES.
    """
    import tvm

    loaded = {symbol: tvm.ir.load_json(text) for symbol, text in functions}
    return _written(compile_functions(loaded, json.loads(target), pipeline))


def object_of_assembly(text: str, target: str) -> bytes:
    """The bytes of an object file of an assembly text; target: TVM's dictionary as JSON."""
    return _written(assemble(text, json.loads(target)))


def compile_unit(unit: Tir | Assembly, target: Mapping[str, Any]) -> Any:
    """TVM's runtime module of a unit; target: TVM's dictionary."""
    if isinstance(unit, Assembly):
        return assemble(unit.text, target)
    return compile_functions(dict(unit.functions), target, unit.pipeline)


def compile_functions(functions: Mapping[str, Any], target: Mapping[str, Any], pipeline: str) -> Any:
    """TVM's runtime module of functions by symbol; target: TVM's dictionary; pipeline: a key of PIPELINES."""
    import tvm

    if pipeline == "straight":
        import_module("tesa.schedules.cpu.straight")  # registers it
    mod = tvm.IRModule({tvm.ir.GlobalVar(symbol): function for symbol, function in functions.items()})
    return tvm.compile(mod, target=tvm.target.Target(dict(target)), tir_pipeline=PIPELINES[pipeline]).mod


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
    with tempfile.TemporaryDirectory(prefix="tesa-") as folder:
        path = Path(folder) / "code.ll"
        path.write_text("\n".join(lines) + "\n")
        return tvm.runtime.load_module(str(path))


def _escaped(text: str) -> str:
    """As a string of LLVM's language."""
    return text.replace("\\", "\\5C").replace('"', "\\22")


def _written(library: Any) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tesa-") as folder:
        path = Path(folder) / "code.o"
        library.write_to_file(str(path), "o")
        return path.read_bytes()
