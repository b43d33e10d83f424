"""Boosted trees that learn how far an estimate is off, from what was measured on this layer and on others.

After "Learning to Optimize Tensor Programs" (Chen et al., NeurIPS 2018), which ranks candidates by such a model. Here
the trees learn only the logarithm of measured / estimated time: without data the ranking is the estimate's.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np

from tesa.base.extras import install
from tesa.errors import UsageError
from tesa.tune.search.experience import Experience, Lessons
from tesa.tune.search.features import Table, Wide

ROUNDS = 60
"""Trees."""

_PRIOR = 8.0  # measurements of this layer that all those of others together weigh as much as
_MOST = 4000  # rows
_PARAMETERS: dict[str, Any] = {
    "objective": "reg:squarederror",
    "max_depth": 3,
    "eta": 0.2,
    "lambda": 0.5,
    "min_child_weight": 0.1,
    "colsample_bytree": 0.7,
    "tree_method": "exact",
    "base_score": 0.0,
    "nthread": 1,
    "verbosity": 0,
}


def ready() -> None:
    """UsageError, saying what to install, if xgboost is not there."""
    if find_spec("xgboost") is None:
        raise UsageError(f"the mode 'model' ranks candidates with xgboost: {install('tune')}, or --mode random")


def scores(table: Table, estimates: Wide, times: Wide, experience: Experience, seed: int) -> Wide:
    """For each row the expected log of its time in milliseconds, but for a constant: only the order means anything.

    table, estimates (ms), times (ms, NaN or infinite where there is none): of one layer. The same arguments give the
    same numbers.
    """
    guess: Wide = np.log(np.maximum(estimates, 1e-12))
    own = Lessons.of(table, estimates, times)
    lessons = [*experience.lessons.values(), *([own] if own is not None else [])]
    if not lessons:
        return guess
    columns = sorted({name for item in lessons for name in item.table.columns} | set(table.columns))
    inputs = np.concatenate([item.table.under(columns) for item in lessons])
    targets = np.concatenate([item.miss for item in lessons])
    # fast candidates count more: it is among them that the model has to choose
    weights = np.concatenate([1.0 / (1.0 + 2.0 * item.rank) for item in lessons])
    others = len(weights) - (len(own.rank) if own is not None else 0)
    weights[:others] *= min(1.0, _PRIOR / weights[:others].sum()) if own is not None and others else 1.0
    return guess + _boost(inputs, targets, weights, table.under(columns), seed)


def _boost(inputs: Wide, targets: Wide, weights: Wide, wanted: Wide, seed: int) -> Wide:
    import xgboost

    if len(inputs) > _MOST:
        kept = np.sort(np.random.default_rng(seed).choice(len(inputs), _MOST, replace=False, p=weights / weights.sum()))
        inputs, targets, weights = inputs[kept], targets[kept], weights[kept]
    data = xgboost.DMatrix(inputs, label=targets, weight=weights, nthread=1)
    model = xgboost.train({**_PARAMETERS, "seed": seed % 2**31}, data, num_boost_round=ROUNDS)
    found: Wide = np.asarray(model.predict(xgboost.DMatrix(wanted, nthread=1)), np.float64)
    return found
