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
from tesa.build.gpu.library import Port, c_name, write_library
from tesa.build.gpu.network import Placed, network_program
from tesa.build.gpu.product import GpuProduct
from tesa.build.identity import identity
from tesa.build.objects import BuildError
from tesa.build.product import Product
from tesa.choose.chosen import ChosenKernel
from tesa.choose.gpu import GpuKernel
from tesa.choose.integer import IntegerContest
from tesa.choose.model_plan import plan_of
from tesa.choose.plan import Plan
from tesa.errors import UnsupportedError
from tesa.layers import Binding, bind
from tesa.layers.layer import Layer
from tesa.layers.network import Network, to_networks
from tesa.layers.pipeline import Scheduled, schedule_for_gpu
from tesa.records.log import Log
from tesa.runtime.manifest import Manifest, SizeInfo, TensorInfo
from tesa.targets.target import Target
from tesa.tune.gpu import GpuBench

FUNCTION = "main"
"""Name of the packed function in the library."""


def compile_for_gpu(
    model: Any,
    path: Path,
    target: Target,
    versions: Mapping[str, str],
    *,
    shapes: Mapping[str, Any] | None = None,
    masks: Any = None,
    flush_denormals: bool = False,
    arithmetic: str = "float32",
    propagation: bool = True,
    compact: bool = True,
    integer: bool = True,
    families: Sequence[str] | None = None,
    jobs: int | None = None,
    measure: bool = True,
    log: str | Path | Log | None = None,
    dump: Dump | None = None,
    progress: Progress = silent,
) -> tuple[SizeInfo, tuple[str, ...], str]:
    """Compile a model into a library for a GPU and its description: what is in it, notes, and the images in words.

    The options are those of tesa.compile. measure: the best candidates of each family that the log does not know are
    timed on device 0, where a driver is found; else the log and the static model of time decide.

    Raises UnsupportedError for a model of several sizes or with loops, and for a layer that no family computes.
    """
    ways = IntegerContest(target, families=families, measure=False)
    _, networks = to_networks(
        model, threads=1, shapes=shapes, masks=masks, flush_denormals=flush_denormals, propagation=propagation,
        compact=compact, integer=ways.decide if integer else None,
        codes_first=True, progress=progress,
    )  # fmt: skip
    if len(networks) > 1:
        raise UnsupportedError(f"a library for {target.name} has one size; compile one for each, with --shape")
    (network,) = networks
    _dumped(dump, "3-lowered", network.lowered.mod)
    layers = [replace(one, problem=replace(one.problem, arithmetic=arithmetic)) for one in network.layers]
    kernels = _kernels(layers, GpuBench.of(target, log, measure), families, jobs, progress)
    bound = _bound(network, kernels)
    where = tvm.target.Target(dict(target.tvm), host={"kind": "llvm"})
    assert target.gpu is not None
    scheduled = schedule_for_gpu(bound, where, target.gpu)
    _dumped(dump, "4-scheduled", scheduled.mod)
    plan = _plan(scheduled, network, kernels, target)
    inputs, outputs = (
        tuple(TensorInfo(one.name, tuple(one.shape), one.dtype) for one in side)
        for side in (network.prepared.imported.inputs, network.prepared.imported.outputs)
    )
    placed = {k.product.symbol: Placed(k.product, one.problem) for k, one in zip(kernels, layers, strict=True)}
    progress(Event("build", 0, 1))
    try:
        program = network_program(scheduled.mod, FUNCTION, placed, _ports(inputs), _ports(outputs), target, Cache())
    except BuildError as error:
        raise UnsupportedError(f"{target.name}: an operator cannot be compiled: {error}") from error
    progress(Event("build", 1, 1))
    said = sorted({kernel.product.said for kernel in kernels} or {GpuProduct("", program.modules, ()).said})
    size = SizeInfo(FUNCTION, inputs, outputs, plan)
    library = {
        "format": "gpu", "name": c_name(path), "arena": 0, "alignment": 256, "functions": [FUNCTION],
        "images": said, "launches": len(program.launches),
    }  # fmt: skip
    manifest = Manifest((size,), versions, library=library)
    manifest = replace(manifest, digest=identity(manifest.to_json(), [network.prepared.imported.graph]))
    program = replace(program, facts={"digest": manifest.digest, "target": target.name})
    progress(Event("write", 0, 1, str(path)))
    write_library(program, path, target, c_name(path), FUNCTION)
    write_json(path.with_suffix(".json"), manifest.to_json())
    progress(Event("write", 1, 1, str(path)))
    notes = (*network.prepared.notes, *network.skipped)
    return size, notes, f"{'; '.join(said)}; {len(program.launches)} launches"


def _dumped(dump: Dump | None, name: str, mod: Any) -> None:
    if dump is not None:
        dump.module(name, mod)


def _kernels(
    layers: Sequence[Layer], bench: GpuBench, families: Sequence[str] | None, jobs: int | None, progress: Progress,
) -> list[GpuKernel]:  # fmt: skip
    """The kernel of each layer; layers with the same problem and weight share one."""
    cache, known, found = Cache(), dict[Any, GpuKernel](), []
    for number, layer in enumerate(layers):
        progress(Event("kernels", number, len(layers), layer.name))
        key = (layer.problem, layer.digest)
        if key not in known:
            known[key] = bench.choose(layer, families=families, cache=cache, jobs=jobs)
        found.append(replace(known[key], layer=layer.name))
    progress(Event("kernels", len(layers), len(layers)))
    return found


def _bound(network: Network, kernels: Sequence[GpuKernel]) -> Any:
    """The lowered module with calls of the kernels."""
    return bind(
        network.lowered.mod,
        {
            layer.placeholder: Binding(kernel.product.symbol, kernel.product.constants, layer.bias, None, layer.scale)
            for layer, kernel in zip(network.lowered.layers, kernels, strict=True)
        },
    )


def _plan(scheduled: Scheduled, network: Network, kernels: Sequence[GpuKernel], target: Target) -> Plan:
    """The plan; the note of a layer says what its kernel takes, and how long it should."""
    assert target.gpu is not None
    chosen = []
    for kernel in kernels:
        product = kernel.product
        values = sum(array.nbytes for array in product.constants)
        own = Product(product.symbol, (), product.constants, footprint=Footprint(product.code_bytes, values))
        chosen.append(ChosenKernel(kernel.layer, kernel.parts, own, kernel.digest))
    plan = plan_of(scheduled, network, chosen, target, 1)
    notes = {kernel.product.symbol: str(facts_of(kernel.product, target.gpu)) for kernel in kernels}
    rows = tuple(replace(row, note=notes.get(row.symbol, row.note)) for row in plan.layers)
    return replace(plan, layers=rows)


def _ports(infos: Sequence[TensorInfo]) -> tuple[Port, ...]:
    return tuple(Port(one.name, one.shape, one.dtype) for one in infos)
