"""Kernel families that go wrong in every way a compiler can, and the requests for them."""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tesa.build.product import Product
from tesa.measure.failure import Failure
from tesa.measure.interfaces import Builder, BuildRequest
from tesa.schedules.registry import Family
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem
from tests.build import toy

PROBLEM = toy.linear()
WEIGHT = toy.weight(PROBLEM)

Emit = Callable[[Problem, FloatArray, Config, str], Code]


def good(problem: Problem, weight: FloatArray, config: Config, symbol: str) -> Code:
    return toy.code(problem, weight, symbol, repeat=config.get("repeat", 1))


def slow(problem: Problem, weight: FloatArray, config: Config, symbol: str) -> Code:
    time.sleep(config["ms"] / 1e3)
    return toy.code(problem, weight, symbol, error=config["ms"] + config.get("number", 0))


def raising(problem: Problem, weight: FloatArray, config: Config, symbol: str) -> Code:
    raise ZeroDivisionError("no such kernel")


def broken(problem: Problem, weight: FloatArray, config: Config, symbol: str) -> Code:
    return toy.broken(problem, weight, symbol)


def crashing(problem: Problem, weight: FloatArray, config: Config, symbol: str) -> Code:
    ctypes.string_at(0)
    raise AssertionError("reading address 0 went well")


def endless(problem: Problem, weight: FloatArray, config: Config, symbol: str) -> Code:
    tempfile.mkdtemp(prefix="tesa-")  # compilers write files, too
    while True:
        time.sleep(0)


def deaf(problem: Problem, weight: FloatArray, config: Config, symbol: str) -> Code:
    """Computes without ever letting Python run, as a compiler does that holds its lock."""
    ctypes.PyDLL(None).sleep(100_000)
    raise AssertionError("slept to the end")


def full(problem: Problem, weight: FloatArray, config: Config, symbol: str) -> Code:
    raise OSError(28, os.strerror(28))


def patricide(problem: Problem, weight: FloatArray, config: Config, symbol: str) -> Code:
    """Kills the process that started this one: a worker of the cluster."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(10_000)
    raise AssertionError("outlived its parent")


def killing_once(problem: Problem, weight: FloatArray, config: Config, symbol: str) -> Code:
    """As patricide, the first time; the mark is a file named by the configuration."""
    mark = Path(os.environ["TESA_TEST_MARKS"]) / str(config["mark"])
    if mark.exists():
        return toy.code(problem, weight, symbol, error=config["mark"])
    mark.touch()
    return patricide(problem, weight, config, symbol)


def family(name: str, emit: Emit) -> Family:
    """A family of that emit, for linear layers; the size is what the configuration says."""

    def full_emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
        return emit(problem, weight, config, symbol)

    def space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
        return [{}]

    def estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
        return 1.0

    def size(problem: Problem, weight: FloatArray, core: Core, config: Config) -> int:
        return config.get("size", 0)

    return Family(name, "cpu", name, space, estimate, full_emit, size)


EMITS: dict[str, Emit] = {
    "good": good,
    "slow": slow,
    "raising": raising,
    "broken": broken,
    "crashing": crashing,
    "endless": endless,
    "deaf": deaf,
    "full": full,
    "patricide": patricide,
    "killing_once": killing_once,
}


def families() -> dict[tuple[str, str], Family]:
    """All of them, as the registry has them."""
    return {("cpu", name): family(name, emit) for name, emit in EMITS.items()}


def request(name: str, config: Config | None = None, *, seed: int = 0, m: int = 8, k: int = 12) -> BuildRequest:
    """A candidate for a small linear layer with a random weight."""
    problem = replace(PROBLEM, m=m, k=k, x_shape=(1, k, 16), y_shape=(1, m, 16))
    return BuildRequest(problem, toy.weight(problem, seed), toy.TARGET, name, config or {})


def build(builder: Builder, requests: Sequence[BuildRequest], folder: Path) -> list[Product | Failure]:
    """All results in the order of the requests."""
    folder.mkdir(exist_ok=True)
    found = dict(builder.build(requests, folder))
    assert sorted(found) == list(range(len(requests)))
    return [found[index] for index in range(len(requests))]


def contents(results: Iterable[Product | Failure]) -> list[tuple[str, list[tuple[str, bytes]], list[bytes]]]:
    """What the kernels are, apart from the folder they lie in."""
    rows = []
    for result in results:
        assert isinstance(result, Product), result
        objects = [(path.name, path.read_bytes()) for path in result.objects]
        rows.append((result.symbol, objects, [np.asarray(array).tobytes() for array in result.constants]))
    return rows
