"""A builder and a runner that compute nothing: times follow a known law, and candidates fail as they are told."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tvm.tirx import Evaluate, IntImm, PrimFunc

import tesa.schedules.cpu  # noqa: F401  (registers its families now, not into a test's registry)
from tesa.build.digest import code_digest
from tesa.build.product import Product
from tesa.layers.layer import Layer
from tesa.measure.failure import Failure
from tesa.measure.interfaces import BuildRequest
from tesa.measure.timing import Timing
from tesa.schedules.registry import Family, find
from tesa.schedules.types import Code, Config, Core, FloatArray, Problem, config_key
from tesa.targets.target import parse_target

TARGET = parse_target("x86:haswell")
ROWS, VECTORS, CHUNKS = (1, 2, 3, 4, 6, 8, 12, 16), (1, 2, 3, 4), (1, 2, 4, 8)

Law = Callable[[str, Config], float]


def law(name: str, config: Config) -> float:
    """Milliseconds: a smooth bowl over the configuration, another one for each family, the sparse one deeper."""
    best = {"dense": (8, 2, 2), "sparse": (3, 4, 8)}[name]
    away = sum((math.log2(config[key]) - math.log2(b)) ** 2 for key, b in zip(("r", "v", "c"), best, strict=True))
    return {"dense": 1.0, "sparse": 0.5}[name] * (1 + 0.1 * away)


def families(configs: Sequence[Config] | None = None) -> dict[tuple[str, str], Family]:
    """Two families with 128 configurations each. Their estimates say little, and rank the default first."""
    grid = [{"r": r, "v": v, "c": c} for r in ROWS for v in VECTORS for c in CHUNKS] if configs is None else configs

    def family(name: str) -> Family:
        def space(problem: Problem, weight: FloatArray, core: Core) -> Sequence[Config]:
            return grid

        def estimate(problem: Problem, weight: FloatArray, core: Core, config: Config) -> float:
            away = abs(math.log2(config["r"]) - 1) + abs(config["v"] - 2) / 2 + 0.01 * config["c"]
            return (1.0 if name == "dense" else 0.7) * (1 + 0.2 * away)

        def emit(problem: Problem, weight: FloatArray, core: Core, config: Config, symbol: str) -> Code:
            nothing = PrimFunc([], Evaluate(IntImm("int32", 0)))
            return Code(nothing.with_attr({"global_symbol": symbol, "fake": config_key(name, config)}))

        return Family(name, "cpu", name, space, estimate, emit, dense=lambda weight, config: name == "dense")

    return {("cpu", name): family(name) for name in ("dense", "sparse")}


def layer(name: str = "fc", seed: int = 0, m: int = 8, density: float = 0.5) -> Layer:
    """A linear layer with a random weight."""
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((m, 16)) * (rng.random((m, 16)) < density)).astype(np.float32)
    return Layer(name, Problem("linear", m, 16, 32, (1, 16, 32), (1, m, 32)), weight)


@dataclass
class FakeBuilder:
    """Builds nothing. fails: what becomes of a candidate, by its key. asked: keys in the order of the requests."""

    fails: Mapping[str, Failure] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    closed: int = 0

    def build(self, requests: Sequence[BuildRequest], folder: Path) -> Iterator[tuple[int, Product | Failure]]:
        """In the opposite order, as real builders have none."""
        assert folder.is_dir()
        for index, request in reversed(list(enumerate(requests))):
            key = config_key(request.family, request.config)
            self.asked.append(key)
            path = folder / f"{index}.o"
            path.write_text(key)
            family, problem = find(request.family), request.problem
            code = family.emit(problem, request.weight, request.target.core, request.config, "fake_kernel")
            yield index, self.fails.get(key) or Product(key, (path,), code=code_digest(code, "fake_kernel"))

    def close(self) -> None:
        """Count it."""
        self.closed += 1


@dataclass
class FakeRunner:
    """Times by a law, with noise that depends on the candidate and on how often it was measured.

    fails: by key, what it answers; "device" failures may be given a number of times with blackouts. turns: the keys
    that each call was given.
    """

    law: Law = law
    noise: float = 0.0
    fails: Mapping[str, Failure] = field(default_factory=dict)
    raises: Mapping[int, BaseException] = field(default_factory=dict)
    turns: list[list[str]] = field(default_factory=list)
    budgets: list[float] = field(default_factory=list)
    count: dict[str, int] = field(default_factory=dict)

    def run(
        self, problem: Problem, weight: FloatArray, kernels: Sequence[Product], *, budget_ms: float
    ) -> list[Timing | Failure]:
        """raises: by the number of the call, what it ends with."""
        turn = len(self.turns)
        self.turns.append([kernel.symbol for kernel in kernels])
        self.budgets.append(budget_ms)
        if turn in self.raises:
            raise self.raises[turn]
        return [self._one(kernel) for kernel in kernels]

    def _one(self, kernel: Product) -> Timing | Failure:
        key = kernel.symbol
        assert kernel.objects[0].read_text() == key, "the objects are gone before they were run"
        if key in self.fails:
            return self.fails[key]
        self.count[key] = self.count.get(key, 0) + 1
        digest = hashlib.sha256(f"{key} {self.count[key]}".encode()).digest()
        noise = 1 + self.noise * (digest[0] / 127.5 - 1)
        time = self.law(*parse(key)) * noise
        return Timing(time, 0.9 * time, 0.01 * time, 20)

    def device(self) -> dict[str, str]:
        """A name."""
        return {"cpu": "fake"}

    def close(self) -> None:
        """Nothing is open."""


def parse(key: str) -> tuple[str, Config]:
    """The inverse of config_key."""
    import json

    name, brace, rest = key.partition("{")
    return name, json.loads(brace + rest)
