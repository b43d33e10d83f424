"""The sequence of layers that a calibration measures."""

from __future__ import annotations

import numpy as np

from tesa.target import parse_target
from tesa.tune.costs.facts import Facts
from tesa.tune.costs.grid import MAX_MACS, MAX_WEIGHT, MOST, grid_layer
from tesa.tune.costs.job import INSTRUCTIONS, KEEP, plan
from tesa.tune.costs.sample import problem_from_json, problem_to_json


def test_every_layer_is_a_real_one_and_always_the_same() -> None:
    kinds = set()
    for index in range(64):
        layer = grid_layer(index, seed=5, threads=2)
        problem = layer.problem
        assert layer == grid_layer(index, seed=5, threads=2)
        assert layer != grid_layer(index, seed=6, threads=2)
        assert problem.threads == 2
        assert problem.batch * problem.m * problem.k * problem.n <= max(MAX_MACS, 4e6 * problem.k)
        assert problem.m * problem.k <= (MOST if problem.n > 1 else MAX_WEIGHT["vector"])
        assert int(np.prod(problem.y_shape)) == problem.batch * problem.m * problem.n
        weight = layer.weight()
        assert weight.shape == (problem.m, problem.k)
        assert weight.any()
        assert layer.imposed is not None or weight.all()
        if problem.dtype == "int8":
            assert np.abs(weight).max() <= 127
            np.testing.assert_array_equal(weight, np.rint(weight))
        if layer.imposed is not None and layer.imposed.kind in ("unstructured", "n:m"):
            assert abs(1 - layer.imposed.sparsity - Facts.of(weight).density) < 0.05
        assert problem_from_json(problem_to_json(problem)) == problem
        kinds.add((problem.op, problem.dtype, problem.n == 1))
    assert {("linear", "float32", True), ("linear", "int8", False), ("conv2d", "float32", False)} <= kinds
    assert ("depthwise", "float32", False) in kinds


def test_what_is_measured_of_a_layer() -> None:
    target = parse_target("x86:haswell")
    for index in range(16):
        work = plan(index, grid_layer(index), target)
        again = plan(index, grid_layer(index), target)
        assert work.options == again.options
        names = [name for name, _ in work.options]
        assert names
        assert max(names.count(name) for name in names) <= KEEP
        assert len({(name, *sorted(config.items())) for name, config in work.options}) == len(names)
        straight = [config["vectors"] for name, config in work.options if name == "unrolled"]
        assert sum(straight) * np.count_nonzero(work.weight) <= INSTRUCTIONS
        assert all(ms > 0 for ms in work.estimates)
        assert all(dense for name, dense in zip(names, work.dense, strict=True) if name == "dense")


def test_facts_count_the_blocks() -> None:
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((8, 8)) < 0.3, np.ones((4, 4)))
    facts = Facts.of(mask.astype(np.float32))
    share = float(mask.mean())
    assert facts.density == round(share, 7)
    assert facts.live[3] == round(share, 7)  # 4x4
    assert facts.live[0] == round(share, 7)  # 4x1
    assert facts.live[1] >= facts.live[0]
    assert Facts.from_json(facts.to_json()) == facts
    assert Facts.of(np.zeros((0, 4), np.float32)).density == 0
    assert Facts.of(np.zeros((3, 4), np.float32)).longest == 1
