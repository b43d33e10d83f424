"""Pruning masks that a user gives beside the model, as an .npz file."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tesa.attributes.attribute import Bools
from tesa.errors import UsageError
from tesa.frontend.graph import Graph, attributes
from tesa.frontend.names import did_you_mean
from tesa.frontend.quantized import laid_out
from tesa.frontend.rewrite import WEIGHT_OPS

INTEGER_ZEROS = {"ConvInteger": {1: 3}, "MatMulInteger": {1: 3}}
"""The input that holds the zero point of a weight, by that of the weight."""


def load_masks(path: str | Path) -> dict[str, Bools]:
    """Read masks from an .npz file: one array for each weight, 0 or False where it is pruned.

    The name is the initializer's ("block1.pointwise.weight"), the layer's ("block1.pointwise") or torch's
    ("block1.pointwise.weight_mask"). UsageError if the file is no .npz archive of numbers.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise UsageError(f"{path}: one array without a name; save the masks with np.savez(path, **masks)")
        with archive:
            masks = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file of masks") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(f"{path}: not an .npz file of masks, save them with np.savez ({error})") from error
    for name, mask in masks.items():
        if mask.dtype.kind not in "bifu":
            raise UsageError(f"{path}: mask {name!r} has elements of type {mask.dtype}, expected booleans or 0 and 1")
    return {name: mask.astype(bool) for name, mask in masks.items()}


def apply_masks(graph: Graph, masks: Mapping[str, Any]) -> None:
    """Multiply each mask into its weight and remember it in graph.masks.

    UsageError if a name matches no weight (with the nearest names) or a shape is another.
    """
    makers = {name: node for node in graph.nodes for name in node.output}
    layers = {}
    for node in graph.nodes:
        if node.op_type in WEIGHT_OPS and len(node.input) > 1:
            layers[graph.layers[node.output[0]]] = _origin(graph, makers, node.input[1])
    for name, given in masks.items():
        initializer = _find(graph, layers, name)
        given = np.asarray(given)
        if given.dtype.kind == "f" and bool(np.isnan(given).any()):
            raise UsageError(
                f"{graph.source}: mask {name!r} has NaN; give 0 for each weight to prune and 1 for the rest"
            )
        mask = given.astype(bool)
        weight = graph.constants[initializer]
        if mask.shape != weight.shape:
            raise UsageError(
                f"{graph.source}: mask {name!r} has shape {list(mask.shape)}, its weight {initializer!r} has "
                f"{list(weight.shape)}; a mask has one element for each weight"
            )
        graph.constants[initializer] = np.where(mask, weight, _zero(graph, initializer)).astype(weight.dtype)
        graph.masks[initializer] = mask & graph.masks.get(initializer, np.ones(1, bool))


def _find(graph: Graph, layers: Mapping[str, str], name: str) -> str:
    for candidate in (name, name.removesuffix("_mask"), f"{name}.weight"):
        if candidate in graph.constants:
            return candidate
        if layers.get(candidate):
            return layers[candidate]
    known = [*(n for n, a in graph.constants.items() if a.ndim > 1), *layers]
    near = did_you_mean(name, known)
    raise UsageError(
        f"{graph.source}: mask {name!r} matches no weight and no layer of the model. "
        + (near or f"Its layers: {', '.join(list(layers)[:8])}{', ...' if len(layers) > 8 else ''}")
    )


def _origin(graph: Graph, makers: Mapping[str, Any], name: str) -> str:
    while name in makers and name not in graph.constants:
        name = makers[name].input[0]
    return name if name in graph.constants else ""


def _zero(graph: Graph, name: str) -> Any:
    """The number that stands for 0 in a weight: its zero point if it is stored quantized."""
    weight = graph.constants[name]
    for node in graph.nodes:
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
