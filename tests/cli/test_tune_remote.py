"""tesa tune --rpc and --cluster as a user types them: real trackers, devices and clusters, and what happens to them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tesa.cli import main
from tesa.measure import local, remote
from tesa.models import digits_path
from tesa.targets.target import host_cpu
from tesa.tune import job, model
from tesa.tune.builders import ClusterBuilder, LocalBuilder
from tests.cli.test_tune import ended, measured_once, records, started
from tests.measure.remote.park import Park, free_port, two_servers
from tests.support import PATIENCE_S, until
from tests.tune.builders.clusters import Cluster, kill, own_cluster

Capture = pytest.CaptureFixture[str]
DIGITS = str(digits_path())
TRIALS = 40
DEFAULTS = dict(remote.RpcRunner.__init__.__kwdefaults__ or {})
LAYER = ["--layer", "block5.pointwise", "--mode", "random"]


@pytest.fixture(scope="module")
def whole_park(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Park]:
    with two_servers(tmp_path_factory.mktemp("park")) as park:
        yield park


@pytest.fixture
def park(whole_park: Park) -> Iterator[Park]:
    """A tracker with two servers that are free."""
    whole_park.await_servers(2)
    yield whole_park
    whole_park.tidy()


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> list[job.JobOptions]:
    """The options of a test's jobs."""
    found: list[job.JobOptions] = []

    def noting(*words: Any, options: job.JobOptions, **named: Any) -> Any:
        found.append(options)
        return job.tune_layers(*words, options=options, **named)

    monkeypatch.setattr(model, "tune_layers", noting)
    return found


def rpc(park: Park, key: str = "here") -> list[str]:
    return ["--rpc", f"127.0.0.1:{park.port}", "--key", key]


def tune(capsys: Capture, *words: str, code: int = 0) -> dict[str, Any]:
    """What a command line tells as JSON, and as "err" what it says besides."""
    capsys.readouterr()
    assert main(["tune", DIGITS, *words, "--json"]) == code, capsys.readouterr().err
    streams = capsys.readouterr()
    return {**json.loads(streams.out), "err": streams.err}


def in_second_turn(monkeypatch: pytest.MonkeyPatch, harm: Callable[[remote.RpcRunner], None]) -> None:
    """Do something while the devices are about to measure for the second time, with the first results in the log."""
    turns = list[int]()

    class Harmed(remote.RpcRunner):
        def run(self, *words: Any, **named: Any) -> Any:
            turns.append(1)
            if len(turns) == 2:
                harm(self)
            return super().run(*words, **named)

    monkeypatch.setattr(remote, "RpcRunner", Harmed)


@pytest.mark.slow
def test_a_server_is_killed_while_two_measure(
    park: Park, tmp_path: Path, capsys: Capture, options: list[job.JobOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = list[int]()
    servers = [park.server("two"), park.server("two")]
    park.await_servers(2, "two")

    def harm(_: remote.RpcRunner) -> None:
        at.append(len(records(tmp_path)))
        threading.Thread(target=servers[0].end, daemon=True).start()

    in_second_turn(monkeypatch, harm)
    words = [*LAYER, *rpc(park, "two"), "--trials", str(TRIALS), "--log", str(tmp_path)]
    found = tune(capsys, *words)
    until(lambda: servers[0].process.poll() is not None, "the end of the server")
    (layer,) = found["layers"]
    assert 0 < at[0] < found["measured"], "the server was killed while the job went on"
    assert (layer["trials"], layer["given_up"], found["stopped"]) == (TRIALS, 0, "")
    dead = [note for note in found["notes"] if f"127.0.0.1:{servers[0].port}" in note]
    assert any("is gone" in note or "is set aside" in note for note in dead), found["notes"]
    assert 0 < layer["best_ms"] <= layer["default_ms"]
    assert options[0].overlap, "the next turn is built while the devices measure"
    assert [path.stem for path in tmp_path.glob("*.jsonl")] == [host_cpu()]
    devices = {(record["device"]["cpu"], record["device"]["key"]) for record in records(tmp_path)}
    assert devices == {(host_cpu(), "two")}
    tune(capsys, *words, "--resume")  # makes up for a last comparison that the server's end cut short
    settled = tune(capsys, *words, "--resume")
    again = tune(capsys, *words, "--resume")
    assert (again["measured"], again["layers"], again["notes"]) == (0, settled["layers"], [])
    servers[1].end()


@pytest.mark.slow
def test_the_last_server_goes_and_the_best_so_far_stays(
    park: Park, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lonely = park.server("lonely")
    park.await_servers(1, "lonely")

    def harm(runner: remote.RpcRunner) -> None:
        lonely.end()
        until(lambda: not park.listing().of("lonely"), "the tracker noticing")
        runner._wait_s = 2.0

    in_second_turn(monkeypatch, harm)
    found = tune(capsys, *LAYER, *rpc(park, "lonely"), "--trials", str(TRIALS), "--log", str(tmp_path), code=1)
    assert found["layers"][0]["best_ms"] > 0
    assert len(records(tmp_path)) == found["measured"] > 0
    assert "no device with key 'lonely'" in found["stopped"]


def start(folder: Path, park: Park) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A job in a process of its own, some measurements after its start, and the processes that it has."""
    words = [
        sys.executable,
        "-m",
        "tesa",
        "tune",
        DIGITS,
        *LAYER,
        *rpc(park),
        "--trials",
        str(TRIALS),
        "--log",
        str(folder),
    ]
    return started(words, folder)


@pytest.mark.slow
def test_killed_and_resumed(park: Park, tmp_path: Path, capsys: Capture) -> None:
    child, family = start(tmp_path, park)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=PATIENCE_S)
    assert ended(family)
    before = records(tmp_path)
    park.await_servers(2)
    found = tune(capsys, *LAYER, *rpc(park), "--trials", str(TRIALS), "--log", str(tmp_path), "--resume")
    (layer,) = found["layers"]
    assert layer["trials"] == TRIALS
    assert records(tmp_path)[: len(before)] == before
    assert len(records(tmp_path)) == len(before) + found["measured"]
    assert measured_once(records(tmp_path))


@pytest.mark.slow
def test_ctrl_c_frees_the_devices(park: Park, tmp_path: Path) -> None:
    child, family = start(tmp_path, park)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130, err
    assert "block5.pointwise" in out
    assert "Traceback" not in err
    assert ended(family)
    park.await_servers(2)


def test_what_cannot_be_measured_there(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    # It does not wait for a tracker that never was.
    monkeypatch.setattr(remote.RpcRunner.__init__, "__kwdefaults__", {**DEFAULTS, "wait_s": 10_000.0})
    assert main(["tune", DIGITS, *LAYER, "--rpc", f"[::1]:{free_port()}", "--key", "here"]) == 2
    assert "cannot reach the RPC tracker at ::1:" in capsys.readouterr().err


@pytest.mark.slow
def test_another_cpu_than_the_targets(park: Park, tmp_path: Path, capsys: Capture) -> None:
    words = [*LAYER, *rpc(park), "--trials", "1", "--log", str(tmp_path), "--target", "x86:haswell"]
    found = tune(capsys, *words)
    if host_cpu() != "haswell":
        assert f"the target is x86:haswell, and the device that measures is {host_cpu()}" in found["notes"][0]
    assert {record["target"] for record in records(tmp_path)} == {"x86:haswell"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose workers keep objects elsewhere than this machine does."""
    pytest.importorskip("distributed", reason="pip install 'tesa[cluster]'")
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.setenv("TESA_CACHE_DIR", str(tmp_path / "here"))
    with own_cluster(there) as found:
        yield found


def objects(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_cluster_builds(cluster: Cluster, tmp_path: Path, capsys: Capture, options: list[job.JobOptions]) -> None:
    words = [*LAYER, "--cluster", cluster.address, "--trials", "16", "--log", str(tmp_path / "logs"), "--jobs", "1"]
    found = tune(capsys, *words)
    assert found["layers"][0]["trials"] == 16
    assert objects(tmp_path / "there" / "cache"), "the cluster has built"
    assert not options[0].overlap, "its workers are on this machine, which measures"


@pytest.mark.slow
def test_a_cluster_that_is_elsewhere_builds_ahead_and_is_lost(
    cluster: Cluster, tmp_path: Path, capsys: Capture, options: list[job.JobOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is built here, but not while this machine measures."""
    monkeypatch.setattr(ClusterBuilder, "here", False)
    folder, busy, together, built = tmp_path / "logs", list[str](), list[list[str]](), list[int]()
    measure, results = local.measure, LocalBuilder.results

    @contextmanager
    def at_work(what: str) -> Iterator[None]:
        busy.append(what)
        together.append(list(busy))
        yield
        busy.remove(what)

    def measuring(*words: Any, **named: Any) -> Any:
        with at_work("measure"):
            found = measure(*words, **named)
        kill(cluster.scheduler)  # most turns are still to come
        return found

    def building(self: LocalBuilder, orders: Any, ranking: Any) -> Iterator[Any]:
        with at_work("build"):
            built.append(len(ranking))
            yield from results(self, orders, ranking)

    monkeypatch.setattr(local, "measure", measuring)
    monkeypatch.setattr(LocalBuilder, "results", building)
    found = tune(capsys, *LAYER, "--cluster", cluster.address, "--trials", str(TRIALS), "--log", str(folder))
    assert re.search("is lost: .*; candidates are built on this machine", found["err"])
    assert found["layers"][0]["trials"] == TRIALS
    assert options[0].overlap
    assert sum(built) > 0
    assert [pair for pair in together if len(pair) > 1] == []


@pytest.mark.slow
def test_a_cluster_builds_and_devices_measure(
    cluster: Cluster, park: Park, tmp_path: Path, capsys: Capture, options: list[job.JobOptions]
) -> None:
    words = [*LAYER, "--cluster", cluster.address, *rpc(park), "--trials", "20", "--log", str(tmp_path / "logs")]
    found = tune(capsys, *words)
    assert found["layers"][0]["trials"] == 20
    assert found["device"]["key"] == "here"
    assert objects(tmp_path / "there" / "cache")
    assert options[0].overlap
