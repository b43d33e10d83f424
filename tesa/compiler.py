"""The phases from an ONNX file to a library, as one list: import, propagate, compact, lower, choose, build, write."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import onnx
import tvm

from tesa.base.display import Displayed
from tesa.base.keywords import helpful
from tesa.base.numbers import whole
from tesa.base.progress import Event, Progress, automatic, notices, shows_progress, silent
from tesa.base.renamed import renamed
from tesa.base.version import versions
from tesa.build.bare.build import Kernel
from tesa.build.bare.deploy import Sides, write_bare
from tesa.build.bare.formats import VM, Format, chosen_format
from tesa.build.bare.legal import refuse_what_needs_tvm
from tesa.build.deploy import write
from tesa.build.dump import Dump
from tesa.build.identity import identity
from tesa.build.interface import Entry, Port, interface_source, needed
from tesa.choose.chosen import ChosenKernel
from tesa.choose.integer import IntegerContest
from tesa.choose.left import Priced, noted, priced
from tesa.choose.model_plan import plan_of
from tesa.choose.plan import Plan
from tesa.choose.predict import table_for
from tesa.choose.shortlist import INSTRUCTIONS
from tesa.choose.storage import StorageContest, check_arithmetic
from tesa.costs.table import CostTable
from tesa.errors import UsageError
from tesa.frontend.graph import Graph
from tesa.frontend.limits import index_bounds
from tesa.gpu_compiler import compile_for_gpu
from tesa.layers import Binding, bind, schedule_rest
from tesa.layers.join import join
from tesa.layers.network import Network, to_networks
from tesa.layers.pipeline import Scheduled
from tesa.measure.runners import check_device, lacking, runner_for, tracker_address
from tesa.records.locations import open_log
from tesa.runtime.described import function_names, padding_notes, padding_of, ports
from tesa.runtime.manifest import Manifest, Padding, SizeInfo, TensorInfo
from tesa.targets.target import Target, parse_target, refuse_gpu
from tesa.tune.backend import backend, names_cpu
from tesa.tune.choose import choose


@dataclass(frozen=True)
class CompiledModel(Displayed):
    """A compiled model: where it was written and what is in it.

    skipped: what was left as it is, each with its reason. sizes: of a model of several; plan, inputs and outputs are
    then those of the first. header: of a model without a runtime, for C. made: the images of code for a GPU, in words.
    """

    path: Path
    plan: Plan
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    skipped: tuple[str, ...] = ()
    sizes: tuple[SizeInfo, ...] = ()
    header: Path | None = None
    made: str = ""


@helpful("tesa.compile")
@shows_progress
def compile_model(
    model: Any,
    *,
    output: str | Path,
    target: Any = None,
    threads: int = 1,
    log: str | Path | None = None,
    shapes: Mapping[str, Any] | None = None,
    pad: str | Sequence[str] = (),
    masks: Any = None,
    flush_denormals: bool = False,
    storage: str = "float32",
    arithmetic: str = "float32",
    measure: bool = True,
    rpc: str | None = None,
    key: str | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
    code_budget: int | None = None,
    max_bytes: int | None = None,
    dump_dir: str | Path | None = None,
    families: Sequence[str] | None = None,
    propagation: bool = True,
    compact: bool = True,
    integer: bool = True,
    progress: Progress | None = automatic,
    forms: Sequence[str] | None = None,
    format: str | None = None,
) -> CompiledModel:
    """Compile an ONNX file into `output` (a shared library) and its description, the same name with .json.

    target: see tesa.targets.target.parse_target; by default the machine itself. threads: how many the kernels are made
    for. log: folder of measured records, read and added to. shapes: sizes of inputs or dimensions that the file leaves
    open, see tesa.frontend.sizes.sizes_of; of several sizes the library has a function for each, and a call takes the
    one that its inputs have. pad: dimensions along which a call may give less: zeros are put behind its inputs, up to
    the next size, and its outputs are cut. masks: path of an .npz, or arrays by weight name. flush_denormals: weights
    below 1.2e-38 become zeros. storage: "float16" or "bfloat16" lets the weights of layers for a few columns be rounded
    to such numbers, where reading half the bytes takes less time. arithmetic: "float16" lets layers add up in float16,
    where the target's CPU does and it is faster: weights, their inputs and sums are rounded to it, and numbers beyond
    65504 become infinite. measure=False takes for what the log does not know
    the kernel of the nearest weight that it knows, else the one that is expected to be the fastest: by the cost table
    of the target, from the folder "costs" of the log, of the user or of tesa, or by bare estimates where there is none.
    rpc: HOST:PORT of a TVM RPC tracker and key: of its devices to measure on, instead of this machine. cluster: address
    of a Dask scheduler whose workers compile. jobs: compiler processes here, by default one for each CPU as far as
    there is memory for them. code_budget: straight-line instructions that the measured candidates of one layer may have
    together, each about 10 microseconds to compile and 8 bytes; 400,000 by default. What a log already knows competes
    whatever its size, and the plan names what was left out. max_bytes: of the code and the constants of all kernels
    together; where the fastest have more, smaller ones are taken, so that the least time is lost, and the plan says
    what was given up. dump_dir: the module after each phase, as text. families:
    only these kernel families compete (forms is the old name of this). compact=False leaves channels that are dead or
    constant in place, propagation=False also those that could be found to be so.
    integer=False computes layers between codes of 8 bits with real numbers, where they would have integer kernels.
    format: one of
    tesa.build.bare.formats.FORMATS: "vm" is for TVM's virtual machine, the others need no runtime and have a C header
    beside them; by default what the suffix of output tells. progress: what is told how far it is, by default a bar in a
    terminal or notebook; None for silence.

    Raises errors of tesa.errors; nothing is written unless everything succeeded.
    """
    progress = progress or silent
    where = parse_target(target)
    form = chosen_format(format, Path(output), where)
    check_arithmetic(arithmetic, storage, where)
    path = checked_output(Path(output), form)
    if where.gpu is not None:
        given = {
            "rpc": rpc, "cluster": cluster, "max_bytes": max_bytes, "code_budget": code_budget,
            "threads": whole("threads", threads) > 1,
        }  # fmt: skip
        for option in (name for name, value in given.items() if value):
            refuse_gpu(where, f"tesa.compile({option}=...)")
        made, notes, said = compile_for_gpu(
            model, path, where, _versions(), shapes=shapes, pad=pad, masks=masks, flush_denormals=flush_denormals,
            storage=storage, arithmetic=arithmetic, propagation=propagation, compact=compact, integer=integer,
            families=renamed("forms", forms, "families", families), jobs=jobs, measure=measure, log=log,
            dump=Dump(None if dump_dir is None else Path(dump_dir)), progress=progress,
        )  # fmt: skip
        one, several = made[0], made if len(made) > 1 else ()
        return CompiledModel(path, one.plan, one.inputs, one.outputs, notes, several, made=said)
    threads = whole("threads", threads)
    address = tracker_address(rpc, key, where, measures=False)
    dump = Dump(Path(dump_dir) if dump_dir is not None else None)
    families = renamed("forms", forms, "families", families)
    table = table_for(where, threads, log)
    ways = IntegerContest(where, table, families, measure=measure and max_bytes is None)

    # import, propagate, compact, lower: once for each size
    sizes, networks = to_networks(
        model,
        threads=threads,
        shapes=shapes,
        masks=masks,
        flush_denormals=flush_denormals,
        propagation=propagation,
        compact=compact,
        integer=ways.decide if integer else None,
        progress=progress,
    )
    padding = padding_of(model, pad, sizes, networks[0].prepared.imported.outputs)
    if form.name != VM:
        refuse_what_needs_tvm(network.lowered.mod for network in networks)
    for name, network in zip(function_names(sizes), networks, strict=True):
        dump.module(f"1-imported{name[4:]}", network.prepared.imported.mod)
        dump.module(f"2-propagated{name[4:]}", network.prepared.attributed.mod)

    # a kernel for each layer: candidates, built, compared with NumPy, measured, recorded; the best of them
    with ExitStack() as stack:
        builder = runner = None  # child processes of this one, which live on
        if address is not None or cluster is not None:
            place = stack.enter_context(
                backend(where, rpc=address, key=key, cluster=cluster, jobs=jobs, tell=notices(progress))
            )
            builder, note = place.builder, ""
            if address is not None or not lacking(where):
                runner = place.runner
                note = check_device(runner.device(), where, named=names_cpu(target))
            if note:
                progress(Event("device", 0, 0, note))
        elif where.portable and not lacking(where):
            runner = runner_for(where)
        layers = [layer for network in networks for layer in network.layers]
        contest = StorageContest([*layers, *ways.rivals], storage, arithmetic)
        kernels = choose(
            contest.layers,
            where,
            log=open_log(log, None if runner is None else str(runner.device()["cpu"])),
            measure=measure,
            builder=builder,
            runner=runner,
            jobs=jobs,
            families=families,
            instructions=INSTRUCTIONS if code_budget is None else code_budget,
            table=table,
            progress=progress,
            max_bytes=whole("max_bytes", max_bytes) if max_bytes is not None else None,
            contests=contest.contests,
        )
    networks, kernels = ways.settle(networks, contest.best(kernels))
    for name, network in zip(function_names(sizes), networks, strict=True):
        dump.module(f"3-lowered{name[4:]}", network.lowered.mod)

    # the kernels in their places, schedules for everything else
    progress(Event("build", 0, 1))
    names = function_names(sizes)
    scheduled, each = _scheduled(dict(zip(names, networks, strict=True)), kernels, where, threads)
    dump.module("4-scheduled", scheduled.mod)
    executable = tvm.compile(scheduled.mod, target=tvm.target.Target(where.tvm)) if form.name == VM else None
    progress(Event("build", 1, 1))

    plans = {
        name: plan_of(scheduled, network, each[name], where, threads, name)
        for name, network in zip(names, networks, strict=True)
    }
    prices = table or CostTable(where.cpu, "", where.name, threads)
    left = {name: priced(n.left, plans[name], prices) for name, n in zip(names, networks, strict=True)}
    infos = tuple(
        SizeInfo(
            name,
            ports(network.prepared.imported.inputs, network.prepared.imported.graph),
            ports(network.prepared.imported.outputs),
            noted(plans[name], left[name]),
            size.dims,
        )
        for name, size, network in zip(names, sizes, networks, strict=True)
    )
    manifest = Manifest(infos, _versions(), padding, needed(where))
    graphs = [network.prepared.imported.graph for network in networks]
    manifest = replace(manifest, digest=identity(manifest.to_json(), graphs))
    progress(Event("write", 0, 1, str(path)))
    if executable is None:
        _write_bare(scheduled, manifest, graphs, kernels, form, path, where)
    else:
        objects = [file for kernel in kernels for file in kernel.product.objects]
        interface = interface_source(where, [_entry(info) for info in infos], manifest.digest)
        write(executable, objects, interface, manifest.to_json(), path, where)
    progress(Event("write", 1, 1, str(path)))
    return CompiledModel(
        path, infos[0].plan, infos[0].inputs, infos[0].outputs, _notes(networks, left.values(), padding),
        infos if len(infos) > 1 else (), path.with_suffix(".h") if executable is None else None,
    )  # fmt: skip


def _entry(info: SizeInfo) -> Entry:
    inputs, outputs = (
        tuple(Port(p.name, p.shape, p.dtype, p.bounds) for p in side) for side in (info.inputs, info.outputs)
    )
    return Entry(info.function, inputs, outputs)


def _write_bare(
    scheduled: Scheduled, manifest: Manifest, graphs: Sequence[Graph | None], kernels: Sequence[ChosenKernel],
    form: Format, path: Path, target: Target,
) -> None:  # fmt: skip
    """Write the model without a runtime. graphs: one for each size. kernels: of all layers; several have one symbol."""
    sides = []
    for size, graph in zip(manifest.sizes, graphs, strict=True):
        bounds = {} if graph is None else index_bounds(graph)
        inputs = tuple((port.name, bounds.get(port.name, ())) for port in size.inputs)
        sides.append(Sides(size.function, inputs, tuple((port.name, ()) for port in size.outputs)))
    found = {kernel.product.symbol: kernel for kernel in kernels}
    bare = [Kernel(symbol, one.emit(), one.product.objects) for symbol, one in found.items() if one.emit]
    write_bare(
        scheduled.mod, sides, bare, lambda library: replace(manifest, library=library).to_json(), manifest.digest,
        form, path, target, manifest.plan.threads, manifest.versions["tesa"],
    )  # fmt: skip


def _notes(
    networks: Sequence[Network], left: Iterable[Sequence[Priced]], padding: Sequence[Padding]
) -> tuple[str, ...]:
    """The notes of all sizes, each once: what was left as it is, and what filling up means."""
    notes = dict.fromkeys(str(item) for items in left for item in items)
    notes |= dict.fromkeys(note for network in networks for note in network.prepared.notes)
    return tuple(notes | dict.fromkeys(padding_notes(padding)))


def checked_output(path: Path, form: Format) -> Path:
    """Refuse a place that could not be written before the long work starts, not after it."""
    if path.suffix != form.suffix:
        raise UsageError(f"{path}: format {form.name} is {form.says}; give a name that ends in {form.suffix}")
    if not path.parent.is_dir():
        raise UsageError(
            f"cannot write {path}: there is no folder {path.parent}; create it first: mkdir -p {path.parent}"
        )
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission, or a folder of that name; choose another place")
    try:
        with TemporaryFile(dir=path.parent):  # /proc and its like have permissions for files that nobody can make
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another place") from error
    return path


def _scheduled(
    networks: Mapping[str, Network], kernels: Sequence[ChosenKernel], target: Target, threads: int
) -> tuple[Scheduled, dict[str, list[ChosenKernel]]]:
    """One module with a function for each network by its name: kernels in their places, schedules for everything else.

    kernels: of the layers of all networks, in their order; they come back for each network.
    """
    rest = iter(kernels)
    each, bound = {}, {}
    for name, network in networks.items():
        lowered = network.lowered
        each[name] = [next(rest) for _ in lowered.layers]
        bindings = {
            layer.placeholder: Binding(
                kernel.product.symbol, kernel.product.constants, layer.bias, kernel.product.function, layer.scale
            )
            for layer, kernel in zip(lowered.layers, each[name], strict=True)
        }
        bound[name] = bind(lowered.mod, bindings)
    return schedule_rest(join(bound), tvm.target.Target(target.tvm), target.core, threads), each


def _versions() -> dict[str, str]:
    """Versions that determine what comes out; nothing of the machine."""
    return {**versions(), "onnx": onnx.__version__, "python": platform.python_version()}
