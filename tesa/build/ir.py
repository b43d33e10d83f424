"""Makes modules of LLVM's language object files: TVM's LLVM compiles them, so that no C compiler is needed."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tesa.base.scratch import Scratch


def ir_object(text: str, target: Mapping[str, Any]) -> bytes:
    """The object file of the definitions in LLVM's language; target: TVM's dictionary.

    The text has neither a triple nor a data layout: those of the target are put in front of it, for LLVM would take
    pointers of 64 bits else.

    Raises RuntimeError, of TVM, for a text that is not right.
    """
    import tvm

    lines = [
        f'target datalayout = "{data_layout(json.dumps(dict(target)))}"',
        f'target triple = "{target["mtriple"]}"',
        text,
        "!llvm.module.flags = !{!0}",
        '!0 = !{i32 4, !"tvm_target", !"' + quoted(json.dumps(dict(target))) + '"}',
    ]
    with Scratch() as folder:
        source, path = Path(folder) / "code.ll", Path(folder) / "code.o"
        source.write_text("\n".join(lines) + "\n")
        tvm.runtime.load_module(str(source)).write_to_file(str(path), "o")
        return path.read_bytes()


def quoted(text: str) -> str:
    """A text as it stands between quotation marks in LLVM's language.

    >>> print(quoted('say "a"'))
    say \\22a\\22
    """
    return "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\' else f"\\{byte:02X}" for byte in text.encode()
    )


@cache
def data_layout(target: str) -> str:
    """LLVM's layout of data in memory for a target: TVM's dictionary as JSON.

    >>> data_layout('{"kind": "llvm", "mtriple": "wasm32-unknown-unknown-wasm"}')[:12]
    'e-m:e-p:32:3'
    """
    import tvm
    from tvm import tirx

    empty = tirx.PrimFunc([], tirx.Evaluate(tirx.IntImm("int32", 0))).with_attr("global_symbol", "f")
    mod = tvm.IRModule({tvm.ir.GlobalVar("f"): empty})
    text = str(tvm.compile(mod, target=tvm.target.Target(json.loads(target))).mod.inspect_source("ll"))
    (line,) = (line for line in text.splitlines() if line.startswith("target datalayout"))
    return line.split('"')[1]
