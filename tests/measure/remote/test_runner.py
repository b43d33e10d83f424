"""Measuring on real servers, and what happens to them: killed, stopped, restarted, wrong, gone."""

from __future__ import annotations

import importlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tesa.build.objects import build_objects, write_objects
from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.failure import Failure
from tesa.measure.local import LocalRunner
from tesa.measure.remote import RpcRunner, server
from tesa.measure.timing import Timing
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, Problem
from tesa.targets.target import parse_target
from tests.measure.remote import kernels
from tests.measure.remote.kernels import PROBLEM, WEIGHT
from tests.measure.remote.park import KEY, TVMS, Park, free_port
from tests.support import PATIENCE_S, until

SURE_S = 20.0
"""A limit that is waited for to its end, and far beyond what any other candidate needs on a busy machine."""

Make = Callable[..., RpcRunner]
Results = list[Timing | Failure]


@pytest.fixture
def runner(park: Park) -> Iterator[Make]:
    made: list[RpcRunner] = []

    def make(key: str = KEY, limit_s: float = PATIENCE_S, wait_s: float = PATIENCE_S) -> RpcRunner:
        made.append(RpcRunner("127.0.0.1", park.port, key, limit_s=limit_s, wait_s=wait_s))
        return made[-1]

    yield make
    for item in made:
        item.close()


@pytest.fixture(scope="module")
def shared(whole_park: Park) -> Iterator[RpcRunner]:
    """A runner whose processes need not start again."""
    made = RpcRunner("127.0.0.1", whole_park.port, KEY, limit_s=PATIENCE_S, wait_s=PATIENCE_S)
    yield made
    made.close()


class Background:
    """A run in a thread, because the test has to do something to the devices meanwhile."""

    def __init__(self, runner: RpcRunner, built: list[Product]) -> None:
        self._results: Results = []
        self._thread = threading.Thread(target=self._run, args=(runner, built), daemon=True)
        self._thread.start()

    def _run(self, runner: RpcRunner, built: list[Product]) -> None:
        self._results = runner.run(PROBLEM, WEIGHT, built, budget_ms=2)

    def results(self) -> Results:
        """What came out."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self._results


_WITHOUT_TESA = f"""
import runpy, sys
sys.path.insert(0, {str(Path(np.__file__).parents[1])!r})
sys.modules["tesa"] = None  # an import of it fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def pids(path: Path) -> list[int]:
    """Which processes a waiting kernel has run in so far."""
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def kinds(results: Results) -> list[str]:
    return ["ok" if isinstance(result, Timing) else result.kind for result in results]


def test_each_candidate_answers_for_itself(park: Park, shared: RpcRunner, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.o"
    garbage.write_bytes(b"not an object")
    made = [
        kernels.right(tmp_path), kernels.off(tmp_path), kernels.crashing(tmp_path), kernels.outside(tmp_path),
        Product("tesa_right", (garbage,), (WEIGHT,)), Product("tesa_right", kernels.right(tmp_path).objects),
        kernels.right(tmp_path, "again"),
    ]  # fmt: skip
    results = shared.run(PROBLEM, WEIGHT, made, budget_ms=5)
    assert kinds(results) == ["ok", "wrong", "crash", "wrong", "link", "call", "ok"]
    first, off, crash, outside = results[:4]
    assert isinstance(first, Timing)
    assert 0 < first.min_ms <= first.median_ms
    assert first.repeats >= 3
    assert isinstance(off, Failure)
    assert "largest error 0.01" in off.message
    assert isinstance(outside, Failure)
    assert "outside of its result" in outside.message
    assert isinstance(crash, Failure)
    assert "SIGSEGV" in crash.message
    (untimed,) = shared.run(PROBLEM, WEIGHT, made[:1], budget_ms=0)
    assert untimed == Timing(0.0, 0.0, 0.0, 0)
    assert shared.device()["cpu"] == LocalRunner().device()["cpu"]
    assert shared.run(PROBLEM, WEIGHT, [], budget_ms=5) == []
    park.await_servers(2)


@pytest.mark.slow
def test_a_candidate_that_never_ends(park: Park, runner: Make, tmp_path: Path) -> None:
    made = [kernels.endless(tmp_path), kernels.right(tmp_path)]
    results = runner(limit_s=SURE_S).run(PROBLEM, WEIGHT, made, budget_ms=2)
    assert kinds(results) == ["timeout", "ok"]


def test_devices_measure_at_once_and_one_may_die(park: Park, shared: RpcRunner, tmp_path: Path) -> None:
    told, go = tmp_path / "pids", tmp_path / "go"
    made = [kernels.waiting(tmp_path, name, told, go) for name in ("one", "two")]
    background = Background(shared, made)
    until(lambda: len(pids(told)) == 2, "both candidates running at once")
    victim = park.running(pids(told)[0])
    victim.end()
    go.touch()
    assert kinds(background.results()) == ["ok", "ok"]
    park.server(port=victim.port)
    park.await_servers(2)


@pytest.mark.slow
def test_a_device_hangs(park: Park, runner: Make, tmp_path: Path) -> None:
    told, go = tmp_path / "pids", tmp_path / "go"
    measuring = runner(limit_s=SURE_S)
    assert kinds(measuring.run(PROBLEM, WEIGHT, [kernels.right(tmp_path)] * 3, budget_ms=0)) == ["ok"] * 3
    background = Background(measuring, [kernels.waiting(tmp_path, "one", told, go)])
    until(lambda: len(pids(told)) == 1, "a candidate running")
    frozen = park.running(pids(told)[0])
    frozen.send(signal.SIGSTOP)
    try:
        go.touch()
        assert kinds(background.results()) == ["ok"]
        assert len(set(pids(told))) == 2
    finally:
        frozen.send(signal.SIGCONT)


@pytest.mark.slow
def test_the_only_device_dies_and_comes_back(park: Park, runner: Make, tmp_path: Path) -> None:
    told, go = tmp_path / "pids", tmp_path / "go"
    lonely = park.server("lonely")
    park.await_servers(1, "lonely")
    background = Background(runner("lonely"), [kernels.waiting(tmp_path, "one", told, go), kernels.right(tmp_path)])
    until(lambda: len(pids(told)) == 1, "a candidate running")
    lonely.end()
    go.touch()
    again = park.server("lonely", port=lonely.port)
    assert kinds(background.results()) == ["ok", "ok"]
    again.end()


@pytest.mark.slow
def test_a_device_that_answers_wrongly(park: Park, runner: Make, tmp_path: Path) -> None:
    flag = tmp_path / "wrong"
    mixed = [park.faulty(flag, "mixed"), park.server("mixed")]
    park.await_servers(2, "mixed")
    measuring = runner("mixed")
    made = [kernels.right(tmp_path), kernels.right(tmp_path, "again"), kernels.off(tmp_path)]
    assert kinds(measuring.run(PROBLEM, WEIGHT, made, budget_ms=2)) == ["ok", "ok", "wrong"]
    flag.touch()  # from now on: the device is known to be good, and must be found out
    assert kinds(measuring.run(PROBLEM, WEIGHT, made * 2, budget_ms=2)) == ["ok", "ok", "wrong"] * 2
    mixed[1].end()
    measuring._wait_s = SURE_S
    with pytest.raises(UsageError, match=rf"no sound device with key 'mixed'.*127.0.0.1:{mixed[0].port}: .*wrong"):
        measuring.run(PROBLEM, WEIGHT, made, budget_ms=2)
    mixed[0].end()


@pytest.mark.slow
def test_the_tracker_restarts(park: Park, shared: RpcRunner, tmp_path: Path) -> None:
    told, go = tmp_path / "pids", tmp_path / "go"
    first = kernels.waiting(tmp_path, "one", told, go)
    background = Background(shared, [first, first, first, kernels.right(tmp_path)])
    until(lambda: len(pids(told)) == 2, "candidates running")
    park.tracker.end()
    go.touch()
    time.sleep(0.5)
    park.tracker = park.start_tracker()
    assert kinds(background.results()) == ["ok"] * 4
    park.await_servers(2)


@pytest.mark.slow
def test_tvms_own_server_is_enough(park: Park, runner: Make, tmp_path: Path) -> None:
    stock = park.server("stock", TVMS)
    park.await_servers(1, "stock")
    results = runner("stock").run(PROBLEM, WEIGHT, [kernels.right(tmp_path), kernels.off(tmp_path)], budget_ms=2)
    assert kinds(results) == ["ok", "wrong"]
    stock.end()


@pytest.mark.slow
def test_one_file_and_tvms_runtime_are_enough(
    park: Park, runner: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TVM_USE_RUNTIME_LIB", "1")
    alone = tmp_path / "server.py"
    alone.write_bytes(Path(server.__file__).read_bytes())
    small = park.server("small", ("-S", "-c", _WITHOUT_TESA, str(alone)))
    monkeypatch.delenv("TVM_USE_RUNTIME_LIB")
    park.await_servers(1, "small")
    measuring = runner("small")
    results = measuring.run(PROBLEM, WEIGHT, [kernels.right(tmp_path), kernels.off(tmp_path)], budget_ms=2)
    assert kinds(results) == ["ok", "wrong"]
    assert measuring.device()["tvm"].startswith("0.27")
    small.end()


@pytest.mark.slow
def test_nothing_is_measured_twice_where_the_last_device_goes(park: Park, runner: Make, tmp_path: Path) -> None:
    brief = park.server("brief")
    park.await_servers(1, "brief")
    told = tmp_path / "pids"
    made = [kernels.right(tmp_path), kernels.waiting(tmp_path, "one", told, tmp_path / "never")]
    measuring = runner("brief")
    background = Background(measuring, made)
    until(lambda: len(pids(told)) == 1, "the second candidate running")
    brief.end()
    until(lambda: not measuring._listing.of("brief"), "the runner noticing")
    measuring._wait_s = 0.0
    first, second = background.results()
    assert isinstance(first, Timing)
    assert isinstance(second, Failure)
    assert second.kind == "device"
    assert "no device with key 'brief'" in second.message


def test_no_device_at_all(park: Park, runner: Make, tmp_path: Path) -> None:
    made = [kernels.right(tmp_path)]
    until(lambda: {key for key, _ in park.listing().servers} == {KEY}, "the tracker forgetting others")
    with pytest.raises(UsageError, match=r"no device with key 'nobody'.*keys there: here;.*remote.server --tracker"):
        runner("nobody", wait_s=0.5).run(PROBLEM, WEIGHT, made, budget_ms=2)
    nowhere = RpcRunner("127.0.0.1", free_port(), KEY, wait_s=0.5)
    with pytest.raises(UsageError, match=r"cannot reach the RPC tracker .*tracker_server --host"):
        nowhere.run(PROBLEM, WEIGHT, made, budget_ms=2)
    with pytest.raises(UsageError, match="cannot reach"):
        nowhere.device()
    nowhere.close()
    nowhere.close()
    odd = RpcRunner("127.0.0.1", park.port, KEY, compiler="riscv-none-gcc")
    with pytest.raises(UsageError, match=r"no command 'riscv-none-gcc'.*cross compiler"):
        odd.run(PROBLEM, WEIGHT, made, budget_ms=2)
    odd.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_real_families_with_real_indices(park: Park, shared: RpcRunner, tmp_path: Path, threads: int) -> None:
    epilogue = Epilogue(bias=True, residual=True, activation="relu")
    problem = Problem("linear", 32, 48, 64, (1, 48, 64), (1, 32, 64), epilogue=epilogue, threads=threads)
    rng = np.random.default_rng(1)
    weight = (rng.standard_normal((32, 48)) * (rng.random((32, 48)) > 0.8)).astype(np.float32)
    target = parse_target("x86")
    importlib.import_module("tesa.schedules.cpu")  # registers the families
    made = []
    for name in ("indexed", "dense"):
        family = find(name)
        config = family.space(problem, weight, target.core)[0]
        symbol = f"tesa_{name}_{threads}"
        code = family.emit(problem, weight, target.core, config, symbol)
        made.append(Product(symbol, write_objects(build_objects(symbol, code, target), tmp_path), code.constants))
    assert any(np.issubdtype(constant.dtype, np.integer) for built in made for constant in built.constants)
    results = shared.run(problem, weight, made, budget_ms=5)
    assert kinds(results) == ["ok", "ok"]
