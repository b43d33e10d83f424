"""The plan of a compiled model: every call that it makes, with what was decided for it."""

import re
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from tesa.choose.chosen import ChosenKernel
from tesa.choose.plan import LayerPlan, Plan, codes_words, epilogue_words
from tesa.frontend.loops import functions_of
from tesa.layers.bind import KERNEL
from tesa.layers.function import WeightLayer
from tesa.layers.layer import Layer
from tesa.layers.network import Network
from tesa.layers.origins import layers_of
from tesa.layers.pipeline import Scheduled
from tesa.layers.prepare import Prepared
from tesa.propagate import WeightFacts
from tesa.targets.target import Target


def plan_of(
    scheduled: Scheduled, network: Network, kernels: Sequence[ChosenKernel], target: Target, threads: int,
    function: str = "main",
) -> Plan:  # fmt: skip
    """The plan of a compiled model: a row for every call that the compiled function makes, in running order.

    scheduled: the module whose calls name the kernels; kernels: of network.layers, in their order. function: the name
    of the model's own one in the module.
    """
    mod, origins = scheduled.mod, network.lowered.origins
    waiting: dict[str, list[LayerPlan]] = {}
    for lowered, kernel, layer in zip(network.lowered.layers, kernels, network.layers, strict=True):
        waiting.setdefault(kernel.product.symbol, []).append(_weight_layer(lowered, kernel, layer, network.prepared))
    rows: list[LayerPlan] = []
    for owner, binding, calls in calls_of(mod, function):
        name = binding.value.op.name
        if name == "relax.call_dps_packed":
            row = waiting[str(binding.value.args[0].global_symbol)].pop(0)
        else:
            attrs = mod[binding.value.args[0]].attrs
            symbol = str(attrs[KERNEL]) if attrs and KERNEL in attrs else ""
            own = binding.var.name
            covers = layers_of(scheduled.parts.get(own, (own,)), origins)
            row = waiting[symbol].pop(0) if symbol else _operator(mod, binding, covers, len(rows))
        rows.append(replace(row, calls=calls, tensor=row.tensor if owner == function else ""))
    elsewhere = _elsewhere(network.prepared, {name for row in rows for name in (row.layer, *row.covers)})
    return Plan(target.name, threads, tuple(rows), elsewhere, network.prepared.nodes)


def _elsewhere(prepared: Prepared, computed: Set[str]) -> dict[str, str]:
    """The reason for each operator of the model that no call computes."""
    still = set(prepared.imported.names.values())
    found = {}
    for layer in prepared.layers:
        if layer not in computed:
            gone = "nothing that the outputs need is left of it: its result is constant, or nobody reads it"
            free = "it takes no time of its own: a view, a constant, or a part of what is beside it"
            found[layer] = free if layer in still else gone
    away = (layer for layer in prepared.folded if layer not in computed)
    found |= dict.fromkeys(away, "it does nothing at inference, or was folded into what is around it")
    return found | dict.fromkeys(prepared.dropped, "no output of the model depends on it; left out")


def calls_of(mod: Any, root: str = "main") -> list[tuple[str, Any, int]]:
    """(name of a function, binding, how often it is run in one run of `root`) for each call of a kernel or operator.

    In the order of their first runs: what a loop does stands where the loop is.
    """
    functions = dict(functions_of(mod, root))
    bindings = {var: [b for block in f.body.blocks for b in block.bindings] for var, f in functions.items()}
    times = dict.fromkeys(functions, 0)
    times[mod.get_global_var(root)] = 1
    for var in reversed(list(functions)):  # those that call stand behind those that are called
        for binding in bindings[var]:
            callee = getattr(binding.value, "op", None)
            if callee in functions:
                times[callee] += times[var]
    found: list[tuple[str, Any, int]] = []
    seen: set[Any] = set()

    def visit(var: Any) -> None:
        seen.add(var)
        for binding in bindings[var]:
            operator = getattr(binding.value, "op", None)
            if operator in functions:
                if operator not in seen:
                    visit(operator)
            elif getattr(operator, "name", "") in ("relax.call_dps_packed", "relax.call_tir"):
                found.append((var.name_hint, binding, times[var]))

    visit(mod.get_global_var(root))
    return found


def _weight_layer(lowered: WeightLayer, kernel: ChosenKernel, layer: Layer, prepared: Prepared) -> LayerPlan:
    problem, attributed = lowered.problem, prepared.attributed
    tensor = attributed.imported.tensors.get(lowered.result, "")
    dead = attributed.tesa[lowered.result].dead
    features = attributed.tesa[lowered.result].shape[lowered.axis]
    any_dead = np.broadcast_to(
        dead.any(axis=tuple(axis for axis in range(dead.ndim) if axis != lowered.axis)), features
    )
    if lowered.piece and lowered.piece[0] == lowered.axis:
        any_dead = any_dead[slice(*lowered.piece[1:])]
    return LayerPlan(
        layer=lowered.name,
        op=problem.op,
        kind="sparse",
        shape=(problem.m, problem.k, problem.n),
        sparsity=_zeros(lowered, attributed.weights.get(lowered.source)),
        epilogue="+".join(epilogue_words(problem.epilogue)),
        parts=kernel.parts,
        facts=layer.facts,
        tensor=prepared.tensors.get(tensor, "") if lowered.whole_sum else "",
        symbol=kernel.product.symbol,
        layout=lowered.layout,
        dead=tuple(int(i) for i in np.flatnonzero(any_dead)),
        kept=prepared.kept.get(tensor, ()),
        digest=kernel.digest,
        stored=problem.y_shape,
        axis=lowered.axis,
        piece=lowered.piece,
        covers=lowered.covers,
        footprint=kernel.product.footprint,
        precision="" if problem.dtype == "float32" else problem.dtype,
        codes=codes_words(problem, lowered.scale is None),
        signed=lowered.signed,
    )


def _zeros(lowered: WeightLayer, given: WeightFacts | None) -> float:
    """The share of zeros in a weight, without those between its groups and phases, which the file does not have."""
    if given is not None and lowered.weight.size != given.weight.size:
        return given.sparsity
    return 1.0 - np.count_nonzero(lowered.weight) / max(lowered.weight.size, 1)


def _operator(mod: Any, binding: Any, covers: tuple[str, ...], place: int) -> LayerPlan:
    """A row for a scheduled operator, called after the last one that it computes.

    A transpose that tesa put in is a change of layout, for the layer that reads it.
    """
    function = binding.value.args[0]
    name = str(function.name_hint)
    attrs = mod[function].attrs
    rule = str(attrs["tesa.schedule"]) if attrs and "tesa.schedule" in attrs else ""
    layout = name.startswith("layout")
    shape = tuple(int(extent) for extent in binding.var.ty.shape) if hasattr(binding.var.ty, "shape") else ()
    return LayerPlan(
        layer=_named(covers, layout) or f"{place}.{name}",
        op=re.sub(r"\d+$", "", name),  # TVM numbers functions of one name
        kind="layout" if layout else "operator",
        shape=shape,
        note=rule,
        symbol=name,
        covers=() if layout else covers,
    )


def _named(covers: tuple[str, ...], layout: bool) -> str:
    return "" if not covers else f"{covers[0]}.layout" if layout else covers[-1]
