"""Measuring in Node.js: right kernels get times, wrong ones never, and a trap or a hang is the candidate's own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tesa.build.objects import build_objects, write_objects
from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.interfaces import Runner
from tesa.measure.node import engine
from tesa.measure.node.runner import NodeRunner, link_kernel
from tesa.measure.node.session import Place, Refused, Session
from tesa.measure.timing import UNTIMED, Timing
from tesa.schedules.types import Code
from tesa.targets.target import parse_target
from tests.build import toy
from tests.node import require_node

TARGET = parse_target("wasm32")
PROBLEM = toy.linear()
WEIGHT = toy.weight(PROBLEM)


@pytest.fixture(autouse=True)
def _node() -> None:
    require_node()


def built(folder: Path, **codes: Code) -> list[Product]:
    return [
        Product(symbol, write_objects(build_objects(symbol, code, TARGET), folder), code.constants)
        for symbol, code in codes.items()
    ]


def failed(result: Timing | Failure) -> FailureKind:
    assert isinstance(result, Failure), result
    return result.kind


def test_right_kernels_are_timed_and_others_are_not(tmp_path: Path) -> None:
    products = built(
        tmp_path,
        once=toy.code(PROBLEM, WEIGHT, "once"),
        off=toy.code(PROBLEM, WEIGHT, "off", error=0.01),
        often=toy.code(PROBLEM, WEIGHT, "often", repeat=1000),
        undefined=toy.crashing(PROBLEM, WEIGHT, "undefined"),
    )
    missing = Product("nothing", products[0].objects, products[0].constants)
    runner: Runner = NodeRunner(TARGET)
    once, off, often, undefined, none = runner.run(PROBLEM, WEIGHT, [*products, missing], budget_ms=10)
    assert isinstance(once, Timing)
    assert isinstance(often, Timing)
    assert 0 < once.min_ms < often.min_ms
    assert once.repeats >= 3
    assert failed(off) is FailureKind.WRONG
    assert failed(undefined) is FailureKind.LINK
    assert "abort" in str(undefined)
    assert failed(none) is FailureKind.LINK


def test_without_a_budget_kernels_are_compared_alone(tmp_path: Path) -> None:
    products = built(tmp_path, once=toy.code(PROBLEM, WEIGHT, "once"), off=toy.code(PROBLEM, WEIGHT, "off", error=1.0))
    right, wrong = NodeRunner(TARGET).run(PROBLEM, WEIGHT, products, budget_ms=0)
    assert right == UNTIMED
    assert failed(wrong) is FailureKind.WRONG
    assert not NodeRunner(TARGET).run(PROBLEM, WEIGHT, [], budget_ms=0)


@pytest.mark.slow
def test_a_kernel_that_hangs_or_traps_costs_itself_alone(tmp_path: Path) -> None:
    once, endless = built(
        tmp_path,
        once=toy.code(PROBLEM, WEIGHT, "once"),
        endless=toy.code(PROBLEM, WEIGHT, "endless", repeat=1 << 30),
    )
    outside = Product("once", once.objects, (WEIGHT, WEIGHT))  # one argument too many
    short, late, again = NodeRunner(TARGET, one_s=4.0).run(PROBLEM, WEIGHT, [outside, endless, once], budget_ms=5)
    assert failed(short) is FailureKind.WRONG
    assert failed(late) is FailureKind.TIMEOUT
    assert isinstance(again, Timing)


def test_too_much_memory_is_refused_and_the_process_goes_on(tmp_path: Path) -> None:
    (once,) = built(tmp_path, once=toy.code(PROBLEM, WEIGHT, "once"))
    link_kernel(TARGET, once.objects, once.symbol, tmp_path / "once.wasm")
    with Session() as session:
        with pytest.raises(Refused, match="RangeError"):
            session.load(tmp_path / "once.wasm", "once", [Place(5 << 30)])
        with pytest.raises(Refused, match="no function twice") as told:
            session.load(tmp_path / "once.wasm", "twice", [])
        assert told.value.kind == "load"
        assert "v8" in session.ask({"do": "about"})


def test_the_device_has_names_of_its_own() -> None:
    device = NodeRunner(TARGET).device()
    assert str(device["cpu"]).startswith("node-")
    assert str(device["system"]).endswith(" wasm32")
    assert "Node.js" in str(device["engine"])
    assert "V8" in str(device["engine"])


def test_without_node_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NODE", str(tmp_path / "node"))
    assert engine.find_engine() is None
    with pytest.raises(UsageError, match=r"no command .*\$NODE names.*apt-get install nodejs"):
        NodeRunner(TARGET)
    broken = tmp_path / "node"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    engine._find.cache_clear()
    assert engine.find_engine() is None
    monkeypatch.delenv("NODE")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match=r"no Node\.js found"):
        NodeRunner(TARGET)


def test_relaxed_instructions_need_an_option_of_older_versions_alone() -> None:
    found = engine.engine()
    assert "--no-liftoff" in found.flags(())
    relaxed = set(found.flags(["+relaxed-simd"])) - set(found.flags(()))
    major, minor = map(int, found.v8.split(".")[:2])
    assert bool(relaxed) == ((major, minor) < (11, 4))
