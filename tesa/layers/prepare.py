"""From a file to the module that kernels are chosen for: import, propagate, remove what is dead or constant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from tesa.attributes.denormals import subnormals, told_of
from tesa.base.progress import Event, Progress, silent
from tesa.compact import check_smaller, compact
from tesa.errors import TesaError
from tesa.frontend import ImportedModel, import_onnx
from tesa.propagate import TesaModel, as_given, propagate

Kept = tuple[tuple[int, ...], ...]
"""For each axis of a tensor the indices that are left; an empty row stands for all of them."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """imported, attributed: what is lowered. facts: by layer, what propagation found in the model as it was given.

    tensors: of the source model, by the names that they have inside of it, where an output that is rounded to 16 bits
    stands before that. kept: of each of these that is smaller now, what is left of it. notes: what was left as it is,
    each with its reason. layers: the operators of the source model in their order; dropped: those on which no output
    depends; folded: those that are none any more after the import; nodes: the layer of each ONNX node that is called
    otherwise.
    """

    imported: ImportedModel
    attributed: TesaModel
    facts: Mapping[str, tuple[str, ...]]
    tensors: Mapping[str, str]
    kept: Mapping[str, Kept]
    notes: tuple[str, ...]
    layers: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    nodes: Mapping[str, str] = field(default_factory=dict)


def prepare(
    model: Any,
    *,
    shapes: Mapping[str, Any] | None = None,
    masks: Any = None,
    flush_denormals: bool = False,
    propagation: bool = True,
    shrink: bool = True,
    progress: Progress = silent,
) -> Prepared:
    """Import a model, propagate its facts, and make it smaller.

    propagation=False: only the zeros that stand in the weights count. shrink=False: every tensor keeps its shape.
    Errors as import_onnx.
    """
    progress(Event("import", 0, 1, str(model) if not hasattr(model, "graph") else "model"))
    imported = import_onnx(model, shapes=shapes, masks=masks, flush_denormals=flush_denormals)
    progress(Event("import", 1, 1))
    progress(Event("propagate", 0, 1))
    attributed = propagate(imported) if propagation else as_given(imported)
    facts = {layer.layer: layer.facts for layer in attributed.weights.values()}
    notes = _notes(attributed)
    widened = {} if imported.graph is None else imported.graph.widened
    tensors = {name: widened.get(name, name) for name in imported.tensors.values()}
    given = imported
    kept: Mapping[str, Kept] = {}
    if propagation and shrink:
        smaller = compact(attributed, file=False)
        fault = _fault(imported, smaller.proto) if smaller.removed else ""
        if fault:
            notes += (f"the smaller model did not pass the comparison: {fault}; compiled as it is",)
        elif smaller.removed:
            for row in smaller.removed:
                said = f"removed: {row.before - row.after} of {row.before} along axis {row.axis} of {row.tensor}"
                facts[row.layer] = (*facts.get(row.layer, ()), said)
            imported, kept = import_onnx(smaller.proto), smaller.left
            attributed = propagate(imported)
    progress(Event("propagate", 1, 1))
    return Prepared(imported, attributed, facts, tensors, kept, notes, *_operators(given))


def _operators(given: ImportedModel) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], Mapping[str, str]]:
    """layers, dropped, folded and nodes, see Prepared."""
    return tuple(dict.fromkeys(given.names.values())), given.dropped, given.folded, given.nodes


def _fault(imported: ImportedModel, proto: Any) -> str:
    """The fault of the smaller model against the given one, by onnxruntime where it is installed and can run them."""
    if find_spec("onnxruntime") is None:
        return ""
    try:
        return check_smaller(imported, proto, trials=1).fault
    except TesaError:  # it cannot run the given model itself: an operator of the user's own, inputs with conditions
        return ""


def _notes(model: TesaModel) -> tuple[str, ...]:
    unruled = (
        f"{layer}: {op}: {model.notes.get(layer, 'no rule')}; everything around it counts as live and unknown"
        for layer, op in model.unruled.items()
    )
    scrambled = (f"{layer}: {op}: {model.notes.get(layer, 'scrambled')}" for layer, op in model.scrambled.items())
    dropped = (f"{layer}: no output of the model depends on it; left out" for layer in model.imported.dropped)
    counts = ((facts.layer, subnormals(facts.weight), facts.weight.size) for facts in model.weights.values())
    small = (
        f"{layer}: {told_of(count, size)}; --flush-denormals makes zeros of them"
        for layer, count, size in counts
        if count
    )
    own = () if model.imported.graph is None else model.imported.graph.notes
    return (*unruled, *scrambled, *dropped, *small, *own)
