"""Tunes all layers of a model: import, lower, and hand the layers to the job with the builder and runner asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tesa.errors import UsageError
from tesa.hostinfo import crowded
from tesa.progress import Event, Progress, silent
from tesa.specialize.choose import LayerTask
from tesa.specialize.expect import table_for
from tesa.target import Target, host_cpu, parse_target, runs_here
from tesa.tune.budget import Budget
from tesa.tune.interfaces import Builder, Runner
from tesa.tune.job import BATCH, Plan, tune_layers
from tesa.tune.log import Log
from tesa.tune.places import open_log, shipped, user
from tesa.tune.search import find_mode
from tesa.tune.status import Tuned, Watch, unseen

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
    The other arguments are those of tesa.compile. progress gets the events of the import, watch those of the job.

    Raises errors of tesa.errors: for arguments that make no sense, a model that cannot be read, a target that cannot be
    measured here and has no rpc. Ctrl-C is no error: the result says that it came, and has the best so far.
    """
    where, budget = parse_target(target), Budget(trials, minutes)
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    if seed < 0:
        raise UsageError(f"seed must not be negative, got {seed}")
    from tesa.transform import use_prices

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
    batch, overlap = (BATCH, False) if address is None else (_REMOTE_BATCH, True)  # compilers disturb this machine
    table = table_for(where, threads, log)
    with _builder(cluster, jobs) as builder, _runner(address, key) as runner:
        plan = Plan(budget, mode, seed, batch=batch, overlap=overlap, table=table)
        book = _log(log, str(runner.device()["cpu"]))
        with use_prices(table):  # as a compile has them: decompositions depend on prices
            return tune_layers(tasks, where, log=book, builder=builder, runner=runner, plan=plan, watch=watch)


def layer_tasks(
    model: Any,
    threads: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    masks: Any = None,
    propagation: bool = True,
    compact: bool = True,
    progress: Progress = silent,
) -> list[LayerTask]:
    """The layers of an ONNX file that need a kernel, exactly as a compile with the same arguments has them."""
    from tesa.lower import Known, lower
    from tesa.prepare import prepare

    prepared = prepare(model, shapes=shapes, masks=masks, propagation=propagation, shrink=compact, progress=progress)
    attributed = prepared.attributed
    known = {}
    for var, weight in attributed.weights.items():
        folded = attributed.folded(var)
        known[var] = Known(weight.effective_weight) if folded is None else Known(*folded)
    lowered = lower(attributed.effective_module(), prepared.imported.names, threads, known)
    return [
        LayerTask(layer.name, layer.problem, layer.weight, prepared.facts.get(layer.name, ()))
        for layer in lowered.layers
    ]


def select(tasks: Sequence[LayerTask], names: Sequence[str] | None) -> list[LayerTask]:
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
    host, _, port = rpc.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UsageError(f"{rpc!r} is no address of a tracker; expected HOST:PORT, as in 127.0.0.1:9190")
    return host, int(port)


@contextmanager
def _builder(cluster: str | None, jobs: int | None) -> Iterator[Builder]:
    """The builder that was asked for; its processes end with the block."""
    from tesa.tune import builders

    builder: Builder = builders.LocalBuilder(jobs) if cluster is None else builders.ClusterBuilder(cluster)
    try:
        yield builder
    finally:
        builder.close()


@contextmanager
def _runner(address: tuple[str, int] | None, key: str | None) -> Iterator[Runner]:
    """The runner that was asked for; its processes and devices are free after the block."""
    from tesa.tune import remote

    runner: Runner = remote.LocalRunner() if address is None else remote.RpcRunner(*address, str(key))
    try:
        yield runner
    finally:
        runner.close()


def _log(folder: str | Path | None, cpu: str) -> Log:
    """The log of a folder, or the user's on top of what is shipped, that is written for this device."""
    if folder is not None:
        return Log.load(folder, device=cpu)
    if cpu == host_cpu():
        return open_log(None)
    return Log.load(user(), shipped(), user(), device=cpu, optional=True)


__all__ = ["Target", "Tuned", "layer_tasks", "select", "tune_model"]
