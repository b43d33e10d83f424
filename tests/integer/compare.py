"""Holds the codes of a compiled integer network against onnxruntime's, and tells rounding ties from mistakes.

Three questions, each answered with a row for each tensor:

- outputs: how many codes of the network's outputs differ from those of onnxruntime, which runs every operator as the
  file has it? A number that lies between two codes may become either; behind it whole sums move.
- inner: does each step compute its codes from the codes before it? All codes of the network become outputs, and
  onnxruntime computes each step anew from the codes that tesa found, so that no difference is handed on.
- layers: the same for the codes that the kernels of an unchanged library store, which are watched as it runs.

A code that differs by one is a tie where the number that onnxruntime rounded lies in the middle of two codes, to the
last digits of its float32 arithmetic. Where a kernel rounds on the way, to codes that are nowhere stored, one that
differs is a tie as well if the number that was rounded there lies so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tesa.base.onnxruntime import reference_outputs
from tesa.runtime import Model
from tesa.runtime.stored import unpacked
from tesa.runtime.trace import trace
from tests.runtime.models import build

Array = NDArray[Any]
CODES = ("uint8", "int8", "uint16", "int16")
TIE = 2.0**-10
"""A number is a tie where it is so near to the middle of two codes, in codes: some last digits of a float32 sum."""


@dataclass(frozen=True)
class Row:
    """The differences of one tensor.

    ties: codes that differ by one where the number before rounding is a tie, or at all behind a tie on the way; ones:
    others that differ by one, and all of them where that number is not known; more: others that differ by more; worst:
    the greatest difference. error: of a tensor that has no codes the largest difference by the largest number, else 0.
    """

    name: str
    elements: int
    ties: int = 0
    ones: int = 0
    more: int = 0
    worst: int = 0
    error: float = 0.0

    @property
    def only_ties(self) -> bool:
        """True where every code is right, or off by one on a tie."""
        return self.ones == self.more == 0 and self.error < 1e-4

    def __str__(self) -> str:
        if self.error:
            return f"{self.name}: {self.elements} numbers, largest difference {self.error:.1e} of the largest number"
        found = f"{self.ties} ties, {self.ones} by one, {self.more} by more (worst {self.worst})"
        return f"{self.name}: {self.elements} codes, {found}"


def outputs(model: Model, source: Any, feeds: Mapping[str, Array]) -> tuple[Row, ...]:
    """The outputs of a compiled model, those that are dequantized as their codes. source: its ModelProto or path."""
    proto = _loaded(source)
    found, expected = model(feeds), reference_outputs(proto, feeds)
    return tuple(_outer(name, found[name], expected[name], _scale(proto, name)) for name in expected)


def inner(source: Any, feeds: Mapping[str, Array], folder: Path, **options: Any) -> tuple[Row, ...]:
    """Every step from codes to codes alone. The network is compiled in the folder with all its codes as outputs.

    options: of tests.runtime.models.build. Tensors that follow from constants alone are left out.
    """
    proto = _loaded(source)
    computed = _computed(proto)
    dtypes = {name: array for name, array in reference_outputs(proto, feeds, computed).items() if name in computed}
    names = [name for name in computed if dtypes[name].dtype.name in CODES]
    exposed = _copy(proto)
    present = {output.name for output in exposed.graph.output}
    for name in names:
        if name not in present:
            kind = helper.np_dtype_to_tensor_dtype(dtypes[name].dtype)
            exposed.graph.output.append(helper.make_tensor_value_info(name, kind, dtypes[name].shape))
    model = build(folder, exposed, "inner", **options)
    found = model(feeds)
    return step_by_step(proto, feeds, {name: found[name] for name in names}, found)


def layers(model: Model, source: Any, feeds: Mapping[str, Array]) -> tuple[Row, ...]:
    """The codes that the kernels of a compiled model store while it runs, each step alone, and its outputs."""
    proto = _loaded(source)
    shapes = {name: array.shape for name, array in reference_outputs(proto, feeds, _computed(proto)).items()}

    def keep(layer: Any, tensor: Any) -> Array | None:
        if layer.kind != "sparse" or layer.tensor not in shapes or layer.kept or layer.piece or layer.dead:
            return None
        array = np.array(np.from_dlpack(tensor))
        return unpacked(array, layer, shapes[layer.tensor]) if array.dtype.name in CODES else None

    (calls,) = trace(model, model.prepare(feeds), keep=keep)
    stored = {call.layer.tensor: call.result for call in calls if call.layer is not None and call.result is not None}
    return step_by_step(proto, feeds, stored, model(feeds))


def step_by_step(
    source: Any, feeds: Mapping[str, Array], codes: Mapping[str, Array], found: Mapping[str, Array]
) -> tuple[Row, ...]:
    """Compare each tensor of codes, and each output of the network, with what onnxruntime computes from the codes.

    codes: by the names of tensors. found: the outputs of the network, of which those of the source are compared.
    """
    proto = _loaded(source)
    cut = _cut(proto, codes)
    before = {name: node for name in codes if (node := _maker(proto, name)).op_type == "QuantizeLinear"}
    constants = {tensor.name for tensor in proto.graph.initializer}
    inside = {name: _on_the_way(proto, node, codes) for name, node in before.items()}
    rounded = [*before.values(), *(node for nodes in inside.values() for node in nodes)]
    reals = list(dict.fromkeys(node.input[0] for node in rounded if node.input[0] not in feeds))
    steps = [name for node in before.values() for name in node.input[1:] if name and name not in constants]
    given = dict(feeds) | {name: np.ascontiguousarray(array) for name, array in codes.items()}
    expected = reference_outputs(cut, given, [*reals, *steps])
    known = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer} | given | expected
    rows = []
    for name, got in codes.items():
        numbers = _before_rounding(before[name], known) if name in before else None
        ties = [np.abs(np.abs(_before_rounding(node, known) % 1.0) - 0.5) < TIE for node in inside.get(name, ())]
        behind = np.any([tie for tie in ties if tie.shape == got.shape] or [np.zeros(got.shape, bool)], axis=0)
        rows.append(differences(name, got, expected[_computed_name(name)], numbers, behind))
    ends = [output.name for output in proto.graph.output if output.name not in codes]
    return (*rows, *(_outer(name, found[name], expected[name], _scale(proto, name)) for name in ends))


def differences(
    name: str, got: Array, expected: Array, numbers: Array | None = None, behind: Array | None = None
) -> Row:
    """Count the codes that differ. numbers: what was rounded to the expected codes, in codes; behind: elements for
    which a number on the way was a tie.

    >>> print(differences("y", np.uint8([1, 2, 3]), np.uint8([1, 3, 9]), np.array([1.2, 2.5, 9.0])))
    y: 3 codes, 1 ties, 0 by one, 1 by more (worst 6)
    """
    assert got.shape == expected.shape, f"{name}: {got.shape} instead of {expected.shape}"
    assert got.dtype == expected.dtype, f"{name}: {got.dtype} instead of {expected.dtype}"
    off = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    tie = (off > 0) & (False if behind is None else behind)
    if numbers is not None:
        tie |= (off == 1) & (np.abs(np.abs(numbers % 1.0) - 0.5) < TIE)
    ones, more = ((off == 1) & ~tie).sum(), ((off > 1) & ~tie).sum()
    return Row(name, got.size, int(tie.sum()), int(ones), int(more), int(off.max(initial=0)))


def _on_the_way(proto: Any, node: Any, codes: Mapping[str, Array]) -> list[Any]:
    """The nodes that quantize between the given codes and what a node reads."""
    found: list[Any] = []
    constants = {tensor.name for tensor in proto.graph.initializer}
    pending = [node.input[0]]
    while pending:
        name = pending.pop()
        maker = None if name in codes else _maker(proto, name)
        if maker is None:
            continue
        if maker.op_type == "QuantizeLinear" and maker.input[0] not in constants:
            found.append(maker)
        pending += [one for one in maker.input if one]
    return found


def _outer(name: str, got: Array, expected: Array, scale: float | None) -> Row:
    """An output: its codes, or where it has none its numbers."""
    if got.dtype.kind in "iu":
        return differences(name, got, expected)
    assert got.shape == expected.shape, f"{name}: {got.shape} instead of {expected.shape}"
    if scale is not None:
        return differences(name, *(np.rint(a.astype(np.float64) / scale).astype(np.int64) for a in (got, expected)))
    wide = expected.astype(np.float64)
    largest = float(np.abs(wide).max(initial=0)) or 1.0
    return Row(name, got.size, error=float(np.abs(got - wide).max(initial=0)) / largest)


def _before_rounding(node: Any, known: Mapping[str, Array]) -> Array:
    """The numbers that a QuantizeLinear rounds, in codes: x / scale."""
    x, scale = (np.asarray(known[name], np.float64) for name in node.input[:2])
    if scale.size > 1:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        view = [1] * x.ndim
        view[axis] = -1
        scale = scale.reshape(view)
    return np.asarray(x / scale)


def _scale(proto: Any, name: str) -> float | None:
    """The step of an output that is dequantized with one constant scale; None for any other."""
    node = _maker(proto, name)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    found = [numpy_helper.to_array(t) for t in proto.graph.initializer if t.name == node.input[1]]
    return float(found[0].reshape(-1)[0]) if found and found[0].size == 1 else None


def _cut(proto: Any, names: Mapping[str, Array]) -> Any:
    """A copy in which these tensors are inputs, and what their nodes compute is an output by another name."""
    cut = _copy(proto)
    for node in cut.graph.node:
        node.output[:] = [_computed_name(name) if name in names else name for name in node.output]
    kept = [output for output in cut.graph.output if output.name not in names]
    del cut.graph.output[:]
    cut.graph.output.extend(kept)
    for name, array in names.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        cut.graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
        cut.graph.output.append(helper.make_tensor_value_info(_computed_name(name), kind, array.shape))
    del cut.graph.value_info[:]
    return cut


def _computed_name(name: str) -> str:
    return f"{name}/computed"


def _computed(proto: Any) -> list[str]:
    """The tensors that depend on an input, in their order."""
    live = {value.name for value in proto.graph.input} - {tensor.name for tensor in proto.graph.initializer}
    found = []
    for node in proto.graph.node:
        if live.intersection(node.input):
            found += [name for name in node.output if name]
            live.update(node.output)
    return found


def _maker(proto: Any, name: str) -> Any:
    return next((node for node in proto.graph.node if name in node.output), None)


def _loaded(source: Any) -> Any:
    return onnx.load(source) if isinstance(source, str | Path) else source


def _copy(proto: Any) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def report(rows: Sequence[Row]) -> str:
    """The rows that differ, one a line, and how many do not."""
    off = [row for row in rows if row.ties or row.ones or row.more or row.error]
    return "\n".join([*map(str, off), f"{len(rows) - len(off)} of {len(rows)} tensors are the same"])
