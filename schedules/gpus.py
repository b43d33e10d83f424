"""A GPU as kernel families see it, and what a family emits for one: texts or functions, and how they are launched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

Size3 = tuple[int, int, int]
"""x, y and z of a grid or of a block."""


@dataclass(frozen=True)
class MatrixUnit:
    """An instruction by which a warp multiplies an m x k tile by a k x n tile and adds the product to an m x n tile.

    inputs: kind of the factors' elements, "float16", "bfloat16", "tfloat32" (float32 rounded to 10 bits of mantissa),
    "float32" or "int8"; sums: of the sums', "float32" or "int32". instruction: its name in the writer's language.
    sparse: the first factor is given by its non-zeros, 2 of each 4 neighbours along k, and k counts the zeros too.
    rate: multiply-adds that a multiprocessor does in a cycle with it.
    """

    instruction: str
    m: int
    n: int
    k: int
    inputs: str
    sums: str
    rate: float
    sparse: bool = False


@dataclass(frozen=True)
class GpuRates:
    """The rates of a nominal GPU, for the static model of time. Nothing here was measured by tesa.

    ghz: clock under load. fmas, halves, dots: float32 multiply-adds, multiply-adds of 16 bits (two for each lane of an
    instruction on pairs) and dot products of 4 bytes that a multiprocessor starts in a cycle. issue: instructions of a
    warp that it starts in a cycle. shared_bytes: that it reads from shared memory or its first-level cache in a cycle.
    l2_gbs, memory_gbs: gigabytes a second from the second-level cache and from memory. l2_bytes: how much that cache
    holds. shared_latency, l2_latency, memory_latency: cycles until a load has come. code_bytes: of instructions that
    a multiprocessor keeps close. launch_us: from one kernel of a stream to the next; graph_us: the same in a graph.
    """

    ghz: float
    fmas: float
    halves: float
    dots: float
    l2_gbs: float
    memory_gbs: float
    l2_bytes: int
    issue: float = 4.0
    shared_bytes: float = 128.0
    shared_latency: float = 30.0
    l2_latency: float = 270.0
    memory_latency: float = 600.0
    code_bytes: int = 128 * 1024
    launch_us: float = 2.5
    graph_us: float = 1.2


@dataclass(frozen=True)
class Gpu:
    """A GPU as kernel families see it: by what it can do, never by its name.

    name: of the architecture, for messages and for its assembler. writer: of texts, "ptx" or "amd". multiprocessors:
    how many (compute units of AMD's). warp: threads that run in step. schedulers: of a multiprocessor, each of which
    starts an instruction of one of its warps in a cycle. registers: of 32 bits of a multiprocessor; thread_registers:
    that one thread may have; register_unit: threads get them in multiples of so many. threads, blocks: of a
    multiprocessor at once; block_threads: of a block. shared: bytes of a multiprocessor; block_shared: that a block may
    have, and static_shared without asking the driver. async_copies: from memory to shared memory past the registers,
    which fill up with zeros. dots: 4 products of bytes, added to an int32. halves, bfloats: multiply-adds on pairs of
    float16, of bfloat16. matrices: its matrix instructions. groups: of 4 warps multiply matrices in shared memory
    together. clusters: blocks that share their shared memory. offset_bits: of the offset in an address, signed ones as
    in offset_signed. rates: how fast it is.
    """

    name: str
    writer: str
    multiprocessors: int
    rates: GpuRates
    warp: int = 32
    schedulers: int = 4
    registers: int = 65536
    thread_registers: int = 255
    register_unit: int = 8
    threads: int = 2048
    blocks: int = 32
    block_threads: int = 1024
    shared: int = 64 * 1024
    block_shared: int = 48 * 1024
    static_shared: int = 48 * 1024
    async_copies: bool = False
    dots: bool = False
    halves: bool = False
    bfloats: bool = False
    matrices: tuple[MatrixUnit, ...] = ()
    groups: bool = False
    clusters: bool = False
    offset_bits: int = 23
    offset_signed: bool = True

    kind: ClassVar[str] = "gpu"
    """Of machine, by which kernel families are registered."""

    @property
    def lanes(self) -> int:
        """Numbers of float32 that one instruction computes: those of a warp."""
        return self.warp

    def matrix(self, inputs: str, sparse: bool = False) -> MatrixUnit | None:
        """The fastest matrix instruction for elements of a kind, None where there is none."""
        fit = [unit for unit in self.matrices if unit.inputs == inputs and unit.sparse == sparse]
        return max(fit, key=lambda unit: (unit.rate, unit.m * unit.n * unit.k), default=None)

    def resident(self, registers: int, block: int, shared: int = 0) -> int:
        """Warps that a multiprocessor holds at once: of blocks of so many threads, registers a thread, bytes shared.

        >>> Gpu("g", "ptx", 1, GpuRates(1, 128, 128, 64, 1000, 500, 1 << 20)).resident(80, 128)
        24
        """
        warps = -(-block // self.warp)
        unit = self.register_unit
        each = -(-max(registers, 1) // unit) * unit * self.warp * warps
        fit = [self.registers // each, self.threads // (warps * self.warp), self.blocks]
        if shared:
            fit.append(self.shared // shared)
        return warps * max(0, min(fit))


@dataclass(frozen=True)
class GpuText:
    """A module of kernels as text: kind "ptx", NVIDIA's virtual assembly, or "amd", assembly for LLVM.

    name: for messages. It is compiled apart from the other modules of its kernel, in parallel, and cached.
    """

    name: str
    kind: str
    text: str = field(repr=False)


@dataclass(frozen=True)
class GpuTir:
    """Functions of TVM, (symbol, function) each, with loops bound to threadIdx and blockIdx; each is one launch.

    Their parameters are the arguments of the launch, flat or shaped. schedule: "tir" for such functions.
    """

    name: str
    functions: tuple[tuple[str, PrimFunc], ...] = field(repr=False)
    kind: ClassVar[str] = "tir"


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel.

    module: which of the code's modules has it; entry: its symbol there. grid: blocks, block: threads, both (0, 0, 0)
    for a function of TVM, which binds its own. arguments: the pointers that it takes, in order: "x", "y", "bias",
    "residual", "scale", "constant0", "constant1", ..., "scratch0", ...: places in GpuCode. shared: bytes of shared
    memory beyond what its text declares. stage: launches of one stage need not wait for each other, and wait for all of
    those before.
    """

    entry: str
    grid: Size3
    block: Size3
    arguments: tuple[str, ...]
    module: int = 0
    shared: int = 0
    stage: int = 0


@dataclass(frozen=True)
class Work:
    """Counts of what a kernel does, of all its threads together, for the static model of time and for `explain`.

    fmas, halves, dots: instructions of a warp that multiply and add, on float32, on pairs of 16 bits, of bytes;
    matrices: (unit, instructions of a warp) each; loads, copies, stores: instructions of a warp that read shared memory
    or the first-level cache, that copy to shared memory, that write; others: of any kind beside. l2, memory: bytes that
    pass the second-level cache and memory, at least. code: bytes of the straight-line code that one warp runs through.
    registers: of a thread, as estimated before the assembler has said; ahead: loads of a thread that are under way.
    """

    fmas: float = 0.0
    halves: float = 0.0
    dots: float = 0.0
    matrices: tuple[tuple[MatrixUnit, float], ...] = ()
    loads: float = 0.0
    copies: float = 0.0
    stores: float = 0.0
    others: float = 0.0
    l2: float = 0.0
    memory: float = 0.0
    code: float = 0.0
    registers: int = 32
    ahead: float = 4.0


@dataclass(frozen=True)
class GpuCode:
    """A generated kernel of a GPU: modules, and the launches that turn X into Y.

    constants: arrays that lie on the device from when the library is loaded. scratch: bytes of each memory that the
    launches share; nothing is in it before. work: for the static model, one for each launch, or none. tir: the same
    kernel as functions of TVM, where its family can write that. notes: what a user should know.
    """

    modules: tuple[GpuText | GpuTir, ...]
    launches: tuple[Launch, ...]
    constants: tuple[NDArray[Any], ...] = ()
    scratch: tuple[int, ...] = ()
    work: tuple[Work, ...] = ()
    tir: Callable[[], GpuTir] | None = field(default=None, repr=False, compare=False)
    notes: tuple[str, ...] = ()
