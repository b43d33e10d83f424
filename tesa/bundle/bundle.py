"""Gathers what an application needs beside a compiled model, in one folder: libraries, headers, licences, a README."""

import json
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tesa.base.told import parsed
from tesa.base.typed import typed
from tesa.bundle.model import KERNEL, VM, WASM, Compiled, read
from tesa.bundle.readme import readme
from tesa.bundle.runtime import headers, libraries, licences, licences_of
from tesa.errors import UsageError

_MARK = "bundle.json"
"""Lists what a bundle holds: only a folder that has it is written over."""

_APPS = {
    VM: {
        "include/tesa.hpp": ("cpp/tesa.hpp", "a model in C++"),
        "python/tesa_model.py": ("python/tesa_model.py", "a model in Python, without tesa"),
        "python/requirements.txt": ("python/requirements.txt", "the packages that it needs"),
    },
    WASM: {
        "tesa.js": ("web/tesa.js", "a model in JavaScript"),
        "tesa.d.ts": ("web/tesa.d.ts", "its types"),
    },
}  # fmt: skip


@dataclass(frozen=True)
class File:
    """A file of a bundle, or a folder of headers: its name in the bundle, what it is for, its bytes."""

    name: str
    what: str
    bytes: int


@dataclass(frozen=True)
class Bundle:
    """A folder with all that an application needs. kind: of the model, see tesa.bundle.model; arch: its machine."""

    path: Path
    kind: str
    arch: str
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)


def bundle(model: Path, output: Path, wheels: Path | None = None) -> Bundle:
    """Write the folder output for a compiled model: what `tesa compile` or `Kernel.save` wrote.

    wheels: a folder with wheels of TVM's runtime, for a machine of another architecture than this one. Raises
    UsageError or ModelError; nothing is written then.
    """
    compiled = read(model)
    _check(output)
    contents = _contents(compiled, wheels)
    try:
        return _written(compiled, contents, output)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{output / _MARK}: is no list of a bundle; give a folder that is new or empty") from error


Contents = dict[str, tuple[bytes | Path, str]]


def _contents(compiled: Compiled, wheels: Path | None) -> Contents:
    """The content of each file or folder of the bundle, and its purpose; by name."""
    what = {
        ".json": "what goes in and comes out, and why each kernel was chosen",
        ".h": "the functions that a program calls",
    }
    contents: Contents = {
        file.name: (file, what.get(file.suffix, "the compiled model: code and weights")) for file in compiled.files
    }
    if needs_runtime(compiled):
        names = ("libtvm_runtime.so", "libtvm_ffi.so")
        told = {"libtvm_runtime.so": "TVM's runtime", "libtvm_ffi.so": "its calls and tensors"}
        for name, content in libraries(names, compiled.arch, wheels).items():
            contents[f"lib/{name}"] = (content, f"{told[name]}: ship it with the program")
        contents["include/tvm"] = (headers() / "tvm", "headers of tvm_ffi, to build a program in C++")
        contents["include/dlpack"] = (headers() / "dlpack", "headers of DLPack")
    for name, (source, purpose) in _APPS.get(compiled.kind, {}).items():
        contents[name] = (_apps() / source, purpose)
    found = {**licences_of("tesa"), **(licences() if needs_runtime(compiled) else {})}
    return contents | {f"licences/{name}": (path, "licence") for name, path in found.items()}


def _apps() -> Path:
    """The folder of the files that programs take along; it has no code of tesa's, and so is no module of Python."""
    spec = find_spec("tesa.apps")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("the files for applications are not installed; install tesa again")
    return Path(next(iter(spec.submodule_search_locations)))


def needs_runtime(compiled: Compiled) -> bool:
    """True where a program needs TVM's libraries beside it."""
    return compiled.kind == VM or (compiled.kind == KERNEL and compiled.path.suffix == ".so")


def _check(output: Path) -> None:
    """Refuse a folder that holds something else than an earlier bundle."""
    if output.exists() and not output.is_dir():
        raise UsageError(f"cannot write {output}: it is a file; give a folder that is new or empty")
    if output.is_dir() and any(output.iterdir()) and not (output / _MARK).is_file():
        raise UsageError(f"cannot write {output}: it is not empty, and no bundle; give a folder that is new or empty")


def _written(compiled: Compiled, contents: Contents, output: Path) -> Bundle:
    """Write the contents; of an earlier bundle what is no longer in it goes."""
    earlier = parsed((output / _MARK).read_bytes())["files"] if (output / _MARK).is_file() else []
    typed(tuple[str, ...], earlier, "files")
    output.mkdir(parents=True, exist_ok=True)
    for name in earlier:
        if (path := output / name).resolve().is_relative_to(output.resolve()) and path.resolve() != output.resolve():
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            if path.parent != output and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
    made = []
    for name, (source, what) in contents.items():
        place = output / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            place.write_bytes(source)
        elif source.is_dir():
            shutil.copytree(source, place)
        else:
            shutil.copy(source, place)
        made.append(File(name, what, _size(place)))
    rows = [(file.name, file.what) for file in made if not file.name.startswith("licences/")]
    text = readme(compiled, [*rows, ("licences", "of tesa, and of what is in the libraries")])
    (output / "README.md").write_text(text)
    made.insert(0, File("README.md", "the few lines of code that use it", len(text.encode())))
    (output / _MARK).write_text(json.dumps({"kind": compiled.kind, "files": [file.name for file in made]}, indent=1))
    return Bundle(output, compiled.kind, compiled.arch, tuple(made))


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file())
