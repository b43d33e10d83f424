"""Modes name candidates that are free, without repetition, the same for the same seed; the guided one finds more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tesa.errors import UsageError
from tesa.records.log import Log, Record, Task
from tesa.schedules import registry
from tesa.schedules.types import config_key
from tesa.tune.layer_search import LayerSearch
from tesa.tune.search import Experience, Lessons, Scene, find_mode, mode, modes
from tesa.tune.search import registry as mode_registry
from tesa.tune.search.cost_model import scores
from tesa.tune.search.elsewhere import learn
from tesa.tune.search.features import Wide
from tests.tune import fake


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FAMILIES", fake.families())


def scene(layer: LayerSearch, times: Wide, seed: int = 0, experience: Experience | None = None) -> Scene:
    return Scene(
        layer.space, layer.estimates, times, ~np.isnan(times), lambda: layer.features, experience or Experience(), seed
    )  # fmt: skip


def truth(layer: LayerSearch) -> Wide:
    return np.array([fake.law(*option) for option in layer.space.options])


def search(layer: LayerSearch, name: str, trials: int, seed: int, experience: Experience | None = None) -> list[float]:
    """The best time after each trial, on a layer whose times follow the law."""
    times, right, best = np.full(len(layer.space), np.nan), truth(layer), list[float]()
    while len(best) < trials:
        rng = np.random.default_rng([seed, len(best)])
        for index in find_mode(name).propose(scene(layer, times, seed, experience), 8, rng):
            assert np.isnan(times[index]), "named twice"
            times[index] = right[index]
            best.append(min([right[index], *best[-1:]]))
    return best


@pytest.mark.parametrize("name", ["model", "random", "exhaustive"])
def test_all_candidates_once_and_the_same_again(name: str) -> None:
    layer = LayerSearch(fake.layer(), fake.TARGET)
    runs = []
    for _ in range(2):
        times, order = np.full(len(layer.space), np.nan), list[int]()
        while np.isnan(times).any():
            rng = np.random.default_rng([3, len(order)])
            found = list(find_mode(name).propose(scene(layer, times, 3), 60, rng))
            assert len(found) == min(60, len(times) - len(order))
            times[found] = truth(layer)[found]
            order += found
        assert sorted(order) == list(range(len(layer.space)))
        runs.append(order)
    assert runs[0] == runs[1]


def test_seeds_differ() -> None:
    layer = LayerSearch(fake.layer(), fake.TARGET)
    blank = np.full(len(layer.space), np.nan)
    first, second = (find_mode("random").propose(scene(layer, blank), 8, np.random.default_rng(s)) for s in (0, 1))
    assert list(first) != list(second)


@pytest.mark.slow
def test_guided_needs_less_than_half_of_the_trials() -> None:
    layer, needed = LayerSearch(fake.layer(), fake.TARGET), []
    for seed in range(9):
        random, model = search(layer, "random", 96, seed), search(layer, "model", 96, seed)
        goal = random[-1]
        needed.append([next(i for i, time in enumerate(run, 1) if time <= goal) for run in (random, model)])
    by_random, by_model = np.median(needed, axis=0)
    assert by_model <= by_random / 2, needed


def test_without_data_the_estimates_rank() -> None:
    layer = LayerSearch(fake.layer(), fake.TARGET)
    blank = np.full(len(layer.space), np.nan)
    score = scores(layer.features, layer.estimates, blank, Experience(), 0)
    np.testing.assert_array_equal(np.argsort(score), np.argsort(layer.estimates))
    named = find_mode("model").propose(scene(layer, blank), 8, np.random.default_rng(0))
    assert layer.estimates.argmin() in named
    assert np.median(layer.estimates[list(named)]) < np.quantile(layer.estimates, 0.1)


def test_failures_are_no_times() -> None:
    layer = LayerSearch(fake.layer(), fake.TARGET)
    times = np.full(len(layer.space), np.nan)
    times[:40] = np.inf
    named = find_mode("model").propose(scene(layer, times), 8, np.random.default_rng(0))
    assert len(set(named)) == 8
    assert min(named) >= 40


def test_other_layers_teach() -> None:
    """What was learnt elsewhere ranks the first candidates of a layer of which nothing is known."""
    other, mine = LayerSearch(fake.layer("a", 1), fake.TARGET), LayerSearch(fake.layer("b", 2, m=12), fake.TARGET)
    lessons = Lessons.of(other.features, other.estimates, truth(other))
    assert lessons is not None
    blank = np.full(len(mine.space), np.nan)
    taught = scores(mine.features, mine.estimates, blank, Experience({"a": lessons}), 0)
    right = truth(mine)
    best = right.argmin()
    assert (taught < taught[best]).sum() < 5 < (mine.estimates < mine.estimates[best]).sum()
    assert Experience({"a": lessons}).without("a").lessons == {}
    assert Lessons.of(other.features, other.estimates, np.full(len(other.space), np.inf)) is None


def test_scores_are_the_same_every_time() -> None:
    layer = LayerSearch(fake.layer(), fake.TARGET)
    times = np.where(np.arange(len(layer.space)) % 3 == 0, truth(layer), np.nan)
    first, second = (scores(layer.features, layer.estimates, times, Experience(), 5) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode_registry, "_MODES", dict(mode_registry._MODES))
    assert [item.name for item in modes()] == ["model", "random", "exhaustive"]
    assert all(item.summary.endswith(".") for item in modes())

    @mode("last")
    def last(scene: Scene, count: int, rng: np.random.Generator) -> Sequence[int]:
        """From the end of the list."""
        return [int(i) for i in np.flatnonzero(~scene.taken)[::-1][:count]]

    layer = LayerSearch(fake.layer(), fake.TARGET)
    blank = np.full(len(layer.space), np.nan)
    assert find_mode("last").propose(scene(layer, blank), 2, np.random.default_rng(0)) == [255, 254]
    with pytest.raises(ValueError, match="registered twice"):
        mode("last")(last)
    with pytest.raises(UsageError, match="unknown mode of search 'modle'; did you mean model"):
        find_mode("modle")


def test_without_xgboost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.tune.search.cost_model.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'xgboost-cpu.*, or --mode random"):
        find_mode("model").ready()
    find_mode("random").ready()


def test_experience_from_a_log() -> None:
    """Unstructured layers of other models are drawn again; other targets and few records are not used."""
    log = Log()

    def measured(work: LayerSearch, target: str, count: int) -> Task:
        task = Task.of(work.problem, work.weight)
        layer = LayerSearch(work, fake.TARGET)
        log.append(
            [
                Record(task, target, {"cpu": "fake"}, name, config, fake.law(name, config), 0.1)
                for name, config in layer.space.options[::7][:count]
            ]
        )
        return task

    near = measured(fake.layer("near", 1), fake.TARGET.name, 30)
    measured(fake.layer("few", 2), fake.TARGET.name, 2)
    measured(fake.layer("elsewhere", 3), "x86:znver9", 30)
    mine = fake.layer("mine", 4, m=12)
    found = learn(log, fake.TARGET, [(mine.problem, 0.5)], set())
    assert list(found.lessons) == [near.key]
    assert len(found.lessons[near.key].miss) == 30
    assert learn(log, fake.TARGET, [(mine.problem, 0.5)], {near.key}).lessons == {}
    layer = LayerSearch(mine, fake.TARGET)
    taught = scores(layer.features, layer.estimates, np.full(len(layer.space), np.nan), found, 0)
    order = np.argsort(taught)
    assert truth(layer)[order[:8]].mean() < truth(layer)[np.argsort(layer.estimates)[:8]].mean()
    assert config_key(*layer.space.options[int(order[0])]) in layer.space.index
