"""The engines that are compared: each makes of an ONNX file and its inputs a call to time and a function of results.

An engine whose package is not installed is listed as missing. One that cannot run a network says why.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
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
    """name: in tables; package: what has to be installed; prepare: of a path, inputs and threads.

    dynamic: the same of a float32 file that the engine quantizes dynamically itself, where it does not read ONNX's way.
    """

    name: str
    package: str
    prepare: Callable[[Path, Feeds, int], Ready]
    dynamic: Callable[[Path, Feeds, int], Ready] | None = None

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
    """Compiled by PyTorch, which makes integer kernels of the quantized operators."""
    import torch
    import torch._dynamo.config as limits
    import torch._inductor.config as config

    config.freezing = True  # weights become constants, in the layouts that the kernels want
    limits.recompile_limit = 64  # all networks are one module to it
    try:
        return _torch_ready(path, feeds, threads, lambda graph, arrays: torch.compile(graph, dynamic=False))
    except torch._dynamo.exc.TorchDynamoException:
        if any(node.op_type == "QuantizeLinear" for node in onnx.load(path, load_external_data=False).graph.node):
            raise
        return _torch_ready(path, feeds, threads, _traced)


def _traced(graph: Any, arrays: Sequence[Any]) -> Any:
    """The way before PyTorch had a compiler, for what that does not take."""
    import torch

    return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(graph, arrays)))


def _torch_dynamic(path: Path, feeds: Feeds, threads: int) -> Ready:
    """As PyTorch quantizes it dynamically, which its compiler does not take."""
    return _torch_ready(path, feeds, threads, None)


def _torch_ready(path: Path, feeds: Feeds, threads: int, compiled: Callable[[Any, Any], Any] | None) -> Ready:
    import torch

    from benchmarks.networks.torch_graph import Graph

    torch.set_num_threads(threads)
    graph = Graph(onnx.load(path), dynamic=compiled is None).eval()
    arrays = [torch.from_numpy(np.array(feeds[name])) for name in graph.inputs]
    if "image" in graph.inputs:
        arrays = [array.to(memory_format=torch.channels_last) for array in arrays]
    with torch.inference_mode():
        function = compiled(graph, arrays) if compiled else graph
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
        Engine("torch", "torch", _torch, _torch_dynamic),
    )
}


def environment(threads: int, cache: Path, isa: str = "") -> dict[str, str]:
    """The environment of a process whose libraries use so many threads, and in which PyTorch keeps what it compiles.

    isa: the most that oneDNN may use, which is inside of OpenVINO and PyTorch, such as AVX512_CORE_VNNI; "" for all.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")
    found = {**os.environ, **dict.fromkeys(names, str(threads)), "KMP_BLOCKTIME": "1"}
    limits = {"ONEDNN_MAX_CPU_ISA": isa} if isa else {}
    return {**found, **limits, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
