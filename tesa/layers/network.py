"""From a model file to the layers that need kernels: import, propagate, compact, lower."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tesa.base.progress import Progress, silent
from tesa.frontend.guard import guarded
from tesa.frontend.sizes import Size, sizes_of
from tesa.layers.anchors import Known
from tesa.layers.codes_layers import Integer
from tesa.layers.function import Lowered, lower
from tesa.layers.layer import Layer
from tesa.layers.left import LeftDense, left_dense
from tesa.layers.prepare import Prepared, prepare
from tesa.propagate.model import TesaModel


@dataclass(frozen=True, eq=False)
class Network:
    """A model on its way to kernels.

    prepared: imported, propagated and compacted; lowered: the Relax function in which each weight layer is one call of
    a kernel yet to be chosen; layers: these, in the order of lowered.layers. left: layers with a weight that get no
    kernel of their own, each with the reason.
    """

    prepared: Prepared
    lowered: Lowered
    layers: tuple[Layer, ...]
    left: tuple[LeftDense, ...]
    threads: int = 1

    def again(self, integer: Integer) -> "Network":
        """The network lowered anew, with other layers on integers."""
        return _lowered(self.prepared, self.threads, integer)

    @property
    def skipped(self) -> tuple[str, ...]:
        """The layers that are left dense, each in a sentence."""
        return tuple(map(str, self.left))


def to_network(
    model: Any,
    *,
    threads: int = 1,
    shapes: Mapping[str, Any] | None = None,
    masks: Any = None,
    flush_denormals: bool = False,
    propagation: bool = True,
    compact: bool = True,
    integer: Integer | None = None,
    codes_first: bool = False,
    progress: Progress = silent,
) -> Network:
    """The layers of an ONNX file that need a kernel, as every verb with the same arguments has them.

    The arguments are those of tesa.compile; integer, codes_first: as in tesa.layers.function.lower. Errors as
    import_onnx.

    >>> from tesa.models import digits_path
    >>> network = to_network(digits_path())
    >>> network.layers[0].name, network.layers[0].weight.shape, network.skipped
    ('stem', (32, 9), ())
    """
    prepared = prepare(
        model, shapes=shapes, masks=masks, flush_denormals=flush_denormals, propagation=propagation, shrink=compact,
        progress=progress,
    )  # fmt: skip
    return _lowered(prepared, threads, integer, codes_first)


def _lowered(prepared: Prepared, threads: int, integer: Integer | None, codes_first: bool = False) -> Network:
    attributed = prepared.attributed
    known = {var: _known(attributed, var) for var in attributed.weights}
    lowered = lower(attributed.effective_module(), prepared.imported.names, threads, known, integer, codes_first)
    layers = tuple(
        Layer(layer.name, layer.problem, layer.weight, prepared.facts.get(layer.whole, ())) for layer in lowered.layers
    )
    return Network(prepared, lowered, layers, left_dense(attributed, lowered, threads), threads)


def to_networks(
    model: Any, *, shapes: Mapping[str, Any] | None = None, **options: Any
) -> tuple[tuple[Size, ...], list[Network]]:
    """The sizes that `shapes` gives a model, and the network of each. options: the other arguments of to_network.

    >>> from tesa.models import digits_path
    >>> sizes, networks = to_networks(digits_path())
    >>> str(sizes[0]), len(networks[0].layers)
    ('image=1,1,64,64', 20)
    """
    sizes = sizes_of(model, shapes)
    with guarded(str(model) if isinstance(model, str | Path) else "the given model", "compiled"):
        return sizes, [to_network(model, shapes=size.shapes, **options) for size in sizes]


def _known(attributed: TesaModel, var: str) -> Known:
    """The facts that propagation found for a layer: its weight without dead elements, constant inputs as a shift."""
    facts = attributed.weights[var]
    found = attributed.imported.quantization.get((var, facts.argument))
    known = Known(*(attributed.folded(var) or (facts.effective_weight,)))
    return known if found is None else replace(known, scale=found.scale)
