"""The list of instructions that the interpreter of PTX knows: name -> a function from its words to a step."""

from __future__ import annotations

from collections.abc import Callable

from tests.gpu.faults import Fault
from tests.gpu.ptx.machine import Block, Step
from tests.gpu.ptx.operands import Code
from tests.gpu.ptx.text import Instruction, Kernel

Builder = Callable[[Code], Step]
TABLE: dict[str, Builder] = {}
COMPUTES: set[str] = set()
"""Instructions that may take what was never set: what they give is as unset."""


def instruction(*names: str, computes: bool = False) -> Callable[[Builder], Builder]:
    """Register the builder of these instructions. computes: they do nothing but that, to registers."""

    def register(builder: Builder) -> Builder:
        for name in names:
            assert name not in TABLE, name
            TABLE[name] = builder
            if computes:
                COMPUTES.add(name)
        return builder

    return register


def build(kernel: Kernel, found: Instruction) -> Step:
    """The step of an instruction. A Fault where it, a modifier or an operand of it is unknown."""
    name = found.words[0]
    if name not in TABLE:
        raise Fault(f"unknown instruction {'.'.join(found.words)}  [{found.line}]")
    step = TABLE[name](Code(kernel, found))
    return _computing(step) if name in COMPUTES else step


def _computing(step: Step) -> Step:
    def run(block: Block) -> None:
        block.travels = True
        step(block)

    return run
