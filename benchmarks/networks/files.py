"""What a run keeps in its folder: the ONNX files of each network, their inputs' results, compiled libraries."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

import benchmarks
import tesa
from benchmarks.networks.catalogue import Network, feeds
from benchmarks.networks.pruning import Sparsity, pruned
from benchmarks.networks.quantizing import quantized
from tesa import schedules
from tesa.base.onnxruntime import reference_outputs
from tesa.base.progress import Progress, silent
from tesa.compiler import compile_model

Array = NDArray[Any]
CALIBRATION_RUNS = 4
PRECISIONS = ("float32", "int8", "dynamic")
"""int8: static quantization, or for networks that have none dynamic; dynamic: where a network has both."""


class DeadNetworkError(Exception):
    """The activations of a network vanish, overflow, or do not depend on its inputs: its times would mean nothing."""


@dataclass(frozen=True)
class Folder:
    """A place for files. tiny: the forms for tests; seed: of weights and inputs; reuse: an earlier tesa's libraries."""

    path: Path
    tiny: bool = False
    seed: int = 0
    reuse: bool = False

    def model(self, network: Network, batch: int, sparsity: Sparsity, precision: str) -> Path | None:
        """The ONNX file, made where it is not there yet; None where the network has no such precision."""
        way = how(network, precision)
        if precision != "float32" and way is None:
            return None
        size = "-tiny" if self.tiny else ""
        name = f"{network.name}{size}-b{batch}-{sparsity.name}-{precision}-s{self.seed}-{_sources_of_models()}.onnx"
        path = self.path / "models" / name
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        if way is None:
            given = network.tiny if self.tiny else {}
            model = pruned(network.build(batch=batch, seed=self.seed, **given), sparsity)
            check_alive(model, self.seed)
        else:
            real = self.model(network, batch, sparsity, "float32")
            assert real is not None
            before = onnx.load(real)
            model = quantized(before, way, [feeds(before, self.seed + 1 + run) for run in range(CALIBRATION_RUNS)])
            _check_zeros(before, model)
        aside = path.with_suffix(".part")
        onnx.save(model, aside)
        aside.rename(path)
        return path

    def library(
        self, path: Path, threads: int, measure: bool, progress: Progress = silent
    ) -> tuple[Path, float | None]:
        """The compiled library of an ONNX file, and the seconds that it took; None where it was there."""
        start = f"{path.stem}-t{threads}-{'measured' if measure else 'estimated'}"
        folder = self.path / "libraries"
        output = folder / f"{start}-{_sources_of_tesa()}.so"
        if output.exists():
            return output, None
        earlier = sorted(folder.glob(f"{start}-*.so"), key=lambda p: p.stat().st_mtime)
        if self.reuse and earlier:
            return earlier[-1], None
        folder.mkdir(parents=True, exist_ok=True)
        begin = time.perf_counter()
        log = self.path / "log"
        log.mkdir(exist_ok=True)
        compile_model(path, output=output, threads=threads, measure=measure, log=log, progress=progress)
        for old in earlier:  # they are large, and nobody would take them again
            old.unlink()
            old.with_suffix(".json").unlink(missing_ok=True)
        return output, time.perf_counter() - begin

    def feeds(self, path: Path) -> dict[str, Array]:
        """The inputs that a network is timed on."""
        return feeds(onnx.load(path), self.seed)

    def expected(self, path: Path) -> Mapping[str, Array]:
        """The outputs of onnxruntime, operator by operator as the file has them."""
        kept = path.with_suffix(".npz")
        if not kept.exists():
            np.savez(kept, **reference_outputs(path, self.feeds(path)))
        with np.load(kept) as arrays:
            return dict(arrays)


def how(network: Network, precision: str) -> str | None:
    """The way in which a network gets a precision: "static" or "dynamic", None for float32 or where there is none."""
    if precision == "int8":
        return network.quantized[0]
    return "dynamic" if precision == "dynamic" and len(network.quantized) > 1 else None


def check_alive(model: Any, seed: int = 0) -> None:
    """DeadNetworkError where an activation is constant or of an absurd size, or an output the same for other inputs.

    Tensors that do not depend on a real input or on tokens (masks) are left out.
    """
    constant = _same_for_all_inputs(model)
    inner = [name for node in model.graph.node for name in node.output if name and name not in constant]
    first = reference_outputs(model, feeds(model, seed), inner)
    for name in inner:
        array = first[name]
        spread = float(array.std(dtype=np.float64))
        if array.dtype == np.float32 and array.size > 16 and not 1e-4 < spread < 1e4:
            raise DeadNetworkError(f"{name}: its values have a standard deviation of {spread:.1e}")
    second = reference_outputs(model, feeds(model, seed + 1))
    for output in model.graph.output:
        one, other = first.get(output.name), second[output.name]
        if one is None or np.abs(one - other).max() < 1e-3 * np.abs(one).max():
            raise DeadNetworkError(f"{output.name}: it does not depend on the inputs")


def _same_for_all_inputs(model: Any) -> set[str]:
    found = {v.name for v in model.graph.input if "mask" in v.name or "type" in v.name or "position" in v.name}
    found |= {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(name in found for name in node.input if name):
            found.update(node.output)
    return found


def _check_zeros(before: Any, after: Any) -> None:
    """Pruned weights stay zeros in their codes."""

    def count(model: Any) -> int:
        arrays = (numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) > 1)
        return sum(a.size - int(np.count_nonzero(a)) for a in arrays if a.dtype in (np.int8, np.float32))

    if count(after) < count(before):
        raise DeadNetworkError(f"of {count(before)} zeros of the pruned weights {count(after)} are left in the codes")


@cache
def _sources_of_models() -> str:
    here = Path(benchmarks.__file__).parent
    names = ("catalogue", "pruning", "quantizing", "sequences", "vision")
    return _digest([here / "zoo.py", *(here / "networks" / f"{name}.py" for name in names)])


@cache
def _sources_of_tesa() -> str:
    return _digest(sorted(p for m in (tesa, schedules) for p in Path(str(m.__file__)).parent.rglob("*.py")))


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
