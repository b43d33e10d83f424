"""The C programs of apps/c: strict C99, built as their page says, here and for 64-bit ARM, under valgrind and TSan."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from tesa.compiler import compile_model
from tesa.models import digits_images, digits_labels, digits_path
from tests.runtime.test_cpu import x86
from tests.support import require_system

from .places import APPS

SAID = [
    "the number of inputs or outputs is wrong",
    "the arena is too small",
    "a pointer is null",
    "a pointer is not aligned: the arena to 64 bytes, a tensor to the size of its elements",
    "an input or output has another type than the model",
    "an input or output has a shape that the model was not compiled for",
    "a pointer is not aligned: the arena to 64 bytes, a tensor to the size of its elements",
    "the memory of an input or output is too small for its shape",
]


def programs(folder: Path, target: str, compiler: str) -> Path:
    """A copy of apps/c with models for a target, and the programs."""
    shutil.copytree(APPS / "c", folder / "c")
    (folder / "models").mkdir()
    subprocess.run([sys.executable, str(APPS / "c" / "layer.py"), str(folder / "layer.onnx")], check=True)
    compile_model(digits_path(), output=folder / "models" / "digits.o", target=target, measure=False)
    compile_model(folder / "layer.onnx", output=folder / "models" / "layer.o", target=target, measure=False)
    make(folder / "c", compiler)
    return folder / "c"


def make(folder: Path, compiler: str, *words: str) -> None:
    """Run its Makefile."""
    subprocess.run(
        ["make", "-s", f"MODELS={folder.parent / 'models'}", f"CC={compiler}", *words], cwd=folder, check=True
    )


def check(folder: Path, images: Path, run: Sequence[str]) -> None:
    """What the programs print is right. run: the words in front of a program."""

    def output(*words: object) -> list[str]:
        done = subprocess.run([*run, *map(str, words)], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    files = [images / f"{number}.f32" for number in range(3)]
    labels = digits_labels()[:3].tolist()
    assert output(folder / "classify", *files) == [
        f"{file}: {label}" for file, label in zip(files, labels, strict=True)
    ]
    one, two = map(float, output(folder / "threads", 2, 2))
    assert one == two
    (weight,) = onnx.load(folder.parent / "layer.onnx").graph.initializer
    total = np.maximum(np.ones((8, 32)) @ onnx.numpy_helper.to_array(weight), 0).sum()
    first, *rest = output(folder / "one_layer")
    assert float(first) == pytest.approx(total, rel=1e-4)
    assert rest == SAID


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three images as files."""
    folder = tmp_path_factory.mktemp("images")
    for number, image in enumerate(digits_images()[:3]):
        image.astype(np.float32).tofile(folder / f"{number}.f32")
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs for a CPU that valgrind knows."""
    return programs(tmp_path_factory.mktemp("c"), "x86:haswell", require_system("gcc", "gcc"))


@x86
def test_programs_here(here: Path, images: Path, tmp_path: Path) -> None:
    check(here, images, [])
    (tmp_path / "short.f32").write_bytes(b"1234")
    for words, code, said in (
        ([here / "classify"], 2, "usage: classify"),
        ([here / "classify", tmp_path / "short.f32"], 1, "expected a file of 16384 bytes"),
        ([here / "classify", tmp_path / "none.f32"], 1, "expected a file of 16384 bytes"),
        ([here / "threads", 0, 1], 2, "usage: threads"),
    ):
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert said in done.stderr


@x86
@pytest.mark.slow
def test_programs_on_64_bit_arm(tmp_path: Path, images: Path) -> None:
    emulator = require_system("qemu-aarch64", "qemu-user")
    compiler = require_system("aarch64-linux-gnu-gcc", "g++-aarch64-linux-gnu")
    folder = programs(tmp_path, "aarch64:cortex-a72", compiler)
    check(folder, images, [emulator, "-cpu", "cortex-a72", "-L", "/usr/aarch64-linux-gnu"])


@x86
@pytest.mark.slow
def test_valgrind_finds_nothing(here: Path, images: Path) -> None:
    tool = require_system("valgrind", "valgrind")
    for words in (["one_layer"], ["classify", str(images / "0.f32")]):
        done = subprocess.run(
            [tool, "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=all",
             f"./{words[0]}", *words[1:]],
            cwd=here, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[0].endswith("7") or words == ["one_layer"]


@x86
@pytest.mark.slow
def test_the_thread_sanitizer_finds_nothing(here: Path, tmp_path: Path) -> None:
    shutil.copytree(here, tmp_path / "c")
    shutil.copytree(here.parent / "models", tmp_path / "models")
    make(tmp_path / "c", "gcc", "-B", "threads", "CFLAGS=-O1 -g -fsanitize=thread")
    done = subprocess.run(
        ["./threads", "4", "50"], cwd=tmp_path / "c", capture_output=True, text=True, check=False,
        env={**os.environ, "TSAN_OPTIONS": "exitcode=9"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ThreadSanitizer" not in done.stderr
    assert len(set(done.stdout.split())) == 1
