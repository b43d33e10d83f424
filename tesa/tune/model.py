"""Tunes all layers of a model: import, lower, and hand the layers to the job with the builder and runner asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from threading import Lock
from typing import Any

from tesa.base.hostinfo import crowded, read_cpu
from tesa.base.progress import Event, Progress, silent
from tesa.choose.predict import table_for
from tesa.errors import UsageError
from tesa.layers.layer import Layer
from tesa.measure.interfaces import Builder, Runner
from tesa.measure.remote.address import split_address
from tesa.records.emitted import emitted_by_families
from tesa.records.locations import open_log, shipped, user
from tesa.records.log import Log, Task
from tesa.records.validity import valid
from tesa.targets import llvm
from tesa.targets.target import Target, host_cpu, parse_target, runs_here
from tesa.tune.budget import Budget
from tesa.tune.job import BATCH, Plan, tune_layers
from tesa.tune.search import find_mode
from tesa.tune.status import Tuned, Watch, unseen

_THIS = (None, "x86", "x86_64", "x86-64", "amd64")  # targets that are the CPU of this machine
_REMOTE_BATCH = 16  # candidates of a turn that several devices share


def tune_model(
    model: Any,
    *,
    target: Any = None,
    threads: int = 1,
    trials: int | None = None,
    minutes: float | None = None,
    mode: str = "model",
    seed: int = 0,
    log: str | Path | None = None,
    layers: Sequence[str] | None = None,
    rpc: str | None = None,
    key: str | None = None,
    cluster: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    masks: Any = None,
    propagation: bool = True,
    compact: bool = True,
    jobs: int | None = None,
    resume: bool = False,
    progress: Progress = silent,
    watch: Watch = unseen,
) -> Tuned:
    """Search the fastest kernel of each layer of an ONNX file by measuring, and keep all times in the log.

    A compile with the same log, target, threads and options takes what was found. What the log knows is not measured
    again, so that an interrupted job is gone on with by the same call.

    trials: measurements of a layer on average, 64 if neither they nor minutes are given. minutes: for all of it.
    mode: of `tesa.tune.search.modes()`. log: a folder, by default the user's. layers: names of those to tune, with *
    and ? as in file names; all if not given. rpc: HOST:PORT of a TVM RPC tracker and key: of its devices to measure on,
    instead of this machine. cluster: address of a Dask scheduler whose workers compile. jobs: compiler processes here.
    resume: say so where the log has nothing to go on from. A device whose CPU is not the target's is told of, too.
    The other arguments are those of tesa.compile. progress gets the events of the import, watch those of the job.

    Raises errors of tesa.errors: for arguments that make no sense, a model that cannot be read, a target that cannot be
    measured here and has no rpc, devices with another CPU than this machine's where no target is given. Ctrl-C is no
    error: the result says that it came, and has the best so far.
    """
    where, budget = parse_target(target), Budget(trials, minutes)
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    if seed < 0:
        raise UsageError(f"seed must not be negative, got {seed}")
    from tesa.decompose import use_prices

    find_mode(mode).ready()
    address = _address(rpc, key)
    if address is None and not runs_here(where):
        raise UsageError(
            f"this machine cannot run code for {where.name}, so that nothing can be measured: give the tracker of "
            "devices that can with --rpc HOST:PORT --key KEY (rpc= and key= in Python)"
        )
    if address is None and (note := crowded(threads)):
        progress(Event("tune", 0, 0, note))
    tasks = select(layer_tasks(model, threads, shapes, masks, propagation, compact, progress), layers)
    batch = BATCH if address is None else _REMOTE_BATCH
    table, alone = table_for(where, threads, log), Lock()
    with _builder(cluster, jobs, alone) as builder, _runner(address, key, alone) as runner:
        device = runner.device()
        book = _log(log, str(device["cpu"]))
        said = [misfit(target, where, device), _nothing(book, log or user(), tasks, where, device) if resume else ""]
        notes = tuple(note for note in said if note)
        if notes:
            progress(Event("device", 0, 0, "; ".join(notes)))
        overlap = address is not None or _elsewhere(builder)
        plan = Plan(budget, mode, seed, batch=batch, overlap=overlap, table=table)
        with use_prices(table):  # as a compile has them: decompositions depend on prices
            tuned = tune_layers(tasks, where, log=book, builder=builder, runner=runner, plan=plan, watch=watch)
    return replace(tuned, notes=(*notes, *tuned.notes))


def layer_tasks(
    model: Any,
    threads: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    masks: Any = None,
    propagation: bool = True,
    compact: bool = True,
    progress: Progress = silent,
) -> list[Layer]:
    """The layers of an ONNX file that need a kernel, exactly as a compile with the same arguments has them."""
    from tesa.layers import Known, lower
    from tesa.layers.prepare import prepare

    prepared = prepare(model, shapes=shapes, masks=masks, propagation=propagation, shrink=compact, progress=progress)
    attributed = prepared.attributed
    known = {}
    for var, weight in attributed.weights.items():
        folded = attributed.folded(var)
        known[var] = Known(weight.effective_weight) if folded is None else Known(*folded)
    lowered = lower(attributed.effective_module(), prepared.imported.names, threads, known)
    return [
        Layer(layer.name, layer.problem, layer.weight, prepared.facts.get(layer.name, ())) for layer in lowered.layers
    ]


def select(tasks: Sequence[Layer], names: Sequence[str] | None) -> list[Layer]:
    """Those whose name fits one of names, in their order; all for None. * and ? stand for any text and any letter.

    Raises UsageError for a name that fits no layer.
    """
    if names is None:
        return list(tasks)
    chosen: set[str] = set()
    for name in names:
        form = re.compile(re.escape(name).replace(r"\*", ".*").replace(r"\?", "."))
        found = [task.name for task in tasks if form.fullmatch(task.name)]
        if not found:
            known = [task.name for task in tasks]
            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
            raise UsageError(f"no layer with weights is called {name!r}; {hint}")
        chosen.update(found)
    return [task for task in tasks if task.name in chosen]


def _address(rpc: str | None, key: str | None) -> tuple[str, int] | None:
    """Host and port of a tracker."""
    if rpc is None:
        if key is not None:
            raise UsageError("a key names devices of a tracker: give its address with --rpc HOST:PORT as well")
        return None
    if key is None:
        raise UsageError(f"the tracker {rpc} may have devices of several kinds: name one with --key KEY")
    try:
        return split_address(rpc)
    except ValueError as error:
        raise UsageError(
            f"{rpc!r} is no address of a tracker; expected HOST:PORT, as in 127.0.0.1:9190 or [::1]:9190"
        ) from error


def misfit(target: Any, where: Target, device: Mapping[str, Any]) -> str:
    """A sentence where the device that measures has another CPU than the target is for; nothing where it fits.

    target: as the user gave it; where: what it means. Raises UsageError where the user left it out: kernels for this
    machine's CPU would fail on the device one after the other, or be measured on what nobody asked for.
    """
    cpu, given = str(device["cpu"]), target not in _THIS
    if cpu == where.cpu or (not given and cpu == host_cpu()):
        return ""
    if given:
        return f"the target is {where.name}, and the device that measures is {cpu}: the times are of the latter"
    if cpu not in llvm.cpus(where.triple):  # a device without LLVM gives the name that Linux has for it
        if str(device.get("model")) == read_cpu().model:
            return ""
        cpu = "CPU"
    raise UsageError(
        f"the device's CPU is {device['cpu']}, and this machine's, which kernels are for if no target is given, is "
        f"{where.cpu}: give --target x86:{cpu} (target= in Python); see `tesa list targets`"
    )


@contextmanager
def _builder(cluster: str | None, jobs: int | None, alone: Lock) -> Iterator[Builder]:
    """The builder that was asked for, whose processes end with the block. A cluster's holds alone to build here."""
    from tesa.tune import builders

    builder: Builder = (
        builders.LocalBuilder(jobs) if cluster is None else builders.ClusterBuilder(cluster, jobs=jobs, alone=alone)
    )
    try:
        yield builder
    finally:
        builder.close()


def _elsewhere(builder: Builder) -> bool:
    """Whether other machines build: then this one can measure meanwhile."""
    from tesa.tune import builders

    return isinstance(builder, builders.ClusterBuilder) and not builder.here


@contextmanager
def _runner(address: tuple[str, int] | None, key: str | None, alone: Lock) -> Iterator[Runner]:
    """The runner that was asked for; its processes and devices are free after the block. It holds alone to run here."""
    from tesa.measure import remote

    runner: Runner = remote.LocalRunner(alone=alone) if address is None else remote.RpcRunner(*address, str(key))
    try:
        yield runner
    finally:
        runner.close()


def _nothing(book: Log, place: str | Path, tasks: Sequence[Layer], where: Target, device: Mapping[str, Any]) -> str:
    """A sentence where the log has nothing of these layers; nothing where there is something to go on from."""
    cpu = device["cpu"]
    for task in tasks:
        key = Task.of(task.problem, task.weight)
        emitted = emitted_by_families(task.problem, task.weight, where, key.pattern.digest)
        if valid([record for record in book.all_records(key, where.name) if record.cpu == cpu], emitted):
            return ""
    return f"nothing of these layers for {where.name} on {cpu} in {place}: the job begins anew"


def _log(folder: str | Path | None, cpu: str) -> Log:
    """The log of a folder, or the user's on top of what is shipped, that is written for this device."""
    if folder is not None:
        return Log.load(folder, device=cpu)
    if cpu == host_cpu():
        return open_log(None)
    return Log.load(user(), shipped(), user(), device=cpu, optional=True)


__all__ = ["Target", "Tuned", "layer_tasks", "select", "tune_model"]
