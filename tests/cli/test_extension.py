"""--extension and TESA_EXTENSIONS, as typed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tesa.cli import main
from tests.support import logged
from tests.tune.builders.extensions import clean_registries, page_source, page_weight

Capture = pytest.CaptureFixture[str]
VERBS = (
    ["list", "policies"],
    ["inspect", "model.onnx"],
    ["analyze", "model.onnx"],
    ["compile", "model.onnx", "-o", "model.so"],
    ["tune", "model.onnx"],
    ["calibrate"],
)
FAMILY = """
from tesa.schedules.registry import find, family

def space(problem, weight, core):
    return find("dense").space(problem, weight, core)[:1]

@family("users", kind="cpu", space=space, estimate=lambda problem, weight, core, config: 1e-9)
def emit(problem, weight, core, config, symbol):
    '''The dense kernel, under another name.'''
    return find("dense").emit(problem, weight, core, config, symbol)
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TESA_EXTENSIONS", raising=False)
    with clean_registries():
        yield


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "mypolicy.py"
    path.write_text(page_source())
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """One linear layer with the page's weight; 96 rows."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")],
        "columns",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [96, 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [96, 256])],
        [numpy_helper.from_array(np.ascontiguousarray(page_weight().T), "w")],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def names(capsys: Capture, *words: str) -> list[str]:
    assert main(["list", *words, "--json"]) == 0
    return [entry["name"] for entry in json.loads(capsys.readouterr().out)]


def test_list(page: str, tmp_path: Path, capsys: Capture) -> None:
    assert "columns" not in names(capsys, "policies")
    (tmp_path / "family.py").write_text(FAMILY)
    both = ["--extension", page, "--extension", str(tmp_path / "family.py")]
    assert names(capsys, "policies", *both)[-1] == "columns"
    assert names(capsys, "patterns", *both)[-2:] == ["columns", "unstructured"]
    assert names(capsys, "families", *both)[-2:] == ["columns", "users"]
    assert main(["list", "policies", "--extension", page]) == 0
    assert "Columns that nearly every output uses" in capsys.readouterr().out


def test_the_environment_names_files(
    page: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "family.py").write_text(FAMILY)
    monkeypatch.setenv("TESA_EXTENSIONS", os.pathsep.join([page, "", str(tmp_path / "family.py")]))
    assert {"columns", "users"} <= set(names(capsys, "families"))
    monkeypatch.setenv("TESA_EXTENSIONS", "nowhere.py")
    assert main(["list", "families"]) == 2
    assert capsys.readouterr().err == "tesa: error: extension nowhere.py (of TESA_EXTENSIONS): no such file\n"


def test_inspect_names_the_pattern(page: str, model: str, capsys: Capture) -> None:
    assert main(["inspect", model, "--extension", page]) == 0
    assert "columns" in capsys.readouterr().out


def test_analyze(page: str, model: str, capsys: Capture) -> None:
    assert main(["analyze", model, "--extension", page]) == 0
    assert "fc" in capsys.readouterr().out


def test_compile_lists_its_candidates(page: str, model: str, tmp_path: Path, capsys: Capture) -> None:
    library = tmp_path / "model.so"
    assert main(["compile", model, "-o", str(library), "--no-measure", "--extension", page]) == 0
    plan = json.loads(library.with_suffix(".json").read_text())
    assert "columns.percent" in json.dumps(plan)
    assert '"columns"' in json.dumps(plan)
    capsys.readouterr()


@pytest.mark.slow
def test_tune_then_compile_with_what_was_measured(page: str, model: str, tmp_path: Path, capsys: Capture) -> None:
    log = str(tmp_path / "log")
    words = ["--log", log, "--extension", page]
    assert main(["tune", model, "--trials", "8", "--mode", "random", *words]) == 0, capsys.readouterr().err
    rows = logged(*Path(log).glob("*.jsonl"))
    assert "columns" in {row["family"] for row in rows}
    assert all(row["ok"] for row in rows), [row["error"] for row in rows]
    assert main(["compile", model, "-o", str(tmp_path / "model.so"), *words]) == 0
    # a log that knows a policy which this process does not: the others compete
    with clean_registries():
        forget_columns()
        assert main(["compile", model, "-o", str(tmp_path / "without.so"), "--log", log]) == 0, capsys.readouterr().err
    assert "columns.percent" not in (tmp_path / "without.json").read_text()


@pytest.mark.slow
def test_tune_says_why_candidates_failed(model: str, tmp_path: Path, capsys: Capture) -> None:
    dense = 'return find("dense").emit'
    assert dense in FAMILY
    (tmp_path / "failing.py").write_text(FAMILY.replace(dense, f"raise ArithmeticError('no')\n    {dense}"))
    words = ["--log", str(tmp_path / "log"), "--extension", str(tmp_path / "failing.py")]
    assert main(["tune", model, "--trials", "8", "--mode", "random", *words]) == 0, capsys.readouterr().err
    assert "fc: 1 candidate of users failed: build: cannot be generated: ArithmeticError: no" in capsys.readouterr().out


def forget_columns() -> None:
    from tesa.attributes import patterns as pattern
    from tesa.decompose import forget

    forget("columns")
    pattern.forget("columns")


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_every_verb_that_has_it_imports_it_first(words: list[str], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "broken.py").write_text("import numpy as np\n\n\nnp.nosuch()\n")
    path = str(tmp_path / "broken.py")
    assert main([*words, "--extension", path]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith(f"tesa: error: extension {path}, line 4: AttributeError: module 'numpy' has no ")
    assert len(streams.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef f(:\n", ", line 2: SyntaxError: "),
        ("import nosuchpackage\n", ", line 1: ModuleNotFoundError: No module named 'nosuchpackage'"),
        ("import sys\nsys.exit(3)\n", ", line 2: SystemExit: 3"),
        ("raise ValueError\n", ", line 1: ValueError"),
        ("def f():\n    return 1 / 0\n\nf()\n", ", line 2: ZeroDivisionError: division by zero"),
        (
            "from tesa.decompose import policy\n@policy('cover')\ndef f(*_): pass\n",
            ", line 2: ValueError: policy 'cover' is registered twice",
        ),
        (
            "from tesa.attributes.patterns import pattern\n@pattern('block')\ndef f(mask): pass\n",
            ", line 2: ValueError: pattern 'block' is registered twice",
        ),
        (FAMILY.replace('"users"', '"dense"'), ": ValueError: kernel family 'dense' is registered twice"),
    ],
)
def test_a_broken_file_is_one_message(text: str, said: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert main(["list", "policies", "--extension", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tesa: error: extension {path}")
    assert said in line


def test_what_is_no_file(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "binary.py").write_bytes(b"\x00\xff")
    for name, said in (("no.py", "no such file"), (".", "a folder"), ("binary.py", "binary.py")):
        assert main(["list", "policies", "--extension", str(tmp_path / name)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_what_it_prints_is_not_among_the_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loud.py").write_text("print('hello')\n")
    assert main(["list", "policies", "--extension", str(tmp_path / "loud.py"), "--json"]) == 0
    streams = capfd.readouterr()
    assert json.loads(streams.out)
    assert "hello" in streams.err
