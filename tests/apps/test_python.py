"""apps/python in a process that has neither tesa nor tvm: TVM's runtime, tvm_ffi and NumPy alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tesa.compiler import compile_model
from tesa.models import digits_images, digits_labels, digits_path
from tests.frontend.onnx_models import floats, model, node, port
from tests.runtime.models import build, identity
from tests.runtime.test_cpu import OLD, x86

from .places import APPS, runtime_folder

_PATH = f"import sys; sys.path.insert(0, {str(APPS / 'python')!r})"  # which PYTHONSAFEPATH leaves out

BLOCKED = """
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tesa", "tvm", "onnx"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime library, apart from the package that it comes from."""
    folder = tmp_path_factory.mktemp("python") / "bundle"
    runtime_folder(folder)
    return folder / "lib" / "libtvm_runtime.so"


def run(text: str, *words: object) -> subprocess.CompletedProcess[str]:
    """A script with the module at hand, in a process where tesa and tvm cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", _PATH + BLOCKED + text, *map(str, words)], capture_output=True, text=True, check=False,
        cwd=APPS / "python",
    )  # fmt: skip


@pytest.mark.slow
def test_the_program_names_digits(tmp_path: Path, lib: Path) -> None:
    compile_model(digits_path(), output=tmp_path / "digits.so", measure=False)
    np.savez(tmp_path / "images.npz", digits_images()[:5])
    script = "import runpy; runpy.run_path('classify.py', run_name='__main__')"
    done = run(script, tmp_path / "digits.so", tmp_path / "images.npz", lib)
    assert (done.returncode, done.stderr) == (0, "")
    assert [int(line) for line in done.stdout.split()] == digits_labels()[:5].tolist()
    none = run(script, tmp_path / "none.so", tmp_path / "images.npz", lib)
    assert none.returncode == 1
    assert (
        none.stderr
        == f"error: {tmp_path / 'none.so'}: no such file; compile a model: tesa compile model.onnx -o model.so\n"
    )


THREADS = """
import json, threading
import numpy as np
from tesa_model import Model

model = Model(*sys.argv[1:3])
data = np.load(sys.argv[3])
wrong = []

def calls(rows):
    for _ in range(50):
        y = model({"x": data[f"x{rows}"]})["y"]
        if not np.allclose(y, data[f"y{rows}"], 1e-4, 1e-4):
            wrong.append(rows)

threads = [threading.Thread(target=calls, args=(rows,)) for rows in (2, 5, 2, 5)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps([wrong, [size["inputs"][0]["shape"] for size in model.sizes]]))
"""


def test_threads_and_sizes(tmp_path: Path, lib: Path) -> None:
    weight = floats(16, 8) * (np.arange(128).reshape(16, 8) % 3 == 0)
    proto = model([node("MatMul", ["x", "w"], "y")], [port("x", ["rows", 16])], ["y"], {"w": weight})
    build(tmp_path, proto, shapes={"rows": [2, 5]})
    xs = {rows: floats(rows, 16) for rows in (2, 5)}
    np.savez(tmp_path / "d.npz", **{f"x{n}": x for n, x in xs.items()}, **{f"y{n}": x @ weight for n, x in xs.items()})
    done = run(THREADS, tmp_path / "model.so", lib, tmp_path / "d.npz")
    assert done.stderr == ""
    assert json.loads(done.stdout) == [[], [[2, 16], [5, 16]]]


ERRORS = """
import numpy as np
from tesa_model import Model, ModelError

def told(call):
    try:
        call()
        print("no error")
    except ModelError as error:
        print(error)

for path in sys.argv[3:]:
    told(lambda: Model(path, sys.argv[2]))
model = Model(*sys.argv[1:3])
good = np.ones((2, 3), "float32")
for feeds in ({}, {"y": good}, {"x": good, "z": good}, {"x": good.astype("float64")}, {"x": good[:1]}, {"x": good.T},
              {"x": np.asfortranarray(good)}, {"x": good[::-1]}):
    told(lambda: model(feeds))
unaligned = np.frombuffer(b"x" * 25, "uint8")[1:].view("float32").reshape(2, 3)
told(lambda: model({"x": unaligned}))
told(lambda: Model(sys.argv[1], "/nowhere/libtvm_runtime.so"))
"""


def test_bad_files_and_inputs_are_told_of(tmp_path: Path, lib: Path) -> None:
    build(tmp_path, identity())
    content = (tmp_path / "model.so").read_bytes()
    (tmp_path / "text.so").write_text("text")
    (tmp_path / "short.so").write_bytes(content[:30])
    (tmp_path / "half.so").write_bytes(content[: len(content) // 2])
    foreign = lib.parent / "libtvm_ffi.so"
    done = run(
        ERRORS, tmp_path / "model.so", lib, tmp_path / "text.so", tmp_path / "short.so", tmp_path / "half.so", foreign
    )
    assert done.stderr == ""
    shapes = "the model was compiled for inputs of the shapes [2, 3], and for no others; got"
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'text.so'}: is no shared library",
        f"{tmp_path / 'short.so'}: is cut off; copy or compile it again",
        f"{tmp_path / 'half.so'}: is cut off; copy or compile it again",
        f"{foreign}: is a library, but no compiled model",
        "the model takes the inputs x; got none",
        "the model takes the inputs x; got y",
        "the model takes the inputs x; got x, z",
        "input x: expected float32, got float64",
        f"{shapes} [1, 3]",
        f"{shapes} [3, 2]",
        "no error",
        "no error",
        "no error",
        "libtvm_runtime.so is not at /nowhere/libtvm_runtime.so; `tesa bundle model.so -o folder` writes it",
    ]


@x86
def test_a_cpu_without_the_instructions_is_told_of(tmp_path: Path, lib: Path) -> None:
    compile_model(identity(), output=tmp_path / "m.so", target=OLD, measure=False)
    done = run(ERRORS, tmp_path / "m.so", lib, tmp_path / "m.so")
    assert done.stdout.startswith(f"{tmp_path / 'm.so'}: made for x86:bdver4, this CPU lacks fma4")
