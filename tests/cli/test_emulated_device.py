"""The whole job on a device of another architecture: TVM's own server in a Python for 64-bit ARM, under qemu-user."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tesa
from tesa.cli import main
from tesa.models import digits_path
from tests.arm64 import arm64_python
from tests.measure.remote.park import TVMS, Park
from tests.support import PATIENCE_S, logged, require_system

pytestmark = pytest.mark.slow

DIGITS, ARM, KEY = str(digits_path()), "aarch64:cortex-a76", "board"
LAYER = ["--layer", "block5.pointwise", "--mode", "random", "--trials", "2"]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The options that name the device."""
    require_system("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    python = arm64_python()
    park = Park(tmp_path_factory.mktemp("park"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVM_USE_RUNTIME_LIB", "1")  # a board has no use for a compiler
        park.server(KEY, TVMS, python=str(python))
    try:
        park.await_servers(1, KEY)
        yield ["--rpc", f"127.0.0.1:{park.port}", "--key", KEY]
    finally:
        park.close()


def answer(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == code, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_device_is_told_for_what_it_is(board: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--target", ARM]):
        (device,) = answer(capsys, "devices", *board, "--timeout", f"{PATIENCE_S:g}", *more)["devices"]
        assert (device["cpu"], device["machine"], device["emulated"]) == ("emulated aarch64", "aarch64", True)
        assert device["state"] == "free"
    assert main(["devices", *board, "--timeout", f"{PATIENCE_S:g}", "--target", "x86"]) == 1
    assert "is broken: it cannot load code for x86_64" in capsys.readouterr().err


def test_it_measures_and_its_times_are_no_cpus(
    board: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "tune", DIGITS, *board, "--target", ARM, *LAYER, "--log", str(tmp_path))
    assert found["measured"] >= 2
    assert found["layers"][0]["failed"] == 0
    assert found["notes"][0].startswith("emulated aarch64 measures: its times are the emulator's (aarch64, played by ")
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["emulated aarch64.jsonl"]
    records = logged(*tmp_path.glob("*.jsonl"))
    assert {(record["target"], record["device"]["cpu"]) for record in records} == {(ARM, "emulated aarch64")}
    assert all(record["ok"] for record in records)


def test_it_runs_models_and_they_are_right(
    board: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compile on an emulated device compares the kernels there, and chooses them by estimate."""
    library = str(tmp_path / "digits.so")
    made = answer(capsys, "compile", DIGITS, "-o", library, *board, "--target", ARM, "--log", str(tmp_path / "log"))
    parts = [part for layer in made["plan"]["layers"] if layer["kind"] == "sparse" for part in layer["parts"]]
    assert parts
    assert all(part["reason"].startswith("estimated: ") for part in parts)
    assert logged(*(tmp_path / "log").glob("*.jsonl")) == []
    assert answer(capsys, "verify", library, "--ref", DIGITS, *board)["ok"]
    timed = answer(capsys, "bench", library, *board, "--repeat", "3")
    assert timed["device"] == "emulated aarch64"
    assert timed["note"] == "emulated aarch64: these are times of an emulator, and say nothing of any CPU"


def test_code_for_another_architecture_is_refused(board: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", DIGITS, *board, *LAYER, "-q"]) == 2
    assert "it cannot load code for x86_64" in capsys.readouterr().err


_CALL = """
import sys
import numpy as np, tvm_ffi
data, library = np.load(sys.argv[2]), tvm_ffi.load_module(sys.argv[1])
y = np.full_like(data["y"], np.nan)
library["entry"](tvm_ffi.from_dlpack(data["x"].copy()), tvm_ffi.from_dlpack(y))
np.testing.assert_allclose(y, data["y"], rtol=1e-4, atol=1e-4)
print(library["tesa_target"](), library["tesa_missing"]() or "nothing")
"""


@pytest.mark.parametrize(("cpu", "missing"), [("max", "nothing"), ("cortex-a72", "dotprod, fullfp16, lse, rcpc, rdm")])
def test_a_saved_kernel_runs_with_the_ffi_alone(tmp_path: Path, cpu: str, missing: str) -> None:
    """It answers what a CPU lacks for it before it is called; this one happens to need none of that."""
    require_system("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    python = arm64_python()
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((16, 24)) * (rng.random((16, 24)) < 0.4)).astype(np.float32)
    x, bias = rng.standard_normal((24, 13), np.float32), rng.standard_normal(16, np.float32)
    tesa.kernel(weight, 13, target=ARM, bias=bias, epilogue="bias+relu", family="indexed").save(tmp_path / "k.so")
    np.savez(tmp_path / "k.npz", x=x, y=np.maximum(weight @ x + bias[:, None], 0))
    words = [str(python), "-c", _CALL, str(tmp_path / "k.so"), str(tmp_path / "k.npz")]
    env = {**os.environ, "ARM64_CPU": cpu}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=env)
    assert done.stdout.strip() == f"{ARM} {missing}", done.stderr
