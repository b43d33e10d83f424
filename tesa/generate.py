"""From an attributed module to an executable: lower, choose a kernel for each layer, build, and keep the plan."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import onnx
import tvm
import tvm_ffi

from tesa.base.files import write_text
from tesa.base.progress import Event, Progress
from tesa.base.version import __version__
from tesa.choose.plan import LayerPlan, Plan
from tesa.choose.predict import table_for
from tesa.choose.shortlist import INSTRUCTIONS
from tesa.errors import UsageError
from tesa.layers import Binding, Known, Lowered, WeightLayer, bind, lower, schedule_rest
from tesa.layers.layer import Layer
from tesa.layers.prepare import Prepared
from tesa.propagate import TesaModel
from tesa.records.locations import open_log
from tesa.targets.target import Target
from tesa.tune.choose import ChosenKernel, choose


@dataclass(frozen=True)
class Choice:
    """How kernels are to be chosen; the fields are arguments of tesa.compile."""

    target: Target
    threads: int
    log: str | Path | None
    measure: bool
    jobs: int | None
    code_budget: int | None
    forms: tuple[str, ...] | None


@dataclass(frozen=True)
class Generated:
    """What is written: the virtual machine's code, the kernels' object files in a fixed order, the plan.

    skipped: layers with a weight that got no kernel of their own, each with the reason.
    """

    executable: Any
    objects: tuple[Path, ...]
    plan: Plan
    skipped: tuple[str, ...]


class Dump:
    """Writes modules as text into a folder, if there is one."""

    def __init__(self, folder: Path | None) -> None:
        """Make the folder and try it out. UsageError, before any work, if nothing can be written there."""
        self.folder = folder
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder) as file:
                file.write(b"0")
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"cannot dump into {folder}: a file is in the way; give another folder") from error
        except OSError as error:
            raise UsageError(f"cannot dump into {folder}: {error.strerror or error}; give another folder") from error

    def module(self, name: str, mod: Any) -> None:
        """Write a module as NAME.py, whole or not at all. Weights are left out. UsageError as write_text."""
        if self.folder is not None:
            write_text(self.folder / f"{name}.py", mod.script(show_meta=False))


def generate(
    prepared: Prepared,
    choice: Choice,
    dump: Dump,
    progress: Progress,
) -> Generated:
    """Generate code for a module whose tensors carry their TeSA."""
    attributed, imported = prepared.attributed, prepared.imported
    known = {var: _known(attributed, var) for var in attributed.weights}
    lowered = lower(attributed.effective_module(), imported.names, choice.threads, known)
    dump.module("3-lowered", lowered.mod)
    tasks = [
        Layer(layer.name, layer.problem, layer.weight, prepared.facts.get(layer.name, ())) for layer in lowered.layers
    ]
    kernels = choose(
        tasks,
        choice.target,
        log=open_log(choice.log),
        measure=choice.measure,
        jobs=choice.jobs,
        forms=choice.forms,
        instructions=INSTRUCTIONS if choice.code_budget is None else choice.code_budget,
        table=table_for(choice.target, choice.threads, choice.log),
        progress=progress,
    )
    progress(Event("build", 0, 1))
    target = tvm.target.Target(choice.target.tvm)
    bindings = {
        layer.placeholder: Binding(kernel.symbol, kernel.constants, layer.bias)
        for layer, kernel in zip(lowered.layers, kernels, strict=True)
    }
    mod = schedule_rest(bind(lowered.mod, bindings), target, choice.target.core, choice.threads)
    dump.module("4-scheduled", mod)
    plan = Plan(choice.target.name, choice.threads, _layers(mod, lowered, kernels, tasks, prepared))
    executable = tvm.compile(mod, target=target)
    objects = dict.fromkeys(path for kernel in kernels for path in kernel.objects)
    progress(Event("build", 1, 1))
    return Generated(executable, tuple(objects), plan, _skipped(attributed, lowered))


def _skipped(attributed: TesaModel, lowered: Lowered) -> tuple[str, ...]:
    """Why a weight that propagation knows became no weight layer."""
    done = {layer.source for layer in lowered.layers}
    rows = []
    for var, facts in attributed.weights.items():
        if var in done:
            continue
        why = f"the activation it meets has {len(attributed.tesa[facts.input].shape)} axis, kernels need two"
        if facts.weight.dtype != np.float32:
            why = f"its weight is {facts.weight.dtype.name}, kernels are made for float32"
        elif facts.op.endswith("_transpose"):
            why = "transposed convolutions have no sparse kernels yet"
        elif facts.op in ("relax.nn.conv1d", "relax.nn.conv3d"):
            why = "convolutions of one and of three axes have no sparse kernels yet"
        elif facts.op == "relax.matmul" and facts.weight.ndim != 2:
            why = f"its weight has {facts.weight.ndim} axes, kernels are made for two"
        rows.append(f"{facts.layer}: left dense ({facts.sparsity:.0%} zeros stay in it): {why}")
    return tuple(rows)


def _known(attributed: TesaModel, var: str) -> Known:
    """What propagation found for a layer: its weight with the dead elements gone, its constant inputs as a shift."""
    folded = attributed.folded(var)
    if folded is None:
        return Known(attributed.weights[var].effective_weight)
    return Known(*folded)


def _layers(
    mod: Any,
    lowered: Lowered,
    kernels: Sequence[ChosenKernel],
    tasks: Sequence[Layer],
    prepared: Prepared,
) -> tuple[LayerPlan, ...]:
    """A row for every call that the compiled function makes, in running order."""
    waiting: dict[str, list[LayerPlan]] = {}
    for layer, kernel, task in zip(lowered.layers, kernels, tasks, strict=True):
        waiting.setdefault(kernel.symbol, []).append(_weight_layer(layer, kernel, task, prepared))
    rows: list[LayerPlan] = []
    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            name = getattr(getattr(binding.value, "op", None), "name", "")
            if name == "relax.call_dps_packed":
                rows.append(waiting[str(binding.value.args[0].global_symbol)].pop(0))
            elif name == "relax.call_tir":
                rows.append(_operator(mod, binding, len(rows)))
    return tuple(rows)


def _weight_layer(layer: WeightLayer, kernel: ChosenKernel, task: Layer, prepared: Prepared) -> LayerPlan:
    problem, attributed = layer.problem, prepared.attributed
    tensor = attributed.imported.tensors.get(layer.result, "")
    dead = attributed.tesa[layer.result].dead
    any_dead = dead.any(axis=tuple(axis for axis in range(dead.ndim) if axis != layer.axis))
    return LayerPlan(
        layer=layer.name,
        op=problem.op,
        kind="sparse",
        shape=(problem.m, problem.k, problem.n),
        sparsity=1.0 - np.count_nonzero(layer.weight) / max(layer.weight.size, 1),
        epilogue=_epilogue(layer),
        parts=kernel.parts,
        facts=task.facts,
        tensor=tensor if tensor in prepared.tensors else "",
        symbol=kernel.symbol,
        layout=layer.layout,
        dead=tuple(int(i) for i in np.flatnonzero(np.broadcast_to(any_dead, problem.m))),
        kept=prepared.kept.get(tensor, ()),
        digest=kernel.digest,
    )


def _epilogue(layer: WeightLayer) -> str:
    epilogue = layer.problem.epilogue
    words = ["bias"] * epilogue.bias + ["residual"] * epilogue.residual
    return "+".join(words + ([epilogue.activation] if epilogue.activation else []))


def _operator(mod: Any, binding: Any, place: int) -> LayerPlan:
    """A row for a scheduled operator. A transpose that tesa put in is a change of layout."""
    function = binding.value.args[0]
    name = str(function.name_hint)
    attrs = mod[function].attrs
    rule = str(attrs["tesa.schedule"]) if attrs and "tesa.schedule" in attrs else ""
    layout = name.startswith("layout")
    shape = tuple(int(extent) for extent in binding.var.ty.shape) if hasattr(binding.var.ty, "shape") else ()
    return LayerPlan(
        layer=f"{place}.{name}",
        op=re.sub(r"\d+$", "", name),  # TVM numbers functions of one name
        kind="layout" if layout else "operator",
        shape=shape,
        note=rule,
        symbol=name,
    )


def versions() -> dict[str, str]:
    """Versions that determine what comes out; nothing of the machine."""
    return {
        "tesa": __version__,
        "tvm": tvm.__version__,
        "tvm_ffi": tvm_ffi.__version__,
        "onnx": onnx.__version__,
        "python": platform.python_version(),
    }
