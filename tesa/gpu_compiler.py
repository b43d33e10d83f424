"""The phases from an ONNX file to a library for a GPU as one list: import, propagate, compact, lower, choose, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tvm

from tesa.base.files import write_json
from tesa.base.progress import Event, Progress, silent
from tesa.build.cache import Cache
from tesa.build.dump import Dump
from tesa.build.footprint import Footprint
from tesa.build.gpu.facts import facts_of
from tesa.build.gpu.library import Port, Program, c_name, write_library
from tesa.build.gpu.network import Placed, Sides, network_program
from tesa.build.gpu.product import GpuProduct
from tesa.build.identity import identity
from tesa.build.objects import BuildError
from tesa.build.product import Product
from tesa.choose.chosen import ChosenKernel
from tesa.choose.gpu import GpuKernel
from tesa.choose.integer import IntegerContest
from tesa.choose.model_plan import plan_of
from tesa.choose.plan import Plan
from tesa.choose.storage import StorageContest
from tesa.errors import UnsupportedError
from tesa.layers import Binding, bind
from tesa.layers.join import join
from tesa.layers.network import Network, to_networks
from tesa.layers.pipeline import Scheduled, schedule_for_gpu
from tesa.records.log import Log
from tesa.runtime.described import function_names, padding_notes, padding_of, ports
from tesa.runtime.manifest import Manifest, SizeInfo, TensorInfo
from tesa.targets.target import Target
from tesa.tune.gpu import GpuBench

FUNCTION = "main"
"""Name of the packed function in the library."""

NO_DUMP = Dump(None)


def compile_for_gpu(
    model: Any,
    path: Path,
    target: Target,
    versions: Mapping[str, str],
    *,
    shapes: Mapping[str, Any] | None = None,
    pad: str | Sequence[str] = (),
    masks: Any = None,
    flush_denormals: bool = False,
    storage: str = "float32",
    arithmetic: str = "float32",
    propagation: bool = True,
    compact: bool = True,
    integer: bool = True,
    families: Sequence[str] | None = None,
    jobs: int | None = None,
    measure: bool = True,
    log: str | Path | Log | None = None,
    dump: Dump = NO_DUMP,
    progress: Progress = silent,
) -> tuple[tuple[SizeInfo, ...], tuple[str, ...], str]:
    """Compile a model into a library for a GPU and its description: its sizes, notes, and the images in words.

    The options are those of tesa.compile. measure: the best candidates of each family that the log does not know are
    timed on device 0, where a driver is found; else the log and the static model of time decide.

    Raises UnsupportedError for a loop of too many launches, and for a layer that no family computes.
    """
    ways = IntegerContest(target, families=families, measure=False)
    sizes, networks = to_networks(
        model, threads=1, shapes=shapes, masks=masks, flush_denormals=flush_denormals, propagation=propagation,
        compact=compact, integer=ways.decide if integer else None,
        codes_first=True, progress=progress,
    )  # fmt: skip
    padding = padding_of(model, pad, sizes, networks[0].prepared.imported.outputs)
    named = dict(zip(function_names(sizes), networks, strict=True))
    for name, network in named.items():
        dump.module(f"3-lowered{name[4:]}", network.lowered.mod)
    bench = GpuBench.of(target, log, measure)
    layers = [
        replace(layer, problem=replace(layer.problem, arithmetic=arithmetic))
        for network in networks
        for layer in network.layers
    ]
    contest = StorageContest(layers, storage)
    kernels = contest.best(_kernels(contest, bench, families, jobs, progress))
    progress(Event("build", 0, 1))
    scheduled, each = _scheduled(named, kernels, target)
    dump.module("4-scheduled", scheduled.mod)
    infos = tuple(
        SizeInfo(
            name,
            ports(network.prepared.imported.inputs, network.prepared.imported.graph),
            ports(network.prepared.imported.outputs),
            _plan(scheduled, network, each[name], target, name),
            size.dims,
        )
        for size, (name, network) in zip(sizes, named.items(), strict=True)
    )
    placed = {k.product.symbol: Placed(k.product, one.problem) for k, one in zip(kernels, layers, strict=True)}
    program = _program(scheduled, infos, placed, target)
    progress(Event("build", 1, 1))
    said = sorted({kernel.product.said for kernel in kernels} or {GpuProduct("", program.modules, ()).said})
    launches = [len(size.launches) for size in program.sizes]
    library = {
        "format": "gpu", "name": c_name(path), "arena": 0, "alignment": 256, "functions": [*named],
        "images": said, "launches": sum(launches),
    }  # fmt: skip
    manifest = Manifest(infos, versions, padding, library=library)
    graphs = [network.prepared.imported.graph for network in networks]
    manifest = replace(manifest, digest=identity(manifest.to_json(), graphs))
    program = replace(program, facts={"digest": manifest.digest, "target": target.name})
    progress(Event("write", 0, 1, str(path)))
    write_library(program, path, target, c_name(path), FUNCTION)
    write_json(path.with_suffix(".json"), manifest.to_json())
    progress(Event("write", 1, 1, str(path)))
    notes = dict.fromkeys(note for network in networks for note in (*network.prepared.notes, *network.skipped))
    notes |= dict.fromkeys(padding_notes(padding))
    return infos, tuple(notes), f"{'; '.join(said)}; {', '.join(map(str, launches))} launches"


def _program(scheduled: Scheduled, infos: Sequence[SizeInfo], placed: Mapping[str, Placed], target: Target) -> Program:
    """The work of all sizes. UnsupportedError for an operator that cannot be compiled."""
    sides = {info.function: Sides(_ports(info.inputs), _ports(info.outputs)) for info in infos}
    try:
        return network_program(scheduled.mod, sides, placed, target, Cache())
    except BuildError as error:
        raise UnsupportedError(f"{target.name}: an operator cannot be compiled: {error}") from error


def _kernels(
    contest: StorageContest, bench: GpuBench, families: Sequence[str] | None, jobs: int | None, progress: Progress,
) -> list[GpuKernel]:  # fmt: skip
    """The kernel of each layer of a contest; layers with the same problem and weight share one.

    Where no family keeps a weight in 16 bits, the layer's own kernel stands for that form.
    """
    cache, known, layers = Cache(), dict[Any, GpuKernel](), contest.layers
    own = {i: places[0] for places in contest.contests for i in places[1:]}
    found: list[GpuKernel] = []
    for number, layer in enumerate(layers):
        progress(Event("kernels", number, len(layers), layer.name))
        key = (layer.problem, layer.digest)
        if key not in known:
            try:
                known[key] = bench.choose(layer, families=families, cache=cache, jobs=jobs)
            except UnsupportedError:
                if number not in own:
                    raise
                known[key] = found[own[number]]
        found.append(replace(known[key], layer=layer.name))
    progress(Event("kernels", len(layers), len(layers)))
    return found


def _scheduled(
    named: Mapping[str, Network], kernels: Sequence[GpuKernel], target: Target
) -> tuple[Scheduled, dict[str, list[GpuKernel]]]:
    """One module with a function for each network by its name, and the kernels of each.

    kernels: of the layers of all networks, in their order.
    """
    rest = iter(kernels)
    each = {name: [next(rest) for _ in network.layers] for name, network in named.items()}
    bound = join({name: _bound(network, each[name]) for name, network in named.items()})
    assert target.gpu is not None
    where = tvm.target.Target(dict(target.tvm), host={"kind": "llvm"})
    return schedule_for_gpu(bound, where, target.gpu), each


def _bound(network: Network, kernels: Sequence[GpuKernel]) -> Any:
    """The lowered module with calls of the kernels."""
    return bind(
        network.lowered.mod,
        {
            layer.placeholder: Binding(kernel.product.symbol, kernel.product.constants, layer.bias, None, layer.scale)
            for layer, kernel in zip(network.lowered.layers, kernels, strict=True)
        },
    )


def _plan(scheduled: Scheduled, network: Network, kernels: Sequence[GpuKernel], target: Target, function: str) -> Plan:
    """The plan of a size; the note of a layer says what its kernel takes, and how long it should."""
    assert target.gpu is not None
    chosen = []
    for kernel in kernels:
        product = kernel.product
        values = sum(array.nbytes for array in product.constants)
        own = Product(product.symbol, (), product.constants, footprint=Footprint(product.code_bytes, values))
        chosen.append(ChosenKernel(kernel.layer, kernel.parts, own, kernel.digest))
    plan = plan_of(scheduled, network, chosen, target, 1, function)
    notes = {kernel.product.symbol: str(facts_of(kernel.product, target.gpu)) for kernel in kernels}
    rows = tuple(replace(row, note=notes.get(row.symbol, row.note)) for row in plan.layers)
    return replace(plan, layers=rows)


def _ports(infos: Sequence[TensorInfo]) -> tuple[Port, ...]:
    return tuple(Port(one.name, one.shape, one.dtype) for one in infos)
