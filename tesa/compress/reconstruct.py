"""Prunes layer by layer with calibration data, and repairs each layer by least squares before the next is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.impose import Imposed
from tesa.attributes.zeros import Mask
from tesa.base.progress import Event, Progress, silent
from tesa.compress.bias import Biases
from tesa.compress.budget import default_budget
from tesa.compress.draw import best_draw, trials_of
from tesa.compress.gram import Gram, gram
from tesa.compress.layers import Layer
from tesa.compress.order import damped, ordered_mask
from tesa.compress.padding import without_padding
from tesa.compress.rearrange.rows import Orders, keep_in_order
from tesa.compress.result import PrunedLayer
from tesa.compress.scoring import Scoring, budget_of, checked_scores
from tesa.compress.solve import output_error, solve
from tesa.compress.tensors import Tensors
from tesa.compress.walk import Walk
from tesa.compress.write import apply_mask, summary

Floats = NDArray[np.float64]
ORDERED = "sparsegpt"
STILL = 1e-9
"""Share of the squares of inputs below which what varies of them is rounding: then the bias does what can be done."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The plan for each layer. repair: by least squares, not by the mask alone. orders: of the rows of a layer."""

    patterns: Mapping[str, Imposed]
    scorer: Scoring
    budget: str | None
    repair: bool = True
    seed: int = 0
    orders: Orders = field(default_factory=dict)


class Reconstruction:
    """Walks through a network and prunes its layers, one after the other."""

    def __init__(self, walk: Walk, biases: Biases, plan: Plan, progress: Progress = silent) -> None:
        self.walk, self.biases, self.plan, self.progress = walk, biases, plan, progress
        self.tensors: Tensors = walk.tensors

    def run(self, layers: Sequence[Layer]) -> list[tuple[PrunedLayer, Mask]]:
        """The row of each layer and its mask in the stored shape; the tensors of the model are changed."""
        found = []
        for number, layer in enumerate(layers):
            self.progress(Event("prune", number, len(layers), layer.name))
            why = unrepairable(layer)
            found.append(self._by_weight(layer, why) if why else self._by_data(layer, number))
        self.progress(Event("prune", len(layers), len(layers)))
        return found

    def _by_weight(self, layer: Layer, why: str) -> tuple[PrunedLayer, Mask]:
        """Without data of its own: by magnitude."""
        imposed = self.plan.patterns[layer.name]
        before = self.tensors.get(layer.tensor)
        assert before is not None
        weight = layer.numbers(self.tensors).astype(np.float64)
        budget = self.plan.budget or default_budget(imposed)
        mask = keep_in_order(np.abs(weight), imposed, budget, self.plan.orders.get(layer.name))
        row, stored = apply_mask(self.tensors, layer, mask, imposed, note=f"{why}; pruned by magnitude, not repaired")
        self.walk.changed(layer.tensor, before)
        return row, stored

    def _by_data(self, layer: Layer, number: int) -> tuple[PrunedLayer, Mask]:
        sums, weight = self.sums(layer, number)
        if sums is None:
            return self._by_weight(layer, "its inputs do not vary on the calibration data")
        imposed = self.plan.patterns[layer.name]
        before = self.tensors.get(layer.tensor)
        assert before is not None
        mask = self._mask(layer, weight, sums, imposed) & (weight != 0)
        masked = np.where(mask, weight, 0.0)
        bias = self.biases.of(layer)
        solved, shift, note = masked, np.zeros(layer.rows), ""
        none = output_error(masked, weight, sums, shift)
        if self.plan.repair:
            solved, shift, note = repaired(weight, mask, sums, bias is not None)
        error = output_error(solved, weight, sums, shift)
        if not np.isfinite(error).all() or error.mean() > none.mean():
            solved, shift, error = masked, np.zeros(layer.rows), none
            note = note or "least squares gained nothing; the mask alone is applied"
        stored = np.ascontiguousarray(layer.stored(mask))
        final = np.where(stored, layer.stored(solved), 0).astype(before.dtype)
        self.tensors.set(layer.tensor, np.ascontiguousarray(final))
        self.walk.changed(layer.tensor, before)
        if bias is not None and shift.any():
            name, old = self.biases.add(layer, bias, shift)
            self.walk.changed(name, old)
        after = layer.matrix(final)
        row = summary(
            layer, weight, np.where(mask, after, 0), imposed, error_masked=float(none.mean()),
            error=float(error.mean()), note=note,
        )  # fmt: skip
        return row, stored

    def sums(self, layer: Layer, number: int) -> tuple[Gram | None, Floats]:
        """(the sums of a layer's inputs, None where these do not vary; its weight)."""
        self.walk.advance(layer.at)
        weight = layer.numbers(self.tensors).astype(np.float64)
        differs = layer.input in self.walk.differs
        found = gram(layer, lambda: self._rows(layer), differs, weight, self.plan.seed + number)
        if not np.isfinite(found.now).all() or not np.isfinite(found.power).all():
            from tesa.errors import UsageError

            raise UsageError(
                f"layer {layer.name}: its input is not finite on the calibration data; leave such samples out"
            )
        return (found if np.einsum("gkk->", found.now) > 0 else None), weight

    def _rows(self, layer: Layer) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """The inputs of a layer in both networks, run by run, without padding."""
        for feeds, (dense, now) in zip(self.walk.samples.feeds, self.walk.pairs(layer.input), strict=True):
            yield without_padding(layer, feeds, dense, now)

    def _mask(self, layer: Layer, weight: Floats, sums: Gram, imposed: Imposed) -> Mask:
        scorer, order = self.plan.scorer, self.plan.orders.get(layer.name)
        budget = budget_of(self.plan.budget, scorer, imposed)
        if scorer.name == ORDERED and budget != "network":
            ordered = weight if order is None else weight[order]
            found: list[Mask | None] = [None]
            if _whole_groups(layer, imposed):
                parts = zip(_blocks(ordered, sums), sums.centered()[0], strict=True)
                found = [ordered_mask(part, damped(products), imposed, budget) for part, products in parts]
            if all(mask is not None for mask in found):
                mask = np.concatenate([mask for mask in found if mask is not None])
                return mask if order is None else mask[np.argsort(order)]
        scores = scorer.score(layer.name, weight, sums.inputs(layer.rows))
        return keep_in_order(checked_scores(scores, layer, weight), imposed, budget, order)


def _whole_groups(layer: Layer, imposed: Imposed) -> bool:
    """True if no unit of the pattern reaches over several groups of a layer."""
    rows = 1 if imposed.imposition.grain is None else imposed.imposition.grain(imposed.sizes)[0]
    return layer.groups == 1 or (layer.rows // layer.groups) % rows == 0


def _blocks(weight: Floats, sums: Gram) -> NDArray[Any]:
    return weight.reshape(len(sums.now), -1, weight.shape[1])


def repaired(weight: Floats, mask: Mask, sums: Gram, biased: bool) -> tuple[Floats, Floats, str]:
    """(the weight (m, k) solved for on the mask, what its bias gains (m,), a note). biased: it has a bias."""
    products, cross = sums.centered() if biased else (sums.now, sums.cross)
    parts, notes = [], ""
    trials = trials_of(sums, biased)
    draw = best_draw(weight, mask, trials) if trials else 0.0
    masks = mask.reshape(len(products), -1, mask.shape[1])
    for g, part in enumerate(_blocks(weight, sums)):
        try:
            varies = np.trace(products[g]) > STILL * np.trace(sums.now[g])
            parts.append(
                solve(part, masks[g], products[g], cross[g], draw) if varies else np.where(masks[g], part, 0.0)
            )
        except np.linalg.LinAlgError as error:
            parts.append(np.where(masks[g], part, 0.0))
            notes = f"no least squares, {error}; the mask alone is applied"
    solved = np.concatenate(parts)
    shift = np.zeros(len(weight))
    if biased:
        rows = len(weight) // len(products)
        mean, dense = (np.repeat(x, rows, 0) for x in (sums.mean, sums.mean_dense))
        shift = np.einsum("mk,mk->m", weight, dense) - np.einsum("mk,mk->m", solved, mean)
    return solved, shift, notes


def unrepairable(layer: Layer) -> str:
    """The reason why least squares has no meaning for a layer, "" where it has."""
    if layer.at < 0:
        return "its weight is shared, or lies in a branch or loop"
    if layer.op == "recurrent":
        return "it is recurrent"
    if layer.codes is not None or "Integer" in layer.node.op_type or layer.node.op_type.startswith("QLinear"):
        return "its weight is quantized"
    if layer.op == "linear" and len(layer.shape) > 2:
        return "its weight is a batch of matrices"
    return ""
