"""Writes kernels for GPUs into a shared library: images of code, constants, and the host in C that launches them.

The library needs nothing but the C library. It has the functions, for a NAME,
    int NAME_run(void *const *inputs, void *const *outputs, void *stream)     pointers to memory of the device
    int NAME_run_host(int device, void *const *inputs, void *const *outputs, int calls, float *milliseconds)
    const char *NAME_error(void), *NAME_description(void)
and one packed function of TVM's FFI, which takes the inputs and the outputs as tensors of DLPack. A program of several
sizes has NAME_run_1 and NAME_run_host_1 for the second one, and so on; the packed function takes the size that the
shapes of the inputs are of, and ENTRY_1 and so on are those of one size.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.scratch import Scratch
from tesa.build.gpu.product import CUBIN, PTX, Image
from tesa.errors import UnsupportedError
from tesa.schedules.gpus import Launch
from tesa.targets.target import Target
from tesa.targets.toolchain import NATIVE

HOST = Path(__file__).with_name("host.c")
ALIGNMENT = 256
"""Bytes to which parts of the memory of a device are aligned."""

_DLPACK = {
    "float32": (2, 32), "float16": (2, 16), "float64": (2, 64), "bfloat16": (4, 16), "int8": (0, 8), "int16": (0, 16),
    "int32": (0, 32), "int64": (0, 64), "uint8": (1, 8), "uint16": (1, 16), "uint32": (1, 32), "uint64": (1, 64),
    "bool": (6, 8),
}  # fmt: skip


@dataclass(frozen=True)
class Port:
    """An input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def bytes(self) -> int:
        """The bytes of all elements."""
        return int(np.prod(self.shape)) * _DLPACK[self.dtype][1] // 8


@dataclass(frozen=True)
class Size:
    """The work for inputs of some shapes: launches in order, on named memory.

    launches: their arguments are names of constants or memories of the program, of inputs or outputs, or the place of
    one of these, as "input 0", which is what it means whatever names there are.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    launches: tuple[Launch, ...]


@dataclass(frozen=True)
class Program:
    """The work of a library. inputs, outputs, launches: of its first size, see Size.

    modules: the images of each, as of a GpuProduct. memories: bytes of each memory that the launches share, and where
    it begins in the arena, or None for a place of its own. others: the other sizes, of which inputs and outputs have
    the same names and types in the same order.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    modules: tuple[tuple[Image, ...], ...]
    launches: tuple[Launch, ...]
    constants: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    memories: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[Size, ...] = ()

    @property
    def sizes(self) -> tuple[Size, ...]:
        """All sizes, the first one first."""
        return Size(self.inputs, self.outputs, self.launches), *self.others


def write_library(program: Program, path: Path, target: Target, name: str, entry: str) -> None:
    """Compile and link a program into a library at path. name: of its functions in C; entry: of its packed function.

    Raises UsageError as the toolchain does, and UnsupportedError for a type of element that DLPack has not.
    """
    with Scratch() as folder:
        source, made = Path(folder) / "library.c", Path(folder) / "library.o"
        source.write_text(_source(program, target, Path(folder), name, entry))
        NATIVE.compile(source, made, ["-fvisibility=hidden", "-w"])
        NATIVE.link([made], path, ["-ldl", "-lpthread"])


def c_name(path: Path) -> str:
    """A name in C from that of a file.

    >>> c_name(Path("my-model.so"))
    'my_model'
    """
    name = re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    return name if name[:1].isalpha() else f"m_{name}"


def _source(program: Program, target: Target, folder: Path, name: str, entry: str) -> str:
    constants, places = _arena(program)
    launches = [one for size in program.sizes for one in size.launches]
    spaces = _spaces(program, places)
    (folder / "constants.bin").write_bytes(constants or b"\0")
    total = max([len(constants), *(places[key] + _up(size) for key, (size, _) in program.memories.items())])
    lines = ["#include <stdint.h>", "#include <stddef.h>", *([] if target.arch == "cuda" else ["#define TESA_HIP 1"])]
    lines += [f"#define NAME {name}", f"#define ENTRY {entry}", f"#define DESCRIPTION {_c(_description(program))}"]
    lines += [f"#define ARCHITECTURES {_c(_architectures(program))}"]
    lines += [f"#define SHAPES_TOLD {_c(_shapes_told(program))}"]
    lines += [
        f"enum {{ COUNT_MODULES = {len(program.modules)}, COUNT_LAUNCHES = {len(launches)}, "
        f"COUNT_ARGUMENTS = {sum(len(one.arguments) for one in launches)}, COUNT_INPUTS = "
        f"{len(program.inputs)}, COUNT_OUTPUTS = {len(program.outputs)}, COUNT_SIZES = {len(program.sizes)}, "
        f"MOST_ARGUMENTS = {max((len(one.arguments) for one in launches), default=0) + 1} }};",
        f"#define ARENA ((size_t){total})",
        f"#define CONSTANT_BYTES ((size_t){len(constants)})",
        _included("tesa_constants", folder / "constants.bin"),
        "#define CONSTANTS tesa_constants",
        "typedef struct { int sm, ptx; const void *bytes; } image;",
        "typedef struct { const image *images; int count; } module;",
        "typedef struct { int module; const char *entry; unsigned grid[3], block[3], shared; int stage, first, count; }"
        " launch;",
        "typedef struct { int space; int64_t place; } argument;",
        "typedef struct { int first, end; } span;",
        "typedef struct { const char *name, *dtype, *shape_text; int code, bits, ndim; const int64_t *shape; size_t "
        "bytes; int alignment; } port;",
    ]
    lines += _modules(program, folder)
    lines += [*_launches(launches, spaces), _spans(program)]
    lines += _ports("INPUTS", [port for size in program.sizes for port in size.inputs], target)
    lines += _ports("OUTPUTS", [port for size in program.sizes for port in size.outputs], target)
    return "\n".join([*lines, HOST.read_text(), *(_entries(name, entry, i) for i in range(1, len(program.sizes)))])


def _spaces(program: Program, places: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Where each name of an argument lies: among inputs, outputs or in the arena, and its place there."""
    spaces = {port.name: (0, i) for i, port in enumerate(program.inputs)}
    spaces |= {port.name: (1, i) for i, port in enumerate(program.outputs)}
    spaces |= {key: (2, place) for key, place in places.items()}
    spaces |= {f"input {i}": (0, i) for i in range(len(program.inputs))}
    return spaces | {f"output {i}": (1, i) for i in range(len(program.outputs))}


def _spans(program: Program) -> str:
    """The launches of each size."""
    ends = list(accumulate(len(size.launches) for size in program.sizes))
    rows = (f"{{{end - len(size.launches)}, {end}}}" for end, size in zip(ends, program.sizes, strict=True))
    return f"static const span SPANS[] = {{{', '.join(rows)}}};"


def _entries(name: str, entry: str, size: int) -> str:
    """The functions of one of the other sizes."""
    given, checked = "void *const *inputs, void *const *outputs", f"run_checked({size}, -1, inputs, outputs, stream)"
    return "\n".join(
        [
            f"EXPORT int {name}_run_{size}({given}, void *stream) {{ return {checked}; }}",
            f"EXPORT int {name}_run_host_{size}(int device, {given}, int calls, float *milliseconds) "
            f"{{ return run_host({size}, device, inputs, outputs, calls, milliseconds); }}",
            f"EXPORT int __tvm_ffi_{entry}_{size}(void *self, const any *arguments, int32_t count, any *result) "
            f"{{ return packed({size}, arguments, count, result); }}",
        ]
    )


def _shapes_told(program: Program) -> str:
    """The shapes of the inputs of each size, for a message."""
    return "; ".join(" ".join(_shape(port) for port in size.inputs) for size in program.sizes)


def _shape(port: Port) -> str:
    return f"[{', '.join(map(str, port.shape))}]"


def _arena(program: Program) -> tuple[bytes, dict[str, int]]:
    """The bytes of the constants, and where constants and memories begin."""
    places: dict[str, int] = {}
    content = bytearray()
    for key, array in program.constants.items():
        places[key] = len(content)
        content += np.ascontiguousarray(array).tobytes()
        content += bytes(_up(len(content)) - len(content))
    end = len(content)
    for key, (_, place) in program.memories.items():
        if place is not None:
            places[key] = len(content) + place
            end = max(end, places[key] + _up(program.memories[key][0]))
    for key, (size, place) in program.memories.items():
        if place is None:
            places[key] = end
            end += _up(size)
    return bytes(content), places


def _up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _included(name: str, file: Path) -> str:
    """An array in C with the bytes of a file."""
    return (
        f'__asm__(".pushsection .rodata\\n.balign 64\\n{name}:\\n.incbin \\"{file}\\"\\n.balign 4\\n.popsection\\n");\n'
        f'extern const unsigned char {name}[] __attribute__((visibility("hidden")));'
    )


def _modules(program: Program, folder: Path) -> list[str]:
    lines, rows = [], []
    for m, images in enumerate(program.modules):
        table = []
        for i, image in enumerate(images):
            file = folder / f"image{m}_{i}.bin"
            file.write_bytes(image.content)
            lines.append(_included(f"tesa_image{m}_{i}", file))
            number = int(image.architecture.removeprefix("sm_").rstrip("a")) if image.kind in (CUBIN, PTX) else 0
            how = (2 if image.architecture.endswith("a") else 1) if image.kind == PTX else 0
            table.append(f"{{{number}, {how}, tesa_image{m}_{i}}}")
        lines.append(f"static const image images{m}[] = {{{', '.join(table)}}};")
        rows.append(f"{{images{m}, {len(images)}}}")
    return [*lines, f"static const module MODULES[] = {{{', '.join(rows)}}};"]


def _launches(launches: Sequence[Launch], spaces: Mapping[str, tuple[int, int]]) -> list[str]:
    rows: list[str] = []
    arguments: list[str] = []
    for one in launches:
        grid, block = (f"{{{', '.join(map(str, size))}}}" for size in (one.grid, one.block))
        facts = f"{one.shared}, {one.stage}, {len(arguments)}, {len(one.arguments)}"
        rows.append(f"{{{one.module}, {_c(one.entry)}, {grid}, {block}, {facts}}}")
        arguments += [f"{{{spaces[key][0]}, {spaces[key][1]}}}" for key in one.arguments]
    return [
        f"static const launch LAUNCHES[] = {{{', '.join(rows)}}};",
        f"static const argument ARGUMENTS[] = {{{', '.join(arguments) or '{0, 0}'}}};",
    ]


def _ports(name: str, ports: Sequence[Port], target: Target) -> list[str]:
    lines, rows = [], []
    for i, one in enumerate(ports):
        if one.dtype not in _DLPACK:
            raise UnsupportedError(f"{one.name}: {target.name} passes no elements of type {one.dtype}")
        code, bits = _DLPACK[one.dtype]
        lines.append(f"static const int64_t shape_{name}{i}[] = {{{', '.join(map(str, one.shape)) or '1'}}};")
        alignment = 16 if one.bytes >= 16 else bits // 8
        rows.append(
            f"{{{_c(one.name)}, {_c(one.dtype)}, {_c(_shape(one))}, {code}, {bits}, {len(one.shape)}, shape_{name}{i}, "
            f"{one.bytes}, {alignment}}}"
        )
    return [*lines, f"static const port {name}[] = {{{', '.join(rows) or '{0}'}}};"]


def _architectures(program: Program) -> str:
    every = [dict.fromkeys((image.kind, image.architecture) for image in images) for images in program.modules]
    kinds = dict.fromkeys(kind for images in every for kind in images)
    # a device needs code of every module: of what only some have it is not said that the library has it
    kinds = {kind: None for kind in kinds if all(kind in images for images in every)} or kinds
    return ", ".join(f"{architecture} ({kind})" for kind, architecture in kinds)


def _description(program: Program) -> str:
    """The ports, of each size where there are several, and what more is known, as JSON."""
    sizes = [
        {
            side: [{"name": p.name, "shape": list(p.shape), "dtype": p.dtype} for p in found]
            for side, found in (("inputs", size.inputs), ("outputs", size.outputs))
        }
        for size in program.sizes
    ]
    several = {"sizes": sizes} if program.others else {}
    return json.dumps({**sizes[0], **several, "images": _architectures(program), **program.facts}, sort_keys=True)


def _c(text: str) -> str:
    """A string of C."""
    plain = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _.,:;[]{}()-+/")
    return '"' + "".join(c if c in plain else "".join(f"\\{b:03o}" for b in c.encode()) for c in text) + '"'
