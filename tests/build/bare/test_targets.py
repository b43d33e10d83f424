"""The same networks on x86, 64-bit ARM and WebAssembly, from one emitter."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tesa.compiler import compile_model
from tests.frontend.merged import merged
from tests.frontend.networks import transformer
from tests.frontend.onnx_models import floats, model, node, port
from tests.node import require_node
from tests.support import require_system

from .calling import Arrays, expected
from .test_models import sparse

HERE = Path(__file__).parent
SLOW = pytest.mark.slow
STRICT = ["-std=gnu99", "-O1", "-Wall", "-Wextra", "-Werror"]


def recurrent() -> Any:
    """A recurrent network of some steps."""
    nodes = [node("GRU", ["x", "w", "r", "b"], "y", hidden_size=8), node("Relu", ["y"], "z")]
    constants = {"w": sparse(1, 24, 6), "r": sparse(1, 24, 8, seed=1), "b": floats(1, 48)}
    return model(nodes, [port("x", [20, 1, 6])], ["z"], constants, opset=18)


def quantized() -> Any:
    """A convolution and a product on codes of 8 bits."""
    rng = np.random.default_rng(3)
    codes = rng.integers(-127, 128, (16, 8, 3, 3)) * (rng.random((16, 8, 3, 3)) < 0.4)
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], "qx"), node("DequantizeLinear", ["qx", "sx", "zx"], "dx"),
        node("DequantizeLinear", ["w", "sw", "zw"], "dw", axis=0),
        node("Conv", ["dx", "dw"], "c", pads=[1, 1, 1, 1]), node("Relu", ["c"], "r"),
        node("QuantizeLinear", ["r", "sy", "zx"], "qy"), node("DequantizeLinear", ["qy", "sy", "zx"], "y"),
    ]  # fmt: skip
    constants = {
        "w": codes.astype(np.int8), "sw": rng.uniform(0.01, 0.02, 16).astype(np.float32), "zw": np.zeros(16, np.int8),
        "sx": np.float32(0.03), "zx": np.uint8(128), "sy": np.float32(0.1),
    }  # fmt: skip
    return model(nodes, [port("x", [1, 8, 10, 10])], ["y"], constants, opset=18)


def others() -> Any:
    """What has no kernel of its own: sorted numbers, sums along an axis, functions of the C library."""
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["values", "places"], "topk"),
        node("CumSum", ["x", "axis"], "sums"),
        node("Sin", ["x"], "s"),
        node("Pow", ["s", "two"], "squares"),
        node("Softmax", ["x"], "p", axis=-1),
        node("Erf", ["x"], "e"),
    ]
    made = model(
        nodes, [port("x", [3, 50])], ["values", "places", "sums", "squares", "p", "e"],
        {"k": np.array([7]), "axis": np.array(1), "two": np.array(2.5, np.float32)}, opset=18,
    )  # fmt: skip
    made.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    return made


@cache
def network() -> tuple[Any, dict[str, Any], Arrays]:
    """(one model of all networks, inputs, what onnxruntime makes of them)."""
    models = {"q": quantized(), "r": recurrent(), "t": transformer(), "o": others()}
    whole = merged(models)
    feeds = {}
    for value in whole.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        feeds[value.name] = floats(*shape, seed=len(feeds))
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            feeds[value.name] = np.zeros(shape, np.int64)
    return whole, feeds, expected(whole, feeds)


def compiled(folder: Path, form: str, target: str) -> Path:
    """The path of the networks' library."""
    onnx.save(network()[0], folder / "model.onnx")
    return compile_model(
        folder / "model.onnx", output=folder / f"net.{form}", format=form, target=target, measure=False
    ).path


def judge(folder: Path, command: Sequence[str]) -> None:
    """Run a command on the inputs' files, and hold the outputs' against onnxruntime."""
    _, feeds, wanted = network()
    described = json.loads((folder / "net.json").read_text())
    names = {side: [one["name"] for one in described[side]] for side in ("inputs", "outputs")}
    files = []
    for side in ("inputs", "outputs"):
        for number, name in enumerate(names[side]):
            files.append(folder / f"{side}{number}")
            if side == "inputs":
                np.ascontiguousarray(feeds[name]).tofile(files[-1])
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    compare({n: np.fromfile(folder / f"outputs{i}", wanted[n].dtype) for i, n in enumerate(names["outputs"])}, wanted)


def compare(found: Mapping[str, Any], wanted: Arrays) -> None:
    for name, array in wanted.items():
        step = 0.1001 if name.startswith("q/") else 2e-5  # a code may differ where a number lies between two
        np.testing.assert_allclose(found[name].reshape(array.shape), array, rtol=1e-4, atol=step, err_msg=name)


def program(folder: Path, compiler: str, library: Path) -> str:
    """A C program of the library."""
    made = folder / "run"
    words = [compiler, *STRICT, f"-I{folder}", str(HERE / "run.c"), str(library), "-lm", f"-Wl,-rpath,{folder}"]
    subprocess.run([*words, "-o", str(made)], check=True)
    return str(made)


@pytest.mark.parametrize("form", ["so", pytest.param("o", marks=SLOW), pytest.param("c", marks=SLOW)])
def test_on_x86(tmp_path: Path, form: str) -> None:
    library = compiled(tmp_path, form, "x86:x86-64-v3")
    judge(tmp_path, [program(tmp_path, require_system("gcc", "gcc"), library)])


@pytest.mark.parametrize("cpu", [pytest.param("cortex-a72", marks=SLOW), "neoverse-n1"])
def test_on_64_bit_arm(tmp_path: Path, cpu: str) -> None:
    compiler = require_system("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    emulator = require_system("qemu-aarch64", "qemu-user")
    library = compiled(tmp_path, "o", f"aarch64:{cpu}")
    command = [emulator, "-L", "/usr/aarch64-linux-gnu", "-cpu"]
    made = program(tmp_path, compiler, library)
    judge(tmp_path, [*command, cpu if cpu == "cortex-a72" else "max", made])
    if cpu == "neoverse-n1":
        files = [str(tmp_path / f"{side}{i}") for side in ("inputs", "outputs") for i in range(20)]
        files = [file for file in files if Path(file).exists()]
        done = subprocess.run([*command, "cortex-a72", made, *files], capture_output=True, text=True, check=False)
        assert done.returncode == 8
        assert "this CPU lacks instructions that the model was compiled for: " in done.stderr
        assert "dotprod" in done.stderr


@pytest.mark.slow
def test_c_for_a_newer_cpu_needs_no_option_of_the_compiler(tmp_path: Path) -> None:
    """gcc takes code for SVE, for any CPU; a compiler for another architecture says what is wrong."""
    compiler = require_system("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    made = compiled(tmp_path, "c", "aarch64:neoverse-n2")
    for cpu in ([], ["-mcpu=neoverse-n1"], ["-mcpu=neoverse-n2"]):
        subprocess.run([compiler, *STRICT, *cpu, "-O2", "-c", str(made), "-o", str(tmp_path / "net.o")], check=True)
    other = require_system("gcc", "gcc")
    for target in ("aarch64:neoverse-n2", "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a72 -mattr=+dotprod"):
        made = compiled(tmp_path, "c", target)
        done = subprocess.run([other, "-c", str(made), "-o", "/dev/null"], capture_output=True, text=True, check=False)
        assert f"this model is code for {target}: compile it with gcc or clang for that machine" in done.stderr


@pytest.mark.parametrize("kind", ["simd128", pytest.param("relaxed", marks=SLOW)])
def test_in_a_browsers_engine(tmp_path: Path, kind: str) -> None:
    require_node()
    node_js = require_system("node", "nodejs")
    library = compiled(tmp_path, "wasm", f"wasm32:{kind}")
    flags = ["--experimental-wasm-relaxed-simd"] if kind == "relaxed" else []
    judge(tmp_path, [node_js, *flags, str(HERE / "run.mjs"), str(library), str(tmp_path / "net.json")])


@pytest.mark.slow
def test_under_valgrind(tmp_path: Path) -> None:
    valgrind = require_system("valgrind", "valgrind")
    library = compiled(tmp_path, "so", "x86:x86-64-v3")
    made = program(tmp_path, require_system("gcc", "gcc"), library)
    judge(tmp_path, [valgrind, "-q", "--error-exitcode=99", "--leak-check=full", made])
