"""Kernels for 64-bit ARM, compared with NumPy under qemu-user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.build.objects import build_objects, symbol_of, write_objects
from tesa.build.product import Product
from tesa.errors import UsageError
from tesa.measure.emulated.emulator import emulator_for, lacking_emulator
from tesa.measure.emulated.runner import EmulatedRunner
from tesa.measure.failure import Failure
from tesa.measure.timing import UNTIMED
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue, Problem
from tesa.targets.target import parse_target
from tests.support import require_system

ARM = parse_target("aarch64:cortex-a76")
PROBLEM = Problem("linear", 16, 24, 13, (24, 13), (16, 13), epilogue=Epilogue(bias=True, activation="relu"))
WEIGHT = np.random.default_rng(0).standard_normal((16, 24)).astype(np.float32)
WEIGHT[np.random.default_rng(1).random((16, 24)) < 0.6] = 0

_HEAD = """
#include <string.h>
#include <tvm/ffi/c_api.h>
int __tvm_ffi_{name}(void* self, const TVMFFIAny* args, int count, TVMFFIAny* result) {{
  DLTensor* y = (DLTensor*)args[count - 1].v_ptr;
  float* at = (float*)y->data;
  long n = y->shape[0] * y->shape[1];
  {body}
  return 0;
}}
"""
FAULTY = {
    "off": ("memset(at, 0, n * 4);", "wrong", "largest error"),
    "unwritten": ("", "wrong", "are not numbers"),
    "outside": ("memset(at, 0, n * 4 + 4);", "wrong", "outside of its result"),
    "crash": ("*(volatile int*)8 = 1;", "crash", "SIGSEGV"),
    "refuses": ('TVMFFIErrorSetRaisedFromCStr("ValueError", "no"); return -1;', "crash", "ValueError: no"),
    "sve": ('__asm__ volatile(".inst 0x2518e3e0");', "crash", "SIGILL"),
}
"""By the name of a function: its body, the kind of its failure, and words of it."""


@pytest.fixture
def runner() -> Iterator[EmulatedRunner]:
    require_system("qemu-aarch64", "qemu-user")
    require_system("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    made = EmulatedRunner(ARM)
    yield made
    made.close()


def built(family: str, folder: Path) -> Product:
    config = find(family).space(PROBLEM, WEIGHT, ARM.core)[0]
    symbol = symbol_of(PROBLEM, WEIGHT, ARM, family, config)
    code = find(family).emit(PROBLEM, WEIGHT, ARM.core, config, symbol)
    return Product(symbol, write_objects(build_objects(symbol, code, ARM), folder), tuple(code.constants))


def written(name: str, body: str, folder: Path) -> Product:
    ARM.toolchain.compile(_HEAD.format(name=name, body=body), folder / f"{name}.o")
    return Product(name, (folder / f"{name}.o",))


def test_right_kernels_are_right_and_faulty_ones_say_why(runner: EmulatedRunner, tmp_path: Path) -> None:
    right = [built("dense", tmp_path), built("indexed", tmp_path)]
    wrong = [written(name, body, tmp_path) for name, (body, _, _) in FAULTY.items()]
    results = runner.run(PROBLEM, WEIGHT, [*right, *wrong], budget_ms=0)
    assert results[: len(right)] == [UNTIMED, UNTIMED]
    for (name, (_, kind, words)), result in zip(FAULTY.items(), results[len(right) :], strict=True):
        assert isinstance(result, Failure), name
        assert (result.kind, words in result.message) == (kind, True), (name, result)


def test_nothing_is_timed_and_the_device_says_that_it_is_none(runner: EmulatedRunner, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can be checked in an emulator, and not be timed there"):
        runner.run(PROBLEM, WEIGHT, [], budget_ms=5)
    device = runner.device()
    assert (device["cpu"], device["emulated"]) == ("emulated aarch64", True)
    assert device["model"] == "qemu-aarch64 -cpu cortex-a76"
    assert emulator_for(parse_target("aarch64:neoverse-n2")).cpu == "max", "which this emulator does not know"


def test_what_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no emulator of programs for wasm32" in lacking_emulator(parse_target("wasm32"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert "qemu-aarch64 is not installed (Debian and Ubuntu: apt-get install qemu-user)" in lacking_emulator(ARM)
    with pytest.raises(UsageError, match="code for aarch64:cortex-a76 cannot be checked here: qemu-aarch64"):
        EmulatedRunner(ARM)
