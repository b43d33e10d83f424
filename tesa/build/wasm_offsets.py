"""Lets loads and stores of WebAssembly carry their constant offsets, which LLVM adds by instructions of their own else.

An address in WebAssembly is a number of 32 bits and a constant, and their sum must not wrap: LLVM folds a constant into
an access only where it knows so. It does not know it of the parts that its own passes have split an address into,

    %a = getelementptr inbounds float, ptr %x, i32 %i      and for the second vector of a row
    %b = getelementptr i8, ptr %a, i32 16

although %a lies in an object, and what is read behind it does too: every vector of a kernel but the first has an
addition then, a fourth of the instructions of a loop.
"""

import re
from pathlib import Path
from typing import Any

from tesa.base.scratch import Scratch

_INSIDE = re.compile(r"^\s*(%[\w.]+) = getelementptr inbounds ")
_SPLIT = re.compile(r"^(\s*%[\w.]+ = getelementptr )(i8, ptr (%[\w.]+), i32 \d+\b.*)$")


def with_offsets(module: Any) -> Any:
    """TVM's module of the same code, in which such additions do not wrap."""
    import tvm

    with Scratch() as folder:
        path = Path(folder) / "code.ll"
        path.write_text(marked(str(module.inspect_source("ll"))))
        return tvm.runtime.load_module(str(path))


def marked(text: str) -> str:
    """A module in LLVM's language in which such additions do not wrap.

    >>> lines = ["define void @f(ptr %x) {", "%a = getelementptr inbounds float, ptr %x, i32 %i",
    ...          "%b = getelementptr i8, ptr %a, i32 16", "%c = getelementptr i8, ptr %x, i32 16", "}"]
    >>> print(*marked("\\n".join(lines)).splitlines()[2:4], sep="\\n")
    %b = getelementptr nuw i8, ptr %a, i32 16
    %c = getelementptr i8, ptr %x, i32 16
    """
    inside: set[str] = set()
    lines = []
    for line in text.splitlines():
        if line.startswith("define "):
            inside = set()
        elif found := _INSIDE.match(line):
            inside.add(found[1])
        elif (split := _SPLIT.match(line)) and split[3] in inside:
            line = f"{split[1]}nuw {split[2]}"
        lines.append(line)
    return "\n".join(lines) + "\n"
