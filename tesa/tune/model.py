"""Tunes all layers of a model: import, lower, and hand the layers to the job with the builder and runner asked for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tesa.base.hostinfo import crowded
from tesa.base.keywords import helpful
from tesa.base.numbers import whole
from tesa.base.progress import Event, Progress, automatic, notices, shows_progress, silent
from tesa.choose.integer import IN_FLOAT, IntegerContest
from tesa.choose.predict import table_for
from tesa.errors import UsageError
from tesa.layers.layer import Layer
from tesa.layers.network import to_networks
from tesa.measure.runners import check_device, tracker_address
from tesa.records.emitted import EmittedByFamilies
from tesa.records.locations import open_log, user
from tesa.records.log import Log, Task
from tesa.records.validity import valid
from tesa.targets.target import Target, parse_target
from tesa.tune.backend import backend, names_cpu
from tesa.tune.budget import Budget
from tesa.tune.job import BATCH, JobOptions, tune_layers
from tesa.tune.search import find_mode
from tesa.tune.status import Status, Tuned, Watch, unseen

_REMOTE_BATCH = 16  # candidates of a turn that several devices share


@helpful("tesa.tune_model")
@shows_progress
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
    shapes: Mapping[str, Any] | None = None,
    masks: Any = None,
    flush_denormals: bool = False,
    propagation: bool = True,
    compact: bool = True,
    integer: bool = True,
    jobs: int | None = None,
    resume: bool = False,
    progress: Progress | None = automatic,
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
    The other arguments are those of tesa.compile. progress: what is told how far it is, by default a bar in a terminal
    or notebook; None for silence. watch: gets the Status of the job after every step.

    A GPU is measured on this machine, where its driver is found: device 0, by the driver's events.

    Raises errors of tesa.errors: for arguments that make no sense, a model that cannot be read, a target that cannot be
    measured here and has no rpc, devices with another CPU than this machine's where no target is given. Ctrl-C is no
    error: the result says that it came, and has the best so far.
    """
    progress = progress or silent
    watch = telling_of(progress) if watch is unseen else watch
    where, budget = parse_target(target), Budget(trials, minutes)
    threads = whole("threads", threads) if where.gpu is None else 1
    if seed < 0:
        raise UsageError(f"seed must not be negative, got {seed}")
    find_mode(mode).ready()
    address = tracker_address(rpc, key, where)
    if address is None and where.gpu is None and (note := crowded(threads)):
        progress(Event("tune", 0, 0, note))
    table = table_for(where, threads, log)
    ways = IntegerContest(where, table, measure=where.gpu is None)
    sizes, networks = to_networks(
        model,
        threads=threads,
        shapes=shapes,
        masks=masks,
        flush_denormals=flush_denormals,
        propagation=propagation,
        compact=compact,
        integer=ways.decide if integer else None,
        codes_first=where.gpu is not None,
        progress=progress,
    )
    chosen: list[Layer] = []
    for size, network in zip(sizes, networks, strict=True):
        found = select(network.layers, layers)
        chosen += [replace(row, name=f"{row.name} at {size}") for row in found] if len(sizes) > 1 else found
    names = {row.name for network in networks for row in select(network.layers, layers)}
    chosen += [rival for rival in ways.rivals if rival.name.removesuffix(IN_FLOAT) in names]
    news: dict[str, None] = {}
    tell = notices(progress, news)
    with backend(where, rpc=address, key=key, cluster=cluster, jobs=jobs, tell=tell) as place:
        device = place.runner.device()
        known = open_log(log, str(device["cpu"]))
        said = [
            check_device(device, where, named=names_cpu(target)),
            _nothing(known, log or user(), chosen, where, device) if resume else "",
        ]
        notes = tuple(note for note in said if note)
        if notes:
            progress(Event("device", 0, 0, "; ".join(notes)))
        options = JobOptions(
            budget, mode, seed, BATCH if address is None else _REMOTE_BATCH, overlap=place.overlap, table=table
        )
        tuned = tune_layers(
            chosen, where, log=known, builder=place.builder, runner=place.runner, options=options, watch=watch
        )
    return replace(tuned, notes=(*notes, *news, *tuned.notes))


def telling_of(progress: Progress) -> Watch:
    """A watch that tells of measurements as events: how many of all, and the layer at work."""

    def watch(status: Status) -> None:
        failed = f", {status.failed} failed" if status.failed else ""
        progress(Event("tune", status.done, status.total, f"{status.layer}{failed}"))

    return watch


def select(layers: Sequence[Layer], names: Sequence[str] | None) -> list[Layer]:
    """The layers whose name fits one of names, in their order; all for None. * and ? stand for any text and any letter.

    Raises UsageError for a name that fits no layer.
    """
    if names is None:
        return list(layers)
    chosen: set[str] = set()
    for name in names:
        form = re.compile(re.escape(name).replace(r"\*", ".*").replace(r"\?", "."))
        found = [layer.name for layer in layers if form.fullmatch(layer.name)]
        if not found:
            known = [layer.name for layer in layers]
            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
            raise UsageError(f"no layer with weights is called {name!r}; {hint}")
        chosen.update(found)
    return [layer for layer in layers if layer.name in chosen]


def _nothing(known: Log, place: str | Path, layers: Sequence[Layer], where: Target, device: Mapping[str, Any]) -> str:
    """A sentence where the log has nothing of these layers; nothing where there is something to go on from."""
    cpu = device["cpu"]
    for layer in layers:
        found = known.all_records(Task.of(layer.problem, layer.weight), where.name)
        emitted = EmittedByFamilies(layer.problem, layer.weight, where, layer.digest)
        if valid([record for record in found if record.cpu == cpu], emitted):
            return ""
    return f"nothing of these layers for {where.name} on {cpu} in {place}: the job begins anew"
