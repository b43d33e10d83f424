"""tesa's kernels as WebAssembly in Node.js, dense, sparse and int8, beside what npm has, in one process and in turns.

    python -m benchmarks.targets.wasm [--target wasm32:relaxed] [--peers FOLDER] [--seconds 20] [--json FILE]

The layers are MobileNet-v1's 1x1 convolutions, with bias and relu. Of each family the configurations that its estimate
likes best run, and the fastest one counts; every result is compared with NumPy first. FOLDER holds the peers:
npm install @tensorflow/tfjs-core @tensorflow/tfjs-backend-wasm onnxruntime-web. Times are the least milliseconds of the
CPU: those of the clock on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import tesa.schedules.cpu  # noqa: F401  (registers the families)
from tesa.build.cache import Cache
from tesa.build.objects import build_objects, write_objects
from tesa.measure.node.engine import engine
from tesa.measure.node.runner import link_kernel, node_device
from tesa.measure.node.session import Place, Session
from tesa.measure.reference import Inputs, reference
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Epilogue, FloatArray, Output, Problem
from tesa.targets.target import Target, parse_target

LAYERS = ((512, 512, 196), (128, 128, 3136), (1024, 1024, 49))
WEIGHTS = {
    "dense": ("dense",), "16x1 30 %": ("block",), "16x1 70 %": ("block",), "16x1 90 %": ("block",),
    "unstructured 70 %": ("indexed", "block"), "unstructured 90 %": ("indexed", "block"),
}  # fmt: skip
INT8 = {"int8 dense": ("dense",), "int8 16x1 90 %": ("block",), "int8 unstructured 90 %": ("indexed",)}
_CONFIGS = 3
_SCRIPT = Path(__file__).with_suffix(".mjs")


def weight(kind: str, m: int, k: int) -> FloatArray:
    """Random numbers, or codes, with the zeros of that name."""
    rng = np.random.default_rng(0)
    values = rng.integers(-127, 128, (m, k)) if kind.startswith("int8") else rng.standard_normal((m, k))
    share = int(kind.split()[-2]) / 100 if kind.endswith("%") else 0.0
    block = (16, 1) if "16x1" in kind else (1, 1)
    mask = np.kron(rng.random((m // block[0], k // block[1])) >= share, np.ones(block))
    return (values * mask).astype(np.float32)


def problem(kind: str, m: int, k: int, n: int) -> Problem:
    """The layer, of numbers or of codes."""
    if kind.startswith("int8"):
        return Problem("linear", m, k, n, (k, n), (m, n), dtype="int8", output=Output("int32"))
    return Problem("linear", m, k, n, (k, n), (m, n), epilogue=Epilogue(bias=True, activation="relu"))


def candidates(target: Target) -> Iterator[tuple[str, str, Problem, FloatArray, str, Config]]:
    """(layer, kind, problem, weight, family, configuration) of all that runs."""
    for m, k, n in LAYERS:
        for kind, names in (WEIGHTS | INT8).items():
            made, values = problem(kind, m, k, n), weight(kind, m, k)
            for name in names:
                for config in list(find(name).space(made, values, target.core))[:_CONFIGS]:
                    yield f"{m}x{k}x{n}", kind, made, values, name, config


def built(target: Target, folder: Path) -> dict[str, dict[str, Any]]:
    """A case for each candidate, by name, after its result was compared with NumPy."""
    cases: dict[str, dict[str, Any]] = {}
    with Session(target.features) as session:
        for number, (layer, kind, made, values, name, config) in enumerate(candidates(target)):
            home = folder / str(number)
            home.mkdir()
            code = find(name).emit(made, values, target.core, config, "kernel")
            objects = write_objects(build_objects("kernel", code, target, Cache()), home)
            link_kernel(target, objects, "kernel", home / "kernel.wasm")
            inputs, places = Inputs.random(made), []
            for i, array in enumerate((inputs.x, *code.constants, *inputs.extra)):
                np.ascontiguousarray(array).tofile(home / str(i))
                places.append(Place(array.nbytes, str(home / str(i))))
            places.append(Place(4 * made.m * made.n))
            module = session.load(home / "kernel.wasm", "kernel", places)
            session.call(module, 60)
            session.ask({"do": "read", "id": module, "index": len(places) - 1, "file": str(home / "y")})
            session.ask({"do": "drop", "id": module})
            y = np.fromfile(home / "y", made.output.dtype).reshape(made.y_shape)
            if wrong := reference(made, values, inputs).difference(y):
                raise SystemExit(f"{layer} {kind} {name} {dict(config)}: {wrong}")
            cases[f"{layer}|{kind}|{name} {json.dumps(dict(config))}"] = {
                "wasm": str(home / "kernel.wasm"), "symbol": "kernel", "place": [asdict(place) for place in places],
            }  # fmt: skip
    return cases


def convolution(m: int, k: int, n: int, path: Path) -> None:
    """The same layer as an ONNX file."""
    side = round(n**0.5)
    w = numpy_helper.from_array(weight("dense", m, k).reshape(m, k, 1, 1), "w")
    b = numpy_helper.from_array(np.zeros(m, np.float32), "b")
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, side, side])]
        for name, channels in (("x", k), ("y", m))
    ]
    graph = helper.make_graph(nodes, "layer", *ends, [w, b])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def measure(target: Target, cases: dict[str, dict[str, Any]], peers: str, seconds: float, folder: Path) -> Any:
    """Milliseconds by name."""
    files = {}
    for m, k, n in LAYERS:
        files[f"{m} {k} {n}"] = str(folder / f"{m}.onnx")
        convolution(m, k, n, folder / f"{m}.onnx")
    job = {
        "seconds": seconds, "cases": [{"name": name, **case} for name, case in cases.items()], "peers": peers,
        "layers": LAYERS, "onnx": files,
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    found = engine()
    command = [found.path, *found.flags(target.features), str(_SCRIPT), str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def rows(times: dict[str, float]) -> Iterator[dict[str, Any]]:
    """The fastest configuration of each layer and kind, and how much faster than dense it is; then the peers."""
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for name, ms in times.items():
        if "|" in name:
            layer, kind, what = name.split("|")
            best[layer, kind] = min(best.get((layer, kind), (float("inf"), "")), (ms, what))
    for (layer, kind), (ms, what) in best.items():
        yield {"layer": layer, "kind": kind, "ms": ms, "faster": best[layer, "dense"][0] / ms, "kernel": what}
    for name, ms in times.items():
        if "|" not in name:
            peer, layer = name.rsplit(" ", 1)
            yield {"layer": layer, "kind": peer, "ms": ms, "faster": best[layer, "dense"][0] / ms, "kernel": ""}


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.targets.wasm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="wasm32:simd128")
    parser.add_argument("--peers", default="", metavar="FOLDER", help="with node_modules of what to compare with")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path, help="append a line for each row to this file")
    options = parser.parse_args()
    target = parse_target(options.target)
    with TemporaryDirectory(prefix="tesa-") as name:
        times = measure(target, built(target, Path(name)), options.peers, options.seconds, Path(name))
    found = sorted(rows(times), key=lambda row: row["layer"])
    facts = {"date": date.today().isoformat(), "target": target.name, **node_device()}
    for row in found:
        print(f"{row['layer']:14} {row['kind']:24} {row['ms']:8.3f} ms {row['faster']:6.2f}x  {row['kernel']}")
    if options.json:
        with options.json.open("a") as file:
            file.writelines(json.dumps({**facts, **row}) + "\n" for row in found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
