"""The programs for GPUs: built with a C++ compiler alone, and run on a pretended driver."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tesa
from tesa.build.gpu import ptx
from tests.gpu.driver import Driver, build
from tests.gpu.kernels import sparse
from tests.support import require_system

APPS = Path(__file__).parents[2] / "apps" / "gpu"


def test_a_program_in_cpp_says_what_is_wrong(tmp_path: Path) -> None:
    """Without a driver a library still loads, describes itself, and tells why it cannot run."""
    compiler = require_system("g++", "g++")
    program = tmp_path / "layer"
    command = [compiler, "-std=c++17", "-Wall", "-Werror", "-O1", str(APPS / "layer.cc"), "-o", str(program), "-ldl"]
    subprocess.run(command, check=True)
    weight = sparse(16, 24, 0.3)
    tesa.kernel(weight, n=64, target="cuda:sm_80", family="unrolled").save(tmp_path / "net.so")
    environment = {**os.environ, "TESA_GPU_DRIVER": str(tmp_path / "missing.so")}
    done = subprocess.run(
        [program, str(tmp_path / "net.so"), "net"], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode == 0:  # on a machine with a GPU
        first = float(done.stdout.split()[0])
        np.testing.assert_allclose(first, weight.sum(axis=1)[0], rtol=1e-4)
    else:
        assert "no driver of a GPU of NVIDIA was found" in done.stderr
    wrong = subprocess.run([program, str(tmp_path / "net.so"), "other"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "the library has no other_description" in wrong.stderr


def test_the_program_in_cpp_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As a library, for the pretended driver calls back into this process."""
    compiler = require_system("g++", "g++")
    monkeypatch.setattr(ptx, "assembler", lambda: "")  # the driver gets the text, and runs it
    driver = Driver(build(tmp_path))
    monkeypatch.setenv("TESA_GPU_DRIVER", str(driver.path))
    driver.start()
    shared = tmp_path / "layer.so"
    command = [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-Dmain=layer_main", str(APPS / "layer.cc")]
    subprocess.run([*command, "-o", str(shared), "-ldl"], check=True)
    weight = sparse(8, 12, 0.3)
    net = tesa.kernel(weight, n=32, target="cuda:sm_80", family="unrolled", measure=False).save(tmp_path / "net.so")
    words = (ctypes.c_char_p * 4)(b"layer", str(net).encode(), b"net", None)
    assert ctypes.CDLL(str(shared))._Z10layer_mainiPPc(3, words) == 0
    ctypes.CDLL(None).fflush(None)
    said = capfd.readouterr().out.replace(",", "").split()
    assert driver.faults == []
    np.testing.assert_allclose([float(said[0]), float(said[3])], weight.sum(axis=1)[[0, -1]], rtol=1e-4)
