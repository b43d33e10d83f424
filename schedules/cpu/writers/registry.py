"""The list of writers. A writer is a file that spells the programs of panels (schedules/program.py) for one machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tesa.schedules.dots import DotProgram
from tesa.schedules.program import Frame, Program
from tesa.schedules.types import Assembly, Core, Tir

Write = Callable[[Sequence[Program], Core], Assembly | Tir]
Registers = Callable[[int, int, Core], int]
W = TypeVar("W", bound=Write)


MAX_BYTES = 2**31 - 2**20
"""The largest array that panels reach into: displacements and indices have 32 bits."""


def usual_registers(rows: int, vectors: int, core: Core) -> int:
    """Vector registers that a panel needs: sums, X, a weight, and a mask where masks have no registers of their own."""
    return rows * vectors + vectors + (1 if core.masks else 2)


@dataclass(frozen=True)
class Writer:
    """A way to spell panels.

    name: Core.writer of the cores it is for. write(programs, core): one object file with the function of each program,
    under its name; ValueError for what it cannot spell. function_fmas, object_fmas: multiply-adds of one function, and
    of one object file, about; effort: what one costs to compile, in units of 10 us. registers(rows, vectors, core): how
    many vector registers a panel needs. packs: the first panel of a tile packs it on its way.
    """

    name: str
    write: Write
    function_fmas: int
    object_fmas: int
    effort: int
    registers: Registers = usual_registers
    packs: bool = False


_WRITERS: dict[str, Writer] = {}


def writer(
    name: str,
    *,
    function_fmas: int,
    object_fmas: int,
    effort: int,
    registers: Registers = usual_registers,
    packs: bool = False,
) -> Callable[[W], W]:
    """Register the decorated function as the write of a writer."""

    def register(write: W) -> W:
        if name in _WRITERS:
            raise ValueError(f"writer {name!r} is registered twice")
        install_writer(Writer(name, write, function_fmas, object_fmas, effort, registers, packs))
        return write

    return register


def install_writer(made: Writer) -> None:
    """Register a writer, in place of one that has its name."""
    _WRITERS[made.name] = made


def writers() -> tuple[Writer, ...]:
    """Every writer, in the order of registration."""
    return tuple(_WRITERS.values())


def find_writer(core: Core) -> Writer:
    """The writer of a core. KeyError with the known names if there is none."""
    if core.writer not in _WRITERS:
        raise KeyError(f"no writer {core.writer!r} for panels; there are {', '.join(map(repr, _WRITERS))}")
    return _WRITERS[core.writer]


WriteDots = Callable[[Sequence[DotProgram], Core], Assembly | Tir]
D = TypeVar("D", bound=WriteDots)


@dataclass(frozen=True)
class DotWriter:
    """A way to spell panels of int8. name, function_dots, object_dots, effort: as of a Writer, in dot products.

    registers(rows, vectors, core): how many vector registers a panel needs.
    """

    name: str
    write: WriteDots
    function_dots: int
    object_dots: int
    effort: int
    registers: Registers


_DOT_WRITERS: dict[str, DotWriter] = {}


def dot_writer(
    name: str, *, function_dots: int, object_dots: int, effort: int, registers: Registers
) -> Callable[[D], D]:
    """Register the decorated function as the write of a writer of panels of int8."""

    def register(write: D) -> D:
        _DOT_WRITERS[name] = DotWriter(name, write, function_dots, object_dots, effort, registers)
        return write

    return register


def find_dot_writer(core: Core) -> DotWriter | None:
    """The writer of a core's panels of int8, None where there is none."""
    return _DOT_WRITERS.get(core.writer)


def forget_writer(name: str) -> None:
    """Take a writer out again."""
    del _WRITERS[name]


def registers(rows: int, vectors: int, core: Core) -> int:
    """Vector registers that a panel needs, as the core's writer uses them."""
    return find_writer(core).registers(rows, vectors, core)


def check_reach(frame: Frame) -> None:
    """ValueError where X or Y is larger than MAX_BYTES."""
    if 4 * frame.reach > MAX_BYTES:
        raise ValueError(f"X or Y of {frame.problem.x_shape} and {frame.problem.y_shape} is too large for panels")


def check_registers(programs: Sequence[Program], core: Core) -> None:
    """ValueError where the registers of the core do not suffice for a program."""
    rows, vectors = max(one.rows for one in programs), programs[0].frame.vectors
    if registers(rows, vectors, core) > core.registers:
        raise ValueError(
            f"no panel of {rows} rows and {vectors} vectors with {core.registers} registers of {core.name}"
        )
