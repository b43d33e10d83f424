"""Makes one kernel a module of WebAssembly that stands alone: entry(X, residual if any, Y), with its constants inside.

It has no imports. The arguments are addresses in its memory, which is called memory and is free from __heap_base on;
before the first call, the address from where it may take memory while it runs is written to the variable tesa_top, at a
multiple of 64. entry answers 0. tesa_target() is the address of the target's name, which ends with a byte of 0.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.scratch import Scratch
from tesa.build.ir import ir_object, quoted
from tesa.build.package import ENTRY
from tesa.build.workspace import TOP, workspace_object
from tesa.targets.target import Target

_TEXT = r"""
@DATA@
@tesa_name = private unnamed_addr constant [@LENGTH@ x i8] c"@NAME@\00"

declare i32 @@SYMBOL@(@TYPES@)

define ptr @tesa_target() {
  ret ptr @tesa_name
}

define i32 @@ENTRY@(@GIVEN@) {
  %status = call i32 @@SYMBOL@(@ALL@)
  ret i32 %status
}
"""


def package_wasm(
    path: Path,
    objects: Sequence[Path],
    symbol: str,
    constants: Sequence[NDArray[Any]],
    names: Sequence[str],
    target: Target,
) -> None:
    """Link a kernel, a bare function of X, *constants, residual if any and Y, into a module with the function ENTRY.

    names: the arguments that remain for the caller, X first and Y last. The same arguments give the same bytes.

    Raises UsageError as the toolchain does.
    """
    with Scratch() as name:
        folder = Path(name)
        entry, workspace = folder / "entry.o", folder / "workspace.o"
        entry.write_bytes(ir_object(_text(symbol, constants, names, folder, target), target.tvm))
        workspace.write_bytes(workspace_object(target.tvm))
        exports = [f"--export={one}" for one in (ENTRY, "tesa_target", TOP)]
        target.toolchain.link([entry, *objects, workspace], path, exports)


def _text(symbol: str, constants: Sequence[NDArray[Any]], names: Sequence[str], folder: Path, target: Target) -> str:
    """The functions in LLVM's language; the constants are written into folder."""
    data = [_constant(f"tesa_data{i}", array, folder / f"{i}.bin") for i, array in enumerate(constants)]
    x, *rest = (f"ptr %{i}" for i in range(len(names)))
    every = [x, *(f"ptr @tesa_data{i}" for i in range(len(constants))), *rest]
    values = {
        "DATA": "\n".join(data), "LENGTH": str(len(target.name.encode()) + 1), "NAME": quoted(target.name),
        "SYMBOL": symbol, "ENTRY": ENTRY, "TYPES": ", ".join(["ptr"] * len(every)), "GIVEN": ", ".join([x, *rest]),
        "ALL": ", ".join(every),
    }  # fmt: skip
    text = _TEXT
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _constant(symbol: str, array: NDArray[Any], file: Path) -> str:
    """The content of an array under a symbol, by LLVM's assembler, which reads it from the file."""
    content = np.ascontiguousarray(array).tobytes() or b"\0"
    file.write_bytes(content)
    lines = [
        f'.section .rodata.{symbol},"",@', ".p2align 6", f".hidden {symbol}", f".globl {symbol}",
        f".type {symbol},@object", f"{symbol}:", f'.incbin "{file}"', f".size {symbol}, {len(content)}",
    ]  # fmt: skip
    asm = "\n".join(f'module asm "{quoted(line)}"' for line in lines)
    return f"{asm}\n@{symbol} = external hidden constant i8, align 64"
