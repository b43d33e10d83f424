"""What a model would cost: the digits demo, by estimates and by a made-up table."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from tesa.analyze.analysis import Analysis, analyze_model
from tesa.analyze.breakeven import break_even
from tesa.attributes.impose import Imposed
from tesa.costs import CostTable, Prediction, Priced
from tesa.errors import UsageError
from tesa.models import digits_path
from tesa.schedules.types import Problem
from tests.costs import device


@cache
def table() -> CostTable:
    return device.table(40)


def analyzed(*impose: str, **more: Any) -> Analysis:
    return analyze_model(digits_path(), **{"target": device.TARGET, "table": table(), "impose": impose, **more})


@cache
def digits(*impose: str) -> Analysis:
    """As analyzed, once for all tests that want to know the same."""
    return analyzed(*impose)


@pytest.mark.slow
def test_the_zeros_that_a_model_has() -> None:
    found = digits()
    layer = found.layer("block5.pointwise")
    assert layer.shape == (256, 256, 64)
    assert (layer.pattern, round(layer.sparsity, 2), layer.imposed) == ("unstructured", 0.9, "")
    assert layer.sparse is not None
    assert layer.gain is not None
    assert layer.gain > 1
    assert layer.dense.low_ms < layer.dense.ms < layer.dense.high_ms
    assert layer.break_even is not None
    assert layer.break_even.pattern == "unstructured"
    assert layer.break_even.sparsity is not None
    assert layer.break_even.sparsity < 0.9
    assert found.dense_ms[0] == pytest.approx(sum(row.dense.ms for row in found.layers))
    assert found.sparse_ms[1] < found.sparse_ms[0] < found.sparse_ms[2]
    assert found.table.startswith("no CPU at all")
    data = found.to_json()
    assert data["layers"][0]["gain"] is not None
    assert len(data["layers"]) == len(found.layers) == 20


@pytest.mark.slow
def test_imposing_on_all_layers_and_on_one() -> None:
    found = digits("0.95:block=16x1", "block5.pointwise=2:4", "block6.pointwise=0.5")
    rows = {name: found.layer(name) for name in ("block2.pointwise", "block5.pointwise", "block6.pointwise")}
    assert [row.pattern for row in rows.values()] == ["block 16x1", "2:4", "unstructured"]
    assert [round(row.sparsity, 2) for row in rows.values()] == [0.95, 0.5, 0.5]
    assert rows["block5.pointwise"].imposed == "0.5:2:4"
    assert found.layer("block5.depthwise").imposed == ""  # blocks of 16 channels mean nothing to single filters
    more = rows["block2.pointwise"]
    less = digits("0.6:block=16x1").layer("block2.pointwise")
    assert more.dense == less.dense
    assert more.sparse is not None
    assert less.sparse is not None
    assert more.sparse.ms < less.sparse.ms
    assert more.break_even == less.break_even


@pytest.mark.slow
def test_channels_make_what_follows_smaller() -> None:
    found = digits("block3.pointwise=0.5:channel")
    alone = digits()
    after, before = found.layer("block4.depthwise"), alone.layer("block4.depthwise")
    assert after.sparse is not None
    assert after.sparse.ms < before.dense.ms
    assert after.shape == before.shape


@pytest.mark.slow
def test_without_a_table_times_are_estimates() -> None:
    found = analyzed(table=CostTable("haswell", "", device.TARGET, 1))
    assert {row.dense.source for row in found.layers} == {"estimate"}


@pytest.mark.slow
def test_errors_name_the_layer() -> None:
    with pytest.raises(UsageError, match=r"on 'block5.pointwize': .* did you mean 'block5.pointwise'"):
        digits("block5.pointwize=0.9")
    with pytest.raises(UsageError, match=r"layer block2.pointwise: a block of 512x4 is larger than its weight, 128x64"):
        digits("block2.pointwise=0.9:block=512x4")
    with pytest.raises(UsageError, match="unknown target"):
        analyzed(target="x87")


@pytest.mark.slow
def test_break_even_of_a_known_law() -> None:
    """The same layer on the same device, once with a dense kernel that is three times as fast: zeros pay later."""
    problem = Problem("linear", 128, 128, 196, (1, 128, 196), (1, 128, 196))
    like = Imposed.parse("0.5")
    here = break_even(table(), problem, like)
    assert here.sparsity is not None
    assert here.low is not None
    assert here.low <= here.sparsity <= (here.high or 1.0)
    plain = table()
    layers = tuple(_quicker(layer) for layer in plain.layers)
    from dataclasses import replace

    there = break_even(replace(plain, layers=layers), problem, like)
    assert there.sparsity is not None
    assert there.sparsity > here.sparsity
    steps = break_even(table(), problem, Imposed.parse("2:4"))
    assert steps.pattern == "2:4"
    assert steps.sparsity is None or 0 < steps.sparsity < 1


class Fixed:
    """A table by which the dense form takes 1 ms, and a sparse one, from a share of zeros on, half of that."""

    def __init__(self, first: float) -> None:
        self.first = first

    def rank_plain(self, problem: Problem, weight: Any) -> list[Priced]:
        rows = [Priced(("dense", {}), Prediction(1.0, 0.99, 1.01), True)]
        if np.mean(weight == 0) > self.first:
            rows.append(Priced(("block", {}), Prediction(0.5, 0.49, 0.51), False))
        return rows


def test_break_even_where_no_form_applies_to_few_zeros() -> None:
    problem = Problem("linear", 64, 64, 49, (1, 64, 49), (1, 64, 49))
    found = break_even(Fixed(0.25), problem, Imposed.parse("0.5"))  # type: ignore[arg-type]
    assert (found.low, found.sparsity, found.high) == (0.2, 0.3, 0.3)
    found = break_even(Fixed(0.0), problem, Imposed.parse("0.5"))  # type: ignore[arg-type]
    assert (found.low, found.sparsity, found.high) == (0.1, 0.1, 0.1)
    found = break_even(Fixed(1.0), problem, Imposed.parse("0.5"))  # type: ignore[arg-type]
    assert (found.low, found.sparsity, found.high) == (None, None, None)


def _quicker(layer: Any) -> Any:
    from dataclasses import replace

    samples = tuple(replace(s, ms=s.ms / (3 if s.dense else 1)) for s in layer.samples)
    return replace(layer, samples=samples)


@pytest.mark.slow
def test_the_model_is_left_alone() -> None:
    import onnx

    before = onnx.load(digits_path())
    found = digits("0.9")
    assert onnx.load(digits_path()) == before
    assert np.isfinite(found.dense_ms[0])
