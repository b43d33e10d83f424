"""Joins the objects of a network into one file that shows the functions of its interface and nothing else."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tesa.base.files import atomic_path
from tesa.base.scratch import Scratch
from tesa.build.bare.ports import Api
from tesa.build.bare.wasm_file import with_local_symbols, with_sum
from tesa.errors import UsageError
from tesa.targets.target import Target
from tesa.targets.toolchain import ran

_LINK_S = 300.0


def functions(model: Api) -> list[str]:
    """The symbols of a model's interface."""
    names = ["call", "arena_bytes", "sizes", "inputs", "outputs", "input", "output", "error", "missing", "target",
             "version", "digest"]  # fmt: skip
    names += [f"{run}{size.suffix}" for size in model.sizes for run in ("run", "run_parallel")]
    return [f"{model.name}_{name}" for name in names]


def link(objects: Sequence[bytes], model: Api, form: str, target: Target, path: Path) -> None:
    """Write objects as one file of a format. Raises UsageError where a tool is missing or fails."""
    with Scratch() as name:
        folder = Path(name)
        files = []
        for number, content in enumerate(dict.fromkeys(objects)):
            files.append(folder / f"{number}.o")
            files[-1].write_bytes(content)
        _FORMS[form](files, functions(model), target, path, folder)


def _shared(files: Sequence[Path], names: Sequence[str], target: Target, path: Path, folder: Path) -> None:
    script = folder / "symbols"
    script.write_text(f"{{ global: {'; '.join(names)}; local: *; }};\n")
    options = ["-z,defs", "--gc-sections", "--build-id=none", "-s", f"--version-script={script}"]
    target.toolchain.link(files, path, ["-lm", *(f"-Wl,{option}" for option in options)])


def _object(files: Sequence[Path], names: Sequence[str], target: Target, path: Path, folder: Path) -> None:
    joined = folder / "joined.o"
    compiler = shlex.split(target.toolchain.compiler())
    _run([*compiler, "-r", "-nostdlib", "-Wl,--build-id=none", "-o", joined, *files], path)
    told = subprocess.run([*compiler, "-print-prog-name=objcopy"], capture_output=True, text=True, check=False)
    tool = shutil.which(told.stdout.strip()) or shutil.which("objcopy") or shutil.which("llvm-objcopy")
    if tool is None:
        raise UsageError(f"cannot write {path}: no objcopy found beside {compiler[0]}; install binutils")
    with atomic_path(path) as aside:
        kept = [f"--keep-global-symbol={name}" for name in names]
        _run([tool, "--strip-debug", *kept, joined, aside], path)


def _wasm(files: Sequence[Path], names: Sequence[str], target: Target, path: Path, folder: Path) -> None:
    target.toolchain.link(files, path, [f"--export={name}" for name in names])
    path.write_bytes(with_sum(path.read_bytes()))


def _wasm_object(files: Sequence[Path], names: Sequence[str], target: Target, path: Path, folder: Path) -> None:
    linker = shlex.split(target.toolchain.compiler())
    with atomic_path(path) as aside:
        _run([*linker, "-r", "--strip-debug", *files, "-o", aside], path)
        aside.write_bytes(with_local_symbols(aside.read_bytes(), names))


def _run(command: Sequence[str | Path], path: Path) -> None:
    done = ran([str(word) for word in command], path, _LINK_S)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        told = [line for line in lines if "error" in line or "undefined" in line] or lines
        raise UsageError(f"cannot link {path.name}: {'; '.join(told[:3])}")


_FORMS = {"so": _shared, "o": _object, "wasm": _wasm, "wasm-o": _wasm_object}
