"""The phases from an ONNX file to a library, as one list: import, propagate, compact, lower, choose, build, write."""

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import tvm

from tesa.base.progress import Event, Progress, silent
from tesa.base.renamed import renamed
from tesa.base.version import versions
from tesa.build.deploy import write
from tesa.build.dump import Dump
from tesa.choose.chosen import ChosenKernel
from tesa.choose.model_plan import plan_of
from tesa.choose.plan import Plan
from tesa.choose.predict import table_for
from tesa.choose.shortlist import INSTRUCTIONS
from tesa.errors import UsageError
from tesa.frontend.limits import input_limits
from tesa.layers import Binding, bind, schedule_rest
from tesa.layers.network import Network, to_network
from tesa.measure.runners import check_device, tracker_address
from tesa.records.locations import open_log
from tesa.runtime.manifest import Manifest, TensorInfo
from tesa.targets.target import Target, parse_target, runs_here
from tesa.tune.backend import backend, names_cpu
from tesa.tune.choose import choose


@dataclass(frozen=True)
class CompiledModel:
    """A compiled model: where it was written and what is in it. skipped: what was left as it is, each with its
    reason."""

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
    flush_denormals: bool = False,
    measure: bool = True,
    rpc: str | None = None,
    key: str | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
    code_budget: int | None = None,
    dump_dir: str | Path | None = None,
    families: Sequence[str] | None = None,
    propagation: bool = True,
    compact: bool = True,
    progress: Progress = silent,
    forms: Sequence[str] | None = None,
) -> CompiledModel:
    """Compile an ONNX file into `output` (a shared library) and its description, the same name with .json.

    target: see tesa.targets.target.parse_target; by default the machine itself. threads: how many the kernels are made
    for. log: folder of measured records, read and added to. shapes: sizes of dynamic inputs. masks: path of an .npz, or
    arrays by weight name. flush_denormals: weights below 1.2e-38 become zeros. measure=False takes for what the log
    does not know the kernel of the nearest weight that it knows, else the one that is expected to be the fastest: by
    the cost table of the target, from the folder "costs" of the log, of the user or of tesa, or by bare estimates where
    there is none. rpc: HOST:PORT of a TVM RPC tracker and key: of its devices to measure on, instead of this machine.
    cluster: address of a Dask scheduler whose workers compile. jobs: compiler processes here, by default one for each
    CPU as far as there is memory for them. code_budget: straight-line instructions that the measured candidates of one
    layer may have together, each about 10 microseconds to compile and 8 bytes; 400,000 by default. What a log already
    knows competes whatever its size, and the plan names what was left out. dump_dir: the module after each phase, as
    text. families: only these kernel families compete (forms is the old name of this). compact=False leaves channels
    that are dead or constant in place, propagation=False also those that could be found to be so.

    Raises errors of tesa.errors; nothing is written unless everything succeeded.
    """
    where = parse_target(target)
    path = checked_output(Path(output), where.toolchain.suffix)
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    address = tracker_address(rpc, key, where, measures=False)
    dump = Dump(Path(dump_dir) if dump_dir is not None else None)

    # import, propagate, compact, lower
    network = to_network(
        model, threads=threads, shapes=shapes, masks=masks, flush_denormals=flush_denormals, propagation=propagation,
        compact=compact, progress=progress,
    )  # fmt: skip
    dump.module("1-imported", network.prepared.imported.mod)
    dump.module("2-propagated", network.prepared.attributed.mod)
    dump.module("3-lowered", network.lowered.mod)

    # a kernel for each layer: candidates, built, compared with NumPy, measured, recorded; the best of them
    with ExitStack() as stack:
        builder = runner = None  # child processes of this one, which live on
        if address is not None or cluster is not None:
            place = stack.enter_context(backend(where, rpc=address, key=key, cluster=cluster, jobs=jobs))
            builder, note = place.builder, ""
            if address is not None or runs_here(where):
                runner = place.runner
                note = check_device(runner.device(), where, named=names_cpu(target))
            if note:
                progress(Event("device", 0, 0, note))
        kernels = choose(
            network.layers,
            where,
            log=open_log(log, None if runner is None else str(runner.device()["cpu"])),
            measure=measure,
            builder=builder,
            runner=runner,
            jobs=jobs,
            families=renamed("forms", forms, "families", families),
            instructions=INSTRUCTIONS if code_budget is None else code_budget,
            table=table_for(where, threads, log),
            progress=progress,
        )

    # the kernels in their places, schedules for everything else
    progress(Event("build", 0, 1))
    mod = _scheduled(network, kernels, where, threads)
    dump.module("4-scheduled", mod)
    plan = plan_of(mod, network, kernels, where, threads)
    executable = tvm.compile(mod, target=tvm.target.Target(where.tvm))
    progress(Event("build", 1, 1))

    imported = network.prepared.imported
    limits = {} if imported.graph is None else input_limits(imported.graph)
    manifest = Manifest(ports(imported.inputs, limits), ports(imported.outputs), plan, _versions())
    progress(Event("write", 0, 1, str(path)))
    objects = [file for kernel in kernels for file in kernel.product.objects]
    write(executable, objects, manifest.to_json(), path, where.toolchain)
    progress(Event("write", 1, 1, str(path)))
    return CompiledModel(path, plan, manifest.inputs, manifest.outputs, network.skipped + network.prepared.notes)


def checked_output(path: Path, suffix: str) -> Path:
    """Refuse a place that could not be written before the long work starts, not after it."""
    if path.suffix != suffix:
        raise UsageError(f"{path}: the output is a shared library; give a name that ends in {suffix}")
    if not path.parent.is_dir():
        raise UsageError(
            f"cannot write {path}: there is no folder {path.parent}; create it first: mkdir -p {path.parent}"
        )
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission, or a folder of that name; choose another place")
    return path


def ports(infos: Sequence[Any], limits: Mapping[str, tuple[int, int]] | None = None) -> tuple[TensorInfo, ...]:
    """The frontend's inputs or outputs as the runtime describes them. limits: of the inputs that are indices."""
    known = limits or {}
    return tuple(TensorInfo(info.name, tuple(info.shape), info.dtype, known.get(info.name)) for info in infos)


def _scheduled(network: Network, kernels: Sequence[ChosenKernel], target: Target, threads: int) -> Any:
    """The lowered module with the kernels in their places, and schedules for everything else."""
    lowered = network.lowered
    bindings = {
        layer.placeholder: Binding(kernel.product.symbol, kernel.product.constants, layer.bias, kernel.product.function)
        for layer, kernel in zip(lowered.layers, kernels, strict=True)
    }
    return schedule_rest(bind(lowered.mod, bindings), tvm.target.Target(target.tvm), target.core, threads)


def _versions() -> dict[str, str]:
    """Versions that determine what comes out; nothing of the machine."""
    return {**versions(), "onnx": onnx.__version__, "python": platform.python_version()}
