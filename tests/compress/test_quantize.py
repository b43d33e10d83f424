"""Quantization after training: numbers against onnxruntime, zeros that stay, kernels on integers, messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

import tesa
from tesa.attributes.impose import Imposed, impose
from tesa.attributes.patterns import classify
from tesa.cli import main
from tesa.compress.quantize import Budget, Settings, quantize
from tesa.compress.quantize.grids import Grid, Histogram, chosen_range, weight_codes, weight_scales
from tesa.compress.quantize.layers import constants_of
from tesa.compress.samples import Samples, relative_error
from tesa.errors import UsageError
from tesa.models import digits_images, digits_labels, digits_path

GRAPH = """
<ir_version: 8, opset_import: ["": 17]>
g (float[1,4,8,8] x) => (float[1,10] y) {
    a = Conv<kernel_shape=[3,3],pads=[1,1,1,1]>(x, w0, b0)
    ar = Relu(a)
    b = Conv<kernel_shape=[3,3],pads=[1,1,1,1]>(ar, w1, b1)
    s = Add(b, ar)
    sr = Relu(s)
    p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(sr)
    d = Conv(p, w2, b2)
    dr = Relu(d)
    c = Concat<axis=1>(p, dr)
    e = Conv(c, w3, b3)
    g = GlobalAveragePool(e)
    f = Flatten(g)
    y = Gemm<transB=1>(f, w4, b4)
}"""
SHAPES = ((16, 4, 3, 3), (16, 16, 3, 3), (16, 16, 1, 1), (32, 32, 1, 1), (10, 32))


def network(pattern: str = "0.5", seed: int = 0) -> Any:
    """Convolutions with a residual sum, a pooling and a concat between them; weights of that pattern."""
    rng, model = np.random.default_rng(seed), parser.parse_model(GRAPH)
    for i, shape in enumerate(SHAPES):
        matrix = rng.normal(size=(shape[0], int(np.prod(shape[1:])))).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        weight = impose(matrix.astype(np.float32), Imposed.parse(pattern)).reshape(shape)
        bias = rng.normal(size=shape[0]).astype(np.float32)
        model.graph.initializer.extend(
            [numpy_helper.from_array(weight, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        )
    return model


def inputs(count: int = 8, seed: int = 1) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).normal(size=(count, 4, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize("bits", [8, 4])
def test_every_layer_runs_on_integers_with_the_numbers_of_onnxruntime(bits: int, tmp_path: Path) -> None:
    made = quantize(network(), data=inputs(), settings=Settings(bits=bits))
    assert made.error is not None
    assert made.error < (0.02 if bits == 8 else 0.2)
    onnx.checker.check_model(made.proto)
    made.save(tmp_path / "q.onnx")
    tesa.compile(tmp_path / "q.onnx", output=tmp_path / "q.so", measure=False)
    model = tesa.load(tmp_path / "q.so")
    layers = [row for row in model.plan.layers if row.kind == "sparse"]
    assert [row.precision for row in layers] == ["int8"] * len(SHAPES)
    samples = Samples.of(made.proto, inputs(4, seed=2))
    assert relative_error(samples.through(model), samples.run(made.proto)) < 5e-3  # ties between codes


@pytest.mark.parametrize("pattern", ["0.7", "0.5:block=4x4", "0.3:block=16x1", "2:4", "0.5:block=1x4", "0.5:channel"])
def test_zeros_stay_in_every_pattern(pattern: str) -> None:
    """On top of a pattern: what was 0 has the code 0, so that the pattern of the codes is no other one."""
    given_model = network(pattern)
    made = quantize(given_model, data=inputs(), settings=Settings(bits=8))
    before, after = constants_of(given_model.graph), constants_of(made.proto.graph)
    for i in range(len(SHAPES)):
        weight, codes = before[f"w{i}"], after[f"w{i}.codes"]
        assert codes.dtype == np.int8
        assert not codes[weight == 0].any()
    matrix = after["w3.codes"].reshape(32, 32).astype(np.float32)
    kind = classify(before["w3"].reshape(32, 32)).kind
    assert classify(np.where(before["w3"].reshape(32, 32) != 0, np.maximum(np.abs(matrix), 1), matrix)).kind == kind


@given(
    rows=st.integers(1, 5), columns=st.integers(1, 40), bits=st.integers(2, 8), seed=st.integers(0, 1 << 16),
    method=st.sampled_from(["minmax", "percentile", "mse"]), zeros=st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_law_of_codes(rows: int, columns: int, bits: int, seed: int, method: str, zeros: float) -> None:
    """0 is 0; codes fit their bits; what is not clipped is off by half a step; mse is never worse than minmax."""
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-4, 4, (rows, 1))).astype(np.float32)
    weight[rng.random(weight.shape) < zeros] = 0
    scales = weight_scales(weight, bits, method, 99.0)
    codes = weight_codes(weight, scales, bits)
    largest = 2 ** (bits - 1) - 1
    assert not codes[weight == 0].any()
    assert np.abs(codes.astype(int)).max() <= largest
    inside = np.abs(weight) <= scales[:, None] * largest
    off = np.abs(codes * scales[:, None] - weight)
    assert (off <= scales[:, None] * 0.5001)[inside].all()
    plain = weight_scales(weight, bits, "minmax", 100.0)
    least = weight_scales(weight, bits, "mse", 100.0)
    errors = [((s[:, None] * weight_codes(weight, s, bits) - weight) ** 2).sum(1) for s in (least, plain)]
    assert (errors[0] <= errors[1] * 1.0001 + 1e-30).all()


@given(low=st.floats(-1e3, 1e3), size=st.floats(0, 1e3))
@settings(max_examples=30, deadline=None)
def test_law_of_grids(low: float, size: float) -> None:
    """A grid holds 0 exactly, and every number of its range to within half a step and what its zero was moved by."""
    grid = Grid.over(low, low + size)
    assert 0 <= grid.zero <= 255
    for value in np.linspace(low, low + size, 7):
        code = np.clip(np.rint(value / grid.scale) + grid.zero, 0, 255)
        assert abs(grid.scale * (code - grid.zero) - value) <= grid.scale * 1.001


def test_ranges_of_the_three_methods() -> None:
    """A few numbers far out: min/max covers them, the others do not, and mse has the least error of the three."""
    rng = np.random.default_rng(0)
    values = np.concatenate([np.abs(rng.normal(size=100_000)), [200.0]])
    found = Histogram(0.0, 200.0, np.zeros(2048, np.int64))
    found.add(values)
    errors = {}
    for method in ("minmax", "percentile", "mse"):
        low, high = chosen_range(found, method, 99.9)
        assert low == 0
        grid = Grid.over(low, high)
        errors[method] = ((grid.scale * np.clip(np.rint(values / grid.scale), 0, 255) - values) ** 2).mean()
    assert chosen_range(found, "minmax", 99.9)[1] == 200.0
    assert chosen_range(found, "percentile", 99.9)[1] < 5
    assert errors["mse"] <= min(errors["minmax"], errors["percentile"])


@pytest.mark.slow
def test_digits_lose_no_image() -> None:
    """Within one of 360 held-out images of float32, calibrated on 32 of them, with weights of 8 bits and of 4."""
    images, labels = digits_images(), digits_labels()
    every = Samples.of(onnx.load(digits_path()), {"image": images})
    dense = (every.run(onnx.load(digits_path()))["logits"].argmax(1) == labels).sum()
    for bits in (8, 4):
        made = quantize(digits_path(), data={"image": images[:32]}, settings=Settings(bits=bits, method="minmax"))
        assert abs(int(dense) - int((every.run(made.proto)["logits"].argmax(1) == labels).sum())) <= 1


def test_mixed_precision_keeps_its_budget() -> None:
    """More error allowed, fewer bytes; the error that was allowed is kept; some layers have other bits than others."""
    found = [
        quantize(network(), data=inputs(), settings=Settings(bits=4), budget=Budget(x)) for x in (1.0, 0.05, 0.004)
    ]
    for made, allowed in zip(found, (1.0, 0.05, 0.004), strict=True):
        assert made.error is not None
        assert made.error <= allowed
    assert [row.bits for row in found[0].layers] == [4] * 5
    assert found[0].bytes < found[1].bytes < found[2].bytes
    assert len({row.bits for row in found[1].layers}) > 1


def test_budget_of_a_metric() -> None:
    data = {**inputs(), "wanted": np.ones(8)}

    def score(outputs: Any, more: Any) -> float:
        return float(-np.abs(outputs["y"]).mean() * more["wanted"].mean())

    made = quantize(network(), data=data, settings=Settings(bits=4), budget=Budget(drop=0.01), metric=score)
    assert made.score is not None
    assert made.dense_score is not None
    assert made.dense_score - made.score <= 0.01


def test_options() -> None:
    """Layers by name, one scale for a weight, blocks, weights alone: what is in the file is what was asked for."""
    made = quantize(network(), data=inputs(), settings=Settings(overrides={"d": 4, "[ab]": 32}, per_channel=False))
    assert {row.layer: row.bits for row in made.layers} == {"a": 32, "b": 32, "d": 4, "e": 8, "y": 8}
    stored = constants_of(made.proto.graph)
    assert stored["w3.scale"].shape == ()
    alone = quantize(network(), settings=Settings(bits=4, block=16, activations=False))
    assert alone.error is None
    assert constants_of(alone.proto.graph)["w4.scale"].shape == (10, 2)
    assert not any(node.op_type == "QuantizeLinear" for node in alone.proto.graph.node)
    found = Samples.of(network(), inputs())
    assert relative_error(found.run(alone.proto), found.run(network())) < 0.2


BAD = [
    ({"x": np.ones((2, 5, 8, 8), np.float32)}, {}, "shape"),
    ({"x": np.full((2, 4, 8, 8), np.nan, np.float32)}, {}, "NaN"),
    ({"z": np.ones((2, 4, 8, 8), np.float32)}, {}, "lacks 'x'"),
    ({"x": np.ones((0, 4, 8, 8), np.float32)}, {}, "no samples"),
    (None, {}, "--data"),
    (inputs(), {"metric": lambda outputs, data: 1 / 0}, "ZeroDivisionError"),
    (inputs(), {"metric": lambda outputs, data: float("nan")}, "no finite number"),
    (inputs(), {"budget": Budget(drop=0.1)}, "--metric"),
    (inputs(), {"settings": Settings(overrides={"dd": 4})}, "did you mean 'd'"),
]


@pytest.mark.parametrize(("data", "options", "words"), BAD)
def test_bad_input_is_told(data: Any, options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        quantize(network(), data=data, **options)


@pytest.mark.parametrize("wrong", [{"bits": 9}, {"method": "mss"}, {"percentile": 3.0}, {"block": 20}])
def test_bad_settings_are_told(wrong: Any) -> None:
    with pytest.raises(UsageError):
        Settings(**wrong)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "model.onnx")
    np.savez("calib.npz", **inputs(), labels=np.zeros(8, np.int64))
    Path("accuracy.py").write_text(
        "def metric(outputs, data):\n    return (outputs['y'].argmax(1) == data['labels']).mean()\n"
    )
    assert main(["quantize", "model.onnx", "-o", "q.onnx", "--data", "calib.npz"]) == 2
    assert "has 'labels'" in capsys.readouterr().err
    words = ["quantize", "model.onnx", "-o", "q.onnx", "--data", "calib.npz", "--metric", "accuracy.py"]
    assert main([*words, "--layer", "a=float"]) == 0
    shown = capsys.readouterr().out
    assert "float32" in shown
    assert "metric:" in shown
    assert main([*words, "--max-drop", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["bits"] for row in found["layers"]} == {4}
    assert main(["verify", "q.onnx", "--no-measure"]) == 0
