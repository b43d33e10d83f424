"""The facts of propagation by tensor of the ONNX graph."""

from collections.abc import Mapping, Sequence

import numpy as np

from tesa.attributes.attribute import Bools, TeSA, Values, compact
from tesa.propagate import TesaModel


class Facts:
    """The slices of each ONNX tensor that can be removed, and the values that replace them.

    A dead element may be anything, so 0 stands in for it; for a live one that is known, its value does. tensors: with
    their shapes; one that propagation knows nothing of counts as live and unknown, one that nobody reads as dead.
    codes: as in Analysis.
    """

    def __init__(
        self,
        model: TesaModel,
        shapes: Mapping[str, tuple[int, ...]],
        unread: Sequence[str] = (),
        codes: Mapping[str, str] | None = None,
    ) -> None:
        self._codes = codes or {}
        self._tesa = {name: facts for name, facts in by_tensor(model).items() if facts.shape == shapes.get(name)}
        self._shapes = shapes
        self._unread = set(unread)
        self._removable: dict[str, Bools] = {}
        self._replacement: dict[str, Values] = {}

    def removable(self, tensor: str, axes: Sequence[int]) -> Bools:
        """A mask over these axes: the slices that are dead, or known and finite, throughout."""
        shape = self._shapes[tensor]
        return spread(self._removable_elements(tensor), axes, shape, every=True)

    def replacement(self, tensor: str) -> Values:
        """The values that replace removed elements, in float64; broadcasts to the tensor, 0 where none is removed."""
        if tensor not in self._replacement:
            found = None if tensor in self._codes else self._tesa.get(tensor)
            value: Values = np.zeros((1,) * len(self._shapes[tensor]))
            if found is not None and tensor not in self._unread:
                good = found.known & found.live & np.isfinite(found.value.astype(np.float64))
                value = compact(np.where(good, found.value, 0).astype(np.float64)) if good.any() else value
            self._replacement[tensor] = value
        return self._replacement[tensor]

    def constant(self, tensor: str, axes: Sequence[int]) -> Bools:
        """A mask over these axes: the slices in which some replacement is not 0."""
        return spread(self.replacement(tensor) != 0, axes, self._shapes[tensor], every=False)

    def _removable_elements(self, tensor: str) -> Bools:
        if tensor not in self._removable:
            found, rank = self._tesa.get(tensor), len(self._shapes[tensor])
            mask: Bools = np.full((1,) * rank, tensor in self._unread)
            if found is not None and tensor not in self._unread:
                mask = ~found.live | (found.known & np.isfinite(found.value.astype(np.float64)))
            numbers = self._tesa.get(self._codes.get(tensor, ""))
            if tensor in self._codes:
                mask = np.zeros((1,) * rank, bool) if found is None or tensor in self._unread else ~found.live
                mask = mask if numbers is None else mask | numbers.zero | ~numbers.live
            self._removable[tensor] = mask
        return self._removable[tensor]


def by_tensor(model: TesaModel) -> dict[str, TeSA]:
    """The facts by ONNX tensor. The variable of a node with several outputs is a tuple: part k is output k."""
    graph = model.imported.graph
    makers = {node.output[0]: node for node in graph.nodes} if graph is not None else {}
    found: dict[str, TeSA] = {}
    for var, tensor in model.imported.tensors.items():
        if var in model.tesa:
            found[tensor] = model.tesa[var]
            continue
        outputs = makers[tensor].output if tensor in makers else ()
        parts = {name: model.tesa.get(f"{var}.{k}") for k, name in enumerate(outputs) if name}
        found |= {name: facts for name, facts in parts.items() if facts is not None}
    return found


def spread(mask: Bools, axes: Sequence[int], shape: Sequence[int], *, every: bool) -> Bools:
    """A mask that broadcasts to `shape`, reduced to these axes in this order, each of its full length."""
    others = tuple(a for a in range(mask.ndim) if a not in axes)
    reduced = np.asarray(mask.all(axis=others) if every else mask.any(axis=others))
    order = np.argsort(np.argsort(axes))
    return np.broadcast_to(reduced.transpose(tuple(order)), tuple(shape[a] for a in axes))
