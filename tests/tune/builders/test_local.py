"""The local builder: kernels that run, failures alone, limits, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import tesa.schedules.cpu  # noqa: F401  (registers its families now, not into the test's registry)
from tesa.base.pool import Pool
from tesa.build import objects
from tesa.build.cache import Cache
from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.layers.layer import Layer
from tesa.measure.failure import Failure
from tesa.measure.interfaces import BuildRequest
from tesa.measure.local import measure
from tesa.measure.timing import Timing
from tesa.schedules import registry
from tesa.targets.target import parse_target
from tesa.tune.builders import LocalBuilder
from tesa.tune.choose import choose
from tests.build import toy
from tests.support import children, gone, kill_family, until, when
from tests.tune.builders import toys
from tests.tune.builders.toys import PROBLEM, build, contents, request

TARGET = parse_target("x86:haswell")


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toys beside tesa's own."""
    monkeypatch.setattr(registry, "_FAMILIES", {**registry._FAMILIES, **toys.families()})


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBuilder]:
    with LocalBuilder(2, Cache(tmp_path_factory.mktemp("objects"))) as made:
        yield made


def await_end(pids: set[int]) -> None:
    until(lambda: gone(pids), f"the end of {pids}")


def test_kernels_run(builder: LocalBuilder, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = np.where(rng.random((16, 24)) < 0.3, rng.standard_normal((16, 24)), 0).astype(np.float32)
    problem = toy.linear(16, 24, 32)
    options = [("dense", None), ("indexed", None), ("unrolled", None)]
    requests = []
    for name, _ in options:
        config = registry.find(name).space(problem, weight, TARGET.core)[0]
        requests.append(BuildRequest(problem, weight, TARGET, name, config))
    built = build(builder, requests, tmp_path)
    kernels = [kernel for kernel in built if isinstance(kernel, Product)]
    assert len(kernels) == 3
    assert len(kernels[2].objects) > 1, "the unrolled form has panels of their own"
    assert all(path.parent == tmp_path for kernel in kernels for path in kernel.objects)
    results = measure(problem, weight, kernels, budget_ms=0)
    assert all(isinstance(result, Timing) for result in results), results


def test_what_was_built_is_built_for_compile(
    builder: LocalBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = toy.weight(PROBLEM, seed=5)
    config = registry.find("unrolled").space(PROBLEM, weight, TARGET.core)[0]
    (built,) = build(builder, [BuildRequest(PROBLEM, weight, TARGET, "unrolled", config)], tmp_path)
    assert isinstance(built, Product)
    monkeypatch.setattr(objects, "object_of", lambda *_: pytest.fail("compiled again"))
    (kernel,) = choose([Layer("fc", PROBLEM, weight)], TARGET, options=[("unrolled", config)], builder=builder)
    assert kernel.product.symbol == built.symbol
    assert [path.name for path in kernel.product.objects] == [path.name for path in built.objects]
    assert [path.read_bytes() for path in kernel.product.objects] == [path.read_bytes() for path in built.objects]


@pytest.mark.usefixtures("families")
def test_each_failure_is_the_candidates_own(tmp_path: Path) -> None:
    names = ["good", "raising", "broken", "crashing", "good", "nothing"]
    requests = [request(name, {"repeat": i} if name == "good" else {}) for i, name in enumerate(names)]
    with LocalBuilder(2, Cache(tmp_path / "objects")) as builder:
        results = build(builder, requests, tmp_path / "out")
        builder.limit_s = 3  # for those alone that would never end: the others take as long as they need
        late = ["endless", "deaf"]
        results += build(builder, [request(name) for name in late], tmp_path / "out")
        builder.limit_s = 300
        later = build(builder, [request("good", {"repeat": 9})], tmp_path / "out")
    found = zip([*names, *late], results, strict=True)
    failures = {name: result for name, result in found if isinstance(result, Failure)}
    contents([results[0], results[4], *later])
    assert {name: failure.kind for name, failure in failures.items()} == {
        **dict.fromkeys(("raising", "broken", "crashing", "nothing"), "build"),
        **dict.fromkeys(("endless", "deaf"), "timeout"),
    }
    assert failures["raising"].message == "cannot be generated: ZeroDivisionError: no such kernel"
    assert "llvm.sqrt" in failures["broken"].message
    assert "SIGSEGV" in failures["crashing"].message
    assert failures["endless"].message == "the compiler did not end: no result after 3 s"
    assert "no kernel family 'nothing'" in failures["nothing"].message.replace("\\'", "'")


@pytest.mark.slow
@pytest.mark.usefixtures("families")
def test_the_largest_are_begun_first(tmp_path: Path) -> None:
    requests = [request("good", {"size": size, "repeat": size + 1}) for size in (0, 3, 1, 7, 5)]
    with LocalBuilder(1, Cache(tmp_path / "objects")) as builder:
        assert [index for index, _ in builder.build(requests, tmp_path)] == [3, 4, 1, 2, 0]


@pytest.mark.usefixtures("families")
def test_a_full_disk_is_no_candidates_fault(tmp_path: Path, builder: LocalBuilder) -> None:
    with pytest.raises(UsageError, match=r"cannot write temporary files in .*No space left on device; free some space"):
        list(builder.build([request("full")], tmp_path))
    with pytest.raises(UsageError, match="there is no folder"):
        list(builder.build([request("good")], tmp_path / "missing"))


@pytest.mark.slow
@pytest.mark.usefixtures("families")
def test_no_more_results_wait_than_agreed(tmp_path: Path) -> None:
    requests = [request("good", {"repeat": 1 + i}) for i in range(12)]
    with LocalBuilder(1, Cache(tmp_path / "objects"), ahead=2) as builder:
        results = builder.build(requests, tmp_path)
        next(results)
        until(lambda: len(list(builder.cache.folder.glob("*/*"))) >= 4, "the fourth object")
        time.sleep(0.5)  # one fetched, two waiting, one in hand
        assert len(list(builder.cache.folder.glob("*/*"))) == 4
        assert len(list(results)) == 11


@pytest.mark.slow
@pytest.mark.usefixtures("families")
def test_closing_the_iterator_ends_what_runs(tmp_path: Path) -> None:
    before = children()
    with LocalBuilder(2, Cache(tmp_path / "objects"), limit_s=100_000) as builder:
        results = builder.build([request("good", {"size": 1}), request("endless"), request("deaf")], tmp_path)
        assert next(results)[0] == 0
        results.close()  # type: ignore[attr-defined]
        (after,) = build(builder, [request("good")], tmp_path)
        assert isinstance(after, Product)
    await_end(children() - before)


@pytest.mark.usefixtures("families")
def test_closing_the_builder_from_another_thread_ends_the_iteration(tmp_path: Path) -> None:
    builder = LocalBuilder(1, Cache(tmp_path / "objects"))
    before = children()
    closing = when(lambda: children() - before, builder.close)
    assert list(builder.build([request("endless"), request("good")], tmp_path)) == []
    closing.join()
    builder.close()
    await_end(children() - before)


@pytest.mark.usefixtures("families")
def test_ctrl_c(tmp_path: Path) -> None:
    with LocalBuilder(1, Cache(tmp_path / "objects")) as builder:
        before = children()
        when(lambda: children() - before, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            list(builder.build([request("endless")], tmp_path))
        await_end(children() - before)


def test_a_killed_parent_leaves_no_process(tmp_path: Path) -> None:
    """Neither where a child computes for ever, nor where it waits."""
    script = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        from pathlib import Path
        from tesa.schedules import registry
        from tesa.build.cache import Cache
        from tesa.tune.builders import LocalBuilder
        from tests.tune.builders import toys
        import tesa.schedules.cpu
        registry._FAMILIES.update(toys.families())
        builder = LocalBuilder(2, Cache(Path({str(tmp_path)!r}) / "objects"))
        results = builder.build([toys.request("good", {{"size": 1}}), toys.request("endless")], Path({str(tmp_path)!r}))
        print(next(results), flush=True)
        next(results)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    family: set[int] = set()
    try:
        assert process.stdout is not None
        assert "Product" in process.stdout.readline()
        parent = psutil.Process(process.pid)
        until(lambda: len(parent.children()) == 2, "both children at work")
        family = {child.pid for child in parent.children(recursive=True)}
        process.kill()
        process.wait()
        process.stdout.close()
        await_end(family)
    finally:
        for pid in (process.pid, *family):
            kill_family(pid)


@pytest.mark.slow
@pytest.mark.usefixtures("families")
def test_a_killed_compiler_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    builder = LocalBuilder(1, Cache(tmp_path / "objects"), limit_s=5)
    (result,) = build(builder, [request("endless")], tmp_path / "out")
    assert isinstance(result, Failure)
    assert [path.name for path in (tmp_path / "out").iterdir()] == []
    builder.close()
    assert [list(path.iterdir()) for path in tmp_path.glob("tesa-*/tesa-*")] == [[]]
    del builder


def test_wrong_numbers() -> None:
    with pytest.raises(UsageError, match="jobs is 0: at least one process"):
        LocalBuilder(0)
    with pytest.raises(UsageError, match="limit_s is 0: give the seconds"):
        LocalBuilder(1, limit_s=0)


@pytest.mark.usefixtures("families")
def test_a_cache_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with LocalBuilder(1, Cache(tmp_path / "file" / "objects")) as builder:
        with pytest.warns(UserWarning, match="cannot write tesa's cache") as told:
            results = build(builder, [request("good"), request("good", {"repeat": 2})], tmp_path / "out")
        assert len([one for one in told if "cannot write" in str(one.message)]) == 1
    contents(results)


@pytest.mark.slow
def test_two_builds_share_the_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of one does not touch what runs for the other."""
    monkeypatch.setattr(registry, "_FAMILIES", toys.families())
    with LocalBuilder(2, Cache(tmp_path / "objects")) as builder:
        first = builder.build([request("good", {"size": 1}), request("endless")], tmp_path)
        assert next(first)[0] == 0
        second = builder.build([request("slow", {"ms": 1000}), request("good", {"repeat": 3})], tmp_path)
        taken = [next(second)]
        first.close()  # type: ignore[attr-defined]
        taken += list(second)
    assert sorted(index for index, _ in taken) == [0, 1]
    contents(result for _, result in taken)


def test_a_pool_without_work_has_no_process() -> None:
    before = children()
    pool = Pool(4)
    assert pool.call(("math:sqrt", (4.0,)), 600.0) == 2.0
    assert len(children() - before) == 1
    pool.close()
    await_end(children() - before)
