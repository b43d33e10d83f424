"""The engines that are compared: each makes of an ONNX file and its inputs a call to time and a function of results.

An engine whose package is not installed is listed as missing. One that cannot run a network says why.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tesa.base.onnxruntime import onnxruntime_session
from tesa.runtime import load

Array = NDArray[Any]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Ready:
    """A network in an engine. call: one run, without what a caller does once; results: runs it, its outputs by name."""

    call: Callable[[], object]
    results: Callable[[], Mapping[str, Array]]
    model: Any = None


@dataclass(frozen=True)
class Engine:
    """name: in tables; package: what has to be installed; prepare: of a path, inputs and threads."""

    name: str
    package: str
    prepare: Callable[[Path, Feeds, int], Ready]

    @property
    def version(self) -> str | None:
        """Its version; None where it is not installed."""
        if importlib.util.find_spec(self.package) is None:
            return None
        return importlib.metadata.version(self.package)


def tesa_ready(library: Path, feeds: Feeds) -> Ready:
    """A compiled library."""
    model = load(library)
    prepared = model.prepare(feeds)
    return Ready(
        lambda: model.execute(prepared), lambda: model.collect(model.execute(prepared), prepared), (model, prepared)
    )


def _onnxruntime(path: Path, feeds: Feeds, threads: int) -> Ready:
    session = onnxruntime_session(path, threads)
    binding = session.io_binding()
    inputs = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    outputs = {o.name: np.zeros(o.shape, np.float32) for o in session.get_outputs()}
    for name, array in outputs.items():
        binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def results() -> Mapping[str, Array]:
        session.run_with_iobinding(binding)
        return {name: array.copy() for name, array in outputs.items()}

    return Ready(lambda: session.run_with_iobinding(binding), results, (session, inputs, outputs))


def _openvino(path: Path, feeds: Feeds, threads: int) -> Ready:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32",
                "ENABLE_CPU_PINNING": False, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}  # fmt: skip
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    request = compiled.create_infer_request()
    tensors = {name: openvino.Tensor(np.ascontiguousarray(array), shared_memory=True) for name, array in feeds.items()}
    for name, tensor in tensors.items():
        request.set_tensor(name, tensor)

    def results() -> Mapping[str, Array]:
        request.infer()
        return {next(iter(port.names)): np.array(request.get_tensor(port).data) for port in compiled.outputs}

    return Ready(request.infer, results, (request, tensors, dict(feeds)))


def _torch(path: Path, feeds: Feeds, threads: int) -> Ready:
    import torch
    import torch._inductor.config as config

    from benchmarks.networks.torch_graph import Graph

    torch.set_num_threads(threads)
    config.freezing = True  # weights become constants, in the layouts that the kernels want
    graph = Graph(onnx.load(path)).eval()
    arrays = [torch.from_numpy(np.array(feeds[name])) for name in graph.inputs]
    if any(array.ndim == 4 and name == "image" for name, array in zip(graph.inputs, arrays, strict=True)):
        arrays = [array.to(memory_format=torch.channels_last) for array in arrays]
    with torch.inference_mode():
        function = torch.compile(graph)
        function(*arrays)

    def call() -> Any:
        with torch.inference_mode():
            return function(*arrays)

    return Ready(call, lambda: dict(zip(graph.outputs, (y.numpy() for y in call()), strict=True)), graph)


ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("onnxruntime", "onnxruntime", _onnxruntime),
        Engine("openvino", "openvino", _openvino),
        Engine("torch", "torch", _torch),
    )
}


def limit_threads(threads: int, cache: Path) -> dict[str, str]:
    """The environment of a process whose libraries use so many threads, and in which PyTorch keeps what it compiles."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")
    found = {**os.environ, **dict.fromkeys(names, str(threads)), "KMP_BLOCKTIME": "1"}
    return {**found, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
