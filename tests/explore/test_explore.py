"""Explorations of small networks: budgets are kept, the log is gone on with, bad input is told."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tesa.cli import main
from tesa.compress.samples import Samples, relative_error
from tesa.errors import UsageError
from tesa.explore import explore
from tesa.explore.choices import DENSE
from tesa.explore.latency import Predictor
from tesa.targets.target import parse_target
from tests.explore.networks import chain, inputs

LEVELS = ("0.5", "0.8", "0.5:block=16x1")
TARGET = "x86:haswell"
FIXED: dict[str, Any] = {"levels": LEVELS, "target": TARGET, "measure": False, "evaluations": 6}


@cache
def dense_ms() -> float:
    return Predictor(parse_target(TARGET)).model(chain())


@pytest.mark.slow
def test_a_budget_of_time_is_kept_with_the_least_error(tmp_path: Path) -> None:
    """The chosen model is what it is said to be: its zeros, its time, its error; and a second call runs nothing."""
    budget = 0.7 * dense_ms()
    options = {**FIXED, "data": inputs(), "latency_ms": budget, "journal": tmp_path / "run.jsonl"}
    found = explore(chain(), **options)
    assert found.chosen.ms <= budget
    assert found.chosen.error > 0
    samples = Samples.of(chain(), inputs())
    assert relative_error(samples.run(found.proto), samples.run(chain())) == pytest.approx(found.chosen.error, rel=1e-3)
    assert Predictor(parse_target(TARGET)).model(found.proto) == pytest.approx(found.chosen.ms, rel=0.1)
    within = [point for point in found.points if point.ms <= budget]
    assert found.chosen.error == min(point.error for point in within)
    errors = [point.error for point in found.front]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0  # the dense model
    again = explore(chain(), **options)
    assert again.evaluations == 0
    assert again.chosen.config == found.chosen.config


def test_what_bears_more_is_pruned_more() -> None:
    found = explore(
        chain(), data=inputs(), latency_ms=0.75 * dense_ms(), method="program", **{**FIXED, "evaluations": 0}
    )
    rows = {row.layer: row for row in found.layers}
    second, third = list(rows)[1:3]
    assert found.sensitivities[second][rows[second].choice] < max(found.sensitivities[third].values())
    assert rows[second].choice.sparsity >= rows[third].choice.sparsity


@pytest.mark.slow
def test_a_budget_of_error_is_kept_with_the_least_time() -> None:
    times = []
    for allowed in (0.004, 0.3):
        found = explore(chain(), data=inputs(), max_error=allowed, **FIXED)
        assert found.chosen.error <= allowed
        times.append(found.chosen.ms)
    assert times[1] < times[0] <= dense_ms() * 1.001


@pytest.mark.slow
def test_a_budget_of_a_metric_is_kept() -> None:
    labels = Samples.of(chain(), inputs()).run(chain())["y"].argmax(1)

    def accuracy(outputs: Any, data: Any) -> float:
        return float((outputs["y"].argmax(1) == data["labels"]).mean())

    found = explore(chain(), data={**inputs(), "labels": labels}, metric=accuracy, max_drop=0.07, **FIXED)
    assert found.dense_score == 1.0
    assert found.chosen.score is not None
    assert found.chosen.score >= 0.93


@pytest.mark.slow
@pytest.mark.long
def test_multiply_adds_and_annealing_alone_keep_the_time_too() -> None:
    budget = 0.75 * dense_ms()
    for options in ({"by": "flops"}, {"method": "anneal"}):
        found = explore(chain(), data=inputs(), latency_ms=budget, **{**FIXED, **options})
        assert found.chosen.ms <= budget * 1.001


@pytest.mark.slow
def test_channels_are_budgeted_as_the_network_is_compiled() -> None:
    """Aware of propagation: the model as it is compiled is near its budget, with fewer channels pruned than unaware."""
    levels = [f"{share}:channel" for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
    budget, pruned = 0.6 * dense_ms(), {}
    for aware in (True, False):
        found = explore(
            chain(), data=inputs(), latency_ms=budget, method="program",
            aware=aware, **{**FIXED, "levels": levels, "evaluations": 0},
        )  # fmt: skip
        ms = Predictor(parse_target(TARGET)).model(found.proto)
        pruned[aware] = np.mean([row.choice.sparsity for row in found.layers])
        if aware:
            assert 0.8 * budget <= ms <= budget * 1.001
        else:
            assert ms < budget
    assert pruned[True] <= pruned[False]


@pytest.mark.slow
def test_codes_are_a_choice() -> None:
    found = explore(
        chain(),
        data=inputs(),
        latency_ms=0.6 * dense_ms(),
        **{**FIXED, "bits": (32, 8), "target": "x86:icelake-server"},
    )
    assert found.chosen.error < 1
    kinds = {choice.bits for row in found.sensitivities.values() for choice in row}
    assert kinds == {32, 8}


@pytest.mark.slow
def test_the_compiled_evaluator_finds_the_same_errors() -> None:
    """Figure 20 of SparTA compares how long each takes; the errors are the same."""
    options = {**FIXED, "levels": ("0.8",), "layers": ["*_2"], "evaluations": 0, "method": "program", "target": None}
    options |= {"data": inputs(4), "max_error": 10.0}
    rows = [explore(chain(), evaluator=engine, **options) for engine in ("onnxruntime", "compiled")]
    ((name, first),) = rows[0].sensitivities.items()
    for choice, error in first.items():
        assert rows[1].sensitivities[name][choice] == pytest.approx(error, rel=1e-3, abs=1e-5)
    assert DENSE in first


def wrong(outputs: Any, data: Any) -> float:
    raise KeyError("labels")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"latency_ms": 1e-6}, "the fastest takes"),
    ({"latency_ms": 1.0, "max_error": 0.1}, "one goal"),
    ({}, "one goal"),
    ({"max_drop": 0.1}, "--metric"),
    ({"max_error": 0.1, "metric": wrong}, "KeyError"),
    ({"latency_ms": 1.0, "metric": lambda o, d: float("nan")}, "no finite number"),
    ({"latency_ms": math.nan}, "above 0"),
    ({"latency_ms": 1.0, "layers": ["conv_9"]}, "no layer"),
    ({"latency_ms": 1.0, "data": {"x": np.full((2, 8, 16, 16), np.inf, np.float32)}}, "NaN or infinity"),
    ({"latency_ms": 1.0, "data": {"x": np.ones((2, 8, 16, 15), np.float32)}}, "shape"),
    ({"latency_ms": 1.0, "levels": ["0.5:blok=4x4"]}, "unknown pattern"),
    ({"latency_ms": 1.0, "bits": [4]}, "8 bits"),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_bad_input_is_told(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        explore(chain(), **{**FIXED, "data": inputs(2), **options})


@pytest.mark.slow
def test_a_metric_that_raises_later_leaves_the_log(tmp_path: Path) -> None:
    """What was evaluated before is in the log, and is not run again when the metric has been mended."""
    calls = {"left": 4}

    def metric(outputs: Any, data: Any) -> float:
        calls["left"] -= 1
        if calls["left"] == 0:
            raise ValueError("broken")
        return float(-np.abs(outputs["y"]).mean())

    options = {**FIXED, "data": inputs(4), "max_drop": 0.5, "metric": metric, "journal": tmp_path / "run.jsonl"}
    with pytest.raises(UsageError, match="ValueError: broken"):
        explore(chain(), **options)
    kept = (tmp_path / "run.jsonl").read_text().splitlines()
    assert len(kept) == 2
    calls["left"] = 10_000
    explore(chain(), **options)
    keys = [json.loads(line)["key"] for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) > 2


def test_ctrl_c_ends_with_the_best_so_far() -> None:
    calls = {"left": 12}

    def metric(outputs: Any, data: Any) -> float:
        calls["left"] -= 1
        if calls["left"] == 0:
            raise KeyboardInterrupt
        return float(-np.abs(outputs["y"]).mean())

    found = explore(chain(), data=inputs(4), max_drop=0.5, metric=metric, **FIXED)
    assert found.interrupted
    assert found.chosen.drop is not None
    assert found.chosen.drop <= 0.5


@pytest.mark.slow
def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(chain(), "model.onnx")
    np.savez("calib.npz", **inputs(), labels=np.zeros(16, np.int64))
    Path("accuracy.py").write_text("def metric(outputs, data):\n    return -float(abs(outputs['y']).mean())\n")
    words = ["explore", "model.onnx", "--data", "calib.npz", "--metric", "accuracy.py", "--target", TARGET]
    words += ["--level", "0.5", "--level", "0.8", "--evaluations", "3", "--journal", "run.jsonl", "--no-measure"]
    time = f"{0.8 * dense_ms() * 1e3:.3f}us"
    assert main([*words, "--latency", time, "-o", "out.onnx", "--plot", "front.png"]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "chosen:" in shown
    assert "Front" in shown
    assert Path("front.png").stat().st_size > 1000
    assert any((np.asarray(onnx.numpy_helper.to_array(t)) == 0).any() for t in onnx.load("out.onnx").graph.initializer)
    assert main([*words, "--latency", time, "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["evaluations"] == 0
    assert found["chosen"]["ms"] <= 0.8 * dense_ms()
    assert main([*words, "--latency", "1ns"]) == 2
    assert main([*words, "--latency", "0.001us"]) == 2
    assert "the fastest takes" in capsys.readouterr().err


def depthwise() -> Any:
    """A 1x1 convolution, depthwise filters of which some taps are small, and a 1x1 convolution."""
    from onnx import numpy_helper, parser

    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,8,16,16] x) => (float[1,32,16,16] y) {'
        " a = Conv(x, w0, b0) ar = Relu(a)"
        " d = Conv<group=32,kernel_shape=[3,3],pads=[1,1,1,1]>(ar, w1, b1) dr = Relu(d) y = Conv(dr, w2, b2) }"
    )
    rng = np.random.default_rng(0)
    for i, shape in enumerate(((32, 8, 1, 1), (32, 1, 3, 3), (32, 32, 1, 1))):
        weight = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        if i == 1:
            weight[:, :, [0, 2, 2, 0, 1], [0, 0, 2, 2, 0]] *= 0.01
        tensors = (f"w{i}", weight), (f"b{i}", 0.1 * rng.normal(size=shape[0]))
        model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), n) for n, a in tensors)
    return model


def test_depthwise_filters_are_explored() -> None:
    """Taps that say little go, for groups of channels alike; channels are left to the layer before."""
    model, levels = depthwise(), ("0.5:block=16x1", "0.5:channel")
    dense = Predictor(parse_target(TARGET)).model(model)
    found = explore(
        model, data=inputs(), latency_ms=0.97 * dense, method="program", **{**FIXED, "levels": levels, "evaluations": 0}
    )
    filters = found.layers[1].layer
    kinds = {str(choice) for choice in found.sensitivities[filters]}
    assert kinds == {"dense", "0.5:block=16x1"}
    assert found.chosen.ms <= 0.97 * dense
