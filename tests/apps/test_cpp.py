"""The C++ programs of apps/cpp: built as their page says, called by threads, checked by valgrind and a sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tesa.compiler import compile_model
from tesa.models import digits_images, digits_labels, digits_path
from tests.frontend.onnx_models import floats, model, node, port
from tests.runtime.models import build, identity
from tests.runtime.test_cpu import OLD, x86
from tests.support import require_system

from .places import APPS, runtime_folder

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Programs = Callable[[str], Run]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of apps/cpp with its programs, made by its Makefile."""
    require_system("g++", "g++")
    root = tmp_path_factory.mktemp("cpp")
    shutil.copytree(APPS / "cpp", root / "cpp")
    runtime_folder(root / "bundle")
    subprocess.run(
        ["make", "-s", "-j2", f"RUNTIME={root / 'bundle'}", "CXXFLAGS=-O1"],
        cwd=root / "cpp", check=True, env={**os.environ, "CXX": "g++"},
    )  # fmt: skip
    return root / "cpp"


@pytest.fixture(scope="module")
def programs(folder: Path) -> Programs:
    """programs(name)(words...): run one of them."""

    def program(name: str) -> Run:
        def run(*words: object) -> subprocess.CompletedProcess[str]:
            return subprocess.run([str(folder / name), *map(str, words)], capture_output=True, text=True, check=False)

        return run

    return program


def check(done: subprocess.CompletedProcess[str], wanted: float, count: int) -> None:
    """As many sums as threads, each of them right."""
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose([float(line) for line in done.stdout.split()], [wanted] * count, rtol=1e-4)


@pytest.mark.slow
def test_threads_call_models_of_one_size_and_of_several(tmp_path: Path, programs: Programs) -> None:
    run = programs("threads")
    weight = floats(16, 8) * (np.arange(128).reshape(16, 8) % 3 == 0)
    nodes = [node("MatMul", ["x", "w"], "h"), node("Relu", ["h"], "y"), node("Neg", ["y"], "z")]
    proto = model(nodes, [port("x", ["rows", 16])], ["y", "z"], {"w": weight})
    build(tmp_path, proto, shapes={"rows": [2, 5]})
    build(tmp_path, proto, name="one", shapes={"rows": 2})
    for name, rows in (("model", 2), ("model", 5), ("one", 2)):
        wanted = np.maximum(np.ones((rows, 16), np.float32) @ weight, 0).sum()
        check(run(tmp_path / f"{name}.so", 4, 200, f"{rows},16"), wanted, 4)
    for words, said in (
        (["3,16"], "compiled for inputs of the shapes [2, 16]; [5, 16], and for no others; got [3, 16]"),
        (["2,16,1"], "and for no others; got [2, 16, 1]"),
        (["2,16", "1"], "the model takes 1 input(s): x"),
    ):
        refused = run(tmp_path / "model.so", 2, 1, *words)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"{tmp_path / 'model.so'}: ")
        assert refused.stderr.endswith(f"{said}\n")


def test_small_inputs_lie_anywhere(tmp_path: Path, programs: Programs) -> None:
    weight = floats(16, 8)
    nodes = [node("MatMul", ["x", "w"], "h"), node("Add", ["h", "z"], "y")]
    # a product takes its input as it lies in memory; sums by element do not ask where it is
    build(tmp_path, model(nodes, [port("x", [1, 16]), port("z", [1, 8])], ["y"], {"w": weight}))
    for threads in (1, 2, 3, 4, 1, 4):  # where so little memory lies is chance
        check(programs("threads")(tmp_path / "model.so", threads, 2, "1,16", "1,8"), weight.sum() + 8, threads)


def test_a_digit_is_named(tmp_path: Path, programs: Programs) -> None:
    compile_model(digits_path(), output=tmp_path / "digits.so", measure=False)
    images, labels = digits_images()[:3], digits_labels()[:3]
    files = [tmp_path / f"{number}.f32" for number in range(3)]
    for file, image in zip(files, images, strict=True):
        image.astype(np.float32).tofile(file)
    done = programs("classify")(tmp_path / "digits.so", *files)
    assert done.stdout.splitlines() == [f"{file}: {label}" for file, label in zip(files, labels, strict=True)]
    (tmp_path / "short.f32").write_bytes(b"1234")
    short = programs("classify")(tmp_path / "digits.so", tmp_path / "short.f32")
    assert (short.returncode, short.stderr) == (1, f"{tmp_path / 'short.f32'}: expected a file of 16384 bytes\n")


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path, folder: Path, programs: Programs) -> None:
    build(tmp_path, identity())
    content = (tmp_path / "model.so").read_bytes()
    foreign = Path(folder).parent / "bundle" / "lib" / "libtvm_ffi.so"
    (tmp_path / "text.so").write_text("no library")
    (tmp_path / "empty.so").write_text("")
    (tmp_path / "header.so").write_bytes(content[:40])
    (tmp_path / "half.so").write_bytes(content[: len(content) // 2])
    other = bytearray(content)
    other[18] = 183 if content[18] == 62 else 62
    (tmp_path / "other.so").write_bytes(other)
    for path, said in (
        (tmp_path / "none.so", "cannot be read"),
        (tmp_path / "text.so", "is no shared library"),
        (tmp_path / "empty.so", "is no shared library"),
        (tmp_path / "header.so", "is cut off"),
        (tmp_path / "half.so", "is cut off"),
        (tmp_path / "other.so", "was compiled for another kind of CPU"),
        (foreign, "is a library, but no compiled model"),
    ):
        done = programs("threads")(path, 1, 1, "2,3")
        assert done.returncode == 1, path
        assert done.stderr.startswith(f"{path}: {said}")
        assert len(done.stderr.splitlines()) == 1


def test_wrong_use(programs: Programs) -> None:
    for words in ([], ["m.so", 1, 1], ["m.so", 1, 1, "x"], ["m.so", 0, 1, "1"], ["m.so", 1, 1, "1,0"]):
        done = programs("threads")(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: threads ./model.so THREADS CALLS SIZES")


@x86
def test_a_program_learns_what_the_cpu_lacks(tmp_path: Path, programs: Programs) -> None:
    compile_model(identity(), output=tmp_path / "m.so", target=OLD, measure=False)
    done = programs("threads")(tmp_path / "m.so", 1, 1, "2,3")
    assert done.returncode == 1
    assert "made for x86:bdver4, this CPU lacks fma4" in done.stderr


TYPES = r"""
#include "tesa.hpp"
#include <iostream>

template <typename Call>
void told(Call&& call) {
  try {
    call();
    std::cout << "no error\n";
  } catch (const tesa::Error& error) {
    std::cout << error.what() << "\n";
  }
}

int main(int, char** words) {
  tesa::Model model(words[1]);
  std::cout << model.description() << "\n";
  alignas(64) static char memory[256];
  told([&] { model({tesa::view(reinterpret_cast<double*>(memory), {2, 3})}); });
  told([&] { model({tesa::view(reinterpret_cast<int*>(memory), {2, 3})}); });
  told([&] { model({tesa::view_as({kDLFloat, 16, 1}, memory, {2, 3})}); });
  told([&] { model({tesa::view(reinterpret_cast<float*>(memory + 2), {2, 3})}); });
  told([&] { model({tesa::view(reinterpret_cast<float*>(memory + 4), {2, 3})}); });
  std::cout << model({tesa::view(reinterpret_cast<float*>(memory), {2, 3})})[0].numel() << "\n";
}
"""


def test_wrong_types_and_addresses_are_named(tmp_path: Path, folder: Path) -> None:
    build(tmp_path, identity())
    (folder / "types.cc").write_text(TYPES)
    subprocess.run(
        ["make", "-s", "types", f"RUNTIME={folder.parent / 'bundle'}", "CXXFLAGS=-O1"], cwd=folder, check=True
    )
    done = subprocess.run(
        [str(folder / "types"), str(tmp_path / "model.so")], capture_output=True, text=True, check=True
    )
    said = [line.removeprefix(f"{tmp_path / 'model.so'}: ") for line in done.stdout.splitlines()]
    assert said == [
        '{"sizes": [{"function": "main", "inputs": [{"name": "x", "shape": [2, 3], "dtype": "float32"}], '
        '"outputs": [{"name": "y", "shape": [2, 3], "dtype": "float32"}]}]}',
        "input x: expected float32, got float64",
        "input x: expected float32, got int32",
        "input x: expected float32, got float16",
        "input x: its address is no multiple of 4 bytes; copy it to memory of aligned_alloc(64, bytes)",
        "no error",
        "6",
    ]


@pytest.mark.slow
def test_cmake(tmp_path: Path, folder: Path) -> None:
    cmake = require_system("cmake", "cmake")
    bundle = folder.parent / "bundle"
    subprocess.run([cmake, "-B", str(tmp_path), f"-DRUNTIME={bundle}"], cwd=folder, check=True, capture_output=True)
    subprocess.run([cmake, "--build", str(tmp_path), "--target", "threads"], check=True, capture_output=True)
    build(tmp_path, identity())
    done = subprocess.run(
        [str(tmp_path / "threads"), str(tmp_path / "model.so"), "2", "3", "2,3"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["6", "6"]
    wrong = subprocess.run(
        [cmake, "-B", str(tmp_path / "x"), f"-DRUNTIME={tmp_path}"], cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert wrong.returncode != 0
    assert "tesa bundle model.so" in wrong.stderr


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A small pruned network for a CPU that valgrind knows, and the sum of what it makes of ones."""
    weight = floats(32, 48) * (np.arange(32 * 48).reshape(32, 48) % 5 == 0)
    nodes = [node("MatMul", ["x", "w"], "h"), node("Relu", ["h"], "y")]
    path = tmp_path_factory.mktemp("plain") / "model.so"
    proto = model(nodes, [port("x", [4, 32])], ["y"], {"w": weight})
    compile_model(proto, output=path, target="x86:haswell", measure=False)
    return path, float(np.maximum(np.ones((4, 32)) @ weight, 0).sum())


@x86
@pytest.mark.slow
def test_valgrind_finds_nothing(folder: Path, plain: tuple[Path, float]) -> None:
    tool = require_system("valgrind", "valgrind")
    done = subprocess.run(
        [tool, "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite",
         str(folder / "threads"), str(plain[0]), "2", "3", "4,32"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "==" not in done.stderr
    check(done, plain[1], 2)


@x86
@pytest.mark.slow
def test_the_thread_sanitizer_finds_nothing(folder: Path, plain: tuple[Path, float]) -> None:
    options = "-O1 -g -fsanitize=thread -Wno-tsan"
    bundle = folder.parent / "bundle"
    subprocess.run(
        ["make", "-s", "-B", "threads", f"RUNTIME={bundle}", f"CXXFLAGS={options}"], cwd=folder, check=True,
        env={**os.environ, "CXX": "g++"},
    )  # fmt: skip
    # the runtime itself is not built with the sanitizer, which therefore does not see its locks
    done = subprocess.run(
        [str(folder / "threads"), str(plain[0]), "4", "50", "4,32"], capture_output=True, text=True, check=False,
        env={**os.environ, "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 exitcode=9"},
    )  # fmt: skip
    assert "ThreadSanitizer" not in done.stderr
    check(done, plain[1], 4)
