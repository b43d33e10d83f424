"""The other systems: each takes a case with its W and X and hands back a function to time and the array it fills.

A peer is listed as missing where its package is not installed, and answers None to a case that it has no kernel for.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kernels.cases import UNSTRUCTURED, Array, Case
from benchmarks.kernels.onnx_models import arranged, model_of, restored

Call = Callable[[], object]
Prepared = tuple[Call, Callable[[], Array]]
"""What is timed, and what returns its result."""
Prepare = Callable[[Case, Array, Array, int], Prepared | None]


@dataclass(frozen=True)
class Peer:
    """name: in the results. package: what has to be installed. dense: it computes with the zeros."""

    name: str
    package: str
    dense: bool
    prepare: Prepare

    @property
    def installed(self) -> bool:
        """True where its package is there."""
        return _mkl_path() is not None if self.package == "mkl" else importlib.util.find_spec(self.package) is not None


def _torch_dense(case: Case, w: Array, x: Array, threads: int) -> Prepared | None:
    import torch

    if case.dtype == "int8":
        return None
    torch.set_num_threads(threads)
    weight, data = torch.from_numpy(w), torch.from_numpy(x)
    if case.op == "linear":
        out = torch.empty(case.m, case.n)
        return (lambda: torch.mm(weight, data, out=out)), out.numpy
    groups = case.m if case.op == "depthwise" else 1
    result: list[Any] = []

    def call() -> None:
        result[:] = [torch.nn.functional.conv2d(data, weight, stride=case.stride, padding=1, groups=groups)]

    return _inference(call), lambda: np.asarray(result[0])


def _inference(call: Call) -> Call:
    import torch

    def run() -> object:
        with torch.inference_mode():
            return call()

    return run


def _torch_csr(case: Case, w: Array, x: Array, threads: int) -> Prepared | None:
    import torch

    if case.op != "linear" or case.dtype == "int8" or case.sparsity == 0:
        return None
    torch.set_num_threads(threads)
    sparse, data = torch.from_numpy(w).to_sparse_csr(), torch.from_numpy(x)
    out = torch.empty(case.m, case.n)
    return (lambda: torch.mm(sparse, data, out=out)), out.numpy


def _onnxruntime(form: str) -> Prepare:
    def prepare(case: Case, w: Array, x: Array, threads: int) -> Prepared | None:
        import onnxruntime

        if not _applies(case, form):
            return None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        model = model_of(case, w, form).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding, data = session.io_binding(), arranged(case, x, form)
        binding.bind_cpu_input("X", data)
        kinds = {"tensor(int32)": np.int32, "tensor(uint8)": np.uint8}
        kind = kinds.get(session.get_outputs()[0].type, np.float32)
        out = np.empty(session.get_outputs()[0].shape, kind)
        binding.bind_output("Y", "cpu", 0, kind, out.shape, out.ctypes.data)
        return (lambda: session.run_with_iobinding(binding)), lambda keep=data: restored(case, out, form)

    return prepare


def _openvino(form: str) -> Prepare:
    def prepare(case: Case, w: Array, x: Array, threads: int) -> Prepared | None:
        import openvino

        if not _applies(case, form) or (case.dtype == "int8" and form in ("matmul", "rows")):
            return None
        core = openvino.Core()
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32",
                    "ENABLE_CPU_PINNING": False, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}  # fmt: skip
        compiled = core.compile_model(core.read_model(model_of(case, w, form).SerializeToString()), "CPU", settings)
        request, array = compiled.create_infer_request(), arranged(case, x, form)
        data = openvino.Tensor(array, shared_memory=True)
        request.set_input_tensor(data)

        def result(keep: Any = (array, data)) -> Array:
            return restored(case, np.asarray(request.get_output_tensor().data), form)

        return request.infer, result

    return prepare


def _applies(case: Case, form: str) -> bool:
    """True for the forms of a case: one of a convolution, one of a layer from codes to codes."""
    if case.codes or form == "codes":
        return case.codes and form == "codes"
    if case.op != "linear":
        return form == "matmul"
    return "dequantized" not in form or case.dtype == "int8"


def _mkl(case: Case, w: Array, x: Array, threads: int) -> Prepared | None:
    """The inspector-executor interface, by ctypes: a square block pattern as BSR, everything else as CSR."""
    if case.op != "linear" or case.dtype == "int8" or case.sparsity == 0:
        return None
    import scipy.sparse

    square = case.block[0] == case.block[1] and case.block != UNSTRUCTURED
    square = square and case.m % case.block[0] == 0 and case.k % case.block[0] == 0
    csr = scipy.sparse.bsr_matrix(w, blocksize=case.block) if square else scipy.sparse.csr_matrix(w)
    return _MklProduct(csr, x, threads).prepared()


class _Descriptor(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("mode", ctypes.c_int), ("diag", ctypes.c_int)]


class _MklProduct:
    GENERAL, ROW_MAJOR, NO_TRANSPOSE, ZERO_BASED, ROW_BLOCKS = 20, 101, 10, 0, 101

    def __init__(self, sparse: Any, x: Array, threads: int) -> None:
        self.lib = _mkl_library()
        self.lib.MKL_Set_Num_Threads(threads)
        self.x, self.y = x, np.zeros((sparse.shape[0], x.shape[1]), np.float32)
        self.data = np.ascontiguousarray(sparse.data, np.float32)
        self.columns, self.starts = sparse.indices.astype(np.int32), sparse.indptr.astype(np.int32)
        self.handle, self.descriptor = ctypes.c_void_p(), _Descriptor(self.GENERAL, 0, 0)
        first, last = self.starts[:-1].copy(), self.starts[1:].copy()
        self.keep = (first, last)
        arrays = [_address(a) for a in (first, last, self.columns, self.data)]
        if sparse.format == "bsr":
            size = sparse.blocksize[0]
            rows, columns = (n // size for n in sparse.shape)
            self._do("create_bsr", ctypes.byref(self.handle), 0, self.ROW_BLOCKS, rows, columns, size, *arrays)
        else:
            self._do("create_csr", ctypes.byref(self.handle), 0, *sparse.shape, *arrays)
        n = x.shape[1]
        self.lib.mkl_sparse_set_mm_hint(self.handle, 10, self.descriptor, self.ROW_MAJOR, n, 100000)
        self.lib.mkl_sparse_optimize(self.handle)

    def _do(self, name: str, *args: Any) -> None:
        status = getattr(self.lib, f"mkl_sparse_s_{name}")(*args)
        if status:
            raise RuntimeError(f"mkl_sparse_s_{name} failed with status {status}")

    def prepared(self) -> Prepared:
        n, one, zero = self.x.shape[1], ctypes.c_float(1), ctypes.c_float(0)
        function = self.lib.mkl_sparse_s_mm
        args = (self.NO_TRANSPOSE, one, self.handle, self.descriptor, self.ROW_MAJOR, _address(self.x), n, n, zero,
                _address(self.y), n)  # fmt: skip
        return (lambda: function(*args)), lambda: self.y


def _address(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _mkl_library() -> Any:
    found = _mkl_path()
    if found is None:
        raise RuntimeError("MKL is not installed")
    return ctypes.CDLL(str(found))


def _mkl_path() -> Path | None:
    """The package mkl has no module; its libraries lie in the environment's lib."""
    return next(iter(sorted(Path(sys.prefix).glob("lib/libmkl_rt.so*"))), None)


def _scipy(case: Case, w: Array, x: Array, threads: int) -> Prepared | None:
    if case.op != "linear" or case.dtype == "int8" or case.sparsity == 0 or threads > 1:
        return None
    import scipy.sparse

    sparse, result = scipy.sparse.csr_matrix(w), [np.empty(0)]

    def call() -> None:
        result[0] = sparse @ x

    return call, lambda: result[0]


PEERS = (
    Peer("onnxruntime", "onnxruntime", True, _onnxruntime("matmul")),
    Peer("onnxruntime rows", "onnxruntime", True, _onnxruntime("rows")),
    Peer("onnxruntime conv", "onnxruntime", True, _onnxruntime("conv")),
    Peer("onnxruntime codes", "onnxruntime", True, _onnxruntime("codes")),
    Peer("openvino", "openvino", True, _openvino("matmul")),
    Peer("openvino rows", "openvino", True, _openvino("rows")),
    Peer("openvino conv", "openvino", True, _openvino("conv")),
    Peer("openvino int8", "openvino", True, _openvino("dequantized rows")),
    Peer("openvino codes", "openvino", True, _openvino("codes")),
    Peer("torch", "torch", True, _torch_dense),
    Peer("torch csr", "torch", False, _torch_csr),
    Peer("mkl sparse", "mkl", False, _mkl),
    Peer("scipy", "scipy", False, _scipy),
)
