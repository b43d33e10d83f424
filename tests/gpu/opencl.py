"""Runs functions of TVM that are written for GPUs through OpenCL on the CPU, and gives what they compute.

TVM makes the OpenCL source and says which kernels a function launches; PoCL, Intel's runtime (fp16) or oclgrind (races
of threads) runs them.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import tirx

from tests.gpu import opencl_device
from tests.gpu.opencl_device import Launch
from tests.support import require_system

TARGET = {
    "kind": "opencl",
    "max_num_threads": 1024,
    "max_threads_per_block": 1024,
    "max_shared_memory_per_block": 49152,
}
_AXES = ("x", "y", "z")
_DP4A = """
int __dp4a(int a, int b, int sum) {
  char4 p = as_char4(a), q = as_char4(b);
  return sum + p.x * q.x + p.y * q.y + p.z * q.z + p.w * q.w;
}
"""


@dataclass(frozen=True)
class Translation:
    """Functions as OpenCL. source: all their kernels; functions: by name, the kernels that each launches, in order, on
    arrays that are its parameters and then its own; temporaries: shape and dtype of these."""

    source: str
    functions: Mapping[str, tuple[Launch, ...]]
    temporaries: Mapping[str, tuple[tuple[tuple[int, ...], str], ...]]


def require_opencl() -> None:
    """Skip the test where no OpenCL device can be opened; under CI that is a failure."""
    try:
        found = opencl_device.devices()
    except OSError:
        found = []
    if found:
        return
    reason = "no OpenCL on the CPU: apt-get install pocl-opencl-icd ocl-icd-libopencl1"
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (scripts/setup_system.sh must bring it for CI)")
    pytest.skip(reason)


def translate(functions: Mapping[str, Any]) -> Translation:
    """Functions of TVM with threads bound, by name, as OpenCL."""
    seen: list[Any] = []

    @tvm.instrument.pass_instrument
    class _Look:
        def run_after_pass(self, mod: Any, info: Any) -> None:
            if info.name == "tirx.SplitHostDevice":
                seen.append(mod)

    target = tvm.target.Target(TARGET, host="llvm")
    named = {name: func.with_attr("global_symbol", name) for name, func in functions.items()}
    with target, tvm.transform.PassContext(opt_level=3, instruments=[_Look()]):
        built = tvm.compile(tvm.IRModule(named), target=target)
    source = "".join(one.inspect_source() for one in built.mod.imports if one.kind == "opencl")
    if "__dp4a" in source:
        source = _DP4A + source
    hosts = {name: _read_host(seen[0][name]) for name in named}
    return Translation(source, {n: h[0] for n, h in hosts.items()}, {n: h[1] for n, h in hosts.items()})


def call(made: Translation, name: str, arrays: Sequence[np.ndarray], **how: Any) -> None:
    """Call a translated function on arrays, its parameters, of which it changes some in place. how: as `launch`."""
    own = [np.zeros(shape, dtype) for shape, dtype in made.temporaries[name]]
    launch(made.source, made.functions[name], [*arrays, *own], **how)


def run(func: Any, arrays: Sequence[np.ndarray], **how: Any) -> np.ndarray:
    """Call one function of TVM on arrays and give the last one, its result. how: as `launch`."""
    arrays = [np.array(array, order="C") for array in arrays]
    call(translate({"main": func}), "main", arrays, **how)
    return arrays[-1]


def launch(
    source: str, launches: Sequence[Launch], arrays: Sequence[np.ndarray], by: str = "pocl", folder: Path | None = None
) -> None:
    """Run kernels on arrays in place.

    by: "pocl" in this process; "intel", where fp16 is known, in a child; "grind" by oclgrind in a child, where a race
    of two threads, or an access beyond an array, fails the test. folder: of a child's own.
    """
    if by == "pocl":
        require_opencl()
        opencl_device.run(source, launches, arrays)
        return
    assert folder is not None, "a child needs a folder"
    opencl_device.save(folder, source, launches, arrays, by == "intel")
    command, environment = [sys.executable, "-I", opencl_device.__file__, str(folder)], dict(os.environ)
    if by == "grind":
        program = require_system("oclgrind", "oclgrind")
        command = [program, "--data-races", "--max-errors", "20", *command]
    else:
        library = require_intel()
        (folder / "intel.icd").write_text(f"{library}\n")
        environment |= {"OCL_ICD_VENDORS": f"{folder}/", "LD_LIBRARY_PATH": str(library.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    report = done.stderr + done.stdout
    assert done.returncode == 0, report[-3000:]
    assert not re.search(r"data race|Invalid (read|write)|Divergence|divergen", report), report[:3000]
    for array, result in zip(arrays, opencl_device.load(folder), strict=True):
        array[...] = result


def require_intel() -> Path:
    """Intel's OpenCL library for CPUs, which knows fp16. Skips the test where its packages are not installed."""
    advice = "Intel's OpenCL is not installed: pip install intel-opencl-rt intel-cmplr-lib-rt"
    given = os.environ.get("TESA_INTEL_OPENCL")
    if given:
        return Path(given)
    try:
        files = importlib.metadata.files("intel-opencl-rt") or []
        importlib.metadata.version("intel-cmplr-lib-rt")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(advice)
    found = next((Path(str(one.locate())).resolve() for one in files if one.name == "libintelocl.so"), None)
    if found is None:
        pytest.skip(advice)
    try:
        ctypes.CDLL(opencl_device.LIBRARY)
    except OSError:
        require_opencl()
    return found


class _Host:
    """The launches of one host function, read from its body."""

    def __init__(self, func: Any) -> None:
        self.arrays = {parameter: place for place, parameter in enumerate(func.params)}
        self.temporaries: list[tuple[tuple[int, ...], str]] = []
        self.launches: list[Launch] = []
        self._visit(func.body)

    def _visit(self, stmt: Any) -> None:
        if isinstance(stmt, tirx.SeqStmt):
            for one in stmt.seq:
                self._visit(one)
        elif isinstance(stmt, tirx.DeclBuffer):
            self.arrays[stmt.buffer] = self._array(stmt.data)
        elif isinstance(stmt, tirx.AllocBuffer):
            shape = tuple(int(size) for size in stmt.buffer.shape)
            self.arrays[stmt.buffer] = self._places()
            self.temporaries.append((shape, str(stmt.buffer.dtype)))
        elif isinstance(stmt, tirx.AttrStmt):
            self._visit(stmt.body)
        elif isinstance(stmt, tirx.Evaluate) and isinstance(stmt.value, tvm.ir.Call):
            self._call(stmt.value)
        elif not isinstance(stmt, tirx.Evaluate):
            raise TypeError(f"a host function has a statement that launches nothing: {stmt}")

    def _places(self) -> int:
        return max(self.arrays.values(), default=-1) + 1

    def _array(self, data: Any) -> int:
        while data not in self.arrays:
            data = data.args[0]
        return self.arrays[data]

    def _call(self, call: Any) -> None:
        if "call_ffi_kernel" not in str(call.op):
            return
        tags = [str(tag) for tag in call.attrs.launch_params]
        name, *values = call.args
        arguments = values[: len(values) - sum("Idx" in tag for tag in tags)]
        extents = dict(zip(tags, (int(v) for v in values[len(arguments) :]), strict=False))
        x, y, z = (tuple(extents.get(f"{kind}.{axis}", 1) for kind in ("blockIdx", "threadIdx")) for axis in _AXES)
        grid, block = (x[0], y[0], z[0]), (x[1], y[1], z[1])
        found = tuple(
            ("int", int(one)) if isinstance(one, tirx.IntImm) else ("array", self._array(one)) for one in arguments
        )
        self.launches.append(Launch(str(name.value), found, grid, block))


def _read_host(func: Any) -> tuple[tuple[Launch, ...], tuple[tuple[tuple[int, ...], str], ...]]:
    read = _Host(func)
    return tuple(read.launches), tuple(read.temporaries)
