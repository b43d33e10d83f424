"""What competes for a layer: decompositions too, what a log knows, the nearest weight; and what is left out is told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tesa.choose.chosen import ChosenKernel
from tesa.choose.competitors import competitors
from tesa.choose.plan import LEFT_OUT
from tesa.choose.shortlist import KEEP, NEAR, shortlist
from tesa.decompose import describe_pieces, is_composite
from tesa.decompose.candidates import Option, candidates
from tesa.layers.layer import Layer
from tesa.records.emitted import EmittedByFamilies
from tesa.records.log import Log, Record, Task
from tesa.schedules.types import Config, FloatArray, Problem, config_key
from tesa.targets.target import host_cpu, parse_target
from tesa.tune.choose import choose

TARGET = parse_target(None)
CPUS = (TARGET.cpu, host_cpu())
PROBLEM = Problem("linear", 64, 96, 32, (96, 32), (64, 32))


def scattered(seed: int = 0, density: float = 0.2, shape: tuple[int, int] = (64, 96)) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < density, rng.standard_normal(shape), 0).astype(np.float32)


def mixed(size: int = 256) -> tuple[Problem, FloatArray]:
    """32x32 blocks and scattered elements."""
    rng = np.random.default_rng(1)
    live = np.kron(rng.random((size // 32, size // 32)) < 0.3, np.ones((32, 32), bool)) | (
        rng.random((size, size)) < 0.01
    )
    weight = np.where(live, rng.standard_normal((size, size)), 0).astype(np.float32)
    return Problem("linear", size, size, 64, (size, 64), (size, 64)), weight


def record(weight: FloatArray, name: str, config: Config, ms: float, problem: Problem = PROBLEM) -> Record:
    task = Task.of(problem, weight)
    emitted = EmittedByFamilies(problem, weight, TARGET, task.pattern.digest)
    return Record(task, TARGET.name, {"cpu": "x"}, name, config, ms, ms, code=emitted(name, config))


def one(weight: FloatArray, log: Log | Path | None, problem: Problem = PROBLEM, **more: object) -> ChosenKernel:
    (kernel,) = choose([Layer("a", problem, weight)], TARGET, log=log, **more)  # type: ignore[arg-type]
    return kernel


def options(kernel: ChosenKernel) -> set[str]:
    return {config_key(row.family, row.config) for row in kernel.part.candidates}


def test_decompositions_are_candidates() -> None:
    problem, weight = mixed()
    found = candidates(problem, weight, TARGET)
    assert found[0][0] == "dense"
    assert "cover" in {name for name, _ in found}
    assert {name for name, _ in candidates(problem, weight, TARGET, ["cover"])} == {"cover"}
    assert not any(is_composite(name) for name, _ in candidates(PROBLEM, scattered(), TARGET))


def test_a_decomposition_that_is_expected_to_be_slow_is_not_measured() -> None:
    problem, weight = mixed()
    found = candidates(problem, weight, TARGET)
    fast = {config_key(*option): 1.0 for option in found}
    slow = {key: (NEAR + 0.1 if key.startswith("cover") else 1.0) for key in fast}
    names = [name for name, _ in shortlist(found, fast, problem, weight, TARGET.core)]
    assert names.count("cover") == KEEP
    assert "cover" not in {name for name, _ in shortlist(found, slow, problem, weight, TARGET.core)}
    assert "cover" in {name for name, _ in shortlist(found, slow, problem, weight, TARGET.core, asked=True)}


def test_the_parts_of_a_decomposition_are_in_the_plan(tmp_path: Path) -> None:
    problem, weight = mixed()
    kernel = one(weight, tmp_path, problem, families=["cover"])
    pieces = describe_pieces(problem, weight, kernel.part.family, kernel.part.config)
    assert [(p.pattern, p.nonzeros, p.kernel) for p in kernel.parts] == [
        (found.piece.pattern, found.piece.nonzeros, found.family) for found in pieces
    ]
    assert len(kernel.parts) > 1
    assert {(p.family, p.bits) for p in kernel.parts} == {("cover", 32)}
    assert sum(p.nonzeros for p in kernel.parts) == np.count_nonzero(weight)
    assert len({p.digest for p in kernel.parts} | {kernel.digest}) == len(kernel.parts) + 1
    assert kernel.digest == Task.of(problem, weight).pattern.digest
    assert kernel.part.reason.startswith("measured: cover ")
    assert all((p.candidates, p.reason) == ((), "") for p in kernel.parts[1:])
    assert one(weight, tmp_path, problem, families=["cover"], measure=False).parts == kernel.parts


@pytest.mark.parametrize("seed", range(3))
def test_a_plain_kernel_is_one_part(seed: int) -> None:
    weight = scattered(seed)
    (part,) = one(weight, None, measure=False, families=["indexed"]).parts
    assert (part.pattern, part.kernel, part.family) == ("unstructured", "", "indexed")
    assert part.nonzeros == np.count_nonzero(weight)


def test_a_known_configuration_competes_though_the_family_would_not_offer_it() -> None:
    weight, log = scattered(), Log()
    offered = [config for name, config in candidates(PROBLEM, weight, TARGET, ["indexed"]) if name == "indexed"]
    odd = {**offered[0], "rows": 3}
    assert odd not in offered
    log.append([record(weight, "indexed", odd, 1e-6), record(weight, "gone", {}, 1e-7)])
    kernel = one(weight, log, measure=False)
    assert (kernel.part.family, kernel.part.config) == ("indexed", odd)
    assert kernel.part.reason == "measured: indexed 0.001 us"


def test_a_known_kernel_competes_whatever_its_size() -> None:
    weight, log = scattered(), Log()
    config = next(config for name, config in candidates(PROBLEM, weight, TARGET, ["unrolled"]) if name == "unrolled")
    without = one(weight, None, measure=False, instructions=1)
    assert "unrolled" not in {row.family for row in without.part.candidates if not row.note.startswith(LEFT_OUT)}
    log.append([record(weight, "unrolled", config, 1e-6)])
    kernel = one(weight, log, measure=False, instructions=1)
    assert kernel.part.family == "unrolled"
    assert not [row for row in kernel.part.candidates if row.note.startswith(LEFT_OUT)]


def test_what_is_left_out_is_told() -> None:
    kernel = one(scattered(), None, measure=False, instructions=1_000)
    (row,) = [row for row in kernel.part.candidates if row.note.startswith(LEFT_OUT)]
    assert row.family == "unrolled"
    assert row.measured_ms is None
    assert row.note.endswith(" instructions, the budget is 1,000 (--code-budget)")
    assert row.predicted_ms
    (asked,) = one(scattered(), None, measure=False, instructions=1_000, families=["unrolled"]).parts
    assert not [row for row in asked.candidates if row.note.startswith(LEFT_OUT)]


def known(log: Log, weight: FloatArray) -> Option:
    """Put times of a weight into the log; the last option of indexed is the fastest."""
    found = [option for option in candidates(PROBLEM, weight, TARGET) if option[0] in ("dense", "indexed")]
    log.append([record(weight, *option, 1.0 - 0.001 * number) for number, option in enumerate(found)])
    return found[-1]


def test_the_nearest_weight_decides_where_nothing_is_measured() -> None:
    log, weight = Log(), scattered()
    best = known(log, weight)
    other = weight.copy()
    other[weight != 0] += 1  # the same pattern with other values
    kernel = one(other, log, measure=False)
    assert (kernel.part.family, dict(kernel.part.config)) == (best[0], dict(best[1]))
    assert re.fullmatch(
        r"nearest: indexed 0\.9\d* ms, of a pattern with sparsity 0\.79 in both, unstructured in both",
        kernel.part.reason,
    )
    assert {row.measured_ms for row in kernel.part.candidates} == {None}
    exact = one(weight, log, measure=False)
    assert exact.part.reason.startswith("measured: ")
    far = one(scattered(1, 0.5), log, measure=False)
    assert far.part.reason.startswith("estimated: ")
    only = one(other, log, measure=False, families=["dense"])
    assert only.part.family == "dense"


def test_the_nearest_competes_where_is_measured(tmp_path: Path) -> None:
    log, weight = Log(), scattered()
    best = known(log, weight)
    other = weight + (weight != 0)
    kept = competitors(Layer("a", PROBLEM, other), TARGET, Log(), cpus=(), instructions=8_000).options
    assert best not in kept
    kernel = one(other, log)
    assert config_key(*best) in options(kernel)
    assert kernel.part.reason.startswith("measured: ")


def test_where_the_nearest_fails_the_next_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    log, weight = Log(), scattered()
    known(log, weight)
    other = weight + (weight != 0)
    first, second, *_ = competitors(Layer("a", PROBLEM, other), TARGET, log, cpus=CPUS, instructions=8_000).nearest
    failed = replace(record(other, *first.option, 1.0), median_ms=None, min_ms=None, ok=False, error="wrong: by 1")
    log.append([replace(failed, device={})])
    kernel = one(other, log, measure=False)
    assert (kernel.part.family, kernel.part.config) == second.option
    assert kernel.part.reason == second.reason


def test_records_say_which_machine_measured(tmp_path: Path) -> None:
    one(scattered(), tmp_path, families=["dense"])
    (entry, *_) = Log.load(tmp_path).records(Task.of(PROBLEM, scattered()), TARGET.name)
    assert set(entry.device) == {"cpu", "model", "cpus", "cache_kib", "system"}
