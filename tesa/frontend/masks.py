"""Pruning masks that a user gives beside the model, as an .npz file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools
from tesa.base.archive import read_arrays
from tesa.base.told import Untruthful, line
from tesa.errors import UsageError
from tesa.frontend.cells import whole_mask
from tesa.frontend.graph import Graph, attributes
from tesa.frontend.mask_names import MaskNames, Target
from tesa.frontend.quantized import laid_out

INTEGER_ZEROS = {"ConvInteger": {1: 3}, "MatMulInteger": {1: 3}}
"""The input that holds the zero point of a weight, by that of the weight."""


def load_masks(path: str | Path) -> dict[str, Bools]:
    """Read masks from an .npz file: one array for each weight, 0 or False where it is pruned.

    The name is the initializer's ("block1.pointwise.weight"), the layer's ("block1.pointwise") or torch's
    ("module.block1.pointwise.weight_mask"), also where only the node of a weight has the name of torch's module.
    UsageError if the file is no .npz archive of numbers, or holds none.
    """
    try:
        masks = read_arrays(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file of masks") from None
    except (OSError, Untruthful) as error:
        raise UsageError(
            f"{path}: not an .npz file of masks, save them with np.savez(path, **masks) ({error})"
        ) from error
    if not masks:
        raise UsageError(f"{path}: holds no mask at all; save them with np.savez(path, **masks), one for each weight")
    for name, mask in masks.items():
        if mask.dtype.kind not in "bifu":
            raise UsageError(f"{path}: mask {name!r} has elements of type {mask.dtype}, expected booleans or 0 and 1")
    return {name: _kept(mask, name, path) for name, mask in masks.items()}


def apply_masks(graph: Graph, masks: Mapping[str, Any]) -> None:
    """Multiply each mask into its weight and remember it in graph.masks.

    UsageError if a name matches no weight (with the nearest names) or a shape is another.
    """
    names = MaskNames(graph)
    for name, given in masks.items():
        target = names.find(name)
        initializer = target.initializer
        mask = _kept(_array(given, name, graph.source), name, graph.source)
        weight = graph.constants[initializer]
        turned = _of_cell(graph, mask, target, name) if target.parts else _turned(mask, weight.shape, target, name)
        if turned.shape != weight.shape:
            raise UsageError(
                f"{graph.source}: mask {name!r} has shape {list(mask.shape)}, its weight {initializer!r} has "
                f"{list(weight.shape)}; a mask has one element for each weight"
            )
        graph.constants[initializer] = np.where(turned, weight, _zero(graph, initializer)).astype(weight.dtype)
        graph.masks[initializer] = turned & graph.masks.get(initializer, np.ones(1, bool))


def _array(given: Any, name: str, source: str) -> Any:
    """A mask as an array of numbers. UsageError for anything else."""
    try:
        mask = np.asarray(given)
    except (ValueError, TypeError) as error:  # rows of several lengths
        raise UsageError(f"{source}: mask {name!r} is no array ({line(str(error))})") from error
    if mask.dtype.kind not in "bifu":
        raise UsageError(f"{source}: mask {name!r} has elements of type {mask.dtype}, expected booleans or 0 and 1")
    return mask


def _kept(mask: Any, name: str, source: Any) -> Bools:
    """A mask of numbers as booleans. UsageError for NaN, which says neither."""
    if mask.dtype.kind == "f" and bool(np.isnan(mask).any()):
        raise UsageError(f"{source}: mask {name!r} has NaN; give 0 for each weight to prune and 1 for the rest")
    return np.asarray(mask.astype(bool))


def _turned(mask: Bools, shape: tuple[int, ...], target: Target, name: str) -> Bools:
    """The mask as the file has the weight: transposed where only that fits, or where a square one is named as torch's.

    A name that is the initializer's own says what the axes are.
    """
    if not target.module or mask.ndim != 2 or mask.shape[::-1] != shape:
        return mask
    torch = name.removesuffix("_mask").endswith(".weight")
    return mask.T if mask.shape != shape or (torch and target.turned) else mask


def _of_cell(graph: Graph, mask: Bools, target: Target, name: str) -> Bools:
    """The mask for a layer of a recurrent cell as one for its initializer, which has all directions."""
    weight = graph.constants[target.initializer]
    whole = whole_mask(mask, weight.shape, target.parts)
    if whole is None:
        raise UsageError(
            f"{graph.source}: mask {name!r} has shape {list(mask.shape)}, its layer "
            f"{list(target.parts[0].of(weight).shape)}, as a part of the weight {target.initializer!r} of "
            f"{list(weight.shape)}; give it the shape of the layer, or the shape and the name of the whole weight"
        )
    return whole


def _zero(graph: Graph, name: str) -> Any:
    """The number that stands for 0 in a weight: its zero point if it is stored quantized."""
    weight = graph.constants[name]
    for node in graph.nodes:
        for place, level in ((1, 9), (2, 11)) if node.op_type == "DynamicQuantizeLSTM" else ():
            if node.input[place] == name and len(node.input) > level and node.input[level] in graph.constants:
                zero = graph.constants[node.input[level]]  # a number for each direction, or one for each output of it
                return zero.reshape(len(zero), 1, -1)
        places = {0: 2} if node.op_type == "DequantizeLinear" else INTEGER_ZEROS.get(node.op_type, {})
        position = next((p for p in places if p < len(node.input) and node.input[p] == name), None)
        level = places[position] if position is not None else len(node.input)
        if level >= len(node.input) or not node.input[level]:
            continue
        zero = graph.constants.get(node.input[level], np.zeros(1, weight.dtype))
        options = attributes(node)
        axis = {"ConvInteger": 0, "MatMulInteger": weight.ndim - 1}.get(node.op_type, int(options.get("axis", 1)))
        laid = laid_out(zero, weight.shape, axis, int(options.get("block_size", 0)))
        return weight.dtype.type(0) if laid is None else laid
    return weight.dtype.type(0)
