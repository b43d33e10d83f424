"""The sequence of layers that a calibration measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tesa.costs.facts import Facts
from tesa.costs.grid import MAX_MACS, MAX_WEIGHT, MIN_MACS, MOST, grid_layer
from tesa.costs.sample import Measured, problem_from_json, problem_to_json
from tesa.decompose import is_composite
from tesa.measure.timing import Timing
from tesa.targets.target import parse_target
from tesa.tune.calibration import INSTRUCTIONS, KEEP, finished, plan


@pytest.mark.slow
def test_every_layer_is_a_real_one_and_always_the_same() -> None:
    kinds, between_codes = set(), set[str]()
    for index in range(64):
        layer = grid_layer(index, seed=5, threads=2)
        problem = layer.problem
        assert layer == grid_layer(index, seed=5, threads=2)
        assert layer != grid_layer(index, seed=6, threads=2)
        assert problem.threads == 2
        macs = problem.batch * problem.m * problem.k * problem.n
        assert macs <= max(MAX_MACS, 4e6 * problem.k)
        assert macs >= MIN_MACS or problem.op != "linear"
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
        between_codes |= {problem.op} if problem.features_last and problem.output.quantized else set()
    assert {("linear", "float32", True), ("linear", "int8", False), ("conv2d", "float32", False)} <= kinds
    assert ("depthwise", "float32", False) in kinds
    assert len(between_codes) > 1


@pytest.mark.slow
def test_what_is_measured_of_a_layer() -> None:
    target = parse_target("x86:haswell")
    for index in range(16):
        work = plan(index, grid_layer(index), target)
        again = plan(index, grid_layer(index), target)
        assert work.options == again.options
        names = [name for name, _ in work.options]
        assert names
        assert max(names.count(name) for name in names) <= KEEP + 2 * (work.layer.problem.op == "depthwise")
        assert work.layer.scattered or not any(is_composite(name) for name in names)
        assert len({(name, *sorted(config.items())) for name, config in work.options}) == len(names)
        straight = [config["vectors"] for name, config in work.options if name == "unrolled"]
        assert sum(straight) * np.count_nonzero(work.weight) <= INSTRUCTIONS
        assert all(ms > 0 for ms in work.estimates)
        assert all(dense for name, dense in zip(names, work.dense, strict=True) if name == "dense")


def test_decompositions_are_measured_where_blocks_have_scattered_elements_beside_them() -> None:
    target = parse_target("x86:haswell")
    index = next(i for i in range(400) if _mixed(i))
    layer = grid_layer(index)
    assert layer.imposed is not None
    bare = replace(layer, scattered=0.0).weight() != 0
    weight = layer.weight() != 0
    assert not (bare & ~weight).any()
    assert (weight & ~bare)[~bare].mean() == pytest.approx(layer.scattered, rel=0.3)
    work = plan(index, layer, target)
    measured = finished(work, [Timing(1.0, 1.0, 0.0, 3)] * len(work.options))
    assert Measured.from_json(measured.to_json()).source == layer
    assert any(is_composite(sample.family) for sample in measured.samples)


def _mixed(index: int) -> bool:
    layer = grid_layer(index)
    large = layer.imposed is not None and min(layer.imposed.block) >= 16
    return bool(layer.scattered) and large and layer.problem.m * layer.problem.k < 1 << 18


def test_facts_count_the_blocks() -> None:
    rng = np.random.default_rng(0)
    mask = np.kron(rng.random((8, 8)) < 0.3, np.ones((4, 4)))
    facts = Facts.of(mask.astype(np.float32))
    share = float(mask.mean())
    assert facts.density == round(share, 7)
    assert facts.live[3] == round(share, 7)  # 4x4
    assert facts.live[0] == round(share, 7)  # 4x1
    assert facts.live[1] >= facts.live[0]
    assert Facts.of(np.zeros((0, 4), np.float32)).density == 0
    assert Facts.of(np.zeros((3, 4), np.float32)).longest == 1
