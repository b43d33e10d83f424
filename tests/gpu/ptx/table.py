"""The list of instructions that the interpreter of PTX knows: name -> a function from its words to a step."""

from __future__ import annotations

from collections.abc import Callable

from tests.gpu.faults import Fault
from tests.gpu.ptx.machine import Step
from tests.gpu.ptx.operands import Code
from tests.gpu.ptx.text import Instruction, Kernel

Builder = Callable[[Code], Step]
TABLE: dict[str, Builder] = {}


def instruction(*names: str) -> Callable[[Builder], Builder]:
    """Register the builder of these instructions."""

    def register(builder: Builder) -> Builder:
        for name in names:
            assert name not in TABLE, name
            TABLE[name] = builder
        return builder

    return register


def build(kernel: Kernel, found: Instruction) -> Step:
    """The step of an instruction. A Fault where it, a modifier or an operand of it is unknown."""
    name = found.words[0]
    if name not in TABLE:
        raise Fault(f"unknown instruction {'.'.join(found.words)}  [{found.line}]")
    return TABLE[name](Code(kernel, found))
