"""The whole way from an ONNX file to a library: import, propagate, lower, choose kernels, build, write."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesa.base.files import atomic_path, write_json
from tesa.base.progress import Event, Progress, silent
from tesa.choose.plan import Plan
from tesa.errors import UsageError
from tesa.runtime.model import Manifest, TensorInfo

if TYPE_CHECKING:
    from tesa.generate import Generated
    from tesa.targets.toolchain import Toolchain


@dataclass(frozen=True)
class CompiledModel:
    """Where a compiled model was written, and what is in it. skipped: what was left as it is, each with its reason."""

    path: Path
    plan: Plan
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    skipped: tuple[str, ...] = ()


def compile_model(
    model: Any,
    *,
    output: str | Path,
    target: Any = None,
    threads: int = 1,
    log: str | Path | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    masks: Any = None,
    measure: bool = True,
    jobs: int | None = None,
    code_budget: int | None = None,
    dump_dir: str | Path | None = None,
    forms: Sequence[str] | None = None,
    propagation: bool = True,
    compact: bool = True,
    progress: Progress = silent,
) -> CompiledModel:
    """Compile an ONNX file into `output` (a shared library) and its description, the same name with .json.

    target: see tesa.targets.target.parse_target; by default the machine itself. threads: how many the kernels are made
    for. log: folder of measured records, read and added to. shapes: sizes of dynamic inputs. masks: path of an .npz,
    or arrays by weight name. measure=False takes for what the log does not know the kernel of the nearest weight that
    it knows, else the one that is expected to be the fastest: by the cost table of the target, from the folder "costs"
    of the log, of the user or of tesa, or by bare estimates where there is none. jobs: compiler processes, by default
    one for each CPU as far as there is memory for them. code_budget: straight-line instructions that the measured
    candidates of one layer may have together, each about 10 microseconds to compile and 8 bytes; 400,000 by default.
    What a log already knows competes whatever its size, and the plan names what was left out. dump_dir: the module
    after each phase, as text. forms: only these kernel families compete. compact=False leaves channels that are dead
    or constant in place, propagation=False also those that could be found to be so.

    Raises errors of tesa.errors; nothing is written unless everything succeeded.
    """
    from tesa.generate import Choice, Dump, generate, versions
    from tesa.layers.prepare import prepare
    from tesa.targets.target import parse_target

    path = checked_output(Path(output))
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    resolved = parse_target(target)
    dump = Dump(Path(dump_dir) if dump_dir is not None else None)
    prepared = prepare(model, shapes=shapes, masks=masks, propagation=propagation, shrink=compact, progress=progress)
    dump.module("1-imported", prepared.imported.mod)
    dump.module("2-propagated", prepared.attributed.mod)
    choice = Choice(resolved, threads, log, measure, jobs, code_budget, tuple(forms) if forms is not None else None)
    generated = generate(prepared, choice, dump, progress)
    imported = prepared.imported
    manifest = Manifest(ports(imported.inputs), ports(imported.outputs), generated.plan, versions())
    progress(Event("write", 0, 1, str(path)))
    write(generated, manifest, path, resolved.toolchain)
    progress(Event("write", 1, 1, str(path)))
    return CompiledModel(path, generated.plan, manifest.inputs, manifest.outputs, generated.skipped + prepared.notes)


def checked_output(path: Path) -> Path:
    """Refuse a place that could not be written before the long work starts, not after it."""
    if path.suffix != ".so":
        raise UsageError(f"{path}: the output is a shared library; give a name that ends in .so")
    if not path.parent.is_dir():
        raise UsageError(
            f"cannot write {path}: there is no folder {path.parent}; create it first: mkdir -p {path.parent}"
        )
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission, or a folder of that name; choose another place")
    return path


def ports(infos: Sequence[Any]) -> tuple[TensorInfo, ...]:
    """The frontend's inputs or outputs as the runtime describes them."""
    return tuple(TensorInfo(info.name, tuple(info.shape), info.dtype) for info in infos)


def write(generated: Generated, manifest: Manifest, path: Path, toolchain: Toolchain) -> None:
    """Link the library and write its description; both appear whole or not at all."""
    with atomic_path(path) as library:
        toolchain.export(generated.executable, generated.objects, library)
        write_json(path.with_suffix(".json"), manifest.to_json())
