"""The list of writers. A writer is a file that spells panels (schedules/gpu/program.py) as text for one vendor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tesa.schedules.gpu.program import Grid, Panel
from tesa.schedules.gpus import Gpu, GpuText

Write = Callable[[str, Grid, Sequence[Panel], Gpu], GpuText]


@dataclass(frozen=True)
class Writer:
    """A way to spell panels.

    name: Gpu.writer of the GPUs it is for. write(entry, grid, panels, gpu): a module with one kernel, whose blocks
    (x, y) compute panel y for the columns of x; it takes the pointers of arguments(). module_fmas: multiply-adds of a
    module, about. stages: it knows asynchronous copies. pairs: it knows sums of "float16" or "bfloat16".
    """

    name: str
    write: Write
    module_fmas: int
    stages: bool = False
    pairs: tuple[str, ...] = ()


_WRITERS: dict[str, Writer] = {}


def install_writer(made: Writer) -> None:
    """Register a writer, in place of one that has its name."""
    _WRITERS[made.name] = made


def find_writer(gpu: Gpu) -> Writer:
    """The writer of a GPU. KeyError with the known names if there is none."""
    if gpu.writer not in _WRITERS:
        raise KeyError(f"no writer {gpu.writer!r} of kernels for GPUs; there are {', '.join(map(repr, _WRITERS))}")
    return _WRITERS[gpu.writer]


def has_writer(gpu: Gpu) -> bool:
    """True where panels can be written for a GPU."""
    return gpu.writer in _WRITERS


def arguments(grid: Grid) -> tuple[str, ...]:
    """The pointers that a kernel takes, in order, by the names of Launch.arguments."""
    epilogue = grid.problem.epilogue
    wanted = {"x": True, "bias": epilogue.bias, "residual": epilogue.residual, "y": True}
    return tuple(name for name, there in wanted.items() if there)
