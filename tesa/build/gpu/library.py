"""Writes kernels for GPUs into a shared library: images of code, constants, and the host in C that launches them.

The library needs nothing but the C library. It has the functions, for a NAME,
    int NAME_run(void *const *inputs, void *const *outputs, void *stream)     pointers to memory of the device
    int NAME_run_host(int device, void *const *inputs, void *const *outputs, int calls, float *milliseconds)
    const char *NAME_error(void), *NAME_description(void)
and one packed function of TVM's FFI, which takes the inputs and the outputs as tensors of DLPack.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
class Program:
    """The work of a library: launches in order, on named memory.

    modules: the images of each, as of a GpuProduct. launches: with arguments that are names of inputs, outputs,
    constants or memories. memories: bytes of each memory that the launches share, and where it begins in the arena, or
    None for a place of its own.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    modules: tuple[tuple[Image, ...], ...]
    launches: tuple[Launch, ...]
    constants: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    memories: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


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
    spaces = {port.name: (0, i) for i, port in enumerate(program.inputs)}
    spaces |= {port.name: (1, i) for i, port in enumerate(program.outputs)}
    spaces |= {key: (2, place) for key, place in places.items()}
    (folder / "constants.bin").write_bytes(constants or b"\0")
    total = max([len(constants), *(places[key] + _up(size) for key, (size, _) in program.memories.items())])
    lines = ["#include <stdint.h>", "#include <stddef.h>", *([] if target.arch == "cuda" else ["#define TESA_HIP 1"])]
    lines += [f"#define NAME {name}", f"#define ENTRY {entry}", f"#define DESCRIPTION {_c(_description(program))}"]
    lines += [f"#define ARCHITECTURES {_c(_architectures(program))}"]
    lines += [
        f"enum {{ COUNT_MODULES = {len(program.modules)}, COUNT_LAUNCHES = {len(program.launches)}, "
        f"COUNT_ARGUMENTS = {sum(len(one.arguments) for one in program.launches)}, COUNT_INPUTS = "
        f"{len(program.inputs)}, COUNT_OUTPUTS = {len(program.outputs)} }};",
        f"#define ARENA ((size_t){total})",
        f"#define CONSTANT_BYTES ((size_t){len(constants)})",
        _included("tesa_constants", folder / "constants.bin"),
        "#define CONSTANTS tesa_constants",
        "typedef struct { int sm, ptx; const void *bytes; } image;",
        "typedef struct { const image *images; int count; } module;",
        "typedef struct { int module; const char *entry; unsigned grid[3], block[3], shared; int stage, first, count; }"
        " launch;",
        "typedef struct { int space; int64_t place; } argument;",
        "typedef struct { const char *name, *dtype, *shape_text; int code, bits, ndim; const int64_t *shape; size_t "
        "bytes; int alignment; } port;",
    ]
    lines += _modules(program, folder)
    lines += _launches(program, spaces)
    lines += [*_ports("INPUTS", program.inputs, target), *_ports("OUTPUTS", program.outputs, target)]
    return "\n".join([*lines, HOST.read_text()])


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


def _launches(program: Program, spaces: Mapping[str, tuple[int, int]]) -> list[str]:
    rows: list[str] = []
    arguments: list[str] = []
    for one in program.launches:
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
        text = f"[{', '.join(map(str, one.shape))}]"
        alignment = 16 if one.bytes >= 16 else bits // 8
        rows.append(
            f"{{{_c(one.name)}, {_c(one.dtype)}, {_c(text)}, {code}, {bits}, {len(one.shape)}, shape_{name}{i}, "
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
    """The ports and what more is known, as JSON."""
    ports = {
        side: [{"name": p.name, "shape": list(p.shape), "dtype": p.dtype} for p in found]
        for side, found in (("inputs", program.inputs), ("outputs", program.outputs))
    }
    return json.dumps({**ports, "images": _architectures(program), **program.facts}, sort_keys=True)


def _c(text: str) -> str:
    """A string of C."""
    plain = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _.,:;[]{}()-+/")
    return '"' + "".join(c if c in plain else "".join(f"\\{b:03o}" for b in c.encode()) for c in text) + '"'
