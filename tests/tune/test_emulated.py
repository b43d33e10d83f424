"""A machine that another one plays: it says whether kernels are right, and its times enter no plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.layers.layer import Layer
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.runners import check_device, checker_for
from tesa.measure.timing import Timing
from tesa.records.log import Log, Record, Task
from tesa.records.lookup import lookup
from tesa.schedules import registry
from tesa.schedules.types import FloatArray, Problem, config_key
from tesa.targets.target import parse_target
from tesa.tune.choose import choose
from tesa.tune.search.elsewhere import _counts
from tests.tune.fake import TARGET, FakeBuilder, families, layer

DEVICE = {"cpu": "emulated aarch64", "model": "aarch64, played by x86", "system": "Linux aarch64", "emulated": True}
LAYER = layer()
TASK = Task.of(LAYER.problem, LAYER.weight)
FIRST, SECOND = {"r": 1, "v": 1, "c": 1}, {"r": 2, "v": 2, "c": 1}


class Emulator:
    """Says what it was told of kernels, by their keys, and times none."""

    def __init__(self, fails: dict[str, Failure] | None = None) -> None:
        self.fails, self.asked = fails or {}, list[str]()

    def run(
        self, problem: Problem, weight: FloatArray, kernels: Sequence[Product], *, budget_ms: float
    ) -> list[Timing | Failure]:
        assert budget_ms == 0, "it was to time a kernel"
        self.asked += [kernel.symbol for kernel in kernels]
        return [self.fails.get(kernel.symbol, Timing(0.0, 0.0, 0.0, 0)) for kernel in kernels]

    def device(self) -> dict[str, Any]:
        return DEVICE

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FAMILIES", families([FIRST, SECOND]))


def timed(cpu: str, median_ms: float, config: dict[str, int], name: str = "sparse") -> Record:
    return Record(TASK, TARGET.name, {"cpu": cpu}, name, config, median_ms, median_ms)


def chosen(runner: Emulator, log: Log, work: Layer = LAYER) -> tuple[str, str]:
    """Family with configuration, and the reason."""
    (kernel,) = choose([work], TARGET, log=log, builder=FakeBuilder(), runner=runner)
    return config_key(kernel.part.family, kernel.part.config), kernel.part.reason


def test_its_times_are_not_asked_for_and_not_believed() -> None:
    log, runner = Log(), Emulator()
    expected, reason = chosen(runner, log)
    assert reason.startswith("estimated: ")
    assert runner.asked == [expected], "the kernel that was chosen was compared, and no other"
    assert len(log) == 0
    best = config_key("dense", FIRST)
    assert best != expected
    log.append([timed(DEVICE["cpu"], 1e-6, FIRST, "dense")])
    assert chosen(Emulator(), log)[0] == expected
    log.append([timed(TARGET.cpu, 1e-5, FIRST, "dense")])
    assert chosen(Emulator(), log)[0] == best, "a time of the target's own CPU counts"


def test_a_kernel_that_is_wrong_there_is_not_taken() -> None:
    expected, _ = chosen(Emulator(), Log())
    other, _ = chosen(Emulator({expected: Failure(FailureKind.WRONG, "largest error 1")}), Log())
    assert other != expected
    unable = Emulator({expected: Failure(FailureKind.DEVICE, "an instruction that it lacks")})
    assert chosen(unable, Log())[0] == expected, "what an emulator lacks is no fault of a kernel"


@pytest.mark.parametrize("more", [[], [timed("broadwell", 9.0, FIRST)]], ids=["alone", "beside another CPU's"])
def test_the_log_gives_its_records_to_nobody_else(more: list[Record]) -> None:
    log = Log()
    log.append([timed(DEVICE["cpu"], 1e-6, SECOND), *more])
    wanted = [record.config for record in more]
    assert [record.config for record in log.records(TASK, TARGET.name, ["haswell"])] == wanted
    assert [record.config for record in lookup(log, TASK, None, TARGET.name, cpus=["haswell"]).records] == wanted
    near = Task.of(LAYER.problem, layer(seed=1).weight)
    assert [record.config for record in lookup(log, near, None, TARGET.name, cpus=["haswell"]).records] == wanted
    best = log.best(TASK, TARGET.name, [DEVICE["cpu"]])
    assert best is not None
    assert best.median_ms == 1e-6
    assert not _counts(DEVICE["cpu"], None)
    assert _counts("broadwell", None)


def test_its_records_have_a_file_of_their_own(tmp_path: Path) -> None:
    Log.load(tmp_path, device=DEVICE["cpu"]).append([timed(DEVICE["cpu"], 1.0, FIRST)])
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["emulated aarch64.jsonl"]


def test_what_is_told_of_it() -> None:
    arm = parse_target("aarch64:cortex-a76")
    for named in (True, False):
        assert check_device(DEVICE, arm, named=named) == (
            "emulated aarch64 measures: its times are the emulator's (aarch64, played by x86), and count for no CPU"
        )
    with pytest.raises(UsageError, match=r"is aarch64 \(emulated aarch64\), and the target x86:haswell is x86_64"):
        check_device(DEVICE, TARGET, named=True)


def test_what_an_emulator_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = parse_target("aarch64:cortex-a76")
    monkeypatch.setattr("tesa.measure.runners.lacking_emulator", lambda _: "no emulator")
    assert checker_for(arm) is None
    monkeypatch.setattr("tesa.measure.runners.lacking_emulator", lambda _: "")
    monkeypatch.setattr("tesa.measure.runners.host_architecture", lambda: replace(_arm(), name="aarch64"))
    assert checker_for(arm) is None, "what this CPU lacks, its emulators may lack, too"


def _arm() -> Any:
    from tesa.targets.aarch64 import AARCH64

    return AARCH64
