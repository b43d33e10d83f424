"""The plain types a kernel is described with. Everything here is data: no TVM object is needed to build one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tesa.schedules.gpus import Gpu as Gpu
from tesa.schedules.gpus import GpuCode as GpuCode
from tesa.schedules.gpus import GpuText as GpuText
from tesa.schedules.gpus import GpuTir as GpuTir
from tesa.schedules.gpus import Launch as Launch

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

Config = Mapping[str, int]
"""One point of a family's space: small integers by name, so that it is JSON, printable and comparable."""

FloatArray = NDArray[np.float32]


def config_key(family: str, config: Config) -> str:
    """One text for one way to run a layer: equal for the same family and configuration.

    >>> config_key("dense", {"rows": 8})
    'dense{"rows": 8}'
    """
    return family + json.dumps(dict(config), sort_keys=True)


ACTIVATIONS = ("relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "hardswish", "gelu_tanh")


@dataclass(frozen=True)
class Dot:
    """An instruction that multiplies neighbouring small integers and adds their products up, in lanes of 32 bits.

    group: products of a lane, 4 of uint8 by int8, 2 of int16 by int16, or 1 of int16 by int16, which add nothing up;
    intrinsics: LLVM's names of it, by the lanes of a vector; adds: it takes a sum as first argument and adds to it.
    signed: its 4 bytes are int8 by int8, so that kernels take X - 128. matrix: LLVM's name of the instruction that
    multiplies 2 rows of 8 bytes of X by 2 rows of 8 bytes of W and adds the 2 x 2 products to a vector of sums, ""
    where there is none. interleaves: vectors of bytes are interleaved by an instruction, so that groups of X are best
    put together so.
    """

    group: int
    intrinsics: tuple[tuple[int, str], ...]
    adds: bool = False
    signed: bool = False
    matrix: str = ""
    interleaves: bool = False

    def intrinsic(self, lanes: int) -> str | None:
        """LLVM's name of it for vectors of so many lanes, None where there is none."""
        return dict(self.intrinsics).get(lanes)


@dataclass(frozen=True)
class Permute:
    """An instruction by which each lane takes any element of some registers laid end to end.

    intrinsics: LLVM's names of it, by how many registers it takes from; place: where among its arguments the vector of
    places stands, None for behind all registers; in_bytes: a place is that of a byte, and not of an element; zeros: a
    place beyond the registers gives 0, else only the low bits of a place need count; part: bytes within which it
    permutes, each part of a register for itself, 0 for all registers as one.
    """

    intrinsics: tuple[tuple[int, str], ...]
    place: int | None = 1
    in_bytes: bool = False
    zeros: bool = False
    part: int = 0

    def intrinsic(self, registers: int) -> str | None:
        """LLVM's name of it for so many registers, None where there is none."""
        return dict(self.intrinsics).get(registers)


@dataclass(frozen=True)
class Rates:
    """The speed of a nominal core, for estimates of which only ratios mean anything.

    cycles_per_ms: its clock; fmas, loads: vector multiply-adds and loads that it starts in a cycle; issue: instructions
    of any kind in a cycle; permutes: permutations of a vector of bytes, with a dot product each, that it starts in a
    cycle; product: instructions that a multiply-add is; fma_latency: cycles until one is done;
    l2_bytes, l2_stream_bytes, far_bytes: read in a cycle from the second-level cache in any order, from there row by
    row, and from beyond; l2_latency: cycles that the first of some neighbouring lines takes, others being under way;
    misprediction, call: cycles of a branch that goes another way, and of a call of a kernel, of which a parallel region
    costs several.
    """

    cycles_per_ms: float = 3e6
    fmas: float = 2.0
    loads: float = 2.0
    issue: float = 6.0
    permutes: float = 0.8
    product: float = 1.0
    fma_latency: float = 4.0
    l2_bytes: float = 40.0
    l2_stream_bytes: float = 30.0
    l2_latency: float = 3.0
    far_bytes: float = 12.0
    misprediction: float = 15.0
    call: float = 1500.0


@dataclass(frozen=True)
class Core:
    """A CPU core as kernel families see it: by what it can do, never by its name.

    lanes: float32 elements of one vector register; registers: how many vector registers; l1_bytes, l2_bytes: data cache
    of one core that a tile may assume; fma: multiplies and adds in one instruction; masks: loads and stores of some
    lanes only, with registers of their own for the masks; writer: of panels as assembly ("x86", "aarch64"), "" where
    only TIR is written; halves: computes with float16 in twice the lanes; in_order: starts instructions in the order in
    which they stand; dot, permute: these instructions, None where it has none; permute_bytes: a permutation whose
    places are those of any bytes; permute_parts: one of bytes within each 16 of a register; byte_pairs: LLVM's name of
    the instruction that multiplies uint8 by int8 and adds two neighbours up to int16, with saturation, which products
    of weights that are small enough never meet, "" where there is none; expand_bytes: LLVM's name of the instruction by
    which each byte of a vector whose bit is set takes the next one of a row of bytes, and the others are 0, "" where
    there is none; by_element: a product takes one factor from any lane of a register; maximum: the larger of two
    numbers, or the smaller, is one instruction that answers not-a-number where one of them is; edges: to load some
    lanes only takes an instruction each, so that a whole load on this side of an edge, and a permutation, are better;
    rounds: LLVM's name of the instruction that makes the nearest int32 of a number, "" where it takes several; steps:
    of an inner loop that are written out in a turn, 2 where vectors are so short that kernels are bound by the number
    of instructions; rates: how fast it is; unrolls: code is compiled as it stands, however long a function is, which
    engines of WebAssembly do not; loads_first: its compiler puts all loads of a loop's body in front of the arithmetic,
    so that whatever is read in a step holds a register; nearest: LLVM's name of what makes the nearest int32 of each
    float32 of a vector, even ones of two, "" for by rounding and a conversion; narrows: LLVM's names, by lanes of
    int32, of the instructions that make int16 of two vectors of int32, and uint8 of two of int16, with saturation and
    within 128 bits.
    """

    name: str
    lanes: int
    registers: int
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 1024 * 1024
    fma: bool = True
    masks: bool = False
    writer: str = ""
    in_order: bool = False
    halves: bool = False
    dot: Dot | None = None
    permute: Permute | None = None
    permute_bytes: Permute | None = None
    permute_parts: Permute | None = None
    byte_pairs: str = ""
    expand_bytes: str = ""
    by_element: bool = False
    maximum: bool = False
    edges: bool = False
    rounds: str = ""
    steps: int = 1
    rates: Rates = Rates()
    unrolls: bool = True
    loads_first: bool = False
    nearest: str = ""
    narrows: tuple[tuple[int, tuple[str, str]], ...] = ()

    kind: ClassVar[str] = "cpu"
    """Of machine, by which kernel families are registered."""

    def narrow(self, lanes: int) -> tuple[str, str] | None:
        """LLVM's names of the two narrowing instructions for vectors of so many int32, None where there are none."""
        return dict(self.narrows).get(lanes)

    def holds(self, sums: int, read: int) -> bool:
        """False where the vectors of a step, its sums and all that is read for them, do not fit in the registers.

        >>> Core("an engine", 4, 15, loads_first=True).holds(8, 8)
        False
        """
        return not self.loads_first or sums + read <= self.registers


@dataclass(frozen=True)
class Window:
    """The sliding window of a 2-D convolution. padding is (top, left, bottom, right); the input is height x width."""

    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def out_height(self) -> int:
        reach = self.dilation[0] * (self.kernel[0] - 1) + 1
        return (self.height + self.padding[0] + self.padding[2] - reach) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        reach = self.dilation[1] * (self.kernel[1] - 1) + 1
        return (self.width + self.padding[1] + self.padding[3] - reach) // self.stride[1] + 1


@dataclass(frozen=True)
class Depth:
    """The first spatial axis of a convolution of three, along which its layer goes slice by slice.

    size: slices of X; out: of Y; before: slices of zeros in front of the first one, behind the last one there are as
    many as the taps reach.

    >>> Depth(size=8, taps=3, out=8, before=1).slices
    10
    """

    size: int
    taps: int
    out: int
    stride: int = 1
    before: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """Slices from the first tap to the last one."""
        return self.dilation * (self.taps - 1) + 1

    @property
    def slices(self) -> int:
        """Slices that are read, those of zeros among them."""
        return (self.out - 1) * self.stride + self.reach


@dataclass(frozen=True)
class Epilogue:
    """The steps from a sum to what is stored: * scale[m], + bias[m], + residual[m, n], then the activation.

    scale belongs to int8, where it makes a real number of the int32 sum.
    """

    bias: bool = False
    residual: bool = False
    activation: str | None = None
    scale: bool = False


@dataclass(frozen=True)
class Output:
    """The kind of an element of Y: dtype "float32", "int32" (the bare sums of int8), or quantized, "uint8" or "int8".

    A quantized element is clip(round(real / scale) + zero), rounded to even.
    """

    dtype: str = "float32"
    scale: float = 1.0
    zero: int = 0

    @property
    def quantized(self) -> bool:
        """True where an element is a code and not a number."""
        return self.dtype in ("uint8", "int8")

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest code."""
        return (0, 255) if self.dtype == "uint8" else (-128, 127)


STEPS = ("scale", "bias", "residual")
"""The steps of an epilogue behind which numbers may be rounded to codes, in their order."""

Inner = tuple[str, Output]
"""A step of an epilogue, and the kind of the codes that numbers are rounded to behind it."""


@dataclass(frozen=True)
class Problem:
    """Y[b, m, n] = epilogue(sum_k W[m, k] * X[b, offset(k) + n]): one layer, without its weights.

    layout: "features_first" is what the formula and the shapes below say; "features_last", of int8, has the same
    elements in another order: X is (batch, n, k), of a convolution (batch, height, width, channels), and Y and the
    residual are (batch, n, m), with W as ever.

    op "linear": X is (batch, k, n). op "conv2d": X is (batch, channels, height, width), k = channels * kernel area
    in the order (channel, row, column), n = out_height * out_width. op "depthwise": m = channels, k = kernel area,
    row c of W is the window of channel c. x_shape and y_shape are how the caller's contiguous arrays look: any
    shape with the same elements in the same order. threads: how many run the kernel. dtype: "float32", "int8" for
    uint8 X and int8 W with int32 sums, or "mixed" for uint8 X and a W of int8 codes among which outliers are any
    float32 numbers, in the unit of the codes: scale[m] holds for both. x_zero: the code of X that stands for 0, so
    that the sum is of W (X - x_zero), and that pads a convolution; features_first knows no other than 0. x_pad: the
    code that pads a convolution of features_first, whose sums are of W X: what stands for 0 is in the bias. output: of
    Y; residual: the kind of the residual's elements, which may be codes: it is (code - zero) * scale then. inner: of
    int8 with a scale, the steps of the epilogue behind which numbers are rounded to codes and go on as what those stand
    for, in the order of STEPS, as in networks that are quantized between any two operators. storage:
    "float32", or "float16" or "bfloat16" where every weight is such a number, so that a kernel may keep it in 16 bits.
    arithmetic: "float32", or "float16" where products may be added up in float16, of X rounded to it, with a weight of
    such numbers; a kernel without it computes in float32. alignment: bytes to which the caller's X usually is aligned.
    Nothing may rely on it; kernels are estimated and timed with it: 64 inside of a compiled model, 16 is what NumPy
    gives, where each vector of X may lie in two cache lines.

    depth: of a conv2d that is a slice of a convolution of three axes. X is (items, channels, slices, height, width) and
    Y (items, m, slices, out_height, out_width), batch = items * slices of Y, and k = taps * channels * kernel area in
    the order (tap along the depth, channel, row, column).
    """

    op: str
    m: int
    k: int
    n: int
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    batch: int = 1
    window: Window | None = None
    epilogue: Epilogue = Epilogue()
    dtype: str = "float32"
    threads: int = 1
    x_zero: int = 0
    output: Output = Output()
    residual: Output = Output()
    inner: tuple[Inner, ...] = ()
    layout: str = "features_first"
    storage: str = "float32"
    arithmetic: str = "float32"
    alignment: int = 64
    x_pad: int = 0
    depth: Depth | None = None

    @property
    def features_last(self) -> bool:
        """True where the features of X and of Y are neighbours: tokens x features, or NHWC."""
        return self.layout == "features_last"

    @property
    def x_dtype(self) -> str:
        """The element type of X."""
        return "float32" if self.dtype == "float32" else "uint8"

    @property
    def channels(self) -> int:
        """Input channels of a convolution, times the taps along its depth; k of a linear layer."""
        if self.window is None:
            return self.k
        return self.m if self.op == "depthwise" else self.k // (self.window.kernel[0] * self.window.kernel[1])

    @property
    def pitch(self) -> int:
        """Elements from a row of Y to the next of the same batch item, where features are not last."""
        return self.n if self.depth is None else self.n * self.depth.out

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weight with its zeros, as it is stored."""
        return self.m * self.k * (1 if self.dtype == "int8" else 4 if self.storage == "float32" else 2)

    @property
    def pointwise(self) -> bool:
        """True where offset(k) + n is just row k of a matrix: a linear layer, or a 1x1 convolution of stride 1."""
        if self.op == "linear" or self.window is None:
            return True
        w = self.window
        plain = w.kernel == (1, 1) and w.stride == (1, 1) and w.padding == (0, 0, 0, 0)
        return self.op == "conv2d" and plain and self.depth is None


@dataclass(frozen=True)
class Tir:
    """Functions of TVM that become one object file: (symbol, function) each, and the pipeline that compiles them.

    pipeline: "default" is TVM's own, "straight" the one for straight-line code, see cpu/straight.py; "bare_default" and
    "bare_straight" are those of bare functions, see cpu/bare.py.
    """

    functions: tuple[tuple[str, PrimFunc], ...]
    pipeline: str = "default"

    @property
    def name(self) -> str:
        """The symbol of the first function."""
        return self.functions[0][0]


@dataclass(frozen=True)
class Assembly:
    """Assembly in GNU's syntax that becomes one object file.

    name: of a symbol in it, for messages. tir(): the same code as functions of TVM, where its family can write that.
    """

    name: str
    text: str
    tir: Callable[[], Tir] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Code:
    """A generated kernel. main takes (X, *constants, scale, bias, residual if any, Y), all contiguous.

    panels are straight-line helpers that main calls by symbol, as functions of TVM or as assembly; each is compiled
    apart, in parallel. pipeline names the one that main itself wants: "default" or "straight".
    pieces are whole kernels that main calls as symbol(X, *their constants, ..., Y), each (symbol, code); their
    constants are among those of this one, which passes them on.
    """

    main: PrimFunc
    constants: tuple[NDArray[Any], ...] = ()
    panels: tuple[Tir | Assembly, ...] = ()
    pipeline: str = "default"
    pieces: tuple[tuple[str, Code], ...] = ()

    def units(self, symbol: str) -> tuple[Tir | Assembly, ...]:
        """One unit for each object file, main's first. symbol: the name of main."""
        main = Tir(((symbol, self.main),), self.pipeline)
        return (main, *self.panels, *(unit for name, code in self.pieces for unit in code.units(name)))


def __getattr__(name: str) -> object:
    """The name of tesa 0.1 for a core, which users' files may still have."""
    if name != "Isa":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("tesa.schedules.types.Isa is now Core", DeprecationWarning, stacklevel=2)
    return Core
