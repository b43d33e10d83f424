"""The C++ program of docs/cpp: compiled against TVM's runtime, run on libraries of one size and of several."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tesa.compiler import compile_model
from tests.frontend.onnx_models import floats, model, node, port

from .models import build, identity
from .test_cpu import OLD, x86

SOURCE = Path(__file__).parents[2] / "docs" / "cpp" / "threads.cc"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """program(words...): run docs/cpp/threads.cc."""
    from tvm_ffi import libinfo

    compiler = next((name for name in ("g++", "clang++") if _there(name)), None)
    if compiler is None:
        pytest.skip("no C++ compiler")
    spec = importlib.util.find_spec("tvm")
    assert spec is not None
    assert spec.origin is not None
    runtime = Path(spec.origin).parent / "lib"
    ffi = Path(libinfo.find_libtvm_ffi()).parent
    path = tmp_path_factory.mktemp("cpp") / "threads"
    includes = [libinfo.find_include_path(), libinfo.find_dlpack_include_path()]
    folders = [f"-L{runtime}", f"-L{ffi}", f"-Wl,-rpath,{runtime}:{ffi}"]
    libraries = ["-Wl,--no-as-needed", "-ltvm_runtime", "-ltvm_ffi", "-ldl", "-pthread"]
    command = [
        compiler,
        "-std=c++17",
        "-O1",
        *(f"-I{folder}" for folder in includes),
        str(SOURCE),
        *folders,
        *libraries,
    ]
    subprocess.run([*command, "-o", str(path)], check=True)

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(path), *map(str, words)], capture_output=True, text=True, check=False)

    return run


def _there(name: str) -> bool:
    return subprocess.run(["which", name], capture_output=True, check=False).returncode == 0


def test_threads_of_a_cpp_program(tmp_path: Path, program: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    weight = floats(16, 8) * (np.arange(128).reshape(16, 8) % 3 == 0)
    nodes = [node("MatMul", ["x", "w"], "h"), node("Relu", ["h"], "y"), node("Neg", ["y"], "z")]
    proto = model(nodes, [port("x", ["rows", 16])], ["y", "z"], {"w": weight})
    build(tmp_path, proto, shapes={"rows": [2, 5]})
    build(tmp_path, proto, name="one", shapes={"rows": 2})
    for name, rows in (("model", 2), ("model", 5), ("one", 2)):
        done = program(tmp_path / f"{name}.so", 4, 200, "x", f"{rows},16")
        wanted = np.maximum(np.ones((rows, 16), np.float32) @ weight, 0).sum()
        assert done.stderr == ""
        np.testing.assert_allclose([float(line) for line in done.stdout.split()], [wanted] * 4, rtol=1e-4)
    refused = program(tmp_path / "model.so", 1, 1, "x", "3,16")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"{tmp_path / 'model.so'}: ")
    assert "terminate" not in refused.stderr
    assert "compiled for inputs of the shapes [2, 16]; [5, 16], and for no others" in refused.stderr


def test_small_inputs_of_a_cpp_program(
    tmp_path: Path, program: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    weight = floats(16, 8)
    nodes = [node("MatMul", ["x", "w"], "h"), node("Add", ["h", "z"], "y")]
    # a product takes its input as it lies in memory, which has to be aligned; sums by element do not ask
    build(tmp_path, model(nodes, [port("x", [1, 16]), port("z", [1, 8])], ["y"], {"w": weight}))
    for threads in (1, 2, 3, 4, 1, 4):  # where so little memory lies is chance
        done = program(tmp_path / "model.so", threads, 2, "x", "1,16", "z", "1,8")
        assert (done.returncode, done.stderr) == (0, "")
        np.testing.assert_allclose([float(line) for line in done.stdout.split()], [weight.sum() + 8] * threads, 1e-4)


def test_wrong_use_of_a_cpp_program(tmp_path: Path, program: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    for words in ([], ["m.so", 1, 1], ["m.so", 1, 1, "x"], ["m.so", 0, 1, "x", "1"]):
        done = program(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: threads ./model.so THREADS CALLS NAME SIZES")
    (tmp_path / "no.so").write_text("no library")
    done = program(tmp_path / "no.so", 1, 1, "x", "1,16")
    assert done.returncode == 1
    assert "terminate" not in done.stderr


@x86
def test_a_cpp_program_learns_what_the_cpu_lacks(
    tmp_path: Path, program: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    compile_model(identity(), output=tmp_path / "m.so", target=OLD, measure=False)
    done = program(tmp_path / "m.so", 1, 1, "x", "2,3")
    assert done.returncode == 1
    assert "made for x86:bdver4, this CPU lacks fma4" in done.stderr
