"""The table on a device whose law is known: what it predicts, what it picks, how it is kept in a file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.attributes.impose import Imposed
from tesa.costs import CostTable, store
from tesa.costs.facts import Facts
from tesa.costs.fingerprint import code_digest
from tesa.costs.grid import synthetic
from tesa.costs.quality import quality
from tesa.costs.sample import Measured
from tesa.decompose import is_composite
from tesa.decompose.candidates import candidates, plain_candidates, plain_families, predict
from tesa.errors import UsageError
from tesa.schedules.types import Problem, config_key
from tesa.targets.target import parse_target
from tests.costs import device


@cache
def table() -> CostTable:
    return device.table(64)


def unseen() -> list[tuple[Problem, Any]]:
    """Layers with shapes of networks, and other seeds than the table's."""
    found = []
    for number, (m, k, n) in enumerate(
        [(128, 128, 784), (384, 384, 128), (256, 64, 196), (96, 320, 49), (512, 128, 64)]
    ):
        for text in ("0.8", "0.9:block=4x4", "0.7:block=16x1"):
            problem = Problem("linear", m, k, n, (1, k, n), (1, m, n))
            found.append((problem, synthetic(problem, Imposed.parse(text), 900 + number)))
    return found


def times(problem: Problem, weight: Any) -> dict[str, float]:
    """What the device would measure, by config_key."""
    target = parse_target(device.TARGET)
    options = plain_candidates(problem, weight, target)
    estimates = predict(options, problem, weight, target)
    return {
        config_key(*option): device.law(problem, *option, estimates[config_key(*option)])
        for option in options
        if option[0] in table().families
    }


@pytest.mark.slow
def test_it_picks_what_is_fast_on_layers_it_has_not_seen() -> None:
    near, near_by_estimate = 0, 0
    layers = unseen()
    for problem, weight in layers:
        real = times(problem, weight)
        ranked = [row for row in table().rank_plain(problem, weight) if config_key(*row.option) in real]
        estimates = predict([row.option for row in ranked], problem, weight, parse_target(device.TARGET))
        best = min(real.values())
        near += real[config_key(*ranked[0].option)] <= 1.1 * best
        near_by_estimate += real[min(estimates, key=lambda key: estimates[key])] <= 1.1 * best
    assert near >= 0.8 * len(layers)
    assert near > near_by_estimate


@pytest.mark.slow
def test_every_plain_family_is_measured_and_decompositions_too() -> None:
    measured = {sample.family for layer in table().layers for sample in layer.samples}
    # than the shipped table: expected by their estimates alone
    younger = {"permuted", "gathered", "bitmap", "lanes", "depthwise_codes"}
    assert set(plain_families(parse_target(device.TARGET))) - younger <= measured
    assert any(is_composite(name) for name in measured)


def test_times_lie_in_their_ranges() -> None:
    inside = []
    for problem, weight in unseen():
        real = times(problem, weight)
        for row in table().rank_plain(problem, weight):
            key, made = config_key(*row.option), row.prediction
            if key in real:
                assert made.low_ms < made.ms < made.high_ms
                assert made.source == "table"
                inside.append(made.low_ms <= real[key] <= made.high_ms)
    assert np.mean(inside) > 0.6


def test_one_kernel_from_its_weight_or_from_facts() -> None:
    problem, weight = unseen()[0]
    found = next(row for row in table().rank_plain(problem, weight) if row.option[0] == "indexed")
    name, config = found.option
    ms = pytest.approx(found.prediction.ms)
    assert table().predict(problem, weight, name, config).ms == ms
    estimate = predict([found.option], problem, weight, parse_target(device.TARGET))[config_key(name, config)]
    assert table().predict(problem, Facts.of(weight), name, config, estimate).ms == ms
    with pytest.raises(ValueError, match="from its weight, or from facts and an estimate"):
        table().predict(problem, Facts.of(weight), name, config)


def test_what_was_not_measured_is_an_estimate_and_says_so() -> None:
    problem, weight = unseen()[0]
    few = replace(table(), layers=table().layers[:2])
    assert {row.prediction.source for row in few.rank_plain(problem, weight)} == {"estimate"}
    one = few.rank_plain(problem, weight)[0].prediction
    assert one.high_ms / one.low_ms > 3


def test_quality_is_that_of_layers_left_out() -> None:
    found = quality(table())
    assert found.near is not None
    assert found.near_by_estimate is not None
    assert found.near > found.near_by_estimate
    families = {family.name: family for family in found.families}
    assert families["dense"].median < families["dense"].bare
    for family in found.families:
        assert 0 < family.median <= family.p80 <= family.p95
    nothing = quality(replace(table(), layers=()))
    assert (nothing.families, nothing.layers, nothing.near) == ((), 0, None)


def test_prices_of_blocks() -> None:
    problem = Problem("linear", 256, 256, 256, (1, 256, 256), (1, 256, 256))
    one = table().block_price(problem, (1, 1), 0.02)
    four = table().block_price(problem, (4, 4), 0.1)
    large = table().block_price(problem, (32, 32), 0.2)
    assert 0 < one < four < large
    assert large < 1024 * one  # otherwise nobody would ever want a block
    assert table().block_price(problem, (4, 4), 0.1) == four
    assert table().block_price(problem, (512, 512), 0.5) > 0
    wide = replace(problem, m=4096, k=1024, x_shape=(1, 1024, 256), y_shape=(1, 4096, 256))
    assert table().block_price(wide, (32, 64), 0.1) > 0


def test_a_file_and_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.json"
    store.write(path, table())
    again = store.load(device.TARGET, 1, path)
    assert again is not None
    problem, weight = unseen()[3]
    for mine, other in zip(table().rank_plain(problem, weight), again.rank_plain(problem, weight), strict=True):
        assert other.option == mine.option
        assert other.prediction.ms == pytest.approx(mine.prediction.ms, rel=0.01)
    assert again.layers[0].source.weight().shape == table().layers[0].source.weight().shape
    first = path.read_bytes()
    store.write(path, again)
    assert path.read_bytes() == first
    assert again.described.startswith("no CPU at all (haswell), 1 thread")
    assert again.age_days is not None


def test_one_file_has_tables_for_several_numbers_of_threads(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    store.write(path, table())
    store.write(path, replace(table(), threads=2, layers=table().layers[:1]))
    assert [len(t.layers) for t in store.read(path)] == [64, 1]
    with pytest.raises(UsageError, match="no cost table for x86:haswell with 3 threads; there is: x86:haswell with 1"):
        store.load("x86:haswell", 3, path)
    with pytest.raises(UsageError, match="no cost table for x86:skx"):
        store.load("x86:skx", 1, path)
    with pytest.raises(UsageError, match="holds tables of haswell, and this machine is znver1"):
        store.write(path, replace(table(), device="znver1"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "is no cost table"),
        ('{"v": 2, "tables": []}', "version 2, this tesa reads 1"),
        ('{"v": 1, "device": "a", "cpu": "b", "tables": [{"target": "x86:haswell"}]}', "damaged cost table: KeyError"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        store.read(path)
    with pytest.raises(UsageError):  # and they are not overwritten
        store.write(path, table())
    assert path.read_text() == text


@pytest.mark.slow
def test_where_tables_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "folders", lambda: (tmp_path / "mine", tmp_path / "shipped"))
    assert store.load("x86:haswell") is None
    store.write(tmp_path / "shipped" / "haswell.json", table())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "broken.json").write_text("{")
    with pytest.warns(UserWarning, match="is no cost table"):
        found = store.load("x86:haswell")
    assert found is not None
    assert found.samples == table().samples
    store.write(tmp_path / "mine" / "haswell.json", replace(table(), layers=table().layers[:9]))
    (tmp_path / "mine" / "broken.json").unlink()
    mine = store.load("x86:haswell")
    assert mine is not None
    assert len(mine.layers) == 9
    assert store.load("x86:haswell", threads=2) is None
    with pytest.raises(UsageError, match="cannot read the cost table"):
        store.load("x86:haswell", 1, tmp_path / "nowhere.json")


@pytest.mark.slow
def test_estimates_that_changed_are_made_again(tmp_path: Path) -> None:
    """A family whose estimates are not those that the table was made with: weights are made again from their seeds."""
    path = tmp_path / "table.json"
    small = replace(table(), layers=table().layers[:20])
    store.write(path, small)
    data = json.loads(path.read_text())
    (made,) = data["tables"]
    made["fingerprints"]["dense"] = "of another version"
    gone = dict.fromkeys(("index", "problem", "imposed", "spread", "seed", "facts"))
    layer = made["layers"][0]
    assert set(gone) < set(layer)
    before = [row[2] for item in made["layers"] for row in item["samples"] if row[0] == "dense"]
    for item in made["layers"]:
        for row in item["samples"]:
            row[2] *= 3 if row[0] == "dense" else 1
    made["layers"][0]["samples"].append(["goneforms", {"rows": 1}, 1.0, 1.0, 0.0, 0])
    made["fingerprints"]["goneforms"] = "1"
    path.write_text(json.dumps(data))
    again = store.load(device.TARGET, 1, path)
    assert again is not None
    after = [s.estimate_ms for item in again.layers for s in item.samples if s.family == "dense"]
    np.testing.assert_allclose(after, before, rtol=1e-4)
    assert again.changed == ("dense",)
    assert again.described.endswith(", from before dense changed")
    assert all(s.family != "goneforms" for item in again.layers for s in item.samples)
    assert math.isclose(again.layers[0].samples[0].ms, small.layers[0].samples[0].ms, rel_tol=1e-4)


def test_what_took_seconds_is_kept_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESA_CACHE_DIR", str(tmp_path / "cache"))
    calls = []
    monkeypatch.setattr(
        store, "refreshed", lambda known: calls.append(known) or replace(known, seconds=7.0, changed=("dense",))
    )
    path = tmp_path / "table.json"
    store.write(path, replace(table(), layers=table().layers[:2], code="other kernels"))
    for _ in range(2):
        found = store.load(device.TARGET, 1, path)
        assert found is not None
        assert found.seconds == 7.0
        assert found.described.endswith(", from before dense changed")
    assert len(calls) == 1
    store.write(path, replace(table(), layers=table().layers[:2], code=code_digest()))
    same = store.load(device.TARGET, 1, path)
    assert same is not None
    assert "changed" not in same.described
    assert len(calls) == 1
    for kept in (tmp_path / "cache" / "costs").iterdir():
        kept.write_text("{")
    store.write(path, replace(table(), layers=table().layers[:2], code="other kernels"))
    store.load(device.TARGET, 1, path)
    assert len(calls) == 2


def test_decompositions_are_left_out_of_the_plain_candidates() -> None:
    problem, weight = unseen()[1]
    target = parse_target(device.TARGET)
    plain = plain_candidates(problem, weight, target)
    everything = candidates(problem, weight, target)
    assert {config_key(*option) for option in plain} <= {config_key(*option) for option in everything}
    assert not any("." in key for _, config in plain for key in config)
    assert [option for option in everything if option[0] in plain_families(target)] == plain


def test_a_decomposition_is_predicted_by_its_pieces() -> None:
    """Blocks and scattered elements: its time is no further from its estimate than those of its pieces are."""
    problem = Problem("linear", 128, 256, 128, (1, 256, 128), (1, 128, 128))
    weight = synthetic(problem, Imposed.parse("0.9:block=32x32"), 1)
    rest = synthetic(problem, Imposed.parse("0.99"), 2)
    weight = np.where(weight != 0, weight, rest)
    split = [option for option in candidates(problem, weight, parse_target(device.TARGET)) if is_composite(option[0])]
    assert split
    for row in table().rank(problem, weight, split[:6]):
        assert 0 < row.prediction.low_ms < row.prediction.ms < row.prediction.high_ms


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 3), (1, ["rows"]), (1, {"rows": 1.5}), (1, {"rows": True}), (1, {"rows": 1 << 63}), (2, 0), (2, "1"),
     (3, float("nan")), (3, -1.0), (3, True), (4, -0.5), (4, None), (5, 1.0), (5, []), (2, 1e301)],
)  # fmt: skip
def test_a_sample_that_no_kernel_has(place: int, value: Any) -> None:
    """Columns are looked at as a whole, and one wrong place is found in them."""
    data = table().layers[0].to_json()
    row = list(data["samples"][-1])
    row[place] = value
    assert Measured.from_json(data).to_json() == data
    for bad in (row, row[:5], [*row, 1], "abcdef", None):
        with pytest.raises((TypeError, ValueError)):
            Measured.from_json({**data, "samples": [*data["samples"], bad]})
