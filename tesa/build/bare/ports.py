"""A network without a runtime as an application sees it: functions, inputs and outputs, and what can go wrong."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tesa.build.bare.network import Tensor
from tesa.frontend.names import Unique, identifier

STATUS = {
    "OK": "no error",
    "NULL": "a pointer is null",
    "ALIGNMENT": "a pointer is not aligned: the arena to 64 bytes, a tensor to the size of its elements",
    "ARENA": "the arena is too small",
    "COUNT": "the number of inputs or outputs is wrong",
    "TYPE": "an input or output has another type than the model",
    "SHAPE": "an input or output has a shape that the model was not compiled for",
    "BYTES": "the memory of an input or output is too small for its shape",
    "CPU": "this CPU lacks instructions that the model was compiled for",
    "THREADS": "the launch function has answered that it could not run the tasks",
    "INDEX": "an element of an input is outside of what the model's tables have a row for",
}
"""The answers of a model's functions, by number, each in words."""

TYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16", "float32",
    "float64",
)  # fmt: skip
"""The element types of inputs and outputs; the number of one is its place in this list, from 1."""

_C = {
    "bool": "uint8_t", "float16": "uint16_t", "bfloat16": "uint16_t", "float32": "float", "float64": "double",
}  # fmt: skip

_KEYWORDS = frozenset(
    """alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const const_cast
    consteval constexpr constinit continue co_await co_return co_yield decltype default delete do double dynamic_cast
    else enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not
    not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict return short
    signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef
    typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq arena launch user
    unix linux NULL size_t int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t""".split()
)
"""Words of C and C++, the header's own arguments, and what GNU's C defines."""

_DEFINED = frozenset(
    """NULL EOF SIZE_MAX INFINITY NAN HUGE_VAL BUFSIZ I assert bool complex errno imaginary max min offsetof stderr
    stdin stdout size_t ptrdiff_t int8_t uint8_t int16_t uint16_t int32_t uint32_t int64_t uint64_t tesa_launch
    tesa_task tesa_tensor""".split()
)
"""Types that the header uses, and what the headers define that programs include ahead of it."""


Limits = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Port:
    """An input or output. argument: its name in C. limits: of indices, the least and the largest, for
    all elements or for each place of the last axis."""

    name: str
    argument: str
    tensor: Tensor
    limits: Limits = ()

    @property
    def c(self) -> str:
        """The C type of an element."""
        return _C.get(self.tensor.dtype, f"{self.tensor.dtype}_t")

    @property
    def type(self) -> int:
        """The number of its element type."""
        return TYPES.index(self.tensor.dtype) + 1

    @property
    def alignment(self) -> int:
        """Bytes to which its memory has to be aligned: those of an element."""
        return {"uint8_t": 1, "int8_t": 1, "uint16_t": 2, "int16_t": 2, "float": 4, "int32_t": 4, "uint32_t": 4}.get(
            self.c, 8
        )


@dataclass(frozen=True)
class Size:
    """One size of a model. function: of the network; suffix: of its C functions, "" for the first size."""

    function: str
    suffix: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def ports(self) -> tuple[Port, ...]:
        """Inputs, then outputs: the order of the arguments in C."""
        return (*self.inputs, *self.outputs)


@dataclass(frozen=True)
class Api:
    """A model as C sees it. name: what its symbols begin with."""

    name: str
    sizes: tuple[Size, ...]
    arena: int
    target: str
    version: str
    digest: str
    threads: int = 1


def model_name(path: Path) -> str:
    """The prefix of a library's symbols: the name of its file, without "lib" in front.

    >>> model_name(Path("out/libmy-net.so")), model_name(Path("7b.o"))
    ('my_net', 'model_7b')
    """
    stem = path.name.partition(".")[0]
    stem = stem.removeprefix("lib") or stem
    plain = re.sub(r"\W", "_", stem, flags=re.ASCII) or "model"
    return f"model_{plain}" if plain[0].isdigit() or plain in _KEYWORDS else plain


def ports(
    names: Sequence[str], tensors: Sequence[Tensor], limits: Sequence[Limits], unique: Unique
) -> tuple[Port, ...]:
    """The ports of some tensors by their names in the model; unique: gives each argument a name of its own."""
    return tuple(
        Port(name, unique(_argument(name)), tensor, limit)
        for name, tensor, limit in zip(names, tensors, limits, strict=True)
    )


def arguments() -> Unique:
    """Names of arguments, none of which is a word of C or C++, a type, or a macro of the usual headers."""
    return Unique(_KEYWORDS | _DEFINED)


def _argument(name: str) -> str:
    return identifier(name.lstrip("_"))
