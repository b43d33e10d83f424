"""The parts of an exploration, each against what it is to be: brute force, least squares, a log that never ends."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.compress.metric import read_metric
from tesa.compress.opened import opened
from tesa.compress.prune import prune
from tesa.compress.samples import Samples, relative_error
from tesa.errors import UsageError
from tesa.explore.anneal import anneal
from tesa.explore.choices import DENSE, Choice, key_of, parsed
from tesa.explore.journal import Journal
from tesa.explore.program import STEPS, solve
from tesa.explore.refit import Inputs, bias_shift, input_rows, refit
from tesa.explore.variants import Variants
from tesa.explore.weigh import learn, weighed
from tests.explore.networks import chain, inputs

LEVELS = [DENSE, *(Choice.parse(str(share)) for share in (0.5, 0.7, 0.9))]


def tables(seed: int, layers: int) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    costs = {f"l{i}": {c: float(rng.uniform(0.1, 2)) * (1 - c.sparsity) for c in LEVELS} for i in range(layers)}
    errors = {f"l{i}": {c: float(rng.uniform(0, 2)) * c.sparsity for c in LEVELS} for i in range(layers)}
    return costs, errors


@given(seed=st.integers(0, 1 << 16), layers=st.integers(1, 4), share=st.floats(0.05, 1.1))
@settings(max_examples=40, deadline=None)
def test_the_programme_is_as_good_as_brute_force(seed: int, layers: int, share: float) -> None:
    """Within the budget; and no configuration that leaves out the rounding of its steps has less error."""
    costs, errors = tables(seed, layers)
    budget = share * sum(row[DENSE] for row in costs.values())
    found = solve(costs, errors).at(budget)
    slack = layers * sum(max(row.values()) for row in costs.values()) / STEPS
    best = math.inf
    for picks in itertools.product(LEVELS, repeat=layers):
        config = dict(zip(costs, picks, strict=True))
        if sum(costs[n][c] for n, c in config.items()) <= budget - slack:
            best = min(best, sum(errors[n][c] for n, c in config.items()))
    if found is None:
        assert math.isinf(best)
        return
    assert sum(costs[n][c] for n, c in found.items()) <= budget * (1 + 1e-9)
    assert sum(errors[n][c] for n, c in found.items()) <= best + 1e-9


@given(seed=st.integers(0, 1 << 16), layers=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_annealing_keeps_the_budget_and_is_never_worse_than_its_start(seed: int, layers: int) -> None:
    costs, errors = tables(seed, layers)
    start = dict.fromkeys(costs, LEVELS[-1])
    budget = 1.5 * sum(costs[n][c] for n, c in start.items())
    seen: list[float] = []

    def cost(config: Any) -> float:
        return float(sum(costs[n][c] for n, c in config.items()))

    def energy(config: Any) -> float:
        assert cost(config) <= budget
        seen.append(sum(errors[n][c] for n, c in config.items()))
        return seen[-1]

    levels = dict.fromkeys(costs, LEVELS)
    found = anneal(start, levels, cost, budget, energy, 30, seed=seed)
    assert energy(found) == min(seen)
    assert len(seen) <= 32
    assert found == anneal(start, levels, cost, budget, energy, 30, seed=seed)


@given(seed=st.integers(0, 1 << 16), share=st.floats(0.1, 0.9), rows=st.booleans())
@settings(max_examples=25, deadline=None)
def test_refit_is_least_squares(seed: int, share: float, rows: bool) -> None:
    """Of each row on its own support, with the bias free; never worse than the mask alone; zeros are zeros."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)) + rng.normal(size=12)
    weight = rng.normal(size=(6, 12))
    mask = np.repeat(rng.random((2, 12)) > share, 3, axis=0) if rows else rng.random(weight.shape) > share
    moments = Inputs(x.T @ x / len(x), x.mean(axis=0))
    made = refit(weight, mask, moments)
    assert not made[~mask].any()
    shift = bias_shift(weight, made, moments)
    wanted = x @ weight.T
    np.testing.assert_allclose((x @ made.T + shift).mean(axis=0), wanted.mean(axis=0), atol=1e-8)

    def error(w: Any) -> Any:
        return (((x - x.mean(0)) @ (w - weight).T) ** 2).sum(axis=0)

    assert (error(made) <= error(np.where(mask, weight, 0)) * (1 + 1e-9) + 1e-9).all()
    for row in range(6):
        design = np.column_stack([x[:, mask[row]], np.ones(len(x))])
        solved = np.linalg.lstsq(design, wanted[:, row], rcond=None)[0]
        least = ((design @ solved - wanted[:, row]) ** 2).sum()
        assert error(made)[row] <= least + 0.02 * ((wanted[:, row] - wanted[:, row].mean()) ** 2).sum()


@pytest.mark.parametrize("options", ["", "strides=[2,2],", "dilations=[2,2],"])
def test_rows_of_a_convolution_are_what_it_multiplies(options: str) -> None:
    model = chain()
    text = model.graph.node[0]
    from onnx import helper

    for part in options.rstrip(",").split("],"):
        if part:
            key, _, value = part.partition("=")
            text.attribute.append(helper.make_attribute(key, [int(v) for v in value.strip("[]").split(",")]))
    variants = Variants(model, Samples.of(model, inputs(2)), repair=False)
    layer = variants.layers["a"] if "a" in variants.layers else next(iter(variants.layers.values()))
    samples = Samples.of(model, inputs(2))
    (x,) = samples.feeds[0].values()
    rows = input_rows(layer, x)
    bias = opened(model).tensors.get("b0")
    wanted = next(iter(samples.each(model, [model.graph.node[0].output[0]])))[model.graph.node[0].output[0]]
    found = (rows @ layer.numbers(variants.work.tensors).T + bias).reshape(*wanted.shape[2:], -1).transpose(2, 0, 1)
    np.testing.assert_allclose(found, wanted[0], atol=1e-4)


def test_repair_lowers_the_error_of_the_network() -> None:
    model, data = chain(), inputs(32)
    samples = Samples.of(model, data)
    errors = []
    for repair in (False, True):
        variants = Variants(model, samples, repair=repair)
        config = {name: Choice.parse("0.6") for name in variants.layers}
        made = variants.assembled(config)
        errors.append(relative_error(samples.run(made), samples.run(model)))
    assert errors[1] < 0.7 * errors[0]


def test_configurations() -> None:
    assert key_of({"a": DENSE}) == key_of({})
    assert key_of({"a": LEVELS[1], "b": LEVELS[2]}) == key_of({"b": LEVELS[2], "a": LEVELS[1]})
    assert [str(c) for c in parsed(["0.5"], [32, 8])] == ["dense", "0.5:unstructured", "dense@8", "0.5:unstructured@8"]
    for wrong in ("0.5@4", "0.5:bolck=4x4", "1.5"):
        with pytest.raises(UsageError):
            Choice.parse(wrong)


def test_journal_outlives_bad_lines(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """One bad line, one cut off, one of another subject: the rest is known, and new lines are whole."""
    path = tmp_path / "run.jsonl"
    first = Journal(path, "s")
    first.keep("a", {"error": 0.5, "score": 1.0})
    first.keep("b", {"error": math.inf})
    Journal(path, "other").keep("a", {"error": 9.0})
    with path.open("ab") as out:
        out.write(b'\xff\xfe nonsense\n{"key": 3}\n[]\n{"subject": "s", "key": "c", "error": "x"}\n{"subject": "s", "k')
    second = Journal(path, "s")
    assert (second.unreadable, second.others) == (5, 1)
    assert any("5 lines" in str(w.message) for w in recwarn)
    assert second.find("a") is not None
    assert second.known["a"]["error"] == 0.5
    assert math.isinf(second.known["b"]["error"])
    second.keep("d", {"error": 0.25})
    assert Journal(path, "s").known["d"]["error"] == 0.25


@pytest.mark.parametrize("value", ["1" + "0" * 400, "NaN", "Infinity", "1e999", "true", "[]", "-1e301"])
@pytest.mark.parametrize("name", ["error", "score", "seconds"])
def test_a_journal_whose_numbers_are_none(name: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(f'{{"subject": "s", "key": "a", "{name}": {value}}}\n{{"subject": "s", "key": "b", "error": 1}}\n')
    with pytest.warns(UserWarning, match="1 lines cannot be read"):
        assert set(Journal(path, "s").known) == {"b"}


def test_journal_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        Journal(tmp_path / "none" / "run.jsonl", "s")
    with pytest.raises(UsageError, match="is a folder"):
        Journal(tmp_path, "s")
    journal = Journal(tmp_path / "run.jsonl", "s")
    journal.path = tmp_path / "gone" / "run.jsonl"
    with pytest.warns(UserWarning, match="going on"):
        journal.keep("a", {"error": 0.5})
    journal.keep("b", {"error": 0.5})  # told once
    assert set(journal.known) == {"a", "b"}


def test_metric_files(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.py"
    path.write_text("def accuracy(outputs, data):\n    return 0.5\n")
    found = read_metric(path)
    assert found is not None
    assert found({}, {}) == 0.5
    for text, words in (("x = 1\n", "no function"), ("raise RuntimeError('no')\n", "RuntimeError: no")):
        path.write_text(text)
        with pytest.raises(UsageError, match=words):
            read_metric(path)
    with pytest.raises(UsageError, match="no such file"):
        read_metric(tmp_path / "none.py")


@pytest.mark.parametrize("seed", range(4))
def test_what_errors_count_is_learned(seed: int) -> None:
    """Errors of layers count by factors that nobody tells: the programme with what was learned comes near the best."""
    costs, errors = tables(seed, 4)
    hidden = dict(zip(costs, np.random.default_rng(seed).permutation([0.01, 0.1, 1.0, 10.0]), strict=True))
    budget = 0.5 * sum(row[DENSE] for row in costs.values())
    seen = []

    def energy(config: Any) -> float:
        assert sum(costs[n][c] for n, c in config.items()) <= budget * (1 + 1e-9)
        return float(sum(hidden[n] * errors[n][c] ** 2 for n, c in config.items()))

    def proposed(factors: Any) -> Any:
        return solve(costs, weighed(errors, factors, 2)).at(budget)

    def counted(config: Any) -> float:
        seen.append(tuple(config.values()))
        return energy(config)

    plain = energy(proposed({}))
    factors, found = learn(list(costs), {}, proposed, counted, plain, 24, seed=seed)
    assert len(seen) == len(set(seen)) <= 24
    best = min(
        energy(config)
        for picks in itertools.product(LEVELS, repeat=4)
        for config in [dict(zip(costs, picks, strict=True))]
        if sum(costs[n][c] for n, c in config.items()) <= budget
    )
    assert best <= energy(proposed(factors)) <= plain
    if found is not None:
        assert energy(found) == energy(proposed(factors)) < plain
    assert energy(proposed(factors)) - best <= 0.5 * (plain - best) + 1e-9


def test_what_stays_dense_is_repaired_among_what_is_pruned() -> None:
    """Later layers that keep all weights make up for earlier ones that do not."""
    model, data = chain(), inputs(32)
    samples = Samples.of(model, data)
    variants = Variants(model, samples)
    first, second, *rest = variants.layers
    sharp = Choice.parse("0.8")
    config = {first: sharp, second: sharp, **dict.fromkeys(rest, DENSE)}
    layers = {first: sharp.imposed, second: sharp.imposed, **dict.fromkeys(rest, None)}
    alone = prune(model, "unstructured", 0.0, data=data, layers=layers, ends=True).proto
    errors = [relative_error(samples.run(one), samples.run(model)) for one in (variants.whole(config), alone)]
    assert errors[0] < 0.8 * errors[1]
