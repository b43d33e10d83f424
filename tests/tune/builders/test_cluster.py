"""The cluster builder, on a real Dask cluster of two worker processes that each test may do harm to."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tesa.schedules.cpu  # noqa: F401  (registers its families now, not into the test's registry)
from tesa.build.cache import Cache
from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.failure import Failure
from tesa.measure.interfaces import BuildRequest
from tesa.schedules import registry
from tesa.targets.target import parse_target
from tesa.tune.builders import ClusterBuilder, LocalBuilder, connect, remote
from tesa.tune.builders.dask_jobs import Weights
from tests.build import toy
from tests.support import PATIENCE_S, until, when
from tests.tune.builders import toys
from tests.tune.builders.clusters import PATIENT, cluster_builder, kill, own_cluster
from tests.tune.builders.toys import build, contents, request

dask = pytest.importorskip("dask", reason="pip install 'tesa[cluster]'")
distributed = pytest.importorskip("distributed", reason="pip install 'tesa[cluster]'")
TARGET = parse_target("x86:haswell")

_RESTART_S = 60.0
"""After this long a worker that died is taken for one that does not come back."""


@dataclass
class Place:
    """A running cluster. start: makes another one; marks: a folder for toys.killing_once."""

    start: Callable[[], Any]
    cluster: Any
    marks: Path

    def ready(self) -> None:
        """Have both workers, of a new cluster where one has not come back: none restarts what dies as it starts."""
        for _ in range(10):
            with (
                contextlib.suppress(TimeoutError, OSError),
                distributed.Client(self.address, set_as_default=False, timeout=PATIENCE_S) as client,
            ):
                client.wait_for_workers(2, timeout=_RESTART_S)
                return
            self.cluster.close()
            self.cluster = self.start()
        pytest.fail("no cluster has two workers")

    @property
    def address(self) -> str:
        return str(self.cluster.scheduler_address)

    def pids(self) -> set[int]:
        """The worker processes."""
        return set(self.ask(os.getpid))

    def ask(self, function: Any) -> list[Any]:
        """What both workers answer."""
        with distributed.Client(self.address, set_as_default=False, timeout=PATIENCE_S) as client:
            client.wait_for_workers(2, timeout=PATIENCE_S)
            return list(client.run(function).values())

    def versions(self) -> dict[str, str]:
        """What both workers say, who are started anew where they do not agree."""
        answers = self.ask(remote.fingerprint)
        if answers[0] != answers[1]:
            with distributed.Client(self.address, set_as_default=False, timeout=PATIENCE_S) as client:
                client.restart(timeout=PATIENCE_S)
            answers = self.ask(remote.fingerprint)
        found: dict[str, str] = answers[0]
        return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    marks, cache = tmp_path_factory.mktemp("marks"), tmp_path_factory.mktemp("workers")
    # A worker that is not back within 15 s is lost to a local cluster, which then never restarts it.
    names = ("comm.timeouts.connect", "comm.timeouts.tcp", "deploy.lost-worker-timeout")
    patient = {f"distributed.{name}": f"{PATIENCE_S:g}s" for name in names}
    with dask.config.set(patient):

        def start() -> Any:
            return started(tmp_path_factory.mktemp("dask"), marks, cache)

        place = Place(start, start(), marks)
        try:
            yield place
        finally:
            place.cluster.close()


@pytest.fixture
def place(running: Place) -> Place:
    """The cluster, with both workers, whatever the test before did to them."""
    running.ready()
    return running


def started(folder: Path, marks: Path, cache: Path) -> Any:
    return distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=":0",
        local_directory=str(folder),
        env={**PATIENT, "TESA_TEST_MARKS": str(marks), "TESA_CACHE_DIR": str(cache)},
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture
def same_sources(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who edits tesa while its tests run shall not see these workers refused. Clusters of a test's own compare all."""
    found = place.versions()
    assert {**remote.versions(), "sources": ""} == {**found, "sources": ""}
    monkeypatch.setattr(remote, "versions", lambda: found)


@pytest.fixture
def builder(place: Place, same_sources: None, tmp_path: Path) -> Iterator[ClusterBuilder]:
    with cluster_builder(place.address, cache=Cache(tmp_path / "objects")) as made:
        yield made


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FAMILIES", {**registry._FAMILIES, **toys.families()})


def real_requests() -> list[BuildRequest]:
    """tesa's own families, for a weight that is large enough to be scattered."""
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((128, 160)) < 0.02, rng.standard_normal((128, 160)), 0).astype(np.float32)
    problem = toy.linear(128, 160, 64)
    found = []
    for name in ("dense", "indexed", "unrolled"):
        found += [
            BuildRequest(problem, weight, TARGET, name, config)
            for config in registry.find(name).space(problem, weight, TARGET.core)[:2]
        ]
    return found


def count_sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which the key of each job's weight on the cluster is added."""
    sent: list[str] = []
    get = Weights.get

    def counting(self: Weights, client: Any, weight: Any) -> Any:
        found = get(self, client, weight)
        sent.append(found.key)
        return found

    monkeypatch.setattr(Weights, "get", counting)
    return sent


def test_the_same_bytes_as_here(
    builder: ClusterBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    requests = real_requests()
    sent = count_sent(monkeypatch)
    monkeypatch.setattr(builder._local, "results", lambda *_: pytest.fail("built here"))
    there = build(builder, requests, tmp_path / "there")
    assert len(sent) == len(requests)
    assert len(set(sent)) == 1, "the weight of one layer is scattered once"
    with LocalBuilder(1, Cache(tmp_path / "other")) as local:
        here = build(local, requests, tmp_path / "here")
    assert contents(there) == contents(here)
    kept = {path.name: path.read_bytes() for path in builder.cache.folder.glob("*/*")}
    assert kept == {path.name: path.read_bytes() for path in local.cache.folder.glob("*/*")}, "compile finds them"
    assert len(kept) > len(requests)
    assert [str(item.message) for item in recwarn if "tesa" in str(item.message)] == []


@pytest.mark.slow
def test_failures_are_the_candidates_own(builder: ClusterBuilder, place: Place, tmp_path: Path) -> None:
    workers = place.pids()
    names = ["good", "raising", "crashing", "good"]
    requests = [request(name, {"repeat": 50 + i} if name == "good" else {}) for i, name in enumerate(names)]
    results = build(builder, requests, tmp_path / "out")
    contents([results[0], results[3]])
    builder.limit_s = 3  # for those alone that would never end: the others take as long as they need
    results[3:] = build(builder, [request("endless"), request("deaf")], tmp_path / "out")
    kinds = [(result.kind, result.message) for result in results[1:] if isinstance(result, Failure)]
    assert [kind for kind, _ in kinds] == ["build", "build", "timeout", "timeout"]
    assert "ZeroDivisionError" in kinds[0][1]
    assert "SIGSEGV" in kinds[1][1]
    assert place.pids() == workers, "a worker outlives its candidates"


@pytest.mark.slow
def test_a_worker_killed_in_mid_job_has_it_done_again(builder: ClusterBuilder, place: Place, tmp_path: Path) -> None:
    requests = [request("killing_once", {"mark": 1})]
    requests += [request("slow", {"ms": 300, "number": i}) for i in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # it is not built here
        results = build(builder, requests, tmp_path / "out")
    contents(results)
    assert (place.marks / "1").exists()


def test_a_weight_that_died_with_its_worker_is_sent_again(
    builder: ClusterBuilder, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = count_sent(monkeypatch)
    monkeypatch.setattr(builder._local, "results", lambda *_: pytest.fail("built here"))
    contents(build(builder, [request("killing_once", {"mark": 2}, m=128, k=160)], tmp_path / "out"))
    assert (place.marks / "2").exists()
    assert len(set(sent)) == 2


@pytest.mark.slow
@pytest.mark.long
def test_a_candidate_that_kills_workers_fails_alone(builder: ClusterBuilder, tmp_path: Path) -> None:
    results = build(builder, [request("patricide"), request("good", {"repeat": 70})], tmp_path / "out")
    assert isinstance(results[0], Failure)
    assert results[0].kind == "build"
    assert "killed the workers of the cluster" in results[0].message
    contents(results[1:])


def nothing_computes(place: Place) -> bool:
    """No child of a worker has a job."""

    def working() -> int:
        from tesa.tune.builders import remote

        return sum(token.busy for token in remote._tokens.values())

    return place.ask(working) == [0, 0]


@pytest.mark.slow
def test_closing_the_iterator_ends_what_runs_there(builder: ClusterBuilder, place: Place, tmp_path: Path) -> None:
    builder.limit_s = 100_000
    results = builder.build([request("good", {"size": 1, "repeat": 60}), request("endless"), request("deaf")], tmp_path)
    assert next(results)[0] == 0
    results.close()  # type: ignore[attr-defined]
    (after,) = build(builder, [request("good", {"repeat": 61})], tmp_path)
    assert isinstance(after, Product)
    until(lambda: nothing_computes(place), "the end of all jobs")


@pytest.mark.usefixtures("same_sources")
def test_closing_the_builder_from_another_thread(place: Place, tmp_path: Path) -> None:
    builder = cluster_builder(place.address, cache=Cache(tmp_path / "objects"))
    closing = when(lambda: any(flight._sent for flight in tuple(builder._running)), builder.close)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert list(builder.build([request("endless")], tmp_path)) == []
    closing.join()
    builder.close()
    until(lambda: nothing_computes(place), "the end of all jobs")


def test_other_versions_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    here = remote.versions()
    monkeypatch.setattr(remote, "versions", lambda: {**here, "tvm": "0.26.0", "tvm_ffi": "0.1.9"})
    expected = rf"the Dask worker tcp://127.0.0.1:\d+ has TVM {here['tvm']} instead of 0.26.0, TVM-FFI .* 1 more worker"
    with pytest.raises(UsageError, match=expected):
        cluster_builder(place.address)


@pytest.mark.slow
def test_a_worker_that_joins_later_with_other_versions_builds_nothing(builder: ClusterBuilder, tmp_path: Path) -> None:
    builder._wanted = {**builder._wanted, "tesa": "9.9"}
    with pytest.warns(UserWarning, match=r"tesa .* instead of 9\.9; its candidates are built on this machine"):
        results = build(builder, [request("good", {"repeat": 80})], tmp_path / "out")
    contents(results)


def test_a_worker_without_tesa_is_named() -> None:
    answers = {"tcp://a:1": {"tesa": "1"}, "tcp://b:2": ModuleNotFoundError("No module named 'tesa'")}
    assert connect.problems(answers, {"tesa": "1"}) == [
        "the Dask worker tcp://b:2 cannot run tesa: ModuleNotFoundError: No module named 'tesa'"
    ]


def test_no_scheduler(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no Dask scheduler answers at 127\.0\.0\.1:9 within 1 s; start one with"):
        ClusterBuilder("127.0.0.1:9", connect_s=1)
    with pytest.raises(UsageError, match=r"cannot use 'http://somewhere' as a Dask scheduler: .*HOST:PORT"):
        ClusterBuilder("http://somewhere", connect_s=1)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64, b"\0" * 64])
def test_something_else_answers(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the listener is closed at the end
                while True:
                    client, _ = listener.accept()
                    client.sendall(answer)
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(UsageError, match="Dask scheduler"):
            ClusterBuilder(f"127.0.0.1:{listener.getsockname()[1]}", connect_s=2)


def test_a_scheduler_that_lies_about_its_workers() -> None:
    found = connect.problems({"tcp://a:1": "none", "tcp://b:2": {"tesa": "\x1b[2J" + "x" * 999}}, {"tesa": "1"})
    assert found[0] == "the Dask worker tcp://a:1 does not tell its versions"
    assert "\x1b" not in found[1]
    assert len(found[1]) < 500


def test_no_workers() -> None:
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=":0") as cluster,
        pytest.raises(UsageError, match=r"has no worker after 1 s; start some with `dask worker tcp://"),
    ):
        cluster_builder(cluster.scheduler_address, workers_s=1)


def test_distributed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install .*'distributed"):
        ClusterBuilder("127.0.0.1:8786")


@pytest.mark.slow
def test_the_cluster_is_lost_in_mid_job(tmp_path: Path) -> None:
    """The rest is built here, which is said once."""
    with (
        own_cluster(tmp_path) as cluster,
        cluster_builder(cluster.address, jobs=2, cache=Cache(tmp_path / "objects")) as builder,
    ):
        requests = [request("slow", {"ms": 200, "number": 1000 * i}) for i in range(8)]
        results = builder.build(requests, tmp_path)
        first = next(results)
        kill(cluster.scheduler)
        until(lambda: builder._client.status != "running", "the client noticing")
        with pytest.warns(UserWarning, match="is lost: the connection to the scheduler broke") as told:
            found = dict([first, *results])
        assert len([item for item in told if "candidates are built on this machine" in str(item.message)]) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            later = build(builder, [request("good", {"repeat": 90})], tmp_path)
    contents([found[index] for index in range(8)] + later)


@pytest.mark.slow
def test_a_scheduler_that_hangs_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        own_cluster(tmp_path) as cluster,
        cluster_builder(cluster.address, jobs=2, cache=Cache(tmp_path / "objects")) as builder,
    ):
        results = builder.build([request("slow", {"ms": 100, "number": 1000 * i}) for i in range(5)], tmp_path)
        first = next(results)
        monkeypatch.setattr("tesa.tune.builders.dask_jobs._ANSWER_S", 2.0)
        monkeypatch.setattr("tesa.tune.builders.dask_jobs._HEALTH_S", 0.5)
        cluster.scheduler.send_signal(signal.SIGSTOP)
        with pytest.warns(UserWarning, match="is lost: the scheduler does not answer"):
            found = dict([first, *results])
    contents([found[index] for index in range(5)])


@pytest.mark.slow
def test_a_cluster_that_all_workers_left_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.tune.builders.dask_jobs._HEALTH_S", 0.5)
    with (
        own_cluster(tmp_path) as cluster,
        cluster_builder(cluster.address, jobs=2, cache=Cache(tmp_path / "objects")) as builder,
    ):
        builder._workers_s = 2.0
        results = builder.build([request("slow", {"ms": 100, "number": 1000 * i}) for i in range(5)], tmp_path)
        first = next(results)
        kill(cluster.worker)
        with pytest.warns(UserWarning, match="is lost: it has had no worker for 2 s"):
            found = dict([first, *results])
    contents([found[index] for index in range(5)])


@pytest.mark.slow
def test_a_cluster_that_is_back_is_used_again(
    place: Place, builder: ClusterBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(UserWarning, match="is lost: a test says so"):
        builder._lose("a test says so")
    monkeypatch.setattr("tesa.tune.builders.cluster._AGAIN_S", 0.0)
    monkeypatch.setattr("tesa.tune.builders.cluster._SHORT_S", PATIENCE_S)
    monkeypatch.setattr(builder._local, "results", lambda *_: pytest.fail("built here"))
    with pytest.warns(UserWarning, match="is back"):
        contents(build(builder, [request("good", {"repeat": 95})], tmp_path))
