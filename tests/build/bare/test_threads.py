"""Threads that an application gives, and calls at the same time."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tesa.build.bare.ports import STATUS
from tests.frontend.onnx_models import floats, model, node, port
from tests.support import require_system

from .calling import Library, aligned, built, expected
from .test_models import residual_network, sparse

STATUS_THREADS = list(STATUS).index("THREADS")
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32)
LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, TASK, ctypes.c_void_p, ctypes.c_int32)


def wide() -> Any:
    """Layers that are large enough for several threads: unstructured, dense, a softmax and a transpose between."""
    nodes = [
        node("Conv", ["x", "w0"], "c", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], "r"),
        node("Reshape", ["r", "shape"], "flat"),
        node("Transpose", ["flat"], "t", perm=[1, 0]),
        node("MatMul", ["t", "w1"], "h"),
        node("Softmax", ["h"], "y", axis=-1),
    ]
    constants = {"w0": sparse(64, 16, 3, 3), "shape": np.array([64, 1024]), "w1": floats(64, 96)}
    return model(nodes, [port("x", [1, 16, 32, 32])], ["y"], constants)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return built(tmp_path_factory.mktemp("threads"), wide(), threads=3)


def test_tasks_run_in_any_order_and_at_once(library: Library) -> None:
    x = floats(1, 16, 32, 32, seed=5)
    alone = library.run({"x": x})["y"]
    np.testing.assert_allclose(alone, expected(wide(), {"x": x})["y"], rtol=1e-4, atol=1e-6)
    counts: list[int] = []

    @LAUNCH
    def backwards(_user: int, task: Any, data: int, tasks: int) -> int:
        counts.append(tasks)
        for number in reversed(range(tasks)):
            task(data, number)
        return 0

    @LAUNCH
    def at_once(_user: int, task: Any, data: int, tasks: int) -> int:
        threads = [threading.Thread(target=task, args=(data, number)) for number in range(tasks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 0

    for launch in (backwards, at_once):
        np.testing.assert_array_equal(library.run({"x": x}, more=(launch, None))["y"], alone)
    assert max(counts) == 3


def test_a_launch_that_fails_is_told_and_gets_its_user(library: Library) -> None:
    users: list[int] = []

    @LAUNCH
    def fails(user: int, _task: Any, _data: int, _tasks: int) -> int:
        users.append(user)
        return 5

    with pytest.raises(AssertionError, match="could not run the tasks"):
        library.run({"x": floats(1, 16, 32, 32)}, more=(fails, ctypes.c_void_p(4711)))
    assert users == [4711]  # after the first failure nothing is launched


def test_nothing_is_looked_up_after_a_launch_that_fails(tmp_path: Path) -> None:
    """What was not computed would be taken for numbers, or for indices."""
    nodes = [
        node("MatMul", ["x", "w"], "h"), node("Cast", ["h"], "i", to=onnx.TensorProto.INT64),
        node("Gather", ["table", "i"], "y"),
    ]  # fmt: skip
    table = floats(16)
    proto = model(nodes, [port("x", [2048, 256])], ["y"], {"w": floats(256, 64), "table": table})
    library = built(tmp_path, proto, threads=2)
    x, y = np.zeros((2048, 256), np.float32), np.full((2048, 64), -1, np.float32)
    pointers = [array.ctypes.data_as(library.pointer) for array in (x, y, aligned(library.arena_bytes))]

    @LAUNCH
    def fails(_user: int, _task: Any, _data: int, _tasks: int) -> int:
        return 1

    assert library.function("run_parallel")(*pointers, fails, None) == STATUS_THREADS
    assert (y == -1).all()
    assert (library.run({"x": x})["y"] == table[0]).all()


def test_two_calls_at_once_with_an_arena_each(library: Library) -> None:
    inputs = [floats(1, 16, 32, 32, seed=seed) for seed in (1, 2)]
    wanted = [library.run({"x": x})["y"].copy() for x in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        arena = aligned(library.arena_bytes)
        for _ in range(40):
            if not np.array_equal(library.run({"x": inputs[number]}, arena)["y"], wanted[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nothing_is_written_outside_of_arena_and_outputs_and_no_state_is_kept(library: Library) -> None:
    room = aligned(library.arena_bytes + 4096)
    room[:] = 0xA5
    arena = room[2048 : 2048 + library.arena_bytes]
    x = floats(1, 16, 32, 32, seed=9)
    before = x.copy()
    first = library.run({"x": x}, arena)["y"]
    assert (room[:2048] == 0xA5).all()
    assert (room[2048 + library.arena_bytes :] == 0xA5).all()
    np.testing.assert_array_equal(x, before)
    room[:] = 0
    np.testing.assert_array_equal(library.run({"x": x}, arena)["y"], first)


def test_a_library_has_no_variables(tmp_path: Path) -> None:
    """What a program may write of it are tables of the linker, and whether the CPU has been asked."""
    readelf = require_system("readelf", "binutils")
    built(tmp_path, residual_network())
    told = subprocess.run([readelf, "-SW", str(tmp_path / "net.so")], capture_output=True, text=True, check=True).stdout
    sizes = {
        line.split("]")[1].split()[0]: line.split("]")[1].split()[4] for line in told.splitlines() if "] ." in line
    }
    assert int(sizes.get(".data", "0"), 16) <= 8  # the handle that gcc gives every library
    assert int(sizes.get(".bss", "0"), 16) <= 16
    assert "tdata" not in told
