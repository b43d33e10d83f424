"""One compiled model called from several threads at once: right numbers, results that stay, flat memory."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tesa.models
from tesa.compiler import compile_model
from tesa.models import digits_path
from tesa.runtime import Model, load
from tests.frontend.onnx_models import model as onnx_model
from tests.frontend.onnx_models import node, port

from .models import build, mlp

PAGE = 4096


def together(count: int, work: Callable[[int], None]) -> None:
    """work(number) in as many threads at once; their errors are the test's."""
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work, number) for number in range(count)]:
            done.result()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The digits model for one thread and for two."""
    folder = tmp_path_factory.mktemp("digits")
    for threads in (1, 2):
        compile_model(digits_path(), output=folder / f"{threads}.so", threads=threads, measure=False)
    return folder / "1.so", folder / "2.so"


@pytest.mark.slow
def test_calls_of_four_threads_compute_what_one_thread_does(digits: tuple[Path, Path]) -> None:
    images = tesa.models.digits_images()[:24]
    for path in digits:
        model = load(path)
        wanted = [model({"image": image[None]})["logits"] for image in images]
        kept = [array.copy() for array in wanted]

        def work(seed: int, model: Model = model, wanted: list[np.ndarray] = wanted) -> None:
            for number in np.random.default_rng(seed).integers(0, len(images), 100):
                np.testing.assert_array_equal(model({"image": images[number][None]})["logits"], wanted[number])

        together(4, work)
        np.testing.assert_array_equal(wanted, kept)


@pytest.mark.slow
def test_models_of_different_thread_counts_share_the_threads_of_a_process(digits: tuple[Path, Path]) -> None:
    images = tesa.models.digits_images()[:8]
    models = [load(path) for path in digits]
    wanted = [model({"image": images[:1]})["logits"] for model in models]

    def work(number: int) -> None:
        for turn in range(50):
            which = (turn + number) % 2
            np.testing.assert_array_equal(models[which]({"image": images[:1]})["logits"], wanted[which])

    together(4, work)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list a process's threads")
def test_threads_that_come_and_go_leave_no_workers(digits: tuple[Path, Path]) -> None:
    """TVM's workers of a thread outlive it: two for each of these would be sixty."""
    model = load(digits[1])
    feeds = {"image": tesa.models.digits_images()[:1]}
    wanted, got = model(feeds)["logits"], []

    def work() -> None:
        got.append(model(feeds)["logits"])

    def one() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    one()
    before = len(os.listdir("/proc/self/task"))
    for _ in range(30):
        one()
    np.testing.assert_array_equal(got, [wanted] * 31)
    assert len(os.listdir("/proc/self/task")) <= before + 2


@pytest.mark.slow
def test_errors_of_a_call_by_another_thread_are_the_callers(digits: tuple[Path, Path]) -> None:
    model = load(digits[1])
    with ThreadPoolExecutor(1) as pool:
        wrong = pool.submit(model.execute, [])
        assert isinstance(wrong.exception(), Exception)
        assert pool.submit(model, {"image": tesa.models.digits_images()[:1]}).result()["logits"].shape == (1, 10)


@pytest.mark.slow
def test_a_call_that_fails_does_no_harm_to_later_ones(tmp_path: Path) -> None:
    model = build(tmp_path, mlp())
    x = np.ones((4, 6), np.float32)
    wanted = model(x)["y"]
    for _ in range(3):
        with pytest.raises(Exception, match=r"(?i)shape|mismatch"):
            model.execute(build(tmp_path, mlp(rows=5), name="other").prepare(np.ones((5, 6), np.float32)))
        np.testing.assert_array_equal(model(x)["y"], wanted)


def test_a_watched_call_stands_apart_from_the_others(tmp_path: Path) -> None:
    model = build(tmp_path, mlp())
    prepared = model.prepare(np.ones((4, 6), np.float32))
    wanted = model.collect(model.execute(prepared))["y"]
    seen: list[str] = []
    watched = model.watched(lambda _function, symbol, before, *_: seen.append(symbol) if before else None)
    before = len(seen)
    model.execute(prepared)
    assert len(seen) == before
    np.testing.assert_array_equal(model.collect(watched(*prepared))["y"], wanted)
    assert len(seen) > before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def _soak(model: Model, calls: int) -> int:
    """Bytes that the process has grown by after so many calls of four threads, the first ones apart."""
    feeds = [np.random.default_rng(seed).standard_normal((4, 6)).astype(np.float32) for seed in range(4)]
    wanted = [model(x)["y"] for x in feeds]
    barrier = threading.Barrier(5)

    def work(number: int) -> None:
        for turn in range(calls // 4 + 500):
            if turn == 500:
                barrier.wait()  # all machines are open now; the test looks at the memory
                barrier.wait()
            got = model(feeds[number])["y"]
            assert np.array_equal(got, wanted[number])

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(work, number) for number in range(4)]
        barrier.wait(60)
        gc.collect()
        before = _resident()
        barrier.wait(60)
        for item in done:
            item.result()
        gc.collect()
        return _resident() - before


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="this system does not tell a process's memory")
def test_machines_share_the_constants(tmp_path: Path) -> None:
    """16 MiB of them: sixteen copies would be 256."""
    table = np.random.default_rng(0).standard_normal((1 << 16, 64)).astype(np.float32)
    proto = onnx_model([node("Gather", ["table", "x"], "y")], [port("x", [4], "int64")], ["y"], {"table": table})
    compiled = build(tmp_path, proto, propagation=False)
    prepared = compiled.prepare(np.arange(4))
    compiled.execute(prepared)
    before = _resident()
    watched = [compiled.watched(lambda *_: None) for _ in range(16)]
    for call in watched:
        np.testing.assert_array_equal(np.from_dlpack(call(*prepared)), table[:4])
    assert _resident() - before < 16 << 20


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="this system does not tell a process's memory")
@pytest.mark.parametrize("calls", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_memory_stays_flat(tmp_path: Path, calls: int) -> None:
    """256 bytes a call would be 5 MiB in the short run; the allocator of the system has its own ups and downs."""
    assert _soak(build(tmp_path, mlp()), calls) < 4 << 20
