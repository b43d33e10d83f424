"""Operators that give a tensor another shape, another order of axes, copies of itself, or nothing new at all."""

import ast
import math
import operator as python
from collections.abc import Callable
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools, TeSA
from tesa.propagate.registry import Operator, rule
from tesa.propagate.rules.movement import (
    NOWHERE,
    Chain,
    Index,
    Permute,
    Places,
    Reshape,
    broadcast_steps,
    grid_before,
    moved,
    needed,
)
from tesa.propagate.rules.mover import mover


@mover(
    "relax.reshape", "relax.flatten", "relax.squeeze", "relax.expand_dims", "relax.nn.batch_flatten",
)  # fmt: skip
def reshape(op: Operator) -> Chain:
    """The same elements in the same order."""
    return (Reshape(op.inputs[0], op.outputs[0]),)


@mover("relax.permute_dims")
def permute_dims(op: Operator) -> Chain:
    """The axes change places."""
    axes, rank = op.attrs.get("axes"), len(op.inputs[0])
    return (Permute(tuple(range(rank))[::-1] if axes is None else tuple(int(a) % rank for a in axes)),)


@mover("relax.broadcast_to")
def broadcast_to(op: Operator) -> Chain:
    """Each copy knows what the element knows; an element is needed if any of its copies is."""
    return broadcast_steps(op.inputs[0], op.outputs[0])


@mover("relax.nn.pixel_shuffle")
def pixel_shuffle(op: Operator) -> Chain:
    """Channels become pixels: (c * r * r, h, w) is (c, h * r, w * r)."""
    *lead, channels, height, width = op.inputs[0]
    r, n = int(op.attrs["upscale_factor"]), len(lead)
    apart = (*lead, channels // (r * r), r, r, height, width)
    turned = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return (Reshape(op.inputs[0], apart), Permute(turned), Reshape(tuple(apart[i] for i in turned), op.outputs[0]))


@mover(
    "relax.builtin.stop_lift_params", "relax.to_vdevice", "relax.hint_on_device", "relax.memory.ensure_zero_offset",
    "relax.grad.no_grad", "relax.grad.start_checkpoint", "relax.grad.end_checkpoint",
)  # fmt: skip
def same(op: Operator) -> Chain | None:
    """The tensor itself, elsewhere or under another name."""
    return (Reshape(op.inputs[0], op.outputs[0]),) if op.inputs[0] == op.outputs[0] else None


def _grid_steps(op: Operator, position: int) -> Chain:
    """From input `position` by way of the shape in which the grid varies along its axis only."""
    rank, axis = len(op.outputs[0]), position
    if rank > 1 and position < 2 and op.attrs.get("indexing") == "xy":
        axis = 1 - position
    view = tuple(math.prod(op.inputs[position]) if i == axis else 1 for i in range(rank))
    return (Reshape(op.inputs[position], view), *broadcast_steps(view, op.outputs[position]))


def _meshgrid_backward(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[Bools, ...]:
    return tuple(needed(_grid_steps(op, i), out.live) for i, out in enumerate(outputs))


def _meshgrid_bits(op: Operator, inputs: tuple[TeSA, ...], outputs: tuple[TeSA, ...]) -> tuple[TeSA | None, ...]:
    return tuple(grid_before(out, op.inputs[i], _grid_steps(op, i)) for i, out in enumerate(outputs))


@rule("relax.meshgrid", backward=_meshgrid_backward, precision=_meshgrid_bits)
def meshgrid(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """Output i is input i, spread over all other axes."""
    return tuple(
        moved(t, shape, _grid_steps(op, i), gaps=False)
        for i, (t, shape) in enumerate(zip(inputs, op.outputs, strict=True))
    )


_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: python.add, ast.Sub: python.sub, ast.Mult: python.mul, ast.FloorDiv: python.floordiv, ast.Mod: python.mod,
}  # fmt: skip


def layout_places(text: str, old: tuple[int, ...], new: tuple[int, ...]) -> Index | None:
    """The source of each element of the new layout, out of a printed index map; None if it cannot be read.

    >>> layout_places("T.index_map(lambda i: (i // 2, i % 2))", (3,), (2, 2)).tolist()
    [[0, 1], [2, -1]]
    """
    try:
        call = ast.parse(text, mode="eval").body
        function = next(n for n in ast.walk(call) if isinstance(n, ast.Lambda))
    except (SyntaxError, StopIteration):
        return None
    names = dict(zip([a.arg for a in function.args.args], np.indices(old).reshape(len(old), -1), strict=True))
    parts = function.body.elts if isinstance(function.body, ast.Tuple) else [function.body]
    at = [_number(part, names) for part in parts]
    if len(at) != len(new) or any(a is None for a in at):
        return None
    size = math.prod(old)
    flat = np.ravel_multi_index([np.broadcast_to(a, (size,)) for a in at], new)
    result = np.full(math.prod(new), NOWHERE, np.int64)
    result[flat] = np.arange(size)
    return result.reshape(new)


def _number(node: ast.AST, names: dict[str, Any]) -> Any:
    """The value of an index expression of +, -, *, // and %; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Call) and len(node.args) == 1:  # T.int64(2)
        return _number(node.args[0], names)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = _number(node.left, names), _number(node.right, names)
        return None if left is None or right is None else _ARITHMETIC[type(node.op)](left, right)
    return None


def _pad_value(op: Operator) -> Any:
    value = op.attrs.get("pad_value")
    return None if value is None else np.asarray(value).astype(op.dtypes[0])


@mover("relax.layout_transform", fill=_pad_value)
def layout_transform(op: Operator) -> Chain | None:
    """Elements move to where the index map puts them."""
    index = layout_places(str(op.attrs["index_map"]), op.inputs[0], op.outputs[0])
    return None if index is None else (Places(op.inputs[0], index),)
