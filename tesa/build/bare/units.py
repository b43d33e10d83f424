"""Kernels and operators as object files of bare functions, and what each function needs from its caller."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import tirx
from tvm.ir import PrimType
from tvm.tirx import IntImm, PrimFunc, Return, SeqStmt
from tvm.tirx.compilation_pipeline import get_tir_pipeline

from tesa.base.scratch import Scratch
from tesa.build.compile import object_of
from tesa.build.wasm_offsets import with_offsets
from tesa.errors import UnsupportedError
from tesa.schedules.cpu.bare import PIPELINES, bare
from tesa.schedules.cpu.lifting import Lifted, PackedCall, lift
from tesa.schedules.types import Assembly, Code, Tir
from tesa.targets.target import Target


@dataclass(frozen=True)
class Unit:
    """An object file, or the assembly of one. functions: the bare functions in it, by symbol."""

    content: bytes
    functions: Mapping[str, Lifted]


def kernel_units(
    symbol: str, code: Code, target: Target, threads: int, built: Sequence[Path] = (), text: bool = False
) -> list[Unit]:
    """The units of a kernel: main's is the first, with what it needs for all that it calls.

    built: the object files of code.units(symbol), of which those of assembly are taken as they are. text: assembly.
    """
    known: list[Path | None] = list(built) or [None] * len(code.units(symbol))
    units: list[Unit] = []
    for panel, path in zip(code.panels, known[1:], strict=False):
        units.append(_panel(panel, path, target, threads, text))
    rest = known[1 + len(code.panels) :]
    for name, piece in code.pieces:
        count = len(piece.units(name))
        files = [path for path in rest[:count] if path is not None]
        units += kernel_units(name, piece, target, threads, files, text)
        rest = rest[count:]
    callees = {name: lifted for unit in units for name, lifted in unit.functions.items()}
    function = bare(code.main, symbol, calls=False)
    main = compiled({symbol: function}, target, PIPELINES[code.pipeline], threads, callees, text)
    return [main, *units]


def operator_unit(functions: Mapping[str, Any], target: Target, threads: int, text: bool = False) -> Unit:
    """One unit of all operators, each function of TVM under its symbol. text: assembly."""
    made = {name: bare(function, name, calls=False) for name, function in functions.items()}
    return compiled(made, target, PIPELINES["default"], threads, text=text)


def compiled(
    functions: Mapping[str, Any], target: Target, pipeline: str, threads: int,
    callees: Mapping[str, Lifted] | None = None, text: bool = False,
) -> Unit:  # fmt: skip
    """Bare functions as a unit. Raises UnsupportedError for one that calls TVM's runtime."""
    where = tvm.target.Target(target.tvm)
    bound = tirx.transform.BindTarget(where.with_host(where))
    lower, host, _ = get_tir_pipeline(pipeline)
    lowered = lower(bound(tvm.IRModule({tvm.ir.GlobalVar(name): f for name, f in functions.items()})))
    try:
        mod, found = lift(lowered, threads, callees)
    except PackedCall as error:
        raise UnsupportedError(
            f"an operator calls {error}, which is part of TVM's runtime; compile with --format vm"
        ) from error
    made = tvm.get_global_func("target.build.llvm")(host()(bound(mod)), where)
    if target.arch == "wasm32":
        made = with_offsets(made)
    if text:
        return Unit(str(made.inspect_source("asm")).encode(), found)
    with Scratch() as folder:
        path = Path(folder) / "code.o"
        made.write_to_file(str(path), "o")
        return Unit(path.read_bytes(), found)


def _panel(panel: Tir | Assembly, path: Path | None, target: Target, threads: int, text: bool) -> Unit:
    """A unit of panels: assembly takes TVM's packed arguments, which need nothing of TVM."""
    if isinstance(panel, Assembly):
        if text:
            return Unit(panel.text.encode(), {})
        return Unit(object_of(panel, target.tvm) if path is None else path.read_bytes(), {})
    functions = {name: _plain(function, name) for name, function in panel.functions}
    return compiled(functions, target, PIPELINES[panel.pipeline], threads, text=text)


def _plain(function: Any, name: str) -> Any:
    """A function of pointers and numbers as a bare one."""
    body = SeqStmt([function.body, Return(IntImm("int32", 0))])
    made = PrimFunc(function.params, body, ret_type=PrimType("int32"))
    kept = {key: value for key, value in dict(function.attrs or {}).items() if key == "tirx.noalias"}
    return made.with_attr({**kept, "calling_conv": 1, "global_symbol": name})
