"""Real models, all the way: compiled, loaded in a process with the runtime alone, compared with onnxruntime."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper

import tesa
from tesa.base.onnxruntime import reference_outputs
from tesa.compiler import compile_model
from tesa.errors import ModelError, UsageError
from tesa.models import digits_images, digits_labels, digits_path
from tesa.runtime import load, verify


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """digits, compiled with measured choices and a log of its own."""
    folder = tmp_path_factory.mktemp("digits")
    compile_model(digits_path(), output=folder / "digits.so", log=folder / "log")
    return folder


@pytest.mark.slow
def test_digits_is_as_accurate_as_its_source(digits):
    model = load(digits / "digits.so")
    images, labels = digits_images(), digits_labels()
    ours = np.stack([model(image[None])["logits"][0] for image in images])
    theirs = np.stack([reference_outputs(digits_path(), {"image": image[None]})["logits"][0] for image in images[:60]])
    np.testing.assert_allclose(ours[:60], theirs, atol=1e-4)
    assert np.mean(ours.argmax(1) == labels) > 0.99


@pytest.mark.slow
def test_every_layer_of_digits_agrees_with_its_source(digits):
    result = verify(load(digits / "digits.so"), digits_path(), per_layer=True)
    assert len(result.layers) == 20
    assert result.ok, [layer for layer in result.layers if not layer.ok]


@pytest.mark.slow
def test_the_same_log_gives_the_same_bytes(digits, tmp_path):
    for name in ("a", "b"):
        compile_model(digits_path(), output=tmp_path / f"{name}.so", log=digits / "log")
    assert (tmp_path / "a.so").read_bytes() == (tmp_path / "b.so").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.slow
def test_two_threads_compute_the_same(digits, tmp_path):
    compile_model(digits_path(), output=tmp_path / "two.so", threads=2, measure=False)
    assert verify(load(tmp_path / "two.so"), digits_path(), per_layer=True).ok


@pytest.mark.slow
def test_a_compiled_model_needs_the_runtime_only(digits):
    script = f"""
import numpy as np
from tesa.runtime import load
from tesa.models import digits_images
out = load({str(digits / "digits.so")!r})(digits_images()[:1])["logits"]
maps = open("/proc/self/maps").read()
assert "libtvm_runtime.so" in maps and "libtvm_compiler.so" not in maps
print(out.argmax())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == digits_labels()[0]


@pytest.mark.slow
def test_the_plan_tells_what_competed(digits):
    plan = load(digits / "digits.so").plan
    pruned = [layer for layer in plan.layers if layer.layer.endswith("pointwise")]
    assert len(pruned) == 9
    for layer in pruned:
        (part,) = layer.parts
        assert layer.sparsity == pytest.approx(0.9, abs=1e-3)
        assert {"dense", "indexed"} <= {candidate.family for candidate in part.candidates}
        assert any(candidate.measured_ms for candidate in part.candidates)
        assert part.reason


@pytest.mark.slow
@pytest.mark.long
def test_minilm_agrees_with_onnxruntime(tmp_path):
    from benchmarks import minilm_to_onnx as minilm

    source, output = tmp_path / "minilm.onnx", tmp_path / "minilm.so"
    minilm.main(["-o", str(source), "--sparsity", "0.8"])
    compile_model(source, output=output, measure=False)
    model = load(output)
    for sentence in minilm.SENTENCES[:2]:
        ids, mask = minilm.encode([sentence], 128)
        feeds = {"input_ids": ids, "attention_mask": mask}
        expected = reference_outputs(source, feeds)["embedding"]
        np.testing.assert_allclose(model(feeds)["embedding"], expected, atol=1e-4)
    assert verify(model, source, per_layer=True, feeds=feeds).ok


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small network, compiled without measuring."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    w1 = (rng.standard_normal((8, 3, 3, 3)) * (rng.random((8, 3, 3, 3)) < 0.3)).astype("float32")
    w2 = rng.standard_normal((8, 5)).astype("float32")
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "fc.weight"], ["y"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3, 6, 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 5])],
        [onnx.numpy_helper.from_array(w1, "conv.weight"), onnx.numpy_helper.from_array(w2, "fc.weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, folder / "tiny.onnx")
    compile_model(folder / "tiny.onnx", output=folder / "tiny.so", measure=False)
    return folder


def test_a_small_network_agrees_layer_by_layer(tiny):
    result = verify(load(tiny / "tiny.so"), tiny / "tiny.onnx", per_layer=True)
    assert [layer.name for layer in result.layers] == ["conv", "fc"]
    assert result.ok


def test_a_wrong_reference_is_noticed(tiny, tmp_path):
    model = onnx.load(tiny / "tiny.onnx")
    other = onnx.numpy_helper.to_array(model.graph.initializer[1]) * 2
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(other, "fc.weight"))
    onnx.save(model, tmp_path / "other.onnx")
    result = verify(load(tiny / "tiny.so"), tmp_path / "other.onnx", per_layer=True)
    assert not result.ok
    assert [layer.ok for layer in result.layers] == [True, False]


def test_inputs_are_checked(tiny):
    model = load(tiny / "tiny.so")
    with pytest.raises(UsageError, match=r"input 'x': expected float32 of shape \[2, 3, 6, 6\], got float64"):
        model(np.zeros((2, 3, 6, 6)))
    with pytest.raises(UsageError, match="missing x; unknown image"):
        model({"image": np.zeros((2, 3, 6, 6), "float32")})


def test_results_survive_the_next_call(tiny):
    model = load(tiny / "tiny.so")
    first = model(np.ones((2, 3, 6, 6), "float32"))["y"]
    kept = first.copy()
    model(np.zeros((2, 3, 6, 6), "float32"))
    assert np.array_equal(first, kept)


def test_what_is_no_compiled_model_is_refused(tiny, tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "none.so")
    (tmp_path / "text.so").write_text("not a library")
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path / "text.so")
    (tmp_path / "text.json").write_text((tiny / "tiny.json").read_text())
    with pytest.raises(ModelError, match="cannot be loaded as a compiled model"):
        load(tmp_path / "text.so")
    (tmp_path / "text.json").write_text('{"format": 1}')
    with pytest.raises(ModelError, match="not the description"):
        load(tmp_path / "text.so")
    newer = {**json.loads((tiny / "tiny.json").read_text()), "format": 99}
    (tmp_path / "text.json").write_text(json.dumps(newer))
    with pytest.raises(ModelError, match="newer"):
        load(tmp_path / "text.so")


def test_threads_beyond_what_was_compiled_are_refused(tiny):
    with pytest.raises(UsageError, match="compiled for 1 thread"):
        load(tiny / "tiny.so", threads=2)


def test_a_failed_compile_leaves_nothing(tiny, tmp_path, monkeypatch):
    def fail(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("tesa.targets.toolchain.Toolchain.export", fail)
    with pytest.raises(KeyboardInterrupt):
        compile_model(tiny / "tiny.onnx", output=tmp_path / "tiny.so", measure=False)
    assert not list(tmp_path.iterdir())


def test_the_output_is_checked_before_the_work(tiny, tmp_path):
    with pytest.raises(UsageError, match=r"ends in \.so"):
        compile_model(tiny / "tiny.onnx", output=tmp_path / "tiny.onnx")
    with pytest.raises(UsageError, match="there is no folder"):
        compile_model(tiny / "tiny.onnx", output=tmp_path / "none" / "tiny.so")
    with pytest.raises(UsageError, match="threads must be a whole number of at least 1"):
        compile_model(tiny / "tiny.onnx", output=tmp_path / "tiny.so", threads=0)


def test_the_top_level_names_exist():
    names = ("compile", "load", "kernel", "import_onnx", "inspect_model")
    assert all(callable(getattr(tesa, name)) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tesa.nonsense
