"""tesa propagate, and tesa explain of a model file, as typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import prune, zoo
from tesa.base.onnxruntime import reference_outputs
from tesa.cli import main
from tesa.compact import Check
from tesa.propagate import remove_rule, rule_scope
from tests.frontend.onnx_models import floats, model, node, port

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a small MobileNet and coarse masks for it."""
    monkeypatch.chdir(tmp_path)
    net = zoo.mobilenet_v1(0.25, 32, classes=10, blocks=((64, 1), (128, 2)))
    onnx.save(net, "model.onnx")
    np.savez("masks.npz", **prune.coarse(net, 0.5))
    return tmp_path


def said(capsys: Capture, *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def complaint(capsys: Capture, *words: str, code: int = 2) -> str:
    capsys.readouterr()
    assert main(list(words)) == code
    streams = capsys.readouterr()
    assert streams.out == ""
    lines = [line for line in streams.err.splitlines() if line.startswith("tesa: error: ")]
    assert len(lines) == 1
    return lines[0]


def test_table(folder: Path, capsys: Capture) -> None:
    shown = said(capsys, "propagate", "model.onnx", "--mask", "masks.npz")
    assert "block0.depthwise" in shown
    assert "relu6" not in shown
    assert "zero as given" in shown
    assert "relu6" in said(capsys, "propagate", "model.onnx", "--all")
    data = json.loads(said(capsys, "propagate", "model.onnx", "--mask", "masks.npz", "--json"))
    rows = {layer["layer"]: layer for layer in data["layers"]}
    assert rows["block1.depthwise"]["zeros"] == {"before": 0.0, "after": 0.5}
    assert data["zeros"]["before"] < data["zeros"]["after"] < data["parameters"]
    assert "compacted" not in data


def test_smaller_model_has_the_same_outputs(folder: Path, capsys: Capture) -> None:
    words = ("propagate", "model.onnx", "--mask", "masks.npz", "-o", "smaller.onnx")
    shown = said(capsys, *words)
    assert "checked with onnxruntime" in shown
    assert shown.rstrip().endswith("wrote smaller.onnx")
    assert "block0.pointwise.weight" in shown
    net = onnx.load("model.onnx")
    with np.load("masks.npz") as masks:
        pruned = prune.masked(net, dict(masks))
    feeds = zoo.feeds(net, seed=3)
    expected, found = (reference_outputs(source, feeds)["logits"] for source in (pruned, "smaller.onnx"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert Path("smaller.onnx").stat().st_size < 0.6 * Path("model.onnx").stat().st_size
    data = json.loads(said(capsys, *words, "--json"))["compacted"]
    assert data["path"] == "smaller.onnx"
    assert data["max_error"] < 1e-4
    assert data["parameters_after"] < data["parameters_before"]
    assert data["macs_after"] < 0.5 * data["macs_before"]
    stem = next(row for row in data["removed"] if row["layer"] == "stem")
    assert (stem["before"], stem["after"]) == (8, 4)


def test_nothing_to_remove(folder: Path, capsys: Capture) -> None:
    """What reads the smaller model next finds one: the file as it was."""
    shown = said(capsys, "propagate", "model.onnx", "-o", "smaller.onnx")
    assert "nothing could be removed" in shown
    assert "smaller.onnx is a copy of the given file" in shown
    assert Path("smaller.onnx").read_bytes() == Path("model.onnx").read_bytes()
    data = json.loads(said(capsys, "propagate", "model.onnx", "-o", "smaller.onnx", "--json"))["compacted"]
    assert (data["path"], data["copied"], data["removed"]) == ("smaller.onnx", True, [])


def test_cleared_weights_are_written_though_nothing_goes(folder: Path, capsys: Capture) -> None:
    weight = floats(16, 16)
    weight[0, :4] = 1e-41
    small = model([node("MatMul", ["x", "w"], "y", name="fc")], [port("x", [2, 16])], ["y"], {"w": weight})
    onnx.save(small, "small.onnx")
    said(capsys, "propagate", "small.onnx", "--flush-denormals", "-o", "cleared.onnx")
    written = onnx.numpy_helper.to_array(onnx.load("cleared.onnx").graph.initializer[0])
    np.testing.assert_array_equal(written, np.where(np.abs(weight) < 1e-38, 0, weight))
    shown = said(capsys, "propagate", "cleared.onnx", "--flush-denormals", "-o", "again.onnx")
    assert "again.onnx is a copy of the given file" in shown


def test_nothing_to_remove_from_a_model_with_weights_in_another_file(folder: Path, capsys: Capture) -> None:
    given = onnx.load("model.onnx")
    onnx.save(given, "apart.onnx", save_as_external_data=True, location="apart.bin", size_threshold=0)
    Path("there").mkdir()
    said(capsys, "propagate", "apart.onnx", "-o", "there/same.onnx")
    Path("apart.bin").unlink()
    copied = onnx.load("there/same.onnx")
    for before, after in zip(onnx.load("model.onnx").graph.initializer, copied.graph.initializer, strict=True):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(after), onnx.numpy_helper.to_array(before))


def test_it_says_where_it_could_not_check(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    shown = said(capsys, "propagate", "model.onnx", "--mask", "masks.npz", "-o", "smaller.onnx")
    assert "not checked: onnxruntime is not installed" in shown
    assert Path("smaller.onnx").exists()


def test_a_model_that_computes_something_else_is_not_written(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tesa.compact.check_smaller", lambda *_: Check(0.1, "the output 'y' differs"))
    line = complaint(capsys, "propagate", "model.onnx", "--mask", "masks.npz", "-o", "smaller.onnx", code=1)
    assert "smaller.onnx was not written" in line
    assert not Path("smaller.onnx").exists()


def test_pictures(folder: Path, capsys: Capture) -> None:
    for verb in ("propagate", "explain"):
        shown = said(capsys, verb, "model.onnx", "--plot", f"{verb}.png")
        assert f"wrote {verb}.png" in shown
        assert Path(f"{verb}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("model.onnx", "-o", "model.onnx"), "cannot write model.onnx: it is the model that is read"),
        (("model.onnx", "-o", "./model.onnx"), "it is the model that is read"),
        (("model.onnx", "-o", "link.onnx"), "it is the model that is read"),
        (("model.onnx", "-o", "smaller.so"), "give a name that ends in .onnx"),
        (("model.onnx", "-o", "no/smaller.onnx"), "there is no folder no; make it: mkdir -p no"),
        (("model.onnx", "--plot", "facts.gif"), "cannot draw facts.gif"),
        (("none.onnx",), "none.onnx: there is no such file"),
        (("model.onnx", "--mask", "none.npz"), "none.npz: there is no such file of masks"),
        (
            ("model.onnx", "--mask", "wrong.npz"),
            "mask 'stm.weight' matches no weight and no layer of the model",
        ),
        (("model.onnx", "--mask", "shape.npz"), "mask 'stem.weight' has shape [2, 2], its weight 'stem.weight' has"),
        (("model.onnx", "--shape", "imag=1,3,8,8"), "the model has no such input"),
    ],
)
def test_wrong_use(folder: Path, capsys: Capture, words: tuple[str, ...], text: str) -> None:
    Path("link.onnx").symlink_to("model.onnx")
    np.savez("wrong.npz", **{"stm.weight": np.ones((8, 3, 3, 3), bool)})
    np.savez("shape.npz", **{"stem.weight": np.ones((2, 2), bool)})
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert text in complaint(capsys, "propagate", *words)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_explain_a_layer_of_a_model_file(folder: Path, capsys: Capture) -> None:
    shown = said(capsys, "explain", "model.onnx", "block0.depthwise", "--mask", "masks.npz")
    assert shown.splitlines()[0] == "block0.depthwise: relax.nn.conv2d, relax.add"
    assert "weight of block0.depthwise: 50 % dead" in shown
    assert "weight of stem: 50 % known to be 0  <- the user's mask" in shown
    data = json.loads(said(capsys, "explain", "model.onnx", "block0.depthwise", "--mask", "masks.npz", "--json"))
    assert data["facts"][0]["text"] == "50 % dead"
    short = said(capsys, "explain", "model.onnx", "block0.depthwise", "--mask", "masks.npz", "--depth", "1")
    assert "more fact" in short
    assert len(short.splitlines()) < len(shown.splitlines())


def test_explain_all_layers_of_a_model_file(folder: Path, capsys: Capture) -> None:
    shown = said(capsys, "explain", "model.onnx", "--mask", "masks.npz")
    assert "stem.relu6" in shown
    data = json.loads(said(capsys, "explain", "model.onnx", "--mask", "masks.npz", "--json"))
    assert "stem.relu6" in " ".join(layer["layer"] for layer in data["layers"])


def test_explain_complains(folder: Path, capsys: Capture) -> None:
    assert "Did you mean 'block0.depthwise'" in complaint(capsys, "explain", "model.onnx", "block0.depthwis")
    line = complaint(capsys, "explain", "model.so", "--mask", "masks.npz")
    assert "--mask goes with a model.onnx; model.so is a compiled model" in line
    assert "is no compiled model" in complaint(capsys, "explain", "model.txt")


def test_inspect_names_what_a_mask_takes(folder: Path, capsys: Capture) -> None:
    assert "stem.weight" in said(capsys, "inspect", "model.onnx")
    data = json.loads(said(capsys, "inspect", "model.onnx", "--json"))
    names = {layer["layer"]: layer["initializer"] for layer in data["layers"]}
    assert names["block1.pointwise"] == "block1.pointwise.weight"
    assert names["flatten.Flatten"] is None


def test_an_operator_without_a_rule_is_listed(tmp_path: Path, capsys: Capture) -> None:
    nodes = [node("MatMul", ["x", "a.weight"], "a"), node("CumSum", ["a", "axis"], "y", name="sum")]
    constants = {"a.weight": floats(4, 6), "axis": np.int64(1)}
    onnx.save(model(nodes, [port("x", [1, 4])], ["y"], constants), tmp_path / "m.onnx")
    with rule_scope():
        remove_rule("relax.cumsum")
        assert "scrambled: sum (relax.cumsum): " in said(capsys, "propagate", str(tmp_path / "m.onnx"))
        assert "scrambled: sum (relax.cumsum): " in said(capsys, "inspect", str(tmp_path / "m.onnx"))
        assert "note: " in said(capsys, "explain", str(tmp_path / "m.onnx"), "sum")


@pytest.mark.parametrize("verb", ["propagate", "inspect", "explain"])
def test_what_no_output_depends_on_is_listed(tmp_path: Path, capsys: Capture, verb: str) -> None:
    nodes = [node("MatMul", ["x", "a.weight"], "y", name="a"), node("Relu", ["z"], "r", name="aside")]
    net = model(nodes, [port("x", [1, 4]), port("z", [3])], ["y"], {"a.weight": floats(4, 6)})
    onnx.save(net, tmp_path / "m.onnx")
    shown = said(capsys, verb, str(tmp_path / "m.onnx"))
    assert "left out, no output depends on it: layer aside" in shown
    assert "left out, no output depends on it: input or initializer z" in shown
    data = json.loads(said(capsys, verb, str(tmp_path / "m.onnx"), "--json"))
    assert (data["dropped"], data["unused"]) == (["aside"], ["z"])


def test_a_model_over_the_limit_of_a_file_is_written_in_two(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tesa.compact.saved.LARGEST", 1000)
    monkeypatch.setattr("tesa.compact.saved.KEPT_INSIDE", 100)
    said(capsys, "propagate", "model.onnx", "--mask", "masks.npz", "-o", "smaller.onnx")
    assert Path("smaller.onnx.data").stat().st_size > 2000
    feeds = zoo.feeds(onnx.load("model.onnx"), seed=3)
    assert reference_outputs("smaller.onnx", feeds)["logits"].shape == (1, 10)


def test_a_model_with_external_data_stays_one(folder: Path, capsys: Capture) -> None:
    onnx.save_model(onnx.load("model.onnx"), "two.onnx", save_as_external_data=True, location="two.bin")
    shown = said(capsys, "propagate", "two.onnx", "--mask", "masks.npz", "-o", "smaller.onnx")
    whole = sum(Path(name).stat().st_size for name in ("two.onnx", "two.bin"))
    made = sum(path.stat().st_size for path in Path().glob("smaller.onnx*"))
    assert made < 0.6 * whole
    assert "wrote smaller.onnx" in shown


def test_masks_by_the_names_of_torch(folder: Path, capsys: Capture) -> None:
    nodes = [
        node("MatMul", ["x", "onnx::MatMul_7"], "a", name="/fc/MatMul"),
        node("Relu", ["a"], "y", name="/act/Relu"),
    ]
    onnx.save(model(nodes, [port("x", [2, 4])], ["y"], {"onnx::MatMul_7": floats(4, 6)}), "fc.onnx")
    np.savez("fc.npz", **{"module.fc.weight_mask": np.arange(24).reshape(6, 4) % 2})
    (layer,) = json.loads(said(capsys, "propagate", "fc.onnx", "--mask", "fc.npz", "--json"))["layers"]
    assert (layer["layer"], layer["zeros"]["before"]) == ("fc.MatMul", 0.5)
    np.savez("empty.npz")
    assert "empty.npz: holds no mask at all" in complaint(capsys, "propagate", "fc.onnx", "--mask", "empty.npz")
    np.savez("other.npz", fc1=np.ones((6, 4)))
    line = complaint(capsys, "propagate", "fc.onnx", "--mask", "other.npz")
    assert "mask 'fc1' matches no weight and no layer" in line


def test_help_imports_nothing_heavy(folder: Path) -> None:
    import subprocess

    code = "import sys; from tesa.cli import main; main(['propagate', '-h']); print('tvm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
