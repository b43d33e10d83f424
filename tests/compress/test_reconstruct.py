"""Reconstruction: the sums over the data, least squares on the support, and what becomes of data that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tesa.attributes.impose import Imposed
from tesa.base.onnxruntime import reference_outputs
from tesa.cli import main
from tesa.compress import prune
from tesa.compress.columns import Columns, rows_of
from tesa.compress.gram import gram
from tesa.compress.layers import find_layers
from tesa.compress.order import damped, ordered_mask
from tesa.compress.shelf import Shelf
from tesa.compress.solve import solve
from tesa.compress.tensors import Tensors
from tesa.errors import UsageError
from tesa.frontend import import_onnx

from ..frontend.onnx_models import floats, model, node, port

CONVOLUTIONS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("Conv", (6, 4, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", (6, 4, 3, 2), {"dilations": [2, 1]}),
    ("Conv", (6, 4, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", (6, 4, 3, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("Conv", (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    ("Conv", (8, 1, 3, 3), {"group": 4}),
    ("ConvTranspose", (4, 6, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    ("ConvTranspose", (4, 6, 2, 2), {"strides": [2, 2]}),
    ("ConvTranspose", (4, 6, 3, 3), {"strides": [1, 1], "pads": [2, 2, 2, 2], "dilations": [2, 1]}),
    ("ConvTranspose", (4, 1, 3, 3), {"group": 4, "strides": [2, 2]}),
]


@pytest.mark.parametrize(("op", "shape", "options"), CONVOLUTIONS)
def test_the_rows_that_a_convolution_reads(op: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    proto = model([node(op, ["x", "w"], "y", **options)], [port("x", [2, 4, 9, 8])], ["y"], {"w": floats(*shape)})
    (layer,) = find_layers(proto.graph, Tensors(proto, "m")).layers
    x = floats(2, 4, 9, 8, seed=1)
    rows = Columns(layer, 1.0, 0).pair(x, x)[0]
    weight = layer.numbers(Tensors(proto, "m"))
    if rows.ndim == 3:
        product = np.concatenate([r @ w.T for r, w in zip(rows, np.split(weight, len(rows)), strict=True)], axis=1)
    else:
        product = rows @ weight.T
    expected = reference_outputs(proto, {"x": x})["y"]
    assert rows_of(layer, x.shape) == len(product) == expected[:, 0].size
    np.testing.assert_allclose(product, np.moveaxis(expected, 1, -1).reshape(len(product), -1), rtol=1e-4, atol=1e-5)


def test_least_squares_on_the_support() -> None:
    """Both ways to solve give what NumPy's least squares gives, up to the small draw to the dense weights."""
    rng = np.random.default_rng(0)
    x, d = rng.standard_normal((2, 400, 12))
    weight = rng.standard_normal((6, 12))
    for sparsity in (0.25, 0.7):
        mask = rng.random(weight.shape) >= sparsity
        found = solve(weight, mask, x.T @ x, x.T @ d)
        assert not found[~mask].any()
        for number, keep in enumerate(mask):
            best = np.linalg.lstsq(x[:, keep], d @ weight[number], rcond=None)[0]
            np.testing.assert_allclose(found[number, keep], best, atol=0.02)


@pytest.mark.parametrize("pattern", ["0.6", "0.5:4x1", "0.5:4x4", "2:4", "0.5:taps=4", "0.3:1x4"])
def test_the_order_keeps_the_budget_and_gains_on_magnitude(pattern: str) -> None:
    rng = np.random.default_rng(1)
    mixed = rng.standard_normal((300, 300)) * (rng.random(300) * 3)
    x = rng.standard_normal((2000, 300)) @ mixed
    weight = rng.standard_normal((16, 300))
    imposed = Imposed.parse(pattern)
    budget = "balanced" if "4x" in pattern or "taps" in pattern else "global"
    mask = ordered_mask(weight, damped(x.T @ x), imposed, budget)
    assert mask is not None
    assert 1 - mask.mean() == pytest.approx(imposed.sparsity, abs=0.01)
    if budget == "balanced":
        assert len(set(mask.sum(1))) == 1
    from tesa.compress.budget import keep

    plain = keep(np.abs(weight), imposed, budget)
    errors = [np.square(x @ (solve(weight, one, x.T @ x, x.T @ x) - weight).T).mean() for one in (mask, plain)]
    assert errors[0] < 0.8 * errors[1]


def test_whole_rows_have_no_order() -> None:
    assert ordered_mask(np.eye(4), np.eye(4), Imposed.parse("0.5:filter"), "global") is None
    assert ordered_mask(np.eye(4), np.zeros((4, 4)), Imposed.parse("0.5"), "global") is None


def network(batch: Any = "n") -> Any:
    """A residual network of every kind of layer that can be repaired, biases inside and behind, with and without."""
    constants = {
        "stem.w": floats(16, 3, 3, 3), "dw.w": floats(16, 1, 3, 3, seed=1) / 3,
        "pw.w": floats(16, 16, 1, 1, seed=2) / 4, "pw.b": floats(16, seed=3), "g.w": floats(16, 8, 3, 3, seed=4) / 8,
        "up.w": floats(16, 16, 2, 2, seed=5) / 4,
        "shape": np.array([0, 16, -1]), "lin": floats(16, 32, seed=6) / 4, "lin.b": floats(32, seed=7),
        "gemm": floats(16, 32, seed=8) / 4, "gemm.b": floats(16, seed=9), "left": floats(12, 16, seed=10) / 4,
        "head": floats(12, 10, seed=11), "axes": np.array([2]),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "stem.w"], "a", pads=[1, 1, 1, 1]), node("Relu", ["a"], "b"),
        node("Conv", ["b", "dw.w"], "c", group=16, pads=[1, 1, 1, 1]), node("Relu", ["c"], "c2"),
        node("Conv", ["c2", "pw.w", "pw.b"], "d"), node("Add", ["b", "d"], "e"), node("Relu", ["e"], "f"),
        node("Conv", ["f", "g.w"], "g", group=2), node("Relu", ["g"], "h"),
        node("ConvTranspose", ["h", "up.w"], "i", strides=[2, 2]), node("Reshape", ["i", "shape"], "j"),
        node("MatMul", ["left", "j"], "k"), node("Relu", ["j"], "j2"), node("Transpose", ["j2"], "l", perm=[0, 2, 1]),
        node("MatMul", ["l", "lin"], "m0"), node("Add", ["lin.b", "m0"], "m"), node("Relu", ["m"], "n"),
        node("ReduceMean", ["n"], "o", axes=[1], keepdims=0),
        node("Gemm", ["o", "gemm", "gemm.b"], "p", transB=1, alpha=0.5, beta=2.0),
        node("ReduceMean", ["k"], "q", axes=[2], keepdims=0), node("MatMul", ["q", "head"], "r"),
        node("Concat", ["p", "r"], "y", axis=1),
    ]  # fmt: skip
    return model(nodes, [port("x", [batch, 3, 8, 8])], ["y"], constants)


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("pattern", ["0.5", "0.5:4x1", "2:4", "0.25:filter"])
def test_a_whole_network_is_repaired(pattern: str, batch: Any) -> None:
    proto = network(batch)
    data = {"x": floats(96, 3, 8, 8, seed=20)}
    words: dict[str, Any] = {"ends": True, "infeasible": "dense", "depthwise": "0.3:taps=4"}
    plain = prune(proto, pattern, **words)
    found = prune(proto, pattern, data=data, **words)
    assert {row.name for row in found.layers} >= {"stem.w", "c", "d", "g", "i", "k", "m0", "p", "r"} - {"stem.w"}
    test = floats(16, 3, 8, 8, seed=21)

    def outputs(one: Any) -> Any:
        step = 16 if batch == "n" else 1
        return np.concatenate([reference_outputs(one, {"x": test[i : i + step]})["y"] for i in range(0, 16, step)])

    expected = outputs(proto)
    before, after = (np.square(outputs(one.proto) - expected).mean() for one in (plain, found))
    assert after < 0.5 * before
    for row in found.layers:
        assert row.error is not None
        assert row.error_masked is not None
        assert row.error <= row.error_masked * (1 + 1e-9), row
        assert not row.note
    import_onnx(found.proto, shapes={"x": (1, 3, 8, 8)})
    again = prune(proto, pattern, data=data, **words)
    assert again.proto.SerializeToString(deterministic=True) == found.proto.SerializeToString(deterministic=True)


def test_activations_in_files_change_nothing() -> None:
    proto, data = network(), {"x": floats(32, 3, 8, 8, seed=20)}
    first, second = (prune(proto, "0.5", data=data, memory=limit) for limit in (1 << 30, 10_000))
    assert first.proto.SerializeToString(deterministic=True) == second.proto.SerializeToString(deterministic=True)
    with Shelf(100) as shelf:
        shelf.put("a", np.arange(1000))
        assert shelf.spilled == 1
        assert shelf.get("a").sum() == 499500
        shelf.drop("a")
        assert "a" not in shelf


def test_budgets_and_importances_with_data() -> None:
    proto, data = network(), {"x": floats(64, 3, 8, 8, seed=20)}
    for how in ("l1", "l2", "scale-free", "wanda", "sparsegpt"):
        assert prune(proto, "0.5", data=data, importance=how, reconstruct=False).sparsity == pytest.approx(
            0.5, abs=0.02
        )
    spread = prune(proto, "0.5", data=data, importance="scale-free", budget="network")
    assert spread.sparsity == pytest.approx(0.5, abs=0.01)
    assert np.ptp([row.sparsity for row in spread.layers]) > 0.05


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"x": floats(4, 3, 8, 9)}, "'x' has the shape (4, 3, 8, 9); the model takes ?x3x8x8"),
        ({"x": floats(3, 8, 8)}, "'x' has the shape (3, 8, 8)"),
        ({"X": floats(4, 3, 8, 8)}, "lacks 'x'"),
        ({"x": np.full((2, 3, 8, 8), np.nan, np.float32)}, "has NaN or infinity, first in sample 0"),
    ],
)
def test_data_that_do_not_fit(data: Any, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        prune(network(), "0.5", data=data)
    assert text in str(raised.value)


def test_data_that_say_nothing_leave_the_mask_and_a_note() -> None:
    found = prune(network(), "0.5", data={"x": np.zeros((4, 3, 8, 8), np.float32)}, ends=True)
    assert "its inputs do not vary" in found.layers[0].note
    assert any("4 samples are few" in line for line in found.warnings)
    assert all(np.isfinite(row.error) for row in found.layers if row.error is not None)


def test_an_activation_that_overflows_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"layer .* is not finite on the calibration data"):
        prune(network(), "0.5", data={"x": np.full((4, 3, 8, 8), 3e38, np.float32)})


def test_the_verb_with_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(network(), tmp_path / "m.onnx")
    np.savez(tmp_path / "calib.npz", x=floats(16, 3, 8, 8))
    words = ["prune", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "o.onnx"), "--sparsity", "0.5"]
    assert main([*words, "--data", str(tmp_path / "calib.npz"), "-q"]) == 0
    shown = capsys.readouterr().out
    assert "error of the mask" in shown
    assert "without calibration data" not in shown


def test_padding_is_not_fitted() -> None:
    """What an attention mask leaves out has no say in the repaired weights, however large it is."""
    c = {"a": floats(12, 16), "b": floats(16, 6, seed=1)}
    nodes = [node("MatMul", ["x", "a"], "s"), node("Relu", ["s"], "t"), node("MatMul", ["t", "b"], "u"),
             node("Cast", ["attention_mask"], "m", to=1), node("Unsqueeze", ["m", "last"], "m1"),
             node("Mul", ["u", "m1"], "v"), node("ReduceSum", ["v"], "y", keepdims=0)]  # fmt: skip
    c["last"] = np.array([2])
    proto = model(nodes, [port("x", [1, 5, 12]), port("attention_mask", [1, 5], "int64")], ["y"], c)
    mask = (np.arange(5) < np.random.default_rng(0).integers(2, 6, (80, 1))).astype(np.int64)
    x = floats(80, 5, 12, seed=2)
    padded = [np.where(mask[..., None] == 1, x, scale * floats(80, 5, 12, seed=3)) for scale in (0, 50)]
    found = [
        prune(proto, "0.5", data={"x": one.astype(np.float32), "attention_mask": mask}, ends=True) for one in padded
    ]
    weights = [{t.name: onnx.numpy_helper.to_array(t) for t in one.proto.graph.initializer} for one in found]
    for name in ("a", "b"):
        np.testing.assert_array_equal(*(each[name] for each in weights))
    masked = [prune(proto, "0.5", ends=True).proto, found[0].proto]
    assert not np.array_equal(*(onnx.numpy_helper.to_array(one.graph.initializer[0]) for one in masked))


def test_few_samples_are_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hardly more rows than weights to solve for, other data see less error than by exact least squares."""
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((64, 64)) * 0.7 ** np.arange(64) + 0.3 * np.eye(64)
    train, test = ((rng.standard_normal((count, 64)) @ mixed).astype(np.float32) for count in (60, 2000))
    weight = floats(64, 48, seed=4)
    proto = model([node("MatMul", ["x", "w"], "s"), node("Add", ["s", "b"], "y")], [port("x", ["n", 64])], ["y"],
                  {"w": weight, "b": floats(48, seed=5)})  # fmt: skip
    expected = test @ weight + floats(48, seed=5)

    def error() -> float:
        found = prune(proto, "0.5", data={"x": train}, ends=True).proto
        return float(np.square(reference_outputs(found, {"x": test})["y"] - expected).mean())

    drawn = error()
    monkeypatch.setattr("tesa.compress.draw.DRAWS", (0.0,))
    assert drawn < 0.85 * error()


@pytest.mark.parametrize("groups", [1, 2])
def test_what_is_held_out_and_the_rest_make_the_whole(groups: int) -> None:
    """The sums of a layer with few rows are those of all rows; those of its part leave out a fifth of each batch."""
    proto = model([node("Conv", ["x", "w"], "y", group=groups)], [port("x", ["n", 4, 3, 3])], ["y"],
                  {"w": floats(6, 4 // groups, 3, 3)})  # fmt: skip
    (layer,) = find_layers(proto.graph, Tensors(proto, "m")).layers
    weight = layer.numbers(Tensors(proto, "m"))
    dense, now = floats(40, 4, 3, 3, seed=1), floats(40, 4, 3, 3, seed=2)
    sums = gram(layer, lambda: [(dense, now)], True, weight, 0)
    assert sums.part is not None
    assert (sums.count, sums.part.count) == (40, 32)
    for found, rows in ((sums, 40), (sums.part, 32)):
        x, d = (a.reshape(40, groups, -1).swapaxes(0, 1)[:, :rows].astype(np.float64) for a in (now, dense))
        np.testing.assert_allclose(found.now, x.swapaxes(1, 2) @ x, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.cross, x.swapaxes(1, 2) @ d, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(found.mean, x.mean(1), rtol=1e-4, atol=1e-5)
    several = gram(layer, lambda: [(dense[i : i + 4], now[i : i + 4]) for i in range(0, 40, 4)], True, weight, 0)
    assert several.part is not None
    assert several.part.count == 32
    np.testing.assert_allclose(several.now, sums.now, rtol=1e-4, atol=1e-3)
    many = floats(40 * 40, 4, 3, 3, seed=3)
    assert gram(layer, lambda: [(many, many)], False, weight, 0).part is None
