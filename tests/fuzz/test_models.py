"""Mutated models: some of a fixed seed, all that a longer run has found, and giants; each in a process of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.fuzz.__main__ import mutants
from tests.fuzz.harness import BAD, REFUSED, RIGHT, Harness
from tests.fuzz.microsoft import microsoft_operators
from tests.fuzz.mutate import bytes_mutant, change, mutant
from tests.fuzz.seeds import networks
from tests.support import rest_slow

CORPUS = Path(__file__).parent / "corpus"


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with Harness("tests.fuzz.models:check") as server:
        yield server


@pytest.mark.slow
def test_the_networks_are_read_as_they_are(harness: Harness) -> None:
    found = {i: harness.run(model.SerializeToString()) for i, model in enumerate(networks())}
    assert {i: outcome.text for i, outcome in found.items() if outcome.kind != RIGHT} == {}


@pytest.mark.slow
def test_mutants_are_read_or_refused(harness: Harness) -> None:
    found = [(name, outcome) for name, _, outcome in harness.run_all(mutants(0, 200, 0))]
    assert [(name, outcome.kind, outcome.text) for name, outcome in found if outcome.bad] == []
    assert {outcome.kind for _, outcome in found} == {RIGHT, REFUSED}


@pytest.mark.slow
def test_mutants_of_networks_are_lowered_or_refused() -> None:
    models = networks()
    with Harness("tests.fuzz.models:check_lowered") as server:
        found = [server.run(mutant(models, number, 77)) for number in range(40)]
    assert [(i, outcome.kind, outcome.text) for i, outcome in enumerate(found) if outcome.bad] == []
    assert RIGHT in {outcome.kind for outcome in found}


def test_what_was_found_is_mended(harness: Harness) -> None:
    found = {path.name: harness.run(path.read_bytes()) for path in sorted(CORPUS.glob("*.onnx"))}
    assert found
    assert {name: (outcome.kind, outcome.text) for name, outcome in found.items() if outcome.bad} == {}


def test_a_mutant_is_another_model_and_the_same_each_time() -> None:
    seeds = networks()
    for number in range(30):
        made = []
        for _ in range(2):
            rng, model = random.Random(number), type(seeds[0])()
            model.CopyFrom(seeds[number % len(seeds)])
            change(rng, model, seeds[(number + 1) % len(seeds)])
            made.append(model.SerializeToString(deterministic=True))
        assert made[0] == made[1]
    data = seeds[0].SerializeToString()
    assert len({bytes_mutant(random.Random(i), data) for i in range(50)}) > 40


@pytest.mark.parametrize(
    ("function", "kind"),
    rest_slow([("crash", "crash"), ("fail", "defect"), ("leave", "crash"), ("refuse", REFUSED), ("answer", RIGHT),
               ("eat", "memory"), ("spin", "hang"), ("sleep", "hang")], 5),
)  # fmt: skip
def test_the_harness_sees_what_happens(function: str, kind: str) -> None:
    with Harness(f"tests.fuzz.behaviours:{function}", seconds=2 if kind == "hang" else 20, memory=1 << 30) as server:
        assert server.run(b"x").kind == kind
        assert server.run(b"x").kind == kind  # the server has outlived the first one


def test_a_bad_outcome_is_kept(tmp_path: Path) -> None:
    from tests.fuzz.harness import Outcome, Tally

    tally = Tally(tmp_path / "new", ".onnx")
    for kind in (RIGHT, *BAD):
        tally.add(kind, b"data", Outcome(kind, "why", 0.1, 1))
    assert {path.stem for path in (tmp_path / "new").glob("*.onnx")} == set(BAD)
    assert str(tally) == "right 1, refused 0, crash 1, hang 1, memory 1, defect 1"


def test_giants_are_refused_before_they_are_made(harness: Harness) -> None:
    for op, inputs, shape in (("Relu", ["x"], [1 << 40, 16]), ("Add", ["x", "x"], [1 << 31, 4])):
        node = helper.make_node(op, inputs, ["y"])
        port, result = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", None)))
        model = helper.make_model(helper.make_graph([node], "giant", [port], [result]))
        outcome = harness.run(model.SerializeToString())
        assert outcome.kind == REFUSED
        assert "iB" in outcome.text


@pytest.mark.slow
def test_operators_of_onnxruntime_are_read_as_they_are_and_not_with_an_input_left_out(harness: Harness) -> None:
    found = {}
    for model in microsoft_operators():
        node = model.graph.node[0]
        whole = harness.run(model.SerializeToString())
        if whole.kind != RIGHT:
            found[node.op_type] = whole.text
        for place, name in enumerate(list(node.input)):
            node.input[place] = ""
            outcome = harness.run(model.SerializeToString())
            node.input[place] = name
            if outcome.bad:
                found[f"{node.op_type} without input {place}"] = outcome.text
    assert found == {}


def test_a_node_of_many_attributes_takes_no_longer_than_they_are(harness: Harness) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    node.attribute.extend(helper.make_attribute(f"a{i}", 1) for i in range(100_000))
    port, result = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy")
    model = helper.make_model(helper.make_graph([node], "wide", [port], [result]))
    assert harness.run(model.SerializeToString()).kind == REFUSED
