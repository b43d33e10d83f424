"""Models that need no runtime, in Python: loaded, called, verified and timed like any other."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tesa.compiler import compile_model
from tesa.errors import ModelError
from tesa.runtime import load
from tesa.runtime.bench import bench
from tesa.runtime.verify import verify
from tests.frontend.onnx_models import floats, model, node, port

from .models import build, mlp


def test_a_model_is_loaded_called_verified_and_timed(tmp_path: Path) -> None:
    made = build(tmp_path, mlp(), format="so")
    x = floats(4, 6, seed=2)
    first = made(x)["y"]
    other = load(tmp_path / "model.so")
    np.testing.assert_array_equal(other(x)["y"], first)
    assert verify(made, tmp_path / "model.onnx").ok
    assert bench(made, repeat=3).model.calls > 0
    assert "model.so" in repr(made)


def test_several_sizes_and_shorter_inputs(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], "h"), node("Relu", ["h"], "y")]
    proto = model(nodes, [port("x", ["rows", 16])], ["y"], {"w": floats(16, 8)})
    made = build(tmp_path, proto, shapes={"rows": [2, 5]}, pad="rows", format="so")
    for rows in (1, 2, 4, 5):
        x = floats(rows, 16, seed=rows)
        np.testing.assert_allclose(made(x)["y"], np.maximum(x @ floats(16, 8), 0), rtol=1e-5, atol=1e-5)


def test_calls_of_several_threads_do_not_meet(tmp_path: Path) -> None:
    made = build(tmp_path, mlp(rows=64), format="so", threads=2)
    inputs = [floats(64, 6, seed=seed) for seed in range(4)]
    wanted = [made(x)["y"] for x in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            if not np.array_equal(made(inputs[number])["y"], wanted[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    onnx.save(mlp(), tmp_path / "model.onnx")
    compile_model(tmp_path / "model.onnx", output=tmp_path / "m.o", measure=False)
    with pytest.raises(ModelError, match=r"is of format 'o', to be linked into programs, see m\.h"):
        load(tmp_path / "m.o")
    build(tmp_path, mlp(), format="so")
    shutil.copy(tmp_path / "model.so", tmp_path / "cut.so")
    shutil.copy(tmp_path / "model.json", tmp_path / "cut.json")
    (tmp_path / "cut.so").write_bytes((tmp_path / "model.so").read_bytes()[:5000])
    with pytest.raises(ModelError, match="it is cut off"):
        load(tmp_path / "cut.so")
    described = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**described, "digest": "0" * 16}))
    with pytest.raises(ModelError, match="of another model or compile"):
        load(tmp_path / "model.so")


@pytest.mark.parametrize("library", [7, [], {"format": "so"}, {"format": "so", "name": "m", "arena": "64"}])
def test_a_broken_description_of_the_library_is_told_of(tmp_path: Path, library: Any) -> None:
    onnx.save(mlp(), tmp_path / "model.onnx")
    path = compile_model(tmp_path / "model.onnx", output=tmp_path / "m.so", format="so", measure=False).path
    described = path.with_suffix(".json")
    described.write_text(json.dumps({**json.loads(described.read_text()), "library": library}))
    with pytest.raises(ModelError, match=r"m\.json: is not the description of a compiled model \(its library has no "):
        load(path)
