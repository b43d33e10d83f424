"""Rearranged networks compute the same, whatever joins their layers; and pruning in groups keeps more of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from benchmarks import zoo
from benchmarks.networks.catalogue import NETWORKS
from tesa.attributes.impose import Imposed
from tesa.base.onnxruntime import reference_outputs
from tesa.compress import prune
from tesa.compress.rearrange import rearrange
from tesa.compress.rearrange.ascend import Matrix, _climbed, ascend
from tesa.compress.rearrange.assign import _exact, _swapped, assign
from tesa.compress.rearrange.sides import total_kept, touched_by
from tesa.compress.rearrange.swaps import Swaps
from tesa.errors import UsageError
from tesa.frontend import import_onnx
from tesa.models import digits_path

from ..frontend.onnx_models import floats, model, node, port
from ..random_models import random_feeds, random_model


def arrays(proto: Any) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def shuffled(proto: Any, feeds: dict[str, Any], seed: int = 0) -> set[str]:
    """Let all that may change places do so at random, check the outputs; the weights that changed."""
    rng = np.random.default_rng(seed)
    _, made = rearrange(proto, lambda members: rng.permutation(members), feeds=feeds)
    expected, got = (reference_outputs(one, feeds) for one in (proto, made))
    assert list(expected) == list(got)
    for name, array in expected.items():
        assert got[name].shape == array.shape
        assert np.abs(got[name] - array).max() <= 2e-4 * max(np.abs(array).max(), 1e-3), name
    before, after = arrays(proto), arrays(made)
    return {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_random_networks_compute_the_same(first: int) -> None:
    moved = 0
    for seed in range(first, first + 20):
        proto = random_model(seed)
        moved += bool(shuffled(proto, random_feeds(proto, seed), seed))
    assert moved > 12


def joined(kind: str) -> tuple[Any, set[str]]:
    """A network of one way in which layers are joined, and the weights of it that have to move."""
    c = {"a": floats(16, 3, 3, 3), "b": floats(16, 16, 1, 1, seed=1) / 4, "d": floats(16, 16, 1, 1, seed=2) / 4}
    image = [port("x", [1, 3, 8, 8])]
    stem = [node("Conv", ["x", "a"], "s", pads=[1, 1, 1, 1]), node("Relu", ["s"], "r")]
    last = [node("GlobalAveragePool", ["e"], "p"), node("Flatten", ["p"], "q"), node("MatMul", ["q", "fc"], "y")]
    c["fc"] = floats(16, 5, seed=9)
    if kind == "residual":
        nodes = [node("Conv", ["r", "b"], "t"), node("Add", ["r", "t"], "u"), node("Conv", ["u", "d"], "v"),
                 node("Add", ["u", "v"], "e")]  # fmt: skip
        return model(stem + nodes + last, image, ["y"], c), {"a", "b", "d", "fc"}
    if kind == "concat":
        c["fc"] = floats(48, 5, seed=9)
        nodes = [node("Conv", ["r", "b"], "t"), node("Concat", ["t", "r", "t"], "e", axis=1)]
        return model(stem + nodes + last, image, ["y"], c), {"a", "b", "fc"}
    if kind == "depthwise":
        c |= {"dw": floats(16, 1, 3, 3, seed=3), "dw.b": floats(16, seed=4), "wide": floats(32, 1, 3, 3, seed=5)}
        c["fc"] = floats(32, 5, seed=9)
        nodes = [node("Conv", ["r", "dw", "dw.b"], "t", group=16), node("Conv", ["t", "wide"], "e", group=16)]
        return model(stem + nodes + last, image, ["y"], c), {"a", "dw", "dw.b", "wide", "fc"}
    if kind == "grouped":
        c |= {"g": floats(32, 4, 3, 3, seed=3), "up": floats(32, 4, 2, 2, seed=4), "fc": floats(16, 5, seed=9)}
        nodes = [node("Conv", ["r", "g"], "t", group=4), node("ConvTranspose", ["t", "up"], "e", group=4)]
        return model(stem + nodes + last, image, ["y"], c), {"a", "g", "up", "fc"}
    if kind == "shuffle":
        c |= {"g": floats(16, 8, 1, 1, seed=3), "five": np.array([1, 2, 8, 8, 8]), "four": np.array([1, 16, 8, 8]),
              "h": floats(16, 8, 1, 1, seed=4)}  # fmt: skip
        nodes = [node("Conv", ["r", "g"], "t", group=2), node("Reshape", ["t", "five"], "u"),
                 node("Transpose", ["u"], "v", perm=[0, 2, 1, 3, 4]), node("Reshape", ["v", "four"], "w"),
                 node("Conv", ["w", "h"], "e", group=2)]  # fmt: skip
        return model(stem + nodes + last, image, ["y"], c), {"h", "fc"}
    if kind == "split":
        c |= {"sizes": np.array([8, 8]), "i": floats(8, 8, 1, 1, seed=5), "fc": floats(8, 5, seed=9)}
        nodes = [node("Slice", ["r", "lo", "hi", "ax"], "t"), node("Slice", ["r", "hi", "end", "ax"], "u"),
                 node("Conv", ["t", "i"], "v"), node("Mul", ["u", "v"], "e")]  # fmt: skip
        c |= {"lo": np.array([0]), "hi": np.array([8]), "end": np.array([16]), "ax": np.array([1])}
        return model(stem + nodes + last, image, ["y"], c), {"a", "i", "fc"}
    if kind == "norms":
        c |= {name: floats(16, seed=i) for i, name in enumerate(("g1", "g2", "i1", "i2", "b1", "b2", "b3"))}
        c["b4"] = np.abs(floats(16, seed=8)) + 0.5
        nodes = [node("InstanceNormalization", ["r", "i1", "i2"], "t"),
                 node("GroupNormalization", ["t", "g1", "g2"], "u", num_groups=4),
                 node("BatchNormalization", ["u", "b1", "b2", "b3", "b4"], "e")]  # fmt: skip
        return model(stem + nodes + last, image, ["y"], c, opset=21), {"a", "g1", "g2", "i1", "b1", "b4", "fc"}
    raise AssertionError(kind)


def attention(fused: bool) -> tuple[Any, set[str]]:
    """An encoder layer: embeddings, heads, a residual stream, layer norms (or their parts), an output of the stream."""
    n = 16
    c = {name: floats(n, n, seed=i) / 4 for i, name in enumerate(("q", "k", "v", "o"))}
    c |= {"table": floats(20, n, seed=5), "up": floats(n, 32, seed=6) / 4, "down": floats(32, n, seed=7) / 4,
          "up.b": floats(32, seed=8), "s": floats(n, seed=9), "h": floats(n, seed=10),
          "split": np.array([1, 5, 4, 4]), "merge": np.array([1, 5, n]), "eps": np.float32(1e-5)}  # fmt: skip
    nodes = [node("Gather", ["table", "x"], "e")]
    for name in ("q", "k", "v"):
        perm = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
        nodes += [node("MatMul", ["e", name], f"{name}1"), node("Reshape", [f"{name}1", "split"], f"{name}2"),
                  node("Transpose", [f"{name}2"], f"{name}3", perm=perm)]  # fmt: skip
    nodes += [node("MatMul", ["q3", "k3"], "z"), node("Softmax", ["z"], "w", axis=-1), node("MatMul", ["w", "v3"], "m"),
              node("Transpose", ["m"], "m1", perm=[0, 2, 1, 3]), node("Reshape", ["m1", "merge"], "m2"),
              node("MatMul", ["m2", "o"], "m3"), node("Add", ["e", "m3"], "r")]  # fmt: skip
    if fused:
        nodes += [node("LayerNormalization", ["r", "s", "h"], "l")]
    else:
        nodes += [node("ReduceMean", ["r"], "mu", axes=[-1]), node("Sub", ["r", "mu"], "d"),
                  node("Mul", ["d", "d"], "dd"),
                  node("ReduceMean", ["dd"], "va", axes=[-1]), node("Add", ["va", "eps"], "ve"),
                  node("Sqrt", ["ve"], "sd"), node("Div", ["d", "sd"], "nn"), node("Mul", ["nn", "s"], "ns"),
                  node("Add", ["ns", "h"], "l")]  # fmt: skip
    nodes += [node("MatMul", ["l", "up"], "f0"), node("Add", ["f0", "up.b"], "f1"), node("Erf", ["f1"], "f2"),
              node("MatMul", ["f2", "down"], "f3"), node("Add", ["l", "f3"], "y")]  # fmt: skip
    proto = model(nodes, [port("x", [1, 5], "int64")], ["y"], c)
    return proto, {"table", "q", "k", "v", "o", "up", "up.b", "down", "s", "h"}


@pytest.mark.parametrize("kind", ["residual", "concat", "depthwise", "grouped", "shuffle", "split", "norms"])
def test_layers_that_are_joined_move_together(kind: str) -> None:
    proto, wanted = joined(kind)
    for seed in range(3):
        assert shuffled(proto, {"x": floats(1, 3, 8, 8, seed=20 + seed)}, seed) >= wanted


@pytest.mark.parametrize("fused", [True, False])
def test_heads_and_the_residual_stream_move_and_the_output_is_put_back(fused: bool) -> None:
    proto, wanted = attention(fused)
    feeds = {"x": np.array([[1, 4, 2, 19, 0]])}
    assert shuffled(proto, feeds) >= wanted
    _, made = rearrange(proto, lambda members: members[::-1], feeds=feeds)
    assert made.graph.node[-1].op_type == "Gather"
    assert made.graph.node[-1].output[0] == "y"


def test_an_input_is_put_into_the_order_of_its_readers() -> None:
    c = {"a": floats(16, 16), "b": floats(16, 16, seed=1)}
    nodes = [node("MatMul", ["x", "a"], "s"), node("Add", ["x", "s"], "t"), node("MatMul", ["t", "b"], "u"),
             node("Relu", ["u"], "v"), node("ReduceSum", ["v"], "y", keepdims=1)]  # fmt: skip
    proto = model(nodes, [port("x", [4, 16])], ["y"], c)
    assert shuffled(proto, {"x": floats(4, 16)}) == {"a", "b"}


def test_weights_that_are_shared_turned_or_half() -> None:
    c = {"table": floats(20, 16), "w": floats(16, 16, seed=1), "half": floats(16, 16, seed=2).astype(np.float16)}
    nodes = [node("Gather", ["table", "x"], "e"), node("MatMul", ["e", "w"], "s"), node("Relu", ["s"], "s1"),
             node("Cast", ["half"], "wide", to=TensorProto.FLOAT), node("MatMul", ["s1", "wide"], "t"),
             node("Transpose", ["table"], "turned", perm=[1, 0]), node("MatMul", ["t", "turned"], "y")]  # fmt: skip
    proto = model(nodes, [port("x", [1, 5], "int64")], ["y"], c)
    assert shuffled(proto, {"x": np.array([[1, 4, 2, 19, 0]])}) == {"table", "w", "half"}


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "resnet50", "bert_base", "keyword", "unet"])
def test_networks_of_the_benchmark(name: str) -> None:
    proto = NETWORKS[name].build(**NETWORKS[name].tiny)
    weights = {tensor.name for tensor in proto.graph.initializer if len(tensor.dims) > 1}
    assert len(shuffled(proto, zoo.feeds(proto)) & weights) >= 0.7 * len(weights)


def test_open_sizes_are_guessed_or_taken_from_data() -> None:
    c = {"a": floats(8, 3, 3, 3), "b": floats(4, 8, 3, 3, seed=1)}
    nodes = [node("Conv", ["x", "a"], "s"), node("Relu", ["s"], "t"), node("Conv", ["t", "b"], "y")]
    proto = model(nodes, [port("x", ["n", 3, "h", "w"])], ["y"], c)
    made = prune(proto, "0.5:4x4", rearrange="network", ends=True, infeasible="dense").proto
    assert [d.dim_param for d in made.graph.input[0].type.tensor_type.shape.dim] == ["n", "", "h", "w"]
    feeds = {"x": floats(3, 3, 9, 7)}
    _, turned = rearrange(proto, lambda members: members[::-1])
    np.testing.assert_allclose(*(reference_outputs(m, feeds)["y"] for m in (proto, turned)), rtol=1e-3, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000), st.sampled_from(["0.3:4x1", "0.5:4x4", "0.5:2x3"]), st.sampled_from(["balanced", "global"])
)
def test_nothing_is_ever_lost(seed: int, pattern: str, budget: str) -> None:
    """Two layers whose rows, and one whose columns, move together: what all keep together never gets less."""
    rng = np.random.default_rng(seed)
    members, others = np.arange(1, 17), np.arange(17, 33)
    imposed = Imposed.parse(pattern)
    sides = [(members, others), (members, np.zeros(16, int)), (others, members)]
    matrices = [
        Matrix(str(i), rng.random((16, 16)) ** 3, imposed, budget, rows, columns)
        for i, (rows, columns) in enumerate(sides)
    ]
    source = ascend(matrices, [members, others], np.arange(33))
    assert sorted(source[members]) == members.tolist()
    assert sorted(source[others]) == others.tolist()
    before = sum(matrix.kept(matrix.scores) for matrix in matrices)
    now = 0.0
    for matrix in matrices:
        rows, columns = (
            source[ids] - ids.min() if ids.any() else np.arange(16) for ids in (matrix.rows, matrix.columns)
        )
        now += matrix.kept(matrix.scores[np.ix_(rows, columns)])
    assert now >= before * (1 - 1e-9)


@pytest.mark.parametrize(("budget", "share"), [("balanced", 0.3), ("global", 0.0)])
def test_swaps_find_what_assignments_do_not(budget: str, share: float) -> None:
    """Masks that are made anew show gains that fixed masks hide; no swap loses, and all members stay."""
    rng = np.random.default_rng(0)
    orbit, scores = np.arange(1, 65), rng.random((64, 48)) ** 3
    matrix = Matrix("a", scores, Imposed.parse("0.3:16x1"), budget, orbit, np.zeros(48, int))
    sides = touched_by([matrix], orbit)
    start = np.arange(65)
    settled, kept = _climbed(sides, orbit, start.copy())
    found, more = Swaps(8, 0).better(sides, orbit, settled, kept)
    assert more > kept + share * (kept - total_kept(sides, start)) > 0
    assert more == pytest.approx(matrix.kept(scores[found[1:] - 1]))
    assert sorted(found) == list(range(65))
    shaken, most = Swaps(8, 3).better(sides, orbit, settled, kept)
    assert most >= more
    assert sorted(shaken) == list(range(65))


def test_assignments_never_lose_and_swaps_come_near_the_best() -> None:
    rng = np.random.default_rng(0)
    scores, group = rng.random((96, 12)), np.repeat(np.arange(12), 8)
    start = scores[np.arange(96), group].sum()
    for way in (_exact, _swapped, assign):
        found = way(scores, group)
        assert sorted(found) == list(range(96))
        assert scores[found, group].sum() >= start
    best, near = (scores[way(scores, group), group].sum() for way in (_exact, _swapped))
    assert near > start + 0.95 * (best - start)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["0.5:16x1", "0.5:4x4"])
def test_pruning_a_rearranged_network_keeps_more(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.compress.rearrange.swaps.SHAKES", 0)  # for the time that they take
    monkeypatch.setattr("tesa.compress.rearrange.swaps.SWEEPS", 1)
    proto = onnx.load(digits_path())
    rng = np.random.default_rng(0)
    for tensor in proto.graph.initializer:
        if tensor.name.endswith(".weight"):
            array = rng.standard_normal(tuple(tensor.dims)).astype(np.float32)
            scale = np.exp(rng.standard_normal((array.shape[0], *[1] * (array.ndim - 1)))).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array * scale * 0.1, tensor.name))
    plain, moved = (prune(proto, pattern, rearrange=how) for how in (False, "network"))
    assert moved.arranged is not None
    assert moved.kept > 1.02 * plain.kept
    assert 0 < moved.arranged.gap < 1
    assert moved.sparsity == pytest.approx(plain.sparsity, abs=1e-3)
    free = prune(proto, pattern, rearrange="auto")
    if pattern.endswith("16x1"):
        assert free.kept >= moved.kept
        assert any("an order of their own" in line for line in free.warnings)
    else:
        assert free.kept == moved.kept
    again = prune(proto, pattern, rearrange="network")
    assert again.proto.SerializeToString(deterministic=True) == moved.proto.SerializeToString(deterministic=True)
    import_onnx(moved.proto)


def test_rearranging_with_data_and_groups_of_taps() -> None:
    proto, _ = joined("depthwise")
    data = {"x": floats(64, 3, 8, 8, seed=3)}
    words: dict[str, Any] = {"data": data, "ends": True, "infeasible": "dense"}
    with pytest.raises(UsageError, match="no way 'yes' to rearrange"):
        prune(proto, "0.3:taps=4", rearrange="yes", **words)
    batch = onnx.ModelProto()
    batch.CopyFrom(proto)
    found = prune(batch, "0.3:taps=4", rearrange="network", **words)
    assert found.arranged is not None
    assert found.arranged.gain > 0
    assert all(row.error is not None and row.error <= (row.error_masked or 0) for row in found.layers)


def test_the_verb_says_what_was_gained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tesa.cli import main

    proto, _ = joined("residual")
    onnx.save(proto, tmp_path / "m.onnx")
    words = ["prune", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "o.onnx"), "--pattern", "4x4", "--sparsity", "0.5"]
    assert main([*words, "--rearrange", "--ends", "--infeasible", "dense"]) == 0
    assert "more is kept" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["output", "input"])
def test_layers_are_repaired_behind_the_gathers_at_the_borders(kind: str) -> None:
    """What is read behind a Gather is not what the file called so: repaired by the wrong inputs, errors would grow."""
    if kind == "output":
        proto, _ = attention(True)
        data = {"x": np.random.default_rng(0).integers(0, 20, (64, 5))}
    else:
        c = {"a": floats(16, 16), "b": floats(16, 16, seed=1), "w": floats(16, 16, seed=2)}
        nodes = [node("MatMul", ["x", "a"], "s"), node("Add", ["x", "s"], "t"), node("Relu", ["t"], "t1"),
                 node("MatMul", ["t1", "b"], "u"), node("Add", ["x", "u"], "v"),
                 node("MatMul", ["v", "w"], "y")]  # fmt: skip
        proto, data = model(nodes, [port("x", ["n", 16])], ["y"], c), {"x": floats(256, 16, seed=4)}
    words: dict[str, Any] = {"data": data, "ends": True, "infeasible": "dense"}
    plain = prune(proto, "0.5:4x4", **words)
    moved = prune(proto, "0.5:4x4", rearrange="network", **words)
    assert moved.arranged is not None
    assert moved.arranged.gathers
    for one in (plain, moved):
        assert one.output_error is not None
        assert all(row.error is not None and row.error <= (row.error_masked or 0) for row in one.layers)
    assert (moved.output_error or 9) < 1.1 * (plain.output_error or 0)


def test_a_metric_tells_of_both_models() -> None:
    proto, _ = joined("residual")
    data = {"x": floats(64, 3, 8, 8, seed=3), "labels": np.zeros(64, np.int64)}

    def metric(outputs: Any, given: Any) -> float:
        return float(np.mean(outputs["y"].argmax(1) == given["labels"]))

    found = prune(proto, "0.5", data=data, metric=metric)
    assert found.score is not None
    assert found.dense_score is not None
    with pytest.raises(UsageError, match="labels"):
        prune(proto, "0.5", data=data)
