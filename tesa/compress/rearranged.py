"""The step of pruning that looks for places of channels: in the network, or an order of rows for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from tesa.base.extras import install
from tesa.base.onnxruntime import reference_outputs
from tesa.compress.job import Job
from tesa.compress.rearrange import Arranged, arrange
from tesa.compress.rearrange.graph import random_feeds
from tesa.compress.rearrange.rows import Orders, free_order, row_order
from tesa.compress.reconstruct import ORDERED
from tesa.compress.samples import Samples
from tesa.compress.scoring import budget_of, find_scoring
from tesa.errors import CheckFailed, TesaError

TOLERANCE = 1e-2
"""Of an output's largest number: far above rounding, far below what a channel in a wrong place does."""

FREE = (
    "{} layers take their rows in an order of their own: row panels store rows in any order for free "
    "(--rearrange network moves the channels of the file instead)"
)


def rearranged(job: Job, samples: Samples | None, how: str) -> tuple[Arranged, Orders, list[str]]:
    """(what was gained, the order of rows of each layer that has one, what a user has to know). The model is changed.

    how: "auto", "network" or "layer". Scores that depend on the order of pruning are replaced by scale-free ones.
    """
    alone = [layer for layer in job.layers if free_order(layer, job.patterns[layer.name], how)]
    if samples is None:
        scores = {layer.name: job.weight_scores(layer) for layer in job.layers}
    else:
        scorer = find_scoring("scale-free") if job.scorer.name == ORDERED else job.scorer
        scores = job.dense_scores(samples, scorer)
    budgets = {layer.name: budget_of(job.budget, job.scorer, job.patterns[layer.name]) for layer in job.layers}
    found = {
        layer.name: row_order(scores[layer.name], job.patterns[layer.name], budgets[layer.name], layer)
        for layer in alone
    }
    orders = {name: order for name, (order, _) in found.items()}
    gains = tuple(gain for _, gain in found.values())
    said = [FREE.format(len(alone))] if alone else []
    rest = [layer for layer in job.layers if layer not in alone]
    if not rest or how == "layer":
        return Arranged(gains, 0, ()), orders, said
    work = job.work
    if work.view is not work.proto:
        return Arranged(gains, 0, ()), orders, [*said, "the model has functions of its own: it is not rearranged"]
    feeds = None if samples is None else samples.feeds[0]
    before = type(work.proto)()
    before.CopyFrom(work.proto)
    made = arrange(work.proto, work.tensors, rest, job.patterns, budgets, lambda one: scores[one.name], feeds=feeds)
    said += _checked(before, work.proto, feeds, work.source)
    return Arranged((*gains, *made.gains), made.moved, made.gathers), orders, said


def _checked(before: Any, after: Any, feeds: Mapping[str, Any] | None, source: str) -> list[str]:
    """CheckFailed if a network computes something else than before; a note where that could not be looked at."""
    if find_spec("onnxruntime") is None:
        return [f"not checked: onnxruntime is not installed ({install('compress')})"]
    try:
        given = random_feeds(before) if feeds is None else feeds
        expected, found = (reference_outputs(one, given, name=source) for one in (before, after))
    except TesaError as error:
        return [f"the rearranged network was not compared with the given one: {error}"]
    for name, array in expected.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            continue
        difference = float(np.abs(found[name].astype(np.float64) - array).max(initial=0))
        if difference > TOLERANCE * max(float(np.abs(array).max(initial=0)), TOLERANCE):
            raise CheckFailed(
                f"{source}: the rearranged network computes another {name!r} (off by {difference:.2g}); nothing was "
                "written. Please report the model, and leave out --rearrange"
            )
    return []
