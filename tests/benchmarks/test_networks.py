"""The benchmark of whole networks: its models are alive, pruned and quantized as they say; what it prints and draws."""

from __future__ import annotations

import json
import math
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from onnx import numpy_helper

from benchmarks.networks import __main__ as program
from benchmarks.networks import report
from benchmarks.networks.catalogue import NETWORKS, feeds
from benchmarks.networks.contest import Spec, difference, run
from benchmarks.networks.engines import environment
from benchmarks.networks.files import DeadNetworkError, Folder, _check_zeros, check_alive
from benchmarks.networks.pruning import FEW_INPUTS, Sparsity, parse_sparsity, pruned, weights
from benchmarks.networks.quantizing import quantized
from benchmarks.networks.sequences import keyword_spotter
from benchmarks.networks.vision import mobilenet_v2, unet
from tesa.base.onnxruntime import reference_outputs
from tesa.errors import UsageError
from tests.frontend.onnx_models import floats, model, node, port


def tiny(name: str, batch: int = 1) -> Any:
    network = NETWORKS[name]
    return network.build(batch=batch, **network.tiny)


def matrices(proto: Any) -> dict[str, list[Any]]:
    arrays = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    return {name: [matrix.copy() for matrix, _ in view(arrays[name].copy())] for name, view in weights(proto)}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_alive_pruned_and_quantized(name: str) -> None:
    """Pruned by blocks, alive, and the codes follow the numbers; two images in a batch have two results."""
    dense = tiny(name, batch=2)
    onnx.checker.check_model(dense, full_check=True)
    check_alive(dense)
    proto = pruned(dense, Sparsity((1, 4), 0.75))
    check_alive(proto)
    for weight, parts in matrices(proto).items():
        for matrix in parts:
            whole = matrix[:, : matrix.shape[1] // 4 * 4]
            live = (whole != 0).reshape(len(whole), -1, 4).sum(axis=2)
            assert set(np.unique(live)) <= {0, 4}, weight
            groups = len(matrix) * math.ceil(matrix.shape[1] / 4)
            assert np.count_nonzero(matrix[:, ::4]) == groups - round(0.75 * groups), weight
    given = feeds(proto)
    expected = reference_outputs(proto, given)
    for how in NETWORKS[name].quantized:
        codes = quantized(proto, how, [feeds(proto, seed) for seed in (1, 2)])
        _check_zeros(proto, codes)
        assert any(numpy_helper.to_array(t).dtype == np.int8 for t in codes.graph.initializer)
        assert difference(reference_outputs(codes, given), expected) < 0.25


def test_the_sizes_are_those_of_the_papers() -> None:
    """Parameters without batch norms, which are folded into biases."""
    assert sum(math.prod(t.dims) for t in mobilenet_v2().graph.initializer) == 3_487_818  # 3.4 million and biases
    assert 7.7e6 < sum(math.prod(t.dims) for t in unet().graph.initializer) < 7.8e6
    assert 3.0e5 < sum(math.prod(t.dims) for t in keyword_spotter().graph.initializer) < 3.1e5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("dense", Sparsity()),
        ("70", Sparsity((1, 1), 0.7)),
        ("87.5%", Sparsity((1, 1), 0.875)),
        ("16x1-90", Sparsity((16, 1), 0.9)),
    ],
)
def test_sparsities_are_read(text: str, found: Sparsity) -> None:
    assert parse_sparsity(text) == found
    assert parse_sparsity(found.name) == found


@pytest.mark.parametrize("text", ["", "0", "100", "1x4", "4x-70", "0x4-70", "sparse"])
def test_what_is_no_sparsity_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a sparsity is dense, a percentage such as 70"):
        parse_sparsity(text)


def test_blocks_lie_along_the_input_channels_of_one_position() -> None:
    weight = floats(4, 8, 3, 3)
    proto = model(
        [node("Conv", ["x", "w"], "a", pads=[1] * 4, kernel_shape=[3, 3]), node("Relu", ["a"], "y")],
        [port("x", [1, 8, 4, 4])], ["y"], {"w": weight},
    )  # fmt: skip
    (found,) = (numpy_helper.to_array(t) for t in pruned(proto, Sparsity((2, 4), 0.5)).graph.initializer)
    live = (found != 0).reshape(2, 2, 2, 4, 3, 3).sum(axis=(1, 3))
    assert set(np.unique(live)) == {0, 8}
    assert np.square(found).sum() == pytest.approx(np.square(weight).sum(), rel=1e-5)


def test_first_and_last_layers_and_depthwise_ones_stay_dense() -> None:
    names = [name for name, _ in weights(tiny("mobilenet_v1"))]
    assert names == ["block0.pointwise.weight", "block1.pointwise.weight"]
    assert FEW_INPUTS >= 3


def test_a_dead_network_is_refused() -> None:
    nodes = [node("MatMul", ["x", "w"], "a"), node("Relu", ["a"], "b"), node("Add", ["b", "c"], "y")]
    shift = np.linspace(0, 1, 32, dtype=np.float32)
    positive = model(nodes, [port("x", [4, 8])], ["y"], {"w": floats(8, 32), "c": shift})
    check_alive(positive)
    silent = model(nodes, [port("x", [4, 8])], ["y"], {"w": floats(8, 32) * np.float32(1e-6), "c": shift})
    with pytest.raises(DeadNetworkError, match="a: its values have a standard deviation of"):
        check_alive(silent)


def test_zeros_that_got_lost_are_seen() -> None:
    before = model([], [], [], {"w": np.eye(4, dtype=np.float32)})
    after = model([], [], [], {"w": np.ones((4, 4), np.int8)})
    with pytest.raises(DeadNetworkError, match="of 12 zeros of the pruned weights 0 are left"):
        _check_zeros(before, after)


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The keyword spotter in its tiny form, both precisions, with onnxruntime beside it."""
    folder = tmp_path_factory.mktemp("networks")
    spec = Spec(
        "keyword", 2, 1, ("float32", "int8", "dynamic"), ("70",), ("onnxruntime",), str(folder), 3, 1.0,
        measure=False, tiny=True, profile=True,
    )  # fmt: skip
    began: list[str] = []
    result = run(spec, began.append)
    assert began == ["onnxruntime", ""] * 2
    kept = Folder(folder, tiny=True)
    path = kept.model(NETWORKS["keyword"], 2, parse_sparsity("70"), "int8")
    assert path is not None
    assert kept.library(path, 1, measure=False)[1] is None  # it was compiled, and is found again
    result = json.loads(json.dumps(result))
    result["versions"] = {}
    return dict(result)


@pytest.mark.slow
def test_a_contest_compares_and_times_every_entry(contest: dict[str, Any]) -> None:
    names = [(e["engine"], e["precision"], e["sparsity"]) for e in contest["entries"]]
    assert names == [
        (engine, precision, sparsity)
        for precision in ("float32", "int8")  # there is no dynamic form of it
        for engine, sparsity in (("tesa", "70"), ("onnxruntime", "70"))
    ]
    for entry in contest["entries"]:
        assert entry["why"] == ""
        assert 0 < entry["min_ms"] <= entry["median_ms"]
        assert entry["error"] < 0.05
        assert bool(entry["layers"]) == (entry["engine"] == "tesa")


def test_tables_and_picture(contest: dict[str, Any], tmp_path: Path) -> None:
    text = report.tables([contest])
    assert "| TC-ResNet14 | 2, 1           | 70 %  | int8" in text
    assert "onnxruntime" in text
    assert "kernels" in report.layer_table(report.timed(contest, "tesa")[0])
    other = {**contest, "network": "gpt2", "batch": 4}
    entry = next(e for e in contest["entries"] if e["engine"] == "tesa")
    rate = 4000 / entry["min_ms"]
    assert f"tokens per second: tesa float32, 70 % {rate:.0f}" in report.tables([other])
    report.draw([contest, other, {**contest, "network": "unet"}], tmp_path / "networks.png")
    assert (tmp_path / "networks.png").read_bytes().startswith(b"\x89PNG")


def test_labels_of_the_picture_do_not_overlap(
    contest: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: figures.append(figure))
    report.draw([{**contest, "network": name} for name in NETWORKS], tmp_path / "x.png")
    (figure,) = figures
    FigureCanvasAgg(figure).draw()
    boxes = []
    for axes in figure.axes:
        texts = [axes.title, axes.xaxis.label, *axes.get_yticklabels(), *axes.get_xticklabels(), *axes.texts]
        boxes += [text.get_window_extent() for text in texts if text.get_text()]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:i])


def entry(engine: str, precision: str, ms: float, error: float = 0.0) -> dict[str, Any]:
    facts = {"engine": engine, "precision": precision, "sparsity": "dense", "min_ms": ms, "median_ms": ms}
    return {**facts, "error": error, "why": "", "layers": [], "compile_s": None}


def test_the_best_peer_of_integers_is_of_any_precision_and_right() -> None:
    entries = [
        entry("tesa", "int8", 1.0), entry("onnxruntime", "float32", 3.0), entry("openvino", "int8", 2.0),
        entry("torch", "int8", 0.5, error=0.7),
    ]  # fmt: skip
    contest = {"network": "unet", "batch": 1, "threads": 1, "entries": entries}
    assert report.best_peer(contest, "int8") == entries[2]
    assert report.best_peer(contest, "float32") == entries[1]
    assert "7e-01 !" in report.tables([contest])


def test_a_peer_that_ends_its_process_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec("keyword", 1, 1, ("float32",), ("dense",), ("onnxruntime", "openvino"), str(tmp_path))
    seen: list[list[str]] = []

    def fake(command: list[str], env: Any) -> Any:
        given, found, now = map(Path, command[-3:])
        peers = json.loads(given.read_text())["peers"]
        seen.append(peers)
        if "openvino" in peers:
            now.write_text("openvino")
            return SimpleNamespace(returncode=-11)
        found.write_text(json.dumps({"entries": []}))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", fake)
    (left,) = program.contested(spec, tmp_path)["entries"]
    assert seen == [["onnxruntime", "openvino"], ["onnxruntime"]]
    assert (left["engine"], left["why"]) == ("openvino", "it ends its process with SIGSEGV")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(UsageError, match="the contest of keyword ended with status 1"):
        program.contested(replace(spec, peers=()), tmp_path)


def test_peers_are_kept_to_an_instruction_set(tmp_path: Path) -> None:
    found = environment(2, tmp_path, "AVX512_CORE_VNNI")
    assert (found["OMP_NUM_THREADS"], found["ONEDNN_MAX_CPU_ISA"]) == ("2", "AVX512_CORE_VNNI")
    assert environment(1, tmp_path).get("ONEDNN_MAX_CPU_ISA") == os.environ.get("ONEDNN_MAX_CPU_ISA")


def test_what_is_asked_for_is_checked_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for wrong in (["--networks", "vgg"], ["--peers", "mnn"], ["--precision", "int4"], ["--sparsity", "1x4"]):
        assert program.main([*wrong, "--folder", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    for text in ("unknown network 'vgg'", "unknown peer 'mnn'", "unknown precision 'int4'", "'1x4': a sparsity is"):
        assert text in said


def test_earlier_results_are_read(contest: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(contest) + "\n")
    assert program.main(["--read", str(tmp_path / "rows.jsonl"), "--plot", str(tmp_path / "rows.svg")]) == 0
    assert "TC-ResNet14" in capsys.readouterr().out
    assert (tmp_path / "rows.svg").exists()
