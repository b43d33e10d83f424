"""The whole way from an ONNX file to a library: import, propagate, lower, choose kernels, build, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesa.errors import UsageError
from tesa.plan import Plan
from tesa.progress import Event, Progress, silent
from tesa.runtime.model import TensorInfo


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
    dump_dir: str | Path | None = None,
    forms: Sequence[str] | None = None,
    progress: Progress = silent,
) -> CompiledModel:
    """Compile an ONNX file into `output` (a shared library) and its description, the same name with .json.

    target: see tesa.target.parse_target; the machine itself by default. threads: how many the kernels are made for.
    log: folder of measured records, read and added to. shapes: sizes of dynamic inputs. masks: path of an .npz, or
    arrays by weight name. measure=False chooses by estimate what the log does not know. jobs: compiler processes.
    dump_dir: the module after each phase, as text. forms: only these kernel families compete.

    Raises errors of tesa.errors; nothing is written unless everything succeeded.
    """
    from tesa.frontend import import_onnx
    from tesa.propagate import propagate
    from tesa.target import parse_target

    output = _checked_output(Path(output))
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    resolved = parse_target(target)
    dump = _Dump(dump_dir)
    progress(Event("import", 0, 1, str(model) if isinstance(model, str | Path) else "model"))
    imported = import_onnx(model, shapes=shapes, masks=masks)
    dump.module("1-imported", imported.mod)
    progress(Event("import", 1, 1))
    progress(Event("propagate", 0, 1))
    attributed = propagate(imported)
    dump.module("2-propagated", attributed.mod)
    progress(Event("propagate", 1, 1))
    return _generate(
        attributed, imported, resolved, output, dump, _Options(threads, log, measure, jobs, forms), progress
    )
