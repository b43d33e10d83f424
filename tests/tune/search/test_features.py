"""Features tell apart what the cost model has to tell apart, and tables of different layers fit together."""

from __future__ import annotations

import numpy as np
import pytest

import tesa.schedules.cpu  # noqa: F401  (registers its families)
from tesa.decompose.candidates import candidates, predict
from tesa.tune.search import Table, tabulate
from tesa.tune.search.features import of_config, of_pattern, of_task
from tests.build import toy
from tests.tune import fake


def test_every_candidate_has_features_of_its_own() -> None:
    work = fake.layer(m=64, density=0.2)
    options = candidates(work.problem, work.weight, fake.TARGET)
    estimates = list(predict(options, work.problem, work.weight, fake.TARGET).values())
    table = tabulate(work.problem, work.weight, fake.TARGET.core, options, estimates)
    assert table.values.shape == (len(options), len(table.columns))
    assert len({row.tobytes() for row in np.nan_to_num(table.values, nan=-9)}) == len(options)
    assert not np.isinf(table.values).any()
    families = {name for name, _ in options}
    assert {f"is {name}" for name in families} <= set(table.columns)
    if "unrolled" in families:
        column = table.values[:, table.columns.index("instructions")]
        assert np.isfinite(column).tolist() == [name == "unrolled" for name, _ in options]


def test_a_pattern_in_blocks_differs_from_a_scattered_one() -> None:
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.random((8, 8)) < 0.2, np.ones((8, 8))).astype(np.float32)
    scattered = rng.permutation(blocks.ravel()).reshape(blocks.shape)
    first, second = of_pattern(blocks), of_pattern(scattered)
    assert first["density"] == second["density"]
    assert first["live 8x8"] == pytest.approx(first["density"])
    assert second["live 8x8"] > 2 * first["live 8x8"]


def test_empty_weights() -> None:
    assert of_pattern(np.zeros((0, 4), np.float32))["live 4x4"] == 0.0
    assert of_pattern(np.zeros((3, 4), np.float32))["density"] == 0.0


def test_parts_of_a_composite_have_numbers_too() -> None:
    config = {"cover.rows": 32, "0.block.rows": 6, "1.indexed.kblock": 5}
    facts = of_config(toy.linear(m=8, k=12), fake.TARGET.core, "cover", config)
    assert facts["is cover"] == 1
    assert facts["0.block.rows used"] == pytest.approx(8 / 12)
    assert facts["1.indexed.kblock used"] == pytest.approx(12 / 15)


def test_tables_of_different_columns() -> None:
    table = Table.of([{"a": 1.0}, {"b": 2.0}])
    assert table.columns == ("a", "b")
    wide = table.under(["b", "c", "a"])
    np.testing.assert_array_equal(wide, [[np.nan, np.nan, 1.0], [2.0, np.nan, np.nan]])
    assert table.take(np.array([1])).values.shape == (1, 2)


def test_task_features_are_finite() -> None:
    assert all(np.isfinite(value) for value in of_task(toy.linear(), fake.TARGET.core).values())
