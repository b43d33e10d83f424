"""A cost table, where there is one, says what candidates are expected to take; without one the estimates do."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tesa.choose.predict import expected, source_of, table_for
from tesa.costs import CostTable, store
from tesa.decompose import is_composite
from tesa.decompose.candidates import candidates, predict
from tesa.layers.layer import Layer
from tesa.records.log import Log
from tesa.schedules.types import FloatArray, Problem, config_key
from tesa.targets.target import parse_target
from tesa.tune.choose import choose
from tests.costs import device

TARGET = parse_target(device.TARGET)


@cache
def table() -> CostTable:
    return device.table(24)


def layer(size: int = 128, density: float = 0.2) -> tuple[Problem, FloatArray]:
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((size, size)) < density, 1, 0).astype(np.float32)
    return Problem("linear", size, size, 196, (size, 196), (size, 196)), weight


def blocks() -> tuple[Problem, FloatArray]:
    rng = np.random.default_rng(3)
    live = np.kron(rng.random((8, 8)) < 0.3, np.ones((32, 32), bool)) | (rng.random((256, 256)) < 0.01)
    return Problem("linear", 256, 256, 64, (256, 64), (256, 64)), live.astype(np.float32)


@pytest.mark.slow
def test_the_table_decides() -> None:
    problem, weight = layer()
    picked = table().pick(problem, weight, candidates(problem, weight, TARGET, ["dense", "block", "indexed"]))
    forms = ["dense", "block", "indexed"]
    (kernel,) = choose([Layer("a", problem, weight)], TARGET, measure=False, families=forms, table=table())
    assert (kernel.part.family, dict(kernel.part.config)) == (picked.option[0], dict(picked.option[1]))
    assert kernel.part.reason.startswith(f"estimated by the cost table of 2026-01-02: {picked.option[0]} ")
    rows = {config_key(row.family, row.config): row.predicted_ms for row in kernel.part.candidates}
    assert rows[config_key(*picked.option)] == pytest.approx(picked.prediction.ms)
    (plain,) = choose([Layer("a", problem, weight)], TARGET, measure=False, families=forms)
    assert plain.part.reason.startswith("estimated: ")


def test_every_option_is_expected_to_take_some_time() -> None:
    problem, weight = blocks()
    options = candidates(problem, weight, TARGET)
    found = expected(options, problem, weight, TARGET, table())
    estimates = predict(options, problem, weight, TARGET)
    assert found.keys() == estimates.keys()
    assert all(time > 0 for time in found.values())
    assert expected(options, problem, weight, TARGET, None) == estimates
    covers = [config_key(*option) for option in options if is_composite(option[0])]
    assert len(covers) > 1
    assert len({round(found[key] / estimates[key], 9) for key in covers}) == 1


def test_it_is_found_beside_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "folders", lambda: (tmp_path / "nowhere",))
    assert table_for(TARGET, 1, tmp_path) is None
    store.write(tmp_path / "costs" / "haswell.json", table())
    found = table_for(TARGET, 1, tmp_path)
    assert found is not None
    assert found.samples == table().samples
    assert table_for(TARGET, 1, tmp_path) is found
    assert table_for(TARGET, 1, tmp_path / "haswell.jsonl") is found
    assert table_for(TARGET, 1, Log(tmp_path / "haswell.jsonl")) is found
    assert table_for(TARGET, 2, tmp_path) is None
    assert table_for(parse_target("x86:znver4"), 1, tmp_path) is None
    assert table_for(TARGET, 1, None) is None
    assert table_for(TARGET, 1, Log()) is None


def test_a_damaged_file_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "folders", lambda: ())
    (tmp_path / "costs").mkdir()
    (tmp_path / "costs" / "bad.json").write_text("{")
    with pytest.warns(UserWarning, match=r"bad\.json is no cost table"):
        assert table_for(TARGET, 1, tmp_path) is None


def test_the_source_is_named() -> None:
    assert source_of(table()) == " by the cost table of 2026-01-02"
    assert source_of(replace(table(), updated="")) == " by the cost table"


def test_prices_of_decompositions_come_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    price = CostTable.block_price

    def spy(self: CostTable, problem: Problem, block: tuple[int, int], density: float) -> float:
        asked.append(block)
        return price(self, problem, block, density)

    monkeypatch.setattr(CostTable, "block_price", spy)
    problem, weight = blocks()
    choose([Layer("a", problem, weight)], TARGET, measure=False, table=table())
    assert (1, 1) in asked
    assert (32, 32) in asked
