"""Recognises a compiled file: of what kind it is, what lies beside it, and the machine that it is made for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesa.base.told import parsed
from tesa.errors import ModelError, UsageError
from tesa.runtime.library import elf
from tesa.runtime.manifest import sizes_in

VM, KERNEL, BARE, WASM = "vm", "kernel", "bare", "wasm"
"""Kinds: a model for TVM's virtual machine; one kernel; a network that needs no runtime; a WebAssembly module."""

_SUFFIXES = (".so", ".o", ".wasm", ".c")
_MAGIC = {".wasm": b"\0asm", ".so": b"\x7fELF"}


@dataclass(frozen=True)
class Compiled:
    """A compiled file. files: it and what lies beside it; arch: as "x86_64", "" where it does not matter.

    sizes: for each size, the inputs and outputs, as the description has them.
    """

    path: Path
    kind: str
    arch: str
    files: tuple[Path, ...]
    description: dict[str, Any]

    @property
    def sizes(self) -> list[dict[str, Any]]:
        """Inputs and outputs of each size; of a kernel, its arguments are the inputs."""
        sizes: list[dict[str, Any]] = self.description.get("sizes") or [self.description]
        return sizes


def read(path: Path) -> Compiled:
    """Look at a compiled file and its description. Raises ModelError for what is none, damaged, or of another."""
    if path.suffix == ".onnx":
        raise UsageError(f"{path}: is no compiled model; compile it first: `tesa compile {path} -o model.so`")
    if not path.is_file():
        raise ModelError(f"{path}: no such file; compile a model with `tesa compile model.onnx -o {path}`")
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"{path}: expected what `tesa compile` writes: {', '.join(_SUFFIXES)}")
    description = _description(path.with_suffix(".json"))
    kind = _kind(description)
    arch = _machine(path) if path.suffix == ".so" else ""
    if path.suffix == ".wasm" and not path.read_bytes().startswith(_MAGIC[".wasm"]):
        raise ModelError(f"{path}: is no WebAssembly; compile the model again")
    _check_digest(path, description)
    beside = [path.with_suffix(suffix) for suffix in (".json", ".h")]
    if kind in (BARE, WASM) and not beside[1].is_file():
        raise ModelError(f"{beside[1]}: cannot be found; it is written beside {path.name}: compile the model again")
    found = (path, *(file for file in beside if file.is_file() and (file.suffix == ".json" or kind in (BARE, WASM))))
    return Compiled(path, kind, arch, found, description)


def _description(path: Path) -> dict[str, Any]:
    try:
        data = parsed(path.read_bytes())
        if not isinstance(data, dict):
            raise ValueError("no object")
        if "tesa_kernel" not in data:
            _ = data["inputs"][0:], data["outputs"][0:], data["versions"]["tesa"]
            sizes_in(data)
        return dict(data)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); it is written beside the library") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: is not the description of a compiled model ({error})") from error


def _kind(description: dict[str, Any]) -> str:
    if "tesa_kernel" in description:
        return KERNEL
    library = description.get("library", {})
    form = library.get("format", VM) if isinstance(library, dict) else VM
    return form if form in (VM, WASM) else BARE


def _machine(path: Path) -> str:
    fault, arch = elf(path)
    if fault:
        raise ModelError(f"{path}: is no compiled model: {fault}; compile the model again")
    return arch


def _check_digest(path: Path, description: dict[str, Any]) -> None:
    """A library has the digest of its description in it."""
    digest = str(description.get("digest", ""))
    if digest and digest.encode() not in path.read_bytes():
        raise ModelError(
            f"{path.with_suffix('.json')}: belongs to another library than {path.name}; copy both together"
        )
